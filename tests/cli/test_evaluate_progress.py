"""Progress of `sharpreel evaluate`."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sharpreel.cli import evaluate
from sharpreel.cli.console import Console


def test_progress_reports_frames_of_each_clip_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    told: list[dict[str, Any]] = []
    voice = Console(as_json=True, quiet=False)
    monkeypatch.setattr(voice, "event", lambda event, **values: told.append(values))
    tell = evaluate.clip_told(voice)
    for done in range(1, 5):
        tell("a", done, 4)
        now += 0.2
    tell("b", 1, None)
    assert [(e["clip"], e["frames"]) for e in told] == [("a", 1), ("a", 3), ("a", 4), ("b", 1)]
    left = [e["eta_seconds"] for e in told]
    assert left[0] is left[3] is None
    assert left[1:3] == pytest.approx([0.2, 0.0])
