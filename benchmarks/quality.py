"""Measure the gain of each bundled network over bicubic on a folder of high-resolution clips.

    python benchmarks/quality.py FOLDER [--model NAME] [--frames N]

Each clip is downscaled by MATLAB's bicubic and upscaled by `sharpreel.upscale_frames`; a table for
each network and scale goes to stdout. `reel-live` is for compressed video: its clips are compressed
with H.264 at several rates after downscaling.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from sharpreel.data.degrade.compression import compress
from sharpreel.data.store import Clip, load_clips
from sharpreel.engines.choose import choose_engine
from sharpreel.evaluation.validation import evaluate, markdown
from sharpreel.media.probe import VIDEO_SUFFIXES
from sharpreel.models import MODELS
from sharpreel.models.weights import available_scales, load_model

RATES = (18, 23, 28, 35)  # CRF of x264, from nearly clean to a bad call


def variants(name: str, clips: list[Clip]) -> Iterator[tuple[str, list[Clip]]]:
    """The clips as the network's users have them, each variant with its title."""
    if name != "reel-live":
        yield "", clips
        return
    for crf in RATES:
        degraded = [Clip(c.name, c.hr, compress(c.lr, "h264", crf)) for c in clips]
        yield f", H.264 at CRF {crf}", degraded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="high-resolution videos")
    parser.add_argument("--model", choices=[*MODELS], help="only this one")
    parser.add_argument("--frames", type=int, help="only the first N frames of each clip")
    parser.add_argument("--precision", default="float32", help="as of `sharpreel upscale`")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    for name in [options.model] if options.model else MODELS:
        if name == "bicubic":
            continue
        for scale in available_scales(name):
            clips = load_clips(paths, scale, options.frames)
            engine = choose_engine(load_model(name, scale), precision=options.precision)
            for variant, degraded in variants(name, clips):
                title = f"{name} x{scale}{variant}"
                scores = evaluate(engine, degraded)
                print(f"### {title}\n\n{markdown(title, scores)}\n", flush=True)


if __name__ == "__main__":
    main()
