"""What a run has finished, so that the same command goes on after a crash.

The work folder `<output>.sharpreel/` holds `settings.json` (what the run is: input, network,
settings), `journal.jsonl` (one line for each finished segment) and the segments. A segment is
written under another name, flushed to the disk and renamed, and only then journalled; so whatever
the journal names is whole, wherever the power went off.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.errors import ResumableError, write_error
from sharpreel.video import Frame

HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One finished segment: its file, its frames' exact pts, and the packets' display ranks.

    `tail` is a digest of the last input frames, by which a resumed run knows that it found its
    place again; `lost` counts frames of the stretch that did not decode; `last_duration` is the
    last frame's, as the input has it; `tile` is the engine's when it was finished.
    """

    name: str
    size: int
    pts: list[int]
    order: list[int]
    tail: str
    lost: int = 0
    last_duration: int = 0
    tile: int = 0


def digest(frames: Iterable[Frame]) -> str:
    """A short digest of some frames' pixels and timestamps."""
    total = hashlib.blake2b(digest_size=16)
    for frame in frames:
        total.update(str(frame.pts).encode())
        total.update(np.ascontiguousarray(frame.pixels).data)
    return total.hexdigest()


def identify(path: Path) -> dict[str, Any]:
    """What tells one input from another without reading all of it: size, mtime, its first MiB.

    Of a folder: the names, sizes and times of its files.
    """
    status = path.stat()
    if path.is_dir():
        files = sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in path.iterdir())
        names = json.dumps(files).encode()
        return {"files": len(files), "names_sha256": hashlib.sha256(names).hexdigest()}
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "head_sha256": head}


class Journal:
    """The work folder of one run.

    Args:
        output: The file the run will make; the folder stands beside it.
        settings: JSON-able; a run goes on only where all of it is unchanged.
        resume: False throws away what an earlier run left.

    Attributes:
        entries: Finished segments, in order.
        restarted: Why an earlier run's segments could not be used, "" when they could.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], resume: bool = True) -> None:
        self.folder = output.with_name(output.name + ".sharpreel")
        self.entries: list[Entry] = []
        self.restarted = ""
        self._lock: Any = None
        text = json.dumps(settings, sort_keys=True, indent=1)
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = _lock(self.folder / "lock")
            stored = self._stored()
            if stored is None or not resume:  # None: nothing yet, or clearing was cut short
                self._clear()
            elif stored != json.loads(text):
                self.restarted = _what_changed(stored, json.loads(text))
                self._clear()
            self._settings = self.folder / "settings.json"
            if not self._settings.exists():
                write_atomically(self._settings, text)
            self._read()
        except OSError as e:
            self.close()
            raise write_error(self.folder, e) from e

    def _stored(self) -> Any | None:
        try:
            return json.loads((self.folder / "settings.json").read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name == "lock":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _read(self) -> None:
        try:
            lines = (self.folder / "journal.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = Entry(**json.loads(line))
                whole = _size(self.folder / entry.name) == entry.size
            except (ValueError, TypeError, OSError):
                break  # a torn last line, or a segment that was taken away
            if not whole:
                break
            self.entries.append(entry)
        self._rewrite()

    def _rewrite(self) -> None:
        lines = "".join(json.dumps(vars(e)) + "\n" for e in self.entries)
        write_atomically(self.folder / "journal.jsonl", lines)

    def path(self, name: str) -> Path:
        return self.folder / name

    def commit(self, part: Path, entry: Entry) -> None:
        """Rename a finished part to the entry's name and journal it, all on the disk at return."""
        try:
            for path in (*(part.iterdir() if part.is_dir() else ()), part):
                sync(path)
            entry = replace(entry, size=_size(part))
            os.replace(part, self.folder / entry.name)
            with (self.folder / "journal.jsonl").open("a") as file:
                file.write(json.dumps(vars(entry)) + "\n")
                file.flush()
                os.fsync(file.fileno())
            sync(self.folder)
        except OSError as e:
            raise write_error(part, e) from e
        self.entries.append(entry)

    def forget(self, why: str) -> None:
        """Forget all segments; the run starts over."""
        self.entries, self.restarted = [], why
        self._rewrite()

    def close(self) -> None:
        """Let another run use the folder."""
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        """Delete the work folder; the output has its name now."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _size(path: Path) -> int:
    """Bytes of a file, or the number of files in a folder."""
    return sum(1 for _ in path.iterdir()) if path.is_dir() else path.stat().st_size


def _lock(path: Path) -> Any:
    """Hold the folder, or say that another run does; the system lets go when a process dies."""
    file = path.open("a+")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: no lock
        pass
    except OSError as e:
        file.close()
        raise ResumableError(
            f"{path.parent}: another run is making this output. Wait for it, or stop it first."
        ) from e
    return file


def _what_changed(before: Any, now: Any) -> str:
    keys = sorted(key for key in {*before, *now} if before.get(key, None) != now.get(key, None))
    return f"{', '.join(keys) or 'the settings'} changed since the earlier run"


def write_atomically(path: Path, text: str) -> None:
    """The whole text under its name, or the old file: never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
