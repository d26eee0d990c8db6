"""The newest place of a job, before and after, as JPEG. Run as a child process.

python -m sharpreel.web.frames INPUT WORK_FOLDER TARGET_FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from sharpreel.errors import InputError
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import probe
from sharpreel.media.side_data import upright
from sharpreel.ops import Pixels

QUALITY = 88


def write_frames(source: Path, work: Path, target: Path) -> None:
    """Write before.jpg and after.jpg of the first frame of the newest segment.

    Raises:
        InputError: There is nothing of any yet, or it is finished altogether.
    """
    info = probe(source)
    for segment, start_pts in places(work):
        with suppress(InputError):  # too little of it is there, or it has got its name meanwhile
            after = next(iter(video_reader.VideoReader(probe(segment))), None)
            before = next(iter(video_reader.VideoReader(info, start_pts)), None)
            if before is not None and after is not None:
                for name, frame in (("before", before), ("after", after)):
                    shown = upright(frame.pixels, info.display_matrix)
                    _write(shown, target / f"{name}.jpg")
                return
    raise InputError(f"{work}: no frame yet.")


def places(work: Path) -> Iterator[tuple[Path, int | None]]:
    """Segments, the newest first, and where they begin in the input (None: with it).

    The newest is one that is being written: Matroska can be read while it grows.
    """
    entries = []
    with suppress(OSError):
        for line in (work / "journal.jsonl").read_text().splitlines():
            with suppress(ValueError):  # the last line may be half there
                entries.append(json.loads(line))
    ends = {-1: None} | {number_of(entry["name"]): entry["pts"][-1] + 1 for entry in entries}
    for part in sorted(work.glob("part-*.mkv"), reverse=True):
        before = number_of(part.name) - 1
        if before in ends:
            yield part, ends[before]
    for entry in entries[-1:]:
        yield work / entry["name"], entry["pts"][0]


def number_of(name: str) -> int:
    """Of the segment that a file holds: `Plan.segment_name` and its part."""
    return int(Path(name).stem.rsplit("-", 1)[-1])


def _write(pixels: Pixels, path: Path) -> None:
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    part = path.with_suffix(".part")
    part.write_bytes(data.tobytes())
    os.replace(part, path)


def main() -> int:
    try:
        write_frames(*map(Path, sys.argv[1:]))
    except InputError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
