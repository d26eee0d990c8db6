"""Read and write `manifest.csv`, the record of harvested clips: source, size, measures, rights."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from sharpreel.errors import InputError, write_error

MANIFEST, DONE = "manifest.csv", "done.txt"


@dataclass(frozen=True)
class ManifestRow:
    """One row of the manifest: one clip.

    Attributes:
        file: Its name in the folder of the manifest.
        source: Absolute path or URL of the video that it was cut from.
        start_seconds: Time of its first frame in the source.
        width, height: In pixels; `source_width` and `source_height` are as stored, not rotated.
        motion, detail, blockiness, score: See `ClipMeasures`.
        sha256: Of the file.
    """

    file: str
    source: str
    start_seconds: float
    frames: int
    width: int
    height: int
    source_width: int
    source_height: int
    motion: float
    detail: float
    blockiness: float
    score: float
    sha256: str
    rights: str


def read_manifest(path: Path) -> list[ManifestRow]:
    """Return the rows of a manifest, in order.

    Raises:
        InputError: The file cannot be read, or is not a manifest of clips.
    """
    kinds: dict[str, Any] = get_type_hints(ManifestRow)
    rows = []
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
    for line in reader:
        try:
            rows.append(ManifestRow(**{name: kind(line[name]) for name, kind in kinds.items()}))
        except (KeyError, ValueError) as e:
            raise InputError(
                f"{path}: line {reader.line_num} is not a row of a manifest of clips; its columns "
                f"are {', '.join(kinds)}. Choose another output folder, or fix the file."
            ) from e
    return rows


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Replace a manifest; the old file stays until the new one is complete."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(ManifestRow)])
    writer.writerows(astuple(row) for row in rows)
    replace_file(path, text.getvalue())


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, whatever bytes its file names hold.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}).") from e


def replace_file(path: Path, text: str) -> None:
    """Write a text file so that readers see either the old or the new content; see `read_text`."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as e:
        raise write_error(path, e) from e
