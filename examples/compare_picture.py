"""Make the image of the README: input, bicubic, sharpreel and ground truth side by side.

    python examples/compare_picture.py assets/compare.png
    python examples/compare_picture.py clip.png --clip clip.mp4 --scale 4

The ground truth is a video of photographs (see make_clip.py) or your clip; the input is that
reduced by the bicubic that papers use. Run it again when the weights change.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import make_clip
from panels import Pixels, side_by_side, telling_window

import sharpreel
from sharpreel import ops
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.media.reader import read_frames

SECONDS = 0.8  # of each scene: long enough for the network's state
SCENES = ("coffee", "chelsea")


def row(
    hr: list[Pixels], model: str, scale: int, side: int
) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Return (input, bicubic, sharpreel, ground truth) of the last frame, cropped."""
    height, width = (length // scale for length in hr[0].shape[:2])
    cropped = [frame[: height * scale, : width * scale] for frame in hr]
    lr = [ops.resize(frame, height, width) for frame in cropped]
    *_, sr = sharpreel.upscale_frames(lr, model, scale=scale)
    bicubic = ops.resize(lr[-1], *cropped[-1].shape[:2])
    nearest = lr[-1].repeat(scale, axis=0).repeat(scale, axis=1)
    before, after = (psnr_y(picture, cropped[-1]) for picture in (bicubic, sr))
    print(f"PSNR on Y: bicubic {before:.2f} dB, {model} {after:.2f} dB")
    window = telling_window(bicubic, sr, side, side)
    return nearest[window], bicubic[window], sr[window], cropped[-1][window]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="reel")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--clip", type=Path, help="a video to use as ground truth")
    parser.add_argument("--frames", type=int, default=20, help="of the clip; the last is shown")
    parser.add_argument("--side", type=int, default=96, help="of the part that is shown, pixels")
    a = parser.parse_args()
    if a.clip is None:
        count = round(SECONDS * make_clip.RATE)
        videos = [list(make_clip.scene(name, 384, 216, count)) for name in SCENES]
    else:
        videos = [list(read_frames(a.clip, a.frames))]
    rows = [row(frames, a.model, a.scale, a.side) for frames in videos]
    a.output.parent.mkdir(parents=True, exist_ok=True)
    labels = ("input", "bicubic", f"sharpreel ({a.model})", "ground truth")
    side_by_side(labels, rows, zoom=3).save(a.output, optimize=True)
    print(a.output)


if __name__ == "__main__":
    main()
