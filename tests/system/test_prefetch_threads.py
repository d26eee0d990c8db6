"""What `prefetch` does in its thread: order, errors, how far it runs ahead, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from sharpreel.errors import InputError
from sharpreel.system.prefetch import prefetch


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
