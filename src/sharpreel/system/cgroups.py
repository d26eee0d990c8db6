"""What Linux's control groups, and so containers, leave of the machine: processors and memory.

Both versions of their files are read, of the group this process is in and of those above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def processors() -> float | None:
    """The quota of processor time, in processors; None: no limit, or no control groups."""
    found = []
    for folder in _folders("cpu"):
        quota, period = _numbers(folder / "cpu.max") or (
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        ) or (0, 0)  # fmt: skip
        if quota > 0 and period > 0:
            found.append(quota / period)
    return min(found, default=None)


def free_bytes() -> int | None:
    """Bytes of memory that are left; None: no limit, or no control groups.

    Pages of files that were read count as used there, but go when memory is wanted.
    """
    found = []
    for folder in _folders("memory"):
        for limit, usage, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, used = _numbers(folder / limit), _numbers(folder / usage)
            if most and used and most[0] < 1 << 60:  # the first version's word for no limit
                given_back = _statistics(folder / "memory.stat").get(cached, 0)
                found.append(max(most[0] - used[0] + given_back, 0))
    return min(found, default=None)


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
    """What a file says; () where it is not there, or says "max"."""
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
