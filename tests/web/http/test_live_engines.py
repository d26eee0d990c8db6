"""Engines of live clients: a limited number of slots, and reuse of idle engines."""

from __future__ import annotations

import numpy as np
import pytest

from sharpreel.web.http.live_engines import LiveSlots
from sharpreel.web.http.live_protocol import GOING_AWAY, SCALE, TRY_AGAIN_LATER, LiveError


class FakeClient:
    """A client that has dropped two frames."""

    dropped = 2

    def __init__(self) -> None:
        self.closed: list[int] = []

    def send_close(self, code: int, reason: str) -> None:
        self.closed.append(code)


def test_slots_are_limited_and_engines_are_reused() -> None:
    slots, first, second = LiveSlots(1), FakeClient(), FakeClient()
    with slots.engine_for(first) as engine:
        assert slots.clients == 1
        with pytest.raises(LiveError) as rejected, slots.engine_for(second):
            pass
        assert rejected.value.code == TRY_AGAIN_LATER
        slots.close()
        assert first.closed == [GOING_AWAY]
    assert (slots.clients, slots.dropped) == (0, 2)
    with slots.engine_for(second) as again:
        assert again is engine


def test_a_frame_size_that_returns_is_not_compiled_again() -> None:
    slots = LiveSlots(1)
    with slots.engine_for(FakeClient()) as engine:
        for height, width in ((16, 32), (32, 16), (16, 32), (32, 16)):
            engine.reset()
            frame = np.zeros((height, width, 3), np.uint8)
            assert engine.run(frame).shape == (SCALE * height, SCALE * width, 3)
        assert engine.compiled == 2
