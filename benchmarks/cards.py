"""Measure the bundled networks for their cards: the weights' headers and docs/cards.md.

    python benchmarks/cards.py FOLDER [--model NAME] [--frames N]

FOLDER holds the validation clips. Everything in a card except the text on limitations comes from
the weights' headers and from `sharpreel.evaluation.benchmark`: PSNR, SSIM, VMAF-NEG and tOF of each
clip, in float32, through the function that users call; and an image of the crop with the lowest
gain. Networks that are not measured keep the values in their headers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from speed import gflop_of

from sharpreel import ops
from sharpreel.evaluation.benchmark import BenchmarkSettings, benchmark
from sharpreel.evaluation.results import BICUBIC, Crop, Evaluation
from sharpreel.media import images
from sharpreel.models import MODELS, weights
from sharpreel.models.weights import available_scales, load_model

ROOT = Path(__file__).resolve().parent.parent
PAGE, IMAGES = ROOT / "docs" / "cards.md", ROOT / "docs" / "cards"
FIELDS = ("psnr", "ssim", "vmaf_neg", "tof")
DEGRADATION = {"reel-live": "call"}  # of networks that are not for plain bicubic
WEAK = {
    "reel-fast": "Fine regular texture (fabric, bricks, distant foliage) comes out soft or with "
    "the wrong direction, above all at 4x, where the input no longer distinguishes them. Noise and "
    "compression blocks are enlarged with everything else. The first frames after a scene cut are "
    "slightly softer than the following ones.",
    "reel": "As reel-fast, less of each. It cannot restore text smaller than about six pixels.",
    "reel-live": "It smooths: on clean video it is worse than reel-fast. At very low bitrates "
    "it equals bicubic, since it cannot restore what the codec removed.",
    "reel-gan": "Its texture is hallucinated and differs from the real scene: do not use it for "
    "evidence, text, medicine or measuring. Its errors have sharp edges.",
    "reel-quality": "It processes clips of 20 frames with 15 more on each side, so it is not for "
    "live video; on a CPU it is slow, and its gain over reel is still small. Its other weaknesses "
    "are those of reel at 4x.",
}


def gmac(name: str, scale: int) -> float:
    """Multiply-accumulates for one frame of 640x360, in units of 1e9; each is two operations."""
    gflop = gflop_of(f"{name} x{scale}", "640x360")
    assert gflop is not None
    return gflop / 2


def measure(names: list[str], scale: int, folder: Path, frames: int | None) -> None:
    """Measure networks of one scale and purpose on the clips, and store the results in headers."""
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
        IMAGES.mkdir(exist_ok=True)
        images.write_png(IMAGES / f"{name}_x{scale}.png", worst(done, name))
        print(json.dumps({f"{name} x{scale}": mean(clips)}), flush=True)


def worst(done: Evaluation, name: str) -> np.ndarray[Any, Any]:
    """Input, bicubic, network and reference of the crop with the first network's lowest gain."""
    crop: Crop = min((c for c in done.crops if c.kind != "best"), key=lambda c: c.gain)
    height, width = crop.hr.shape[:2]
    sides = zip((height, width), crop.lr.shape[:2], strict=True)
    rows, columns = (np.arange(n) * m // n for n, m in sides)
    gap = np.full((height, 4, 3), 255, crop.hr.dtype)
    parts = [crop.lr[rows][:, columns], crop.srs[BICUBIC], crop.srs[name], crop.hr]
    row = np.concatenate([x for part in parts for x in (part, gap)][:-1], axis=1)
    return ops.resize(row, 2 * row.shape[0], 2 * row.shape[1])


def section(name: str, scale: int) -> str:
    """One card, from the header."""
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
            [f"- the target was {card['goal_gain_db']} dB over bicubic; it is not fully trained"]
            if "goal_gain_db" in card
            else []
        ),
        f"- weak at: {WEAK[name]}",
        "",
        f"![Input, bicubic, {name} and reference of its worst crop](cards/{name}_x{scale}.png)",
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
    return "\n".join([*lines, ""])


def mean(clips: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    return {
        field: [float(np.mean([c[field][k] for c in clips.values()])) for k in (0, 1)]
        for field in FIELDS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "folder", type=Path, nargs="?", help="validation clips; without it, only write the page"
    )
    parser.add_argument("--model", choices=list(WEAK), help="only this one")
    parser.add_argument("--scale", type=int, help="only at this scale")
    parser.add_argument("--frames", type=int, help="only the first N frames of each clip")
    options = parser.parse_args()
    rows = [(name, scale) for name in WEAK for scale in available_scales(name)]
    groups: dict[tuple[int, str], list[str]] = {}
    for name, scale in rows:
        if options.model in (None, name) and options.scale in (None, scale):
            groups.setdefault((scale, DEGRADATION.get(name, "bi")), []).append(name)
    for (scale, _), names in groups.items():
        if options.folder is not None:
            measure(names, scale, options.folder, options.frames)
    cards = [
        section(name, scale) for name, scale in rows if "measured" in load_model(name, scale).card
    ]
    head = "# Cards of the bundled networks\n\nWritten by `python benchmarks/cards.py FOLDER`; the "
    head += "same data is in the header of each file in `src/sharpreel/models/bundled`. "
    head += "[models.md](models.md) describes the purpose of each network.\n\n"
    PAGE.write_text(head + "\n".join(cards))


if __name__ == "__main__":
    main()
