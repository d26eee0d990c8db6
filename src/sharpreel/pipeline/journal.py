"""What a run has finished, so that the same command resumes after a crash.

The work folder `<output>.sharpreel/` holds `settings.json` (what the run is: input, network,
settings), `journal.jsonl` (one line for each finished segment) and the segments. A segment is
written under another name, flushed to the disk and renamed, and only then journalled; so whatever
the journal names is complete, even after a power failure.

Segments may be finished in any order. Each identifies the frames that it follows (`after`) with the
digest of the last frames of the one before (`tail`), which gives their order back:

    line 0   after ""     tail "a"      segment 0
    line 1   after "b"    tail "c"      segment 2, waits
    line 2   after "a"    tail "b"      segment 1, and 2 follows
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
from sharpreel.media.frame import Frame
from sharpreel.system.files import FileLock, atomic_write, fsync

HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class SegmentRecord:
    """One finished segment: its file, its frames' exact pts, and the packets' display ranks.

    `tail` is a digest of the last input frames, with which a resumed run confirms its position.
    `lost` counts input frames of the segment that did not decode. `last_duration` is the last
    frame's, as in the input. `tile` is the engine's when it was finished. `after` is the `tail` of
    the segment before.
    """

    name: str
    size: int
    pts: list[int]
    order: list[int]
    tail: str
    lost: int = 0
    last_duration: int = 0
    tile: int = 0
    after: str = ""


@dataclass(frozen=True)
class ResumePoint:
    """A segment's start, identified by a digest of the finished frames before it.

    Attributes:
        segment: Its number.
        frames: Number of finished frames.
        pts: Of the last finished frames, as many as must be read again.
        tail: Their digest.
    """

    segment: int = 0
    frames: int = 0
    pts: tuple[int, ...] = ()
    tail: str = ""

    @property
    def done_until(self) -> int | None:
        """The last finished frame's pts."""
        return self.pts[-1] if self.pts else None

    def after(self, record: SegmentRecord, length: int) -> ResumePoint:
        """The resume point after the segment that begins here."""
        pts = (*self.pts, *record.pts)[-length:]
        return ResumePoint(self.segment + 1, self.frames + len(record.pts), pts, record.tail)


def digest(frames: Iterable[Frame]) -> str:
    """A short digest of some frames' pixels and timestamps."""
    total = hashlib.blake2b(digest_size=16)
    for frame in frames:
        total.update(str(frame.pts).encode())
        total.update(np.ascontiguousarray(frame.pixels).data)
    return total.hexdigest()


def identify(path: Path) -> dict[str, Any]:
    """Identifies an input without reading all of it: size, modification time, first MiB.

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


def folder_of(output: Path) -> Path:
    """The work folder of the run that writes an output."""
    whole = Path(os.path.abspath(output))  # "." has no name
    return whole.with_name(whole.name + ".sharpreel")


def settings_of(folder: Path) -> dict[str, Any] | None:
    """The settings of the run in a work folder; {} if unreadable, None if there is no run."""
    try:
        stored = json.loads((folder / "settings.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


class Journal:
    """The work folder of one run.

    Args:
        output: The file that the run will write; the folder is next to it.
        settings: JSON-able; a run resumes only if all of it is unchanged.
        resume: False discards an earlier run.

    Attributes:
        entries: Finished segments, in order, without a gap.
        waiting: Those after a gap, by their `after`.
        restarted: Why an earlier run's segments could not be used, "" when they could.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], resume: bool = True) -> None:
        self.folder = folder_of(output)
        self.entries: list[SegmentRecord] = []
        self.waiting: dict[str, SegmentRecord] = {}
        self.restarted = ""
        self._lock: FileLock | None = None
        text = json.dumps(settings, sort_keys=True, indent=1)
        try:
            self.folder.mkdir(exist_ok=True)
            self._lock = FileLock(self.folder / "lock").or_raise(
                ResumableError(
                    f"{self.folder}: another run is writing this output. Wait for it, or stop it "
                    "first."
                )
            )
            stored = settings_of(self.folder)
            if stored is None or not resume:  # None: nothing yet, or clearing was cut short
                self._clear()
            elif stored != json.loads(text):
                self.restarted = _what_changed(stored, json.loads(text))
                self._clear()
            self._settings = self.folder / "settings.json"
            if not self._settings.exists():
                atomic_write(self._settings, text)
            self._read()
        except OSError as e:
            self.close()
            raise write_error(self.folder, e) from e

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
                entry = SegmentRecord(**json.loads(line))
                whole = _size(self.folder / entry.name) == entry.size
            except (ValueError, TypeError, OSError):
                break  # a torn last line, or a segment that was taken away
            if not whole:
                break
            self._add(entry)
        self._rewrite()

    def _add(self, entry: SegmentRecord) -> None:
        """Append a finished segment, and then those that waited for it."""
        self.waiting[entry.after] = entry
        while following := self.waiting.pop(self.tail, None):
            self.entries.append(following)

    def _rewrite(self) -> None:
        finished = (*self.entries, *self.waiting.values())
        lines = "".join(json.dumps(vars(e)) + "\n" for e in finished)
        atomic_write(self.folder / "journal.jsonl", lines)

    @property
    def tail(self) -> str:
        """The `after` of the next segment."""
        return self.entries[-1].tail if self.entries else ""

    def resume_point(self, length: int) -> ResumePoint:
        """Where the next segment begins, identified by `length` frames before it."""
        point = ResumePoint()
        for record in self.entries:
            point = point.after(record, length)
        return point

    @property
    def frames(self) -> int:
        """Frames of all finished segments."""
        return sum(len(entry.pts) for entry in (*self.entries, *self.waiting.values()))

    def path(self, name: str) -> Path:
        return self.folder / name

    def commit(self, part: Path, entry: SegmentRecord) -> None:
        """Rename a finished part to its final name and journal it; all is on disk at return."""
        try:
            for path in (*(part.iterdir() if part.is_dir() else ()), part):
                fsync(path)
            entry = replace(entry, size=_size(part))
            os.replace(part, self.folder / entry.name)
            with (self.folder / "journal.jsonl").open("a") as file:
                file.write(json.dumps(vars(entry)) + "\n")
                file.flush()
                os.fsync(file.fileno())
            fsync(self.folder)
        except OSError as e:
            raise write_error(part, e) from e
        self._add(entry)

    def forget(self, why: str) -> None:
        """Discard all segments; the run starts over."""
        self.entries, self.waiting, self.restarted = [], {}, why
        self._rewrite()

    def close(self) -> None:
        """Release the folder for another run."""
        if self._lock is not None:
            self._lock.release()

    def remove(self) -> None:
        """Delete the work folder, when the output has its name."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _size(path: Path) -> int:
    """Bytes of a file, or the number of files in a folder."""
    return sum(1 for _ in path.iterdir()) if path.is_dir() else path.stat().st_size


def _what_changed(before: Any, now: Any) -> str:
    return f"{', '.join(differing(before, now)) or 'the settings'} changed since the earlier run"


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The keys whose values differ."""
    return sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
