"""Token-bucket rate limits (`RateLimit`) and per-client concurrency limits (`ConcurrencyLimit`)."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MAX_CLIENTS = 10_000  # remembered at a time


class RateLimit:
    """A token bucket per client.

    Args:
        per_second: Average rate.
        burst: Maximum number at once.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._tokens: dict[str, tuple[float, float]] = {}  # client -> (tokens, time)
        self._lock = threading.Lock()

    def take(self, client: str) -> float:
        """Take a token; returns 0, or the seconds until there is one, and takes none."""
        now = time.monotonic()
        with self._lock:
            tokens = self._tokens_at(client, now)
            wait = self._wait(tokens)
            self._tokens.pop(client, None)
            self._tokens[client] = (tokens - 1 if wait == 0 else tokens, now)
            if len(self._tokens) > MAX_CLIENTS:  # forget the least recent client
                del self._tokens[next(iter(self._tokens))]
            return wait

    def wait(self, client: str) -> float:
        """Seconds until there is a token; takes none."""
        with self._lock:
            return self._wait(self._tokens_at(client, time.monotonic()))

    def _tokens_at(self, client: str, now: float) -> float:
        tokens, since = self._tokens.get(client, (self._burst, now))
        return min(tokens + (now - since) * self._rate, self._burst)

    def _wait(self, tokens: float) -> float:
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate


class ConcurrencyLimit:
    """At most `maximum` at a time per client, or per other key."""

    def __init__(self, maximum: int) -> None:
        self._maximum, self._lock = maximum, threading.Lock()
        self._counts: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Count one more, unless there are as many as allowed; must be followed by `leave`."""
        with self._lock:
            if self._counts.get(client, 0) >= self._maximum:
                return False
            self._counts[client] += 1
            return True

    def holds(self, client: str) -> bool:
        """Has this client entered?"""
        with self._lock:
            return client in self._counts

    def leave(self, client: str) -> None:
        with self._lock:
            self._counts[client] -= 1
            if self._counts[client] <= 0:
                del self._counts[client]

    @contextmanager
    def inside(self, client: str) -> Iterator[bool]:
        """Enter during the block; the value says whether that was allowed."""
        entered = self.enter(client)
        try:
            yield entered
        finally:
            if entered:
                self.leave(client)


class SupersededBy:
    """Of blocks with the same key, only the newest continues."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, threading.Event] = {}

    @contextmanager
    def newest(self, key: str) -> Iterator[threading.Event]:
        """End the running block with this key; the event is set when another ends this one."""
        superseded = threading.Event()
        self.end(key, superseded)
        try:
            yield superseded
        finally:
            with self._lock:
                if self._running.get(key) is superseded:
                    del self._running[key]

    def end(self, key: str, successor: threading.Event | None = None) -> None:
        """End the running block with this key, if there is one."""
        with self._lock:
            previous = self._running.pop(key, None)
            if successor is not None:
                self._running[key] = successor
        if previous is not None:
            previous.set()


def client_of(address: str | None) -> str:
    """The client behind an address: itself, or its /64 network in IPv6."""
    try:
        parsed = ipaddress.ip_address((address or "").split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
