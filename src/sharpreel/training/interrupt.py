"""SIGTERM as a request: a training loop finishes its step and saves before it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def sigterm_as_request() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM does not end the process; the function returns True once it has arrived.

    Outside the main thread no handler can be set: there the function always returns False.
    """
    requested = False

    def request(number: int, frame: Any) -> None:
        nonlocal requested
        requested = True

    try:
        previous = signal.signal(signal.SIGTERM, request)
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGTERM, previous)
