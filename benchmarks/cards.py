"""Measure the bundled models: the headers of their files, docs/cards.md and the tables of models.

    python benchmarks/cards.py FOLDER [--model NAME] [--frames N]
    python benchmarks/cards.py

FOLDER holds the validation clips. Everything in a card except the description of its weaknesses
comes from the header of the model file and from `sharpreel evaluate`: PSNR, SSIM, VMAF-NEG and tOF
of each clip, in float32, through the function that users call, and an image of the crop with the
smallest gain. Models that are not measured keep what their headers say. Without FOLDER the pages
are written from the headers alone.

The tables in README.md and docs/benchmarks.md take frames per second from benchmarks/speed.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from pages import replace_block
from speed import gflop_of

from sharpreel import ops
from sharpreel.evaluation.benchmark import BenchmarkSettings, benchmark
from sharpreel.evaluation.results import BICUBIC, Crop, Evaluation
from sharpreel.media import images
from sharpreel.models import MODELS, weights
from sharpreel.models.weights import available_scales, load_model

ROOT = Path(__file__).resolve().parent.parent
PAGE, PICTURES = ROOT / "docs" / "cards.md", ROOT / "docs" / "cards"
TABLES = ROOT / "docs" / "benchmarks.md"
SPEED = ROOT / "benchmarks" / "speed.json"
FIELDS = ("psnr", "ssim", "vmaf_neg", "tof")
DEGRADATION = {"reel-live": "call"}  # what a network is for, where that is not plain bicubic
WEAK = {
    "reel-fast": "Fine regular texture (fabric, bricks, distant foliage) stays blurred or gets the "
    "wrong direction, above all at 4x, where the input no longer determines it. Noise and "
    "compression blocks are enlarged with the rest. The first frames after a scene cut are "
    "slightly softer than those that follow.",
    "reel": "The same as reel-fast, to a lesser degree. Text smaller than about six pixels stays "
    "unreadable.",
    "reel-live": "It smooths: on clean video it is worse than reel-fast. At very low bit rates it "
    "equals bicubic, because it cannot restore what the codec removed.",
    "reel-gan": "It hallucinates texture that differs from the ground truth: do not use it for "
    "evidence, text, medicine or measurement. Its errors have sharp edges.",
    "reel-quality": "It processes clips of 20 frames with 15 more frames on each side, so it does "
    "not work on live video. It is slow on a CPU, and its gain over reel is still small. Otherwise "
    "it has the weaknesses of reel at 4x.",
}
README_ROWS = (
    ("reel", 2, "default; clean video"),
    ("reel", 4, "clean video, small input"),
    ("reel-fast", 2, "clean video, in a hurry"),
    ("reel-live", 2, "webcams and calls (noise, compression)"),
    ("reel-gan", 4, "sharp texture, for viewing only"),
)
ENGINES = ("openvino-int8", "openvino", "torch-cpu")  # in the order in which a CPU run chooses


def gmac(name: str, scale: int) -> float:
    """Products for one frame of 640x360, in units of 1e9; each is two operations with its sum."""
    gflop = gflop_of(f"{name} x{scale}", "640x360")
    assert gflop is not None
    return gflop / 2


def measure(names: list[str], scale: int, folder: Path, frames: int | None) -> None:
    """Measure models of one scale and purpose on the clips; their headers keep the result."""
    settings = BenchmarkSettings(
        scale=scale,
        degradation=DEGRADATION.get(names[0], "bi"),
        vmaf=True,
        precision="float32",
        device="cpu",
        max_frames=frames,
    )
    done = benchmark(names, folder, settings)
    for name in names:
        model = load_model(name, scale)
        assert model.tensors is not None
        clips = {
            clip.clip: {
                field: [round(getattr(clip.of(m), field), 4) for m in (BICUBIC, name)]
                for field in FIELDS
            }
            for clip in done.clips
        }
        measured = {"how": done.title, "frames": frames or "all", "clips": clips}
        card = {**model.card, "measured": measured, "gmac_640x360": round(gmac(name, scale), 2)}
        weights.save_weights(model.tensors, safetensors.torch.load_file(model.tensors), card)
        PICTURES.mkdir(exist_ok=True)
        images.write_png(PICTURES / f"{name}_x{scale}.png", worst(done, name))
        print(json.dumps({f"{name} x{scale}": mean(clips)}), flush=True)


def worst(done: Evaluation, name: str) -> np.ndarray[Any, Any]:
    """Input, bicubic, model and ground truth of the crop with the smallest gain."""
    crop: Crop = min((c for c in done.crops if c.kind != "best"), key=lambda c: c.gain)
    height, width = crop.hr.shape[:2]
    sides = zip((height, width), crop.lr.shape[:2], strict=True)
    rows, columns = (np.arange(n) * m // n for n, m in sides)
    gap = np.full((height, 4, 3), 255, crop.hr.dtype)
    parts = [crop.lr[rows][:, columns], crop.srs[BICUBIC], crop.srs[name], crop.hr]
    row = np.concatenate([x for part in parts for x in (part, gap)][:-1], axis=1)
    return ops.resize(row, 2 * row.shape[0], 2 * row.shape[1])


def section(name: str, scale: int) -> str:
    """One card, from the header of the model file."""
    card = load_model(name, scale).card
    data, clips = card["data"], card["measured"]["clips"]
    rights = ", ".join(f"{n} {kind}" for kind, n in data["clips by rights"].items())
    lines = [
        f"## {name} x{scale}",
        "",
        f"- {MODELS[name].summary}",
        f"- {card['parameters']:,} parameters, {card['gmac_640x360']:g} GMAC for a frame of "
        f"640x360; licence {card['licence']}",
        f"- trained on {sum(data['clips by rights'].values())} clips ({rights}), degradation "
        f"{data['degradation']}; {card['steps']} steps"
        + (f" after {card['began_with']}" if "began_with" in card else ""),
        f"- hardware: {card['hardware']}",
        *(
            [f"- target: {card['goal_gain_db']} dB over bicubic, not reached yet"]
            if "goal_gain_db" in card
            else []
        ),
        f"- weaknesses: {WEAK[name]}",
        "",
        f"![Crop with the smallest gain: input, bicubic, {name}, ground truth]"
        f"(cards/{name}_x{scale}.png)",
        "",
        f"Bicubic and {name}, {card['measured']['how']}:",
        "",
        "| clip | PSNR, dB | SSIM | VMAF-NEG | tOF, pixels (lower is better) |",
        "| --- | --- | --- | --- | --- |",
    ]
    digits = {"psnr": 2, "ssim": 4, "vmaf_neg": 1, "tof": 3}
    for clip, found in {**clips, "mean": mean(clips)}.items():
        cells = [" -> ".join(f"{x:.{digits[f]}f}" for x in found[f]) for f in FIELDS]
        lines.append(f"| {clip} | {' | '.join(cells)} |")
    return "\n".join([*lines, *realworld(card), ""])


def realworld(card: Mapping[str, Any]) -> list[str]:
    """What `benchmarks/realworld.py --cards` found, as a table."""
    if "conditions" not in card:
        return []
    rows = dict(card["conditions"])
    lines = [
        "",
        f"On video as people have it ({rows.pop('frames')} frames of each clip; "
        "[evaluation.md](evaluation.md#video-as-people-have-it)), against bicubic:",
        "",
        "| condition | gain, dB | least, on which clip | flicker, ratio | grid visibility |",
        "| --- | --- | --- | --- | --- |",
    ]
    for condition, found in rows.items():
        gains = found["gain_db"]
        worst = min(gains, key=gains.__getitem__)
        lines.append(
            f"| `{condition}` | {np.mean([*gains.values()]):+.2f} | {gains[worst]:+.2f}, {worst} "
            f"| {found['flicker_ratio']:.2f} | {found['grid']:.2f} |"
        )
    return lines


def mean(clips: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    return {
        field: [float(np.mean([c[field][k] for c in clips.values()])) for k in (0, 1)]
        for field in FIELDS
    }


def speed(name: str, scale: int) -> tuple[float, str] | None:
    """Frames per second at 640x360 of the network alone on a CPU, and the engine that runs it."""
    rows = json.loads(SPEED.read_text())["rows"]
    fps = {
        row["engine"]: row["fps"]
        for row in rows
        if (row["network"], row["size"]) == (f"{name} x{scale}", "640x360")
    }
    return next(((fps[engine], engine) for engine in ENGINES if engine in fps), None)


def gains(name: str, scale: int) -> list[float]:
    """PSNR over bicubic on each validation clip, in dB."""
    clips = load_model(name, scale).card["measured"]["clips"]
    return [clip["psnr"][1] - clip["psnr"][0] for clip in clips.values()]


def short_table() -> str:
    """The five rows of the README."""
    lines = [
        "| `--model` | scale | for | PSNR over bicubic | fps |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, scale, use in README_ROWS:
        found = speed(name, scale)
        fps = f"{found[0]:.1f}" if found else ""
        gain = float(np.mean(gains(name, scale)))
        lines.append(f"| `{name}` | {scale}x | {use} | {gain:+.2f} dB | {fps} |")
    return "\n".join(lines)


def quality_table(rows: list[tuple[str, int]]) -> str:
    """PSNR and VMAF-NEG of every bundled model, mean over the validation clips."""
    lines = [
        "| model | scale | degradation | PSNR, bicubic -> model | gain | smallest, largest "
        "| VMAF-NEG |",
        "|" + " --- |" * 7,
    ]
    for name, scale in rows:
        average = mean(load_model(name, scale).card["measured"]["clips"])
        psnr, vmaf, gain = average["psnr"], average["vmaf_neg"], gains(name, scale)
        lines.append(
            f"| `{name}` | {scale}x | {DEGRADATION.get(name, 'bi')} "
            f"| {psnr[0]:.2f} -> {psnr[1]:.2f} dB | **{np.mean(gain):+.2f}** "
            f"| {min(gain):+.2f}, {max(gain):+.2f} | {vmaf[0]:.1f} -> {vmaf[1]:.1f} |"
        )
    return "\n".join(lines)


def cost_table(rows: list[tuple[str, int]]) -> str:
    """Size, work and speed of every bundled model."""
    lines = [
        "| model | scale | parameters | GMAC per frame | fps | engine |",
        "|" + " --- |" * 6,
    ]
    for name, scale in rows:
        card = load_model(name, scale).card
        fps, engine = speed(name, scale) or (0.0, "")
        lines.append(
            f"| `{name}` | {scale}x | {card['parameters']:,} | {card['gmac_640x360']:.1f} "
            f"| {fps:.1f} | {engine} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", help="validation clips; without them, only write the pages"
    )
    parser.add_argument("--model", choices=list(WEAK), help="only this model")
    parser.add_argument("--scale", type=int, help="only at this scale")
    parser.add_argument("--frames", type=int, help="only the first N of each clip")
    options = parser.parse_args()
    rows = [(name, scale) for name in WEAK for scale in available_scales(name)]
    groups: dict[tuple[int, str], list[str]] = {}
    for name, scale in rows:
        if options.model in (None, name) and options.scale in (None, scale):
            groups.setdefault((scale, DEGRADATION.get(name, "bi")), []).append(name)
    for (scale, _), names in groups.items():
        if options.folder is not None:
            measure(names, scale, options.folder, options.frames)
    measured = [row for row in rows if "measured" in load_model(*row).card]
    head = (
        "# Model cards\n\n`python benchmarks/cards.py FOLDER` measures the bundled models and "
        "writes this page. The header of each file in `src/sharpreel/models/bundled` holds the "
        "same numbers. [Models](models.md) describes what each model is for; "
        "[Evaluation](evaluation.md) defines the metrics.\n\n"
    )
    PAGE.write_text(head + "\n".join(section(name, scale) for name, scale in measured))
    replace_block(ROOT / "README.md", "models", short_table())
    replace_block(TABLES, "quality", quality_table(measured))
    replace_block(TABLES, "cost", cost_table(measured))


if __name__ == "__main__":
    main()
