"""The gain of each bundled model over bicubic on a folder of high-resolution clips.

    python benchmarks/quality.py FOLDER [--model NAME] [--frames N]

Each clip is downscaled with MATLAB's bicubic and upscaled with `sharpreel.upscale_frames`. Prints
one table per model and scale. `reel-live` is for compressed video: its clips are also encoded as
H.264 at several rates after downscaling.
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


def as_seen(name: str, clips: list[Clip]) -> Iterator[tuple[str, list[Clip]]]:
    """The clips in the conditions that a model is for, each with a title."""
    if name != "reel-live":
        yield "", clips
        return
    for crf in RATES:
        seen = [Clip(c.name, c.hr, compress(c.lr, "h264", crf)) for c in clips]
        yield f", H.264 at CRF {crf}", seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="ground-truth videos")
    parser.add_argument("--model", choices=[*MODELS], help="only this model")
    parser.add_argument("--frames", type=int, help="only the first frames of each clip")
    parser.add_argument("--precision", default="float32", help="as for `sharpreel upscale`")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    for name in [options.model] if options.model else MODELS:
        if name == "bicubic":
            continue
        for scale in available_scales(name):
            clips = load_clips(paths, scale, options.frames)
            engine = choose_engine(load_model(name, scale), precision=options.precision)
            for form, seen in as_seen(name, clips):
                title = f"{name} x{scale}{form}"
                scores = evaluate(engine, seen)
                print(f"### {title}\n\n{markdown(title, scores)}\n", flush=True)


if __name__ == "__main__":
    main()
