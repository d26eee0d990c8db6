"""A file that one process holds at a time; the system lets go of it when that process dies."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any


class Lock:
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

    def __enter__(self) -> Lock:
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
