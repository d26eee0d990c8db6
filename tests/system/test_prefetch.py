"""Background producers keep order, raise at the reader, and stop when the reader stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sharpreel.system.prefetch import LatestOnly, prefetch


class Source:
    """Numbers from 0, and how many were produced; `closed` is set when it is closed."""

    def __init__(self, count: int) -> None:
        self.count, self.produced, self.closed = count, 0, threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                self.produced += 1
                yield number
        finally:
            self.closed.set()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_all_items_arrive_in_order(size: int) -> None:
    assert list(prefetch(range(50), size)) == list(range(50))


def test_the_source_runs_ahead_by_the_given_size_and_one_item() -> None:
    source = Source(100)
    items = prefetch(source, 3)
    assert next(items) == 0
    wait_until(lambda: source.produced == 5)  # one taken, three waiting, one in hand
    time.sleep(0.05)
    assert source.produced == 5
    items.close()
    assert source.closed.is_set()  # closing waits for the thread


@pytest.mark.parametrize("wrap", [prefetch, LatestOnly])
def test_an_error_of_the_source_is_raised_at_the_reader(wrap: Callable[..., Iterator[int]]) -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise RuntimeError("camera unplugged")

    items = iter(wrap(failing()))
    assert next(items) == 1
    with pytest.raises(RuntimeError, match="camera unplugged"):
        next(items)


def test_only_the_latest_item_is_kept_and_the_first_is_never_dropped() -> None:
    gate = threading.Event()

    def live() -> Iterator[int]:
        yield 0
        yield 1
        gate.wait(10)
        yield from range(2, 10)

    latest = LatestOnly(live())
    items = iter(latest)
    assert next(items) == 0
    gate.set()
    wait_until(lambda: latest.dropped == 8)  # 1 to 8 were replaced
    assert list(items) == [9]


def test_closing_a_live_source_stops_it_at_its_next_item() -> None:
    source = Source(10**9)
    items = iter(LatestOnly(source))
    next(items)
    items.close()
    assert source.closed.wait(10)
