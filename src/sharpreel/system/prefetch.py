"""Background producers: the next items of an iterator, made in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LatestOnly(Generic[T]):
    """The items of a source that runs in a thread of its own, without those nobody was ready for.

    Args:
        items: The source. What it raises is raised at the reader.
        drop: An item that waits gives way to the next, but for the first, from which time counts.
            False: the source waits instead.

    Attributes:
        dropped: Items that gave way so far.
    """

    def __init__(self, items: Iterable[T], drop: bool = True) -> None:
        self._items, self._drop = items, drop
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._ended: BaseException | bool = False
        self._begun = self._stopped = False
        self.dropped = 0

    def _produce(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._offer(item):
                    return
            self._end(True)
        except BaseException as e:
            self._end(e)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _offer(self, item: T) -> bool:
        """Put the item into the one place; False when nobody reads any more."""
        with self._changed:
            if not self._drop or not self._begun:
                self._changed.wait_for(lambda: self._stopped or not self._waiting)
            if self._stopped:
                return False
            self.dropped += len(self._waiting)
            self._waiting = [item]
            self._changed.notify_all()
            return True

    def _end(self, how: BaseException | bool) -> None:
        with self._changed:
            self._ended = how
            self._changed.notify_all()

    def __iter__(self) -> Generator[T]:
        """The items; for one reader. The source's thread stops at its next item after a close."""
        threading.Thread(target=self._produce, daemon=True).start()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ended)
                    if not self._waiting:
                        if isinstance(self._ended, BaseException):
                            raise self._ended
                        return
                    item = self._waiting.pop()
                    self._begun = True
                    self._changed.notify_all()
                yield item
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()


PREFETCH_FRAMES = 4  # frames that wait between two threads


def prefetch(items: Iterable[T], size: int = PREFETCH_FRAMES) -> Generator[T]:
    """The same items, produced in a thread of their own, at most `size` before they are wanted.

    An exception in the thread is raised here; closing this generator stops the thread.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(size)
    stop = threading.Event()

    def offer(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not offer("item", item):
                    return
            offer("end", None)
        except BaseException as e:
            offer("error", e)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join()
