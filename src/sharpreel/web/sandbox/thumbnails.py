"""Write the newest frame of a running job, before and after, as JPEG. Run as a child process.

python -m sharpreel.web.sandbox.thumbnails INPUT WORK_FOLDER TARGET_FOLDER
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
from sharpreel.media.probe import probe
from sharpreel.media.reader import VideoReader
from sharpreel.media.side_data import upright
from sharpreel.ops import Pixels

QUALITY = 88


def write_thumbnails(source: Path, work: Path, target: Path) -> None:
    """Write before.jpg and after.jpg: the first frame of the newest segment.

    Args:
        source: The input video.
        work: Folder of the run, with its journal and segments.
        target: Folder of the two images.

    Raises:
        InputError: No segment has a frame yet, or the run has finished.
    """
    info = probe(source)
    for segment, start_pts in newest_segments(work):
        with suppress(InputError):  # too little of it is written, or it was renamed meanwhile
            after = next(iter(VideoReader(probe(segment))), None)
            before = next(iter(VideoReader(info, start_pts)), None)
            if before is not None and after is not None:
                for name, frame in (("before", before), ("after", after)):
                    shown = upright(frame.pixels, info.display_matrix)
                    _write_jpeg(shown, target / f"{name}.jpg")
                return
    raise InputError(f"{work}: no frame yet.")


def newest_segments(work: Path) -> Iterator[tuple[Path, int | None]]:
    """(file, start pts in the input) of each segment, newest first; None: the input's start.

    The newest one is still being written: Matroska can be read while it grows.
    """
    records = []
    with suppress(OSError):
        for line in (work / "journal.jsonl").read_text().splitlines():
            with suppress(ValueError):  # the last line may be incomplete
                records.append(json.loads(line))
    ends = {-1: None} | {segment_number(r["name"]): r["pts"][-1] + 1 for r in records}
    for part in sorted(work.glob("part-*.mkv"), reverse=True):
        previous = segment_number(part.name) - 1
        if previous in ends:
            yield part, ends[previous]
    for record in records[-1:]:
        yield work / record["name"], record["pts"][0]


def segment_number(name: str) -> int:
    """Number of the segment in a file of `Plan.segment_name`, or in an unfinished one."""
    return int(Path(name).stem.rsplit("-", 1)[-1])


def _write_jpeg(pixels: Pixels, path: Path) -> None:
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert ok
    part = path.with_suffix(".part")
    part.write_bytes(data.tobytes())
    os.replace(part, path)


def main() -> int:
    try:
        write_thumbnails(*map(Path, sys.argv[1:]))
    except InputError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
