"""Measure the bundled networks for their cards: the weights' headers and docs/cards.md.

    python benchmarks/cards.py FOLDER [--model NAME] [--frames N]

FOLDER holds the validation clips. Everything in a card but the words on what a network cannot do
comes out of the weights' headers and of `sharpreel.evaluate`: PSNR, SSIM, VMAF-NEG and tOF of each
clip, in float32, through the function that users call; and the place where it did worst, as a
picture. Networks that are not measured keep what their headers say.
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
PAGE, PICTURES = ROOT / "docs" / "cards.md", ROOT / "docs" / "cards"
FIELDS = ("psnr", "ssim", "vmaf_neg", "tof")
DEGRADATION = {"reel-live": "call"}  # what a network is for, where that is not plain bicubic
WEAK = {
    "reel-fast": "Fine regular texture (fabric, bricks, distant foliage) comes back soft or with "
    "the wrong direction, most of all at 4x, where the input no longer tells one from the other. "
    "Noise and a codec's blocks are enlarged with everything else. The first frames after a scene "
    "cut are a little softer than those that follow.",
    "reel": "As reel-fast, less of each. It makes nothing of text smaller than about six pixels.",
    "reel-live": "It smooths: on clean video it is worse than reel-fast. At very low rates it is "
    "level with bicubic, since what the codec took away does not come back.",
    "reel-gan": "Its texture is made up, and differs from the truth: nothing for evidence, text, "
    "medicine or measuring. Where it errs, it errs with sharp edges.",
    "reel-quality": "It sees clips of 20 frames with 15 more on each side, so it is not for live "
    "video; on a processor it is slow, and its gain over reel is small as yet. Its weaknesses are "
    "otherwise those of reel at 4x.",
}


def gmac(name: str, scale: int) -> float:
    """Products for one frame of 640x360, in units of 1e9; each is two operations with its sum."""
    gflop = gflop_of(f"{name} x{scale}", "640x360")
    assert gflop is not None
    return gflop / 2


def measure(names: list[str], scale: int, folder: Path, frames: int | None) -> None:
    """Run networks of one factor and purpose over the clips, and keep what came out in headers."""
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
    """Input, bicubic, network and truth of the piece where the first network gained least."""
    crop: Crop = min((c for c in done.crops if c.kind != "best"), key=lambda c: c.gain)
    height, width = crop.hr.shape[:2]
    sides = zip((height, width), crop.lr.shape[:2], strict=True)
    rows, columns = (np.arange(n) * m // n for n, m in sides)
    gap = np.full((height, 4, 3), 255, crop.hr.dtype)
    parts = [crop.lr[rows][:, columns], crop.srs[BICUBIC], crop.srs[name], crop.hr]
    row = np.concatenate([x for part in parts for x in (part, gap)][:-1], axis=1)
    return ops.resize(row, 2 * row.shape[0], 2 * row.shape[1])


def section(name: str, scale: int) -> str:
    """One card, out of the header."""
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
            [f"- it was to gain {card['goal_gain_db']} dB over bicubic and is not trained so far"]
            if "goal_gain_db" in card
            else []
        ),
        f"- weak at: {WEAK[name]}",
        "",
        f"![Input, bicubic, {name} and the truth where it did worst](cards/{name}_x{scale}.png)",
        "",
        f"Bicubic and {name}, {card['measured']['how']}:",
        "",
        "| clip | PSNR, dB | SSIM | VMAF-NEG | tOF, pixels (less is better) |",
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
        "folder", type=Path, nargs="?", help="validation clips; without: only write"
    )
    parser.add_argument("--model", choices=list(WEAK), help="only this one")
    parser.add_argument("--scale", type=int, help="only at this factor")
    parser.add_argument("--frames", type=int, help="of each clip, only the first")
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
    head += "same stands in the header of each file in `src/sharpreel/weights`. "
    head += "[models.md](models.md) tells what each network is for.\n\n"
    PAGE.write_text(head + "\n".join(cards))


if __name__ == "__main__":
    main()
