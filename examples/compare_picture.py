"""Show what a model does: input, bicubic and sharpreel side by side, as an image or in motion.

    python examples/compare_picture.py compare.png
    python examples/compare_picture.py compare.png --clip clip.mp4 --scale 4
    python examples/compare_picture.py compare.webp --clip clip.mp4 --scale 4 --side 280

The ground truth is a video made from photographs (see make_clip.py) or a clip of yours. The input
is the ground truth downscaled with MATLAB's bicubic, the one that papers use. An output that ends
in .webp is an animation of every frame of one clip; any other is a still image of the last frame,
with the ground truth as a fourth panel.

The image in the README is made from a clip of the validation set:

    python examples/compare_picture.py docs/images/compare.webp \\
        --clip assetsforapi_butterfly.mp4 --frames 28 --scale 4 --side 288
"""

from __future__ import annotations

import argparse
from pathlib import Path

import make_clip
from panels import Pixels, side_by_side, telling_window, write_png
from PIL import Image

import sharpreel
from sharpreel import ops
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.media.reader import read_frames

SECONDS = 0.8  # of each scene: longer than the network's memory needs
SCENES = ("coffee", "chelsea")
MILLISECONDS = 66  # for each frame of an animation: half the speed of the clip, to be looked at


Panels = tuple[Pixels, Pixels, Pixels, Pixels]  # input, bicubic, sharpreel, ground truth


def upscaled(hr: list[Pixels], model: str, scale: int) -> list[Panels]:
    """(input, bicubic, sharpreel, ground truth) of every frame, all of the same size."""
    height, width = (length // scale for length in hr[0].shape[:2])
    reference = [frame[: height * scale, : width * scale] for frame in hr]
    lr = [ops.resize(frame, height, width) for frame in reference]
    return [
        (
            small.repeat(scale, axis=0).repeat(scale, axis=1),
            ops.resize(small, *truth.shape[:2]),
            sr,
            truth,
        )
        for small, sr, truth in zip(
            lr, sharpreel.upscale_frames(lr, model, scale=scale), reference, strict=True
        )
    ]


def crops(frames: list[Panels], model: str, side: int) -> list[Panels]:
    """The same square of every frame: where bicubic and sharpreel differ most in the last one."""
    _, bicubic, sr, truth = frames[-1]
    before, after = (psnr_y(image, truth) for image in (bicubic, sr))
    print(f"PSNR on Y: bicubic {before:.2f} dB, {model} {after:.2f} dB")
    window = telling_window(bicubic, sr, side, side)
    return [(a[window], b[window], c[window], d[window]) for a, b, c, d in frames]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="reel")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--clip", type=Path, help="a video to use as ground truth")
    parser.add_argument("--frames", type=int, default=20, help="of the clip")
    parser.add_argument("--side", type=int, default=96, help="of the part that is shown, pixels")
    a = parser.parse_args()
    if a.clip is None:
        count = round(SECONDS * make_clip.RATE)
        clips = [list(make_clip.scene(name, 384, 216, count)) for name in SCENES]
    else:
        clips = [list(read_frames(a.clip, a.frames))]
    shown = [crops(upscaled(frames, a.model, a.scale), a.model, a.side) for frames in clips]
    a.output.parent.mkdir(parents=True, exist_ok=True)
    labels = ("input", "bicubic", f"sharpreel ({a.model})", "ground truth")
    if a.output.suffix == ".webp":
        first, *rest = [
            Image.fromarray(side_by_side(labels[:3], [panels[:3]], zoom=1)) for panels in shown[0]
        ]
        first.save(
            a.output, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, quality=82
        )
    else:
        write_png(a.output, side_by_side(labels, [clip[-1] for clip in shown], zoom=3))
    print(a.output)


if __name__ == "__main__":
    main()
