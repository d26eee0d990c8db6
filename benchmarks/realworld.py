"""What networks gain over bicubic on video as people have it: compressed, noisy, coded twice.

    python benchmarks/realworld.py FOLDER [-m MODEL ...] [--peers] [-o realworld.json]

Each clip of FOLDER is made small and coded under each condition of `sharpreel evaluate --degrade`,
enlarged by `sharpreel.upscale_frames`, the function that users call, and measured frame by frame.
The JSON file keeps every number; a second run measures only what is missing in it, so tables can
grow model by model. Markdown tables go to stdout, and with --into to a page of the docs: means over
clips, gains and ratios to bicubic's, and on how many clips a network is below bicubic.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import jod
import numpy as np
import peers as others
import safetensors.torch

from sharpreel.data import degrade
from sharpreel.data.degrade import realworld
from sharpreel.engines.choose import choose_engine
from sharpreel.evaluation.metrics.fidelity import psnr_y, ssim
from sharpreel.evaluation.metrics.grid import grid_visibility
from sharpreel.evaluation.metrics.temporal import Motion
from sharpreel.evaluation.metrics.vmaf import vmaf
from sharpreel.media.color import RGB, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame
from sharpreel.media.probe import VIDEO_SUFFIXES
from sharpreel.media.reader import read_frames
from sharpreel.media.writer import SegmentWriter
from sharpreel.models import weights
from sharpreel.models.weights import load_model
from sharpreel.ops import Pixels
from sharpreel.upscale import upscale_frames

CLEAN = "bi"
CONDITIONS = (*realworld.CONDITIONS, CLEAN)
BEGIN, END = "<!-- realworld.py x{} -->", "<!-- end -->"
Enlarge = Callable[[Iterator[Pixels]], Iterator[Pixels]]


def measured(
    sr: list[Pixels], hr: list[Pixels], motions: list[Motion], scale: int, options: Any
) -> dict[str, float]:
    """Every measure of one clip of one model."""
    pairs = list(zip(sr, hr, strict=True))
    moving = list(zip(motions, itertools.pairwise(sr), strict=True))
    found: dict[str, Any] = {
        "psnr": np.mean([psnr_y(a, b) for a, b in pairs]),
        "ssim": np.mean([ssim(a, b) for a, b in pairs]),
        "grid": np.nanmean([grid_visibility(a, scale) for a, _ in pairs]),
    }
    steady = [motion.flicker(*two) for motion, two in moving]
    found["flicker"] = np.nanmean(steady) if np.isfinite(steady).any() else np.nan
    if options.tof:
        found["tof"] = np.mean([motion.tof(*two) for motion, two in moving])
    if options.perceptual:
        found["lite0"] = np.mean([options.perceptual.distance(a, b) for a, b in pairs[::4]])
    if options.jod:
        found["jod"] = options.jod(sr, hr)
    if options.vmaf:
        found["vmaf_neg"] = vmaf_neg(sr, hr)
    return {name: round(float(value), 5) for name, value in found.items()}


def vmaf_neg(sr: list[Pixels], hr: list[Pixels]) -> float:
    """Through lossless files, as `sharpreel evaluate --vmaf` does it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, frames in (("sr", sr), ("hr", hr)):
            paths.append(Path(folder) / f"{name}.mkv")
            settings = EncodeSettings(
                codec="ffv1",
                pix_fmt="bgr0",
                width=frames[0].shape[1],
                height=frames[0].shape[0],
                crf=None,
                preset=None,
                color=ColorInfo(RGB, full_range=True),
                time_base=Fraction(1, 25),
            )
            encoder = SegmentWriter(paths[-1], settings)
            for number, frame in enumerate(frames):
                encoder.write(Frame(frame, number))
            encoder.close()
        return vmaf(paths[0], paths[1])["vmaf_neg"]


def runners(models: list[str], scale: int, with_peers: bool) -> dict[str, tuple[str, Enlarge]]:
    """Title -> what identifies its numbers, and its function; bicubic first."""
    found: dict[str, tuple[str, Enlarge]] = {}
    for name in dict.fromkeys(["bicubic", *models]):
        model = load_model(name, scale)
        engine = choose_engine(model)

        def enlarge(frames: Iterator[Pixels], engine: Any = engine) -> Iterator[Pixels]:
            engine.reset()
            return upscale_frames(frames, engine=engine)

        title = Path(name).stem if name.endswith(".safetensors") else name
        found[title] = (model.digest(engine.kind.precision), enlarge)
    if with_peers:
        for name in others.installed(scale):
            found[name] = (name, others.enlarger(name))
    return found


def table(rows: dict[str, Any], titles: list[str], clips: list[str], conditions: list[str]) -> str:
    """Markdown: one row for each model, one column for each condition."""

    def of(condition: str, title: str, name: str) -> np.ndarray:
        return np.array([rows[condition][c][title].get(name, np.nan) for c in clips])

    def cell(name: str, condition: str, title: str) -> str:
        own, base = of(condition, title, name), of(condition, "bicubic", name)
        match name:
            case "psnr":
                below = int((own < base).sum())
                return f"{(own - base).mean():+.2f}" + (f" ({below} below)" if below else "")
            case "ssim":
                return f"{(own - base).mean():+.4f}"
            case "flicker":
                return f"{np.nanmean(own / base):.2f}"
            case "jod" | "vmaf_neg":
                return f"{own.mean():.2f}"
            case _:
                return f"{np.nanmean(own):.3f}"

    titles_of = {
        "psnr": "Gain over bicubic, PSNR-Y in dB",
        "ssim": "Gain over bicubic, SSIM",
        "flicker": "Flicker where the ground truth stands still, ratio to bicubic's",
        "grid": "Grid visibility (1: none)",
        "tof": "tOF, pixels",
        "lite0": "Lite0 distance (EfficientNet-Lite0 features)",
        "jod": "ColorVideoVDP, JOD",
        "vmaf_neg": "VMAF-NEG",
    }
    first = rows[conditions[0]][clips[0]]["bicubic"]
    lines = []
    for name, heading in titles_of.items():
        if name not in first:
            continue
        lines += ["", f"{heading}:", "", f"| | {' | '.join(conditions)} |"]
        lines.append("|---" * (len(conditions) + 1) + "|")
        for title in titles:
            cells = " | ".join(cell(name, condition, title) for condition in conditions)
            lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)


def replace_table(page: Path, scale: int, text: str) -> None:
    """Put the tables between the marks that the page has for this scale."""
    begin = BEGIN.format(scale)
    before, _, rest = page.read_text().partition(f"{begin}\n")
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{page} has no place for the tables of scale {scale}: {begin} ... {END}")
    page.write_text(f"{before}{begin}\n{text}\n\n{END}{after}")


def to_card(name: str, scale: int, frames: int, rows: dict[str, Any]) -> None:
    """Write what a network comes to under each condition to the header of its file."""
    model = load_model(name, scale)
    assert model.tensors is not None
    conditions = {}
    for condition, clips in rows.items():
        own, base = ([c[title] for c in clips.values()] for title in (name, "bicubic"))
        gains = {
            clip: round(a["psnr"] - b["psnr"], 3)
            for clip, a, b in zip(clips, own, base, strict=True)
        }
        steady = [a["flicker"] / b["flicker"] for a, b in zip(own, base, strict=True)]
        conditions[condition] = {
            "gain_db": gains,
            "flicker_ratio": round(float(np.nanmean(steady)), 3),
            "grid": round(float(np.nanmean([a["grid"] for a in own])), 3),
        }
    card = {**model.card, "conditions": {"frames": frames, **conditions}}
    weights.save_weights(model.tensors, safetensors.torch.load_file(model.tensors), card)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="videos that are the ground truth")
    parser.add_argument("-m", "--model", action="append", default=[], help="name or file")
    parser.add_argument("-s", "--scale", type=int, default=2)
    parser.add_argument("--condition", action="append", choices=CONDITIONS, help="only these")
    parser.add_argument("--clip", action="append", help="only these")
    parser.add_argument("--frames", type=int, default=28, help="first frames of each clip")
    parser.add_argument("--peers", action="store_true", help="and networks of installed wheels")
    parser.add_argument("--tof", action="store_true", help="measure tOF")
    parser.add_argument("--perceptual", action="store_true", help="measure the Lite0 distance")
    parser.add_argument("--jod", action="store_true", help="measure ColorVideoVDP")
    parser.add_argument("--vmaf", action="store_true", help="measure VMAF-NEG")
    parser.add_argument("--cards", action="store_true", help="write means to the models' headers")
    parser.add_argument("--into", type=Path, help="Markdown page that the tables replace a part of")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of all numbers")
    options = parser.parse_args()
    if options.perceptual:
        from sharpreel.evaluation.metrics.perceptual import Lite0

        options.perceptual = Lite0()
    if options.jod:
        options.jod = jod.jod
    return options


def main() -> None:
    options = read_options()
    wanted = [
        "psnr",
        "ssim",
        "grid",
        "flicker",
        *(["tof"] if options.tof else []),
        *(["lite0"] if options.perceptual else []),
        *(["jod"] if options.jod else []),
        *(["vmaf_neg"] if options.vmaf else []),
    ]
    paths = sorted(p for p in options.folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    paths = [p for p in paths if not options.clip or p.stem in options.clip]
    conditions = options.condition or list(CONDITIONS)
    known: dict[str, Any] = {}
    if options.output and options.output.is_file():
        known = json.loads(options.output.read_text())
    run = runners(options.model, options.scale, options.peers)
    rows: dict[str, Any] = {condition: {} for condition in conditions}
    began = time.monotonic()
    for path in paths:
        truth = read_frames(path, options.frames)
        motions: list[Motion] = []  # of hr, whose size is the same in all conditions
        own = int(hashlib.sha256(path.stem.encode()).hexdigest()[:8], 16)
        for condition in conditions:
            hr, lr = degrade.degrade(truth, options.scale, condition, (0, own))
            motions = motions or [Motion(*two) for two in itertools.pairwise(hr)]
            rows[condition][path.stem] = {}
            for title, (identity, enlarge) in run.items():
                key = f"x{options.scale} {condition} {path.stem} {len(hr)} {identity}"
                scores = known.get(key, {})
                if any(name not in scores for name in wanted):
                    sr = list(enlarge(iter(lr)))
                    scores |= measured(sr, list(hr), motions, options.scale, options)
                    known[key] = scores
                rows[condition][path.stem][title] = scores
        if options.output:
            options.output.write_text(json.dumps(known, indent=1, sort_keys=True))
        print(f"{path.stem}: {time.monotonic() - began:.0f} s", flush=True)
    text = table(rows, list(run), [p.stem for p in paths], conditions)
    text = f"{options.scale}x, {len(paths)} clips, {options.frames} frames each.\n{text}"
    print(f"\n{text}")
    for name in options.model if options.cards else []:
        to_card(name, options.scale, options.frames, rows)
    if options.into:
        replace_table(options.into, options.scale, text)


if __name__ == "__main__":
    main()
