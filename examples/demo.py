"""Make a small video with sound, upscale it, and show the difference: what `make demo` runs.

    python examples/demo.py [--folder demo] [--seconds 2.4] [--size 320x180]

Needs the core of sharpreel only: no torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import make_clip
import numpy as np
from panels import Pixels, side_by_side, telling_window, write_png

import sharpreel


def read_frames(path: Path, indices: list[int]) -> list[Pixels]:
    """The frames with these numbers, RGB, (H, W, 3)."""
    with av.open(str(path)) as file:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for index, frame in enumerate(file.decode(video=0))
            if index in indices
        ]


def compare(lr_path: Path, sr_path: Path, num_frames: int, image: Path) -> Path:
    """Write bicubic beside sharpreel: one frame of each scene, where the two differ most."""
    num_scenes = len(make_clip.SCENES)
    indices = [int(num_frames * (number + 0.6) / num_scenes) for number in range(num_scenes)]
    bicubic = sharpreel.upscale_frames(read_frames(lr_path, indices), "bicubic", scale=2)
    rows = []
    for pair in zip(bicubic, read_frames(sr_path, indices), strict=True):
        window = telling_window(*pair, height=110, width=190)
        rows.append([frame[window] for frame in pair])
    return write_png(image, side_by_side(("bicubic", "sharpreel"), rows, zoom=3))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--size", type=make_clip.size, default=(320, 180), metavar="WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=2.4)
    a = parser.parse_args()
    width, height = a.size
    a.folder.mkdir(parents=True, exist_ok=True)

    clip = make_clip.write_video(a.folder / "clip.mp4", width, height, seconds=a.seconds)
    print(f"{clip}: {a.seconds:g} s of {width}x{height} with sound, from three photographs")

    result = sharpreel.upscale_video(clip, overwrite=True, resume=False)
    print(
        f"{result.output}: {2 * width}x{2 * height}, {result.frames} frames in "
        f"{result.seconds:.1f} s ({result.fps:.1f} frames per second, {result.engine}); "
        "all timestamps and the sound are unchanged"
    )

    image = compare(clip, Path(result.output), result.frames, a.folder / "side-by-side.png")
    print(f"{image}: bicubic on the left, sharpreel on the right; open it")


if __name__ == "__main__":
    main()
