"""Files that survive a crash: atomic writes, fsync, and locks between processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any


def atomic_write(path: Path, text: str) -> None:
    """The whole text under its name, or the old file: never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def fsync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileLock:
    """Such a file, made when it is first held and left where it is.

    A file of which only the existence counts would outlive a killed process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None

    def acquire(self, wait: bool = True) -> bool:
        """Hold it; False when another does and we do not wait."""
        file = self._path.open("a+b")
        try:
            while not _hold(file, wait):
                if not wait:
                    file.close()
                    return False
                time.sleep(0.05)
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _hold(file: Any, wait: bool) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
