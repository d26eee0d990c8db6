"""Read JSON lines from a file while another process writes them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any


class Follower:
    """Reads a file of JSON lines incrementally; each `read` returns all rows so far.

    Attributes:
        seen: When each row was first read, seconds of `time.monotonic`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[float] = []
        self._rows: list[dict[str, Any]] = []
        self._offset = 0
        self._inode: int | None = None  # a file that is started over is another file

    def read(self) -> list[dict[str, Any]]:
        """Return all complete rows; partial lines and lines that are not JSON are skipped."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._rows, self.seen = [], []
                    self._offset, self._inode = 0, status.st_ino
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return self._rows
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            with contextlib.suppress(ValueError):  # a line that a crash has cut
                row = json.loads(line)
                if isinstance(row, dict):
                    self._rows.append(row)
        self.seen += [time.monotonic()] * (len(self._rows) - len(self.seen))
        return self._rows
