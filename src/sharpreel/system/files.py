"""Files that survive a crash: atomic writes, fsync, and locks between processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import IO

from sharpreel.errors import SharpreelError


def atomic_write(path: Path, text: str) -> None:
    """Write a text file so that a crash leaves either the complete new file or the old one.

    The text is written to `<name>.part` in the same folder, flushed to the disk and renamed.
    """
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
    """A lock between processes, by the system's lock on a file.

    The file is created when the lock is first acquired, and stays. The system releases the lock of
    a process that ends, however it ends; a file of which only the existence counts would outlive a
    killed process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self, wait: bool = True) -> bool:
        """Take the lock; with `wait=False` return False when another process holds it."""
        file = self._path.open("a+b")
        try:
            while not _lock(file, wait):
                if not wait:
                    file.close()
                    return False
                time.sleep(0.05)
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def or_raise(self, error: SharpreelError) -> FileLock:
        """Take the lock without waiting and return it; raise `error` when another process has it.

        The caller releases it when it is done.

        Raises:
            OSError: The file cannot be created.
        """
        if not self.acquire(wait=False):
            raise error
        return self

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _lock(file: IO[bytes], wait: bool) -> bool:
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
