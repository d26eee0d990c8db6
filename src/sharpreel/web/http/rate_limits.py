"""How much one client may do: how often, and how many at once."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MOST_CLIENTS = 10_000  # remembered at a time


class RateLimit:
    """So many a second for each client on average, `burst` at once."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, client: str) -> float:
        """Seconds to wait until the next is allowed; 0: it was, and is counted."""
        now = time.monotonic()
        with self._lock:
            left = self._left_at(client, now)
            wait = self._wait(left)
            self._left.pop(client, None)
            self._left[client] = (left - 1 if wait == 0 else left, now)
            if len(self._left) > MOST_CLIENTS:  # the one that came least lately
                del self._left[next(iter(self._left))]
            return wait

    def wait(self, client: str) -> float:
        """Seconds to wait until the next is allowed, which is not counted."""
        with self._lock:
            return self._wait(self._left_at(client, time.monotonic()))

    def _left_at(self, client: str, now: float) -> float:
        left, at = self._left.get(client, (self._burst, now))
        return min(left + (now - at) * self._rate, self._burst)

    def _wait(self, left: float) -> float:
        return 0.0 if left >= 1 else (1 - left) / self._rate


class ConcurrencyLimit:
    """So many at a time for each client."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._inside: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Go in, unless as many are inside; whoever went in must `leave`."""
        with self._lock:
            if self._inside.get(client, 0) >= self._most:
                return False
            self._inside[client] += 1
            return True

    def holds(self, client: str) -> bool:
        """Is somebody inside?"""
        with self._lock:
            return client in self._inside

    def leave(self, client: str) -> None:
        with self._lock:
            self._inside[client] -= 1
            if self._inside[client] <= 0:
                del self._inside[client]

    @contextmanager
    def inside(self, client: str) -> Iterator[bool]:
        """Inside while the block runs; the value says whether there was room."""
        entered = self.enter(client)
        try:
            yield entered
        finally:
            if entered:
                self.leave(client)


class SupersededBy:
    """Of what is asked for again and again, only the last goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going_on: dict[str, threading.Event] = {}

    @contextmanager
    def going_on(self, key: str) -> Iterator[threading.Event]:
        """End the block that has this key; the value is set when another ends this one."""
        mine = threading.Event()
        self.end(key, mine)
        try:
            yield mine
        finally:
            with self._lock:
                if self._going_on.get(key) is mine:
                    del self._going_on[key]

    def end(self, key: str, instead: threading.Event | None = None) -> None:
        """End the block that has this key, if there is one."""
        with self._lock:
            before = self._going_on.pop(key, None)
            if instead is not None:
                self._going_on[key] = instead
        if before is not None:
            before.set()


def client_of(address: str | None) -> str:
    """Whom an address stands for: itself, or its /64 network in IPv6."""
    try:
        found = ipaddress.ip_address((address or "").split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False).network_address)
    return str(found)
