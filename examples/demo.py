"""Make a small film with sound, upscale it, and show the difference: what `make demo` runs.

python examples/demo.py [--folder demo] [--seconds 6] [--size 320x180]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import make_clip
from panels import side_by_side, telling_window

import sharpreel
from sharpreel import ops
from sharpreel.media.reader import read_frames


def compare(lr_path: Path, sr_path: Path, picture: Path) -> None:
    """Write bicubic beside sharpreel: of each scene the part where the two differ most."""
    lr, sr = read_frames(lr_path), read_frames(sr_path)
    rows = []
    for number in range(len(make_clip.SCENES)):
        index = int(len(lr) * (number + 0.6) / len(make_clip.SCENES))
        bicubic = ops.resize(lr[index], *sr.shape[1:3])
        window = telling_window(bicubic, sr[index], height=110, width=190)
        rows.append((bicubic[window], sr[index][window]))
    side_by_side(("bicubic", "sharpreel"), rows, zoom=3).save(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"))
    parser.add_argument("--size", type=make_clip.size, default=(320, 180), metavar="WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=6.0)
    a = parser.parse_args()
    width, height = a.size
    a.folder.mkdir(parents=True, exist_ok=True)

    film = make_clip.write_film(a.folder / "film.mp4", width, height, seconds=a.seconds)
    print(f"{film}: {a.seconds:g} s of {width}x{height} with sound, from three photographs")

    result = sharpreel.upscale_video(film, overwrite=True, resume=False)
    print(
        f"{result.output}: {2 * width}x{2 * height}, {result.frames} frames in "
        f"{result.seconds:.1f} s ({result.fps:.1f} frames a second, {result.engine}), "
        "verified: every timestamp and the sound are as they were"
    )

    picture = a.folder / "side-by-side.png"
    compare(film, result.output, picture)
    print(f"{picture}: bicubic beside sharpreel, enlarged, where they differ most")


if __name__ == "__main__":
    main()
