"""Put input, bicubic, networks, peers and ground truth side by side, to be looked at.

    python benchmarks/contact_sheet.py CLIP -m reel -m reel-live --condition mpeg4-6 -o sheet.png

One row for each condition: the same crop of one frame, after the networks saw all frames before it,
enlarged `--zoom` times by repeating pixels so that nothing is smoothed on the way.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import cv2
import numpy as np
from realworld import CONDITIONS, runners

from sharpreel.data import degrade
from sharpreel.evaluation.crops import most_textured_crop
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.media import images
from sharpreel.media.reader import read_frames
from sharpreel.ops import Pixels

BAND = 16  # pixels of a caption


def captioned(frame: Pixels, text: str, zoom: int) -> Pixels:
    large = frame.repeat(zoom, 0).repeat(zoom, 1)
    band = np.full((BAND, large.shape[1], 3), 255, np.uint8)
    cv2.putText(band, text, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([band, large])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path, help="a video that is the ground truth")
    parser.add_argument("-m", "--model", action="append", default=[], help="name or file")
    parser.add_argument("-s", "--scale", type=int, default=2)
    parser.add_argument("--condition", action="append", choices=CONDITIONS)
    parser.add_argument("--peers", action="store_true", help="and networks of installed wheels")
    parser.add_argument("--frame", type=int, default=14)
    parser.add_argument("--at", help="LEFT,TOP of the crop; by default where most detail is")
    parser.add_argument("--size", default="160x112", help="of the crop in the ground truth")
    parser.add_argument("--zoom", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("sheet.png"))
    options = parser.parse_args()
    truth = read_frames(options.clip, options.frame + 1)
    width, height = (int(n) for n in options.size.split("x"))
    own = int(hashlib.sha256(options.clip.stem.encode()).hexdigest()[:8], 16)
    s = options.scale
    if options.at:
        left, top = (int(n) // s * s for n in options.at.split(","))
    else:
        top, left = most_textured_crop(truth[-1], height, width, s)
    here = slice(top, top + height), slice(left, left + width)
    rows = []
    for condition in options.condition or ["mpeg4-6", "h264-30", "camera"]:
        hr, lr = degrade.degrade(truth, s, condition, (0, own))
        small = lr[-1][top // s : (top + height) // s, left // s : (left + width) // s]
        cells = [captioned(small.repeat(s, 0).repeat(s, 1), f"input {condition}", options.zoom)]
        for name, (_, enlarge) in runners(options.model, s, options.peers).items():
            *_, last = enlarge(iter(lr))
            text = f"{name} {psnr_y(last, hr[-1]):.2f} dB"
            cells.append(captioned(last[here], text, options.zoom))
        cells.append(captioned(hr[-1][here], "ground truth", options.zoom))
        rows.append(np.concatenate(cells, axis=1))
    images.write_png(options.output, np.concatenate(rows))


if __name__ == "__main__":
    main()
