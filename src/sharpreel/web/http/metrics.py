"""Metrics of the site for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"})
BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters since the server started; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: Counter[tuple[str, Labels]] = Counter()
        self._buckets: dict[Labels, list[int]] = {}
        self._seconds: Counter[Labels] = Counter()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Increment a counter; its name should end in _total."""
        with self._lock:
            self._counters[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            method: Any text; methods that are not HTTP's are counted as "other".
            route: A route of the site, never the path of the request.
        """
        method = method if method in METHODS else "other"
        self.count("sharpreel_http_requests_total", method=method, route=route, status=str(status))
        labels = (("route", route),)
        with self._lock:
            buckets = self._buckets.setdefault(labels, [0] * (len(BUCKETS) + 1))
            buckets[bisect.bisect_left(BUCKETS, seconds)] += 1
            self._seconds[labels] += seconds  # type: ignore[assignment]

    def text(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """All metrics as text.

        Args:
            gauges: Current values: name -> labels -> value.
        """
        with self._lock:
            counters = dict(self._counters)
            buckets = {labels: list(counts) for labels, counts in self._buckets.items()}
            seconds = dict(self._seconds)
        lines: list[str] = []
        for name in sorted({name for name, _ in counters}):
            lines.append(f"# TYPE {name} counter")
            lines += [_line(n, k, value) for (n, k), value in counters.items() if n == name]
        name = "sharpreel_http_request_seconds"
        if buckets:
            lines.append(f"# TYPE {name} histogram")
        for labels, counts in buckets.items():
            cumulative = 0
            for edge, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
                cumulative += count
                lines.append(_line(f"{name}_bucket", (*labels, ("le", edge)), cumulative))
            lines.append(_line(f"{name}_sum", labels, seconds[labels]))
            lines.append(_line(f"{name}_count", labels, cumulative))
        for name, values in gauges.items():
            lines.append(f"# TYPE {name} gauge")
            lines += [_line(name, labels, value) for labels, value in values.items()]
        return "\n".join(lines) + "\n"


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
