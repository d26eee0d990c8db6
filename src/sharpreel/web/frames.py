"""The newest finished place of a job, before and after, as JPEG. Run as a child process.

python -m sharpreel.web.frames INPUT WORK_FOLDER TARGET_FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from sharpreel import video
from sharpreel.errors import InputError
from sharpreel.ops import Frame as Pixels

QUALITY = 88
TURNS = {0: 0, 90: 3, 180: 2, 270: 1}  # clockwise degrees -> quarter turns of np.rot90


def write_frames(source: Path, work: Path, target: Path) -> None:
    """Write before.jpg and after.jpg of the first frame of the last finished segment.

    Raises:
        InputError: Nothing is finished yet, or it is finished altogether.
    """
    try:
        entry = json.loads((work / "journal.jsonl").read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError) as e:
        raise InputError(f"{work}: no segment yet.") from e
    info = video.probe(source)
    before = next(iter(video.VideoReader(info, entry["pts"][0])), None)
    after = next(iter(video.VideoReader(video.probe(work / entry["name"]))), None)
    if before is None or after is None:
        raise InputError(f"{work}: no frame decodes.")
    for name, frame in (("before", before), ("after", after)):
        _write(np.rot90(frame.pixels, TURNS[info.rotation]), target / f"{name}.jpg")


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
