"""Engines for live clients: one per client, on one CPU thread, reused when the client has left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sharpreel.engines.choose import engine_choice
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.models.weights import Model, load_model
from sharpreel.ops import Pixels
from sharpreel.pipeline.live import validate_live
from sharpreel.system.resources import usable_cpus
from sharpreel.web.http.live_protocol import GOING_AWAY, MODEL, SCALE, TRY_AGAIN_LATER, LiveError

KEPT_GRAPHS = 3  # per engine; a client that returns to one of these sizes does not wait


class LiveClient(Protocol):
    """What `LiveSlots` needs of a client."""

    @property
    def dropped(self) -> int: ...

    def send_close(self, code: int, reason: str) -> None: ...


class LiveEngine(OpenVinoEngine):
    """An engine on one thread; as many run at a time as there are CPUs.

    Args:
        cpus: Shared by all engines.

    Attributes:
        compiled: Number of compilations, one for each new frame size.
    """

    def __init__(self, model: Model, cpus: threading.Semaphore) -> None:
        super().__init__(model, threads=1, precision=engine_choice(model, "cpu").precision)
        self._cpus = cpus
        self._kept: dict[Any, Any] = {}  # shape -> what `_compile` made for it
        self.compiled = 0

    def run(self, frame: Pixels) -> Pixels:
        with self._cpus:
            return super().run(frame)

    def _compile(self, frame: Pixels) -> None:
        if self._shape is not None:
            self._kept[self._shape] = (self._request, self._ports, self._fold)
        shape = ((1, *frame.shape), frame.dtype)
        if kept := self._kept.pop(shape, None):
            self._shape, (self._request, self._ports, self._fold) = shape, kept
            return
        super()._compile(frame)
        self.compiled += 1
        while len(self._kept) >= KEPT_GRAPHS:
            del self._kept[next(iter(self._kept))]


class LiveSlots:
    """The slots for live clients, each with an engine, and counters over all clients.

    Args:
        maximum: Number of clients at a time.

    Attributes:
        frames, dropped, refused: Frames and refused clients since the server started.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.frames = self.dropped = self.refused = 0
        self._lock = threading.Lock()
        self._idle: list[LiveEngine] = []
        self._clients: set[LiveClient] = set()
        self._cpus = threading.Semaphore(usable_cpus())
        self._model: Model | None = None

    @property
    def clients(self) -> int:
        return len(self._clients)

    @contextmanager
    def engine_for(self, client: LiveClient) -> Iterator[LiveEngine]:
        """An engine without state, during the block.

        Raises:
            LiveError: All slots are in use.
        """
        with self._lock:
            if len(self._clients) >= self.maximum:
                raise LiveError(TRY_AGAIN_LATER, "all live slots are in use; try again shortly")
            self._clients.add(client)
            self._model = self._model or load_model(MODEL, SCALE)
            engine = self._idle.pop() if self._idle else None
        try:
            engine = engine or LiveEngine(self._model, self._cpus)
            validate_live(engine)
            engine.reset()
            yield engine
        finally:
            with self._lock:
                self._clients.discard(client)
                self.dropped += client.dropped
                if engine is not None:
                    self._idle.append(engine)

    def close(self) -> None:
        """Disconnect every client because the server stops."""
        for client in list(self._clients):
            client.send_close(GOING_AWAY, "the server is stopping")
