"""Files are written completely or not at all, and a lock is held by one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpreel.errors import ResumableError
from sharpreel.system.files import FileLock, atomic_write, fsync

HOLD = """
import sys
from pathlib import Path
from sharpreel.system.files import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_is_replaced_and_no_part_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, "old")
    atomic_write(path, "new")
    fsync(path)
    fsync(tmp_path)
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, "new")
    assert path.read_text() == "old"


def test_a_lock_that_another_process_holds_raises_the_given_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not FileLock(path).acquire(wait=False)
        with pytest.raises(ResumableError, match="another run"):
            FileLock(path).or_raise(ResumableError("another run is using this folder"))
        process.kill()  # the system releases the lock of a process that ends
        process.wait()
    lock = FileLock(path).or_raise(ResumableError("another run is using this folder"))
    lock.release()
    lock.release()  # once more is harmless
    with FileLock(path) as held:
        assert held is not lock
