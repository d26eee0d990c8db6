"""What each bundled network gains over bicubic on a folder of high-resolution clips.

    python benchmarks/quality.py FOLDER [--frames N]

Each clip is reduced by MATLAB's bicubic and enlarged again by `sharpreel.upscale_frames`; a table
for each network and scale goes to stdout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sharpreel import data, evaluate, video, weights
from sharpreel.engine import OpenVinoEngine
from sharpreel.models import MODELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="videos that are the truth")
    parser.add_argument("--frames", type=int, help="only the first frames of each clip")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in video.VIDEO_SUFFIXES)
    for name, spec in MODELS.items():
        if name == "bicubic":
            continue
        for scale in spec.scales:
            clips = data.load_clips(paths, scale, options.frames)
            engine = OpenVinoEngine(weights.load_model(name, scale))
            title = f"{name} x{scale}"
            print(f"### {title}\n\n{evaluate.markdown(title, evaluate.evaluate(engine, clips))}\n")


if __name__ == "__main__":
    main()
