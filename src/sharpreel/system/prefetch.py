"""Background producers: iterate over a source that runs in a thread of its own.

`prefetch` yields every item; the source waits when it is `size` items ahead. `LatestOnly` is for
live sources: the source never waits, and an item that nobody has taken is replaced by the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

PREFETCH_FRAMES = 4  # frames that wait between two threads


def prefetch(items: Iterable[T], size: int = PREFETCH_FRAMES) -> Generator[T]:
    """Yield the same items, produced by a background thread, at most `size` ahead of the reader.

    An exception in the thread is raised here. Closing this generator stops the thread at its next
    item and waits for it.
    """
    handoff: _Handoff[T] = _Handoff(size)
    thread = _start_producer(items, handoff, lambda _, item: handoff.put(item))
    try:
        yield from handoff.take_all()
    finally:
        handoff.close()
        thread.join()


class LatestOnly(Generic[T]):
    """The latest item of a background source; older items that nobody has taken are dropped.

    The first item is never dropped: time counts from it. Closing the iterator stops the thread at
    its next item, without waiting for it, as a live source may be silent for long.

    Args:
        items: The source. An exception in it is raised at the reader. Can be iterated once.

    Attributes:
        dropped: Number of items dropped so far.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._handoff: _Handoff[T] = _Handoff(1)
        self.dropped = 0

    def __iter__(self) -> Generator[T]:
        _start_producer(self._items, self._handoff, self._offer)
        try:
            yield from self._handoff.take_all()
        finally:
            self._handoff.close()

    def _offer(self, index: int, item: T) -> bool:
        if index < 2:  # the second waits until the first is taken
            return self._handoff.put(item)
        dropped = self._handoff.replace(item)
        self.dropped += dropped or 0
        return dropped is not None


class _Handoff(Generic[T]):
    """A queue of at most `size` items from one producer to one reader, with an end."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Add an item when there is room; False when the reader has closed the queue."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._size)
            if self._closed:
                return False
            self._waiting.append(item)
            self._changed.notify_all()
            return True

    def replace(self, item: T) -> int | None:
        """Put an item in place of all that wait: their number, or None when the queue is closed."""
        with self._changed:
            if self._closed:
                return None
            dropped = len(self._waiting)
            self._waiting.clear()
            self._waiting.append(item)
            self._changed.notify_all()
            return dropped

    def end(self, error: BaseException | None = None) -> None:
        """No more items follow; the reader gets those that wait, and then the error."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take_all(self) -> Generator[T]:
        """Yield items as they arrive, until the end."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._waiting.popleft()
                self._changed.notify_all()
            yield item

    def close(self) -> None:
        """The reader wants no more items."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _start_producer(
    items: Iterable[T], handoff: _Handoff[T], offer: Callable[[int, T], bool]
) -> threading.Thread:
    """Start a thread that offers each (index, item) until `offer` returns False.

    The source is closed in that thread, if it can be closed.
    """

    def produce() -> None:
        iterator = iter(items)
        try:
            for index, item in enumerate(iterator):
                if not offer(index, item):
                    return
            handoff.end()
        except BaseException as e:
            handoff.end(e)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    return thread
