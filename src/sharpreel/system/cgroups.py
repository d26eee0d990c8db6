"""CPU and memory limits from Linux control groups, which is how containers set them.

Reads versions 1 and 2, for the group of this process and all groups above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota() -> float | None:
    """The quota of CPU time, in CPUs; None: no limit, or no control groups."""
    limits = []
    for folder in _folders("cpu"):
        numbers = _numbers(folder / "cpu.max") or (
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        )
        quota, period = numbers or (0, 0)
        if quota > 0 and period > 0:
            limits.append(quota / period)
    return min(limits, default=None)


def free_bytes() -> int | None:
    """Bytes of memory that are left; None: no limit, or no control groups.

    Pages of files that were read count as used there, but are reclaimed when memory is needed.
    """
    left = []
    for folder in _folders("memory"):
        for limit, usage, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _numbers(folder / limit), _numbers(folder / usage)
            if most and used and most[0] < 1 << 60:  # version 1 means no limit by a huge number
                reclaimable = _statistics(folder / "memory.stat").get(cached, 0)
                left.append(max(most[0] - used[0] + reclaimable, 0))
    return min(left, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's group and those above it, as far as they can be seen."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base = ROOT
        elif controller in controllers.split(","):
            base = ROOT / controller
        else:
            continue
        own = base / path.lstrip("/")
        # In a container the path may be the host's: its own group is then the root that it sees.
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(base))


def _numbers(path: Path) -> tuple[int, ...]:
    """The integers in a file; () when it does not exist or says "max"."""
    try:
        return tuple(int(word) for word in path.read_text().split())
    except (OSError, ValueError):
        return ()


def _statistics(path: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return {name: int(value) for name, value in pairs}
    except (OSError, ValueError):
        return {}
