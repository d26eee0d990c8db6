"""Background producers keep order, raise at the reader, and stop when the reader stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sharpreel.errors import InputError
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


def test_items_arrive_in_order_from_one_other_thread() -> None:
    where = set()

    def items() -> Iterator[int]:
        for number in range(200):
            where.add(threading.get_ident())
            yield number

    assert list(prefetch(items())) == list(range(200))
    assert threading.get_ident() not in where
    assert len(where) == 1


def test_an_error_of_the_thread_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise InputError("broken")

    got: list[int] = []
    with pytest.raises(InputError, match="broken"):
        got.extend(prefetch(items()))
    taken = prefetch(items())
    assert [next(taken), next(taken)] == [1, 2]
    with pytest.raises(InputError):
        next(taken)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; False when a deadline passes first."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_the_source_runs_a_few_items_ahead_and_no_further() -> None:
    produced = 0

    def items() -> Iterator[int]:
        nonlocal produced
        for number in range(1000):
            produced += 1
            yield number

    with closing(prefetch(items(), size=3)) as taken:
        for _ in range(10):
            next(taken)
        # Ten taken, three waiting, one held by the producer.
        assert until(lambda: produced == 14)
        assert not until_more(lambda: produced, 14)


def until_more(value: Callable[[], int], than: int) -> bool:
    """Does it grow past this within a moment in which the other thread surely runs?"""
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        if value() > than:
            return True
        time.sleep(0.01)
    return False


def test_closing_stops_the_thread_and_its_source() -> None:
    closed = threading.Event()
    before = threading.active_count()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    taken = prefetch(items())
    next(taken)
    taken.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_nothing_is_read_before_the_first_item_is_requested() -> None:
    read: list[int] = []
    taken = prefetch(read.append(n) or n for n in range(3))  # type: ignore[func-returns-value]
    assert read == []
    assert list(taken) == [0, 1, 2]
