"""The manifest of harvested clips: what came from where, with its rights."""

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
    """One clip, as a line of the manifest has it.

    Attributes:
        file: Its name in the folder of the manifest.
        source: The absolute path, or the address, that it was cut from.
        start_seconds: Of its first frame, by the source's clock.
        width, height: In pixels; `source_width` and `source_height` are as stored, not turned.
        motion, detail, blockiness, score: See `Measures`.
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


# --- the folder ----------------------------------------------------------------------------------


def read_manifest(path: Path) -> list[ManifestRow]:
    """The rows of a manifest, in order.

    Raises:
        InputError: Not a manifest of this kind.
    """
    kinds: dict[str, Any] = get_type_hints(ManifestRow)
    rows = []
    reader = csv.DictReader(io.StringIO(read_rows(path), newline=""), restval="")
    for line in reader:
        try:
            rows.append(ManifestRow(**{name: kind(line[name]) for name, kind in kinds.items()}))
        except (KeyError, ValueError) as e:
            raise InputError(
                f"{path}: line {reader.line_num} is not of a manifest of clips; its columns are "
                f"{', '.join(kinds)}. Choose another output folder, or mend it."
            ) from e
    return rows


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest anew; the old one stands until the new one is whole."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(ManifestRow)])
    writer.writerows(astuple(row) for row in rows)
    replace_file(path, text.getvalue())


def read_rows(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}).") from e


def replace_file(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as e:
        raise write_error(path, e) from e
