"""Make the images of the site's learn page, and the numbers in their captions.

    python examples/learn_pictures.py src/sharpreel/web/static/learn

The bundled models compute everything from photographs that are free of rights (see make_clip.py),
under a synthetic camera. Run it again when the weights change.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

import make_clip
import numpy as np
import torch
from panels import Pixels, side_by_side, telling_window
from PIL import Image, ImageDraw, ImageFont

import sharpreel
from sharpreel import ops
from sharpreel.data.degrade.compression import compress
from sharpreel.engines.base import Engine
from sharpreel.engines.choose import choose_engine
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.models.flow import estimate_flow
from sharpreel.models.layers import flow_warp

Numbers = dict[str, float]
WIDTH, HEIGHT = 384, 216  # of the ground truth
QUALITY = 84  # of the WebP files
LINE, INK, GRID = (47, 126, 216), (36, 36, 36), (222, 226, 231)


def clip(photograph: str, scale: int, frames: int) -> tuple[list[Pixels], list[Pixels]]:
    """(hr, lr): a photograph under a moving camera, and its version downscaled with bicubic."""
    hr = list(make_clip.scene(photograph, WIDTH, HEIGHT, frames))
    return hr, [ops.resize(frame, HEIGHT // scale, WIDTH // scale) for frame in hr]


def enlarged(lr: list[Pixels], model: str, scale: int) -> list[Pixels]:
    return list(sharpreel.upscale_frames(lr, engine=engine(model, scale)))


@functools.cache
def engine(model: str, scale: int) -> Engine:
    """One engine for all clips: compiling takes longer than running on a few frames."""
    return choose_engine(sharpreel.load_model(model, scale))


def nearest(lr: Pixels, scale: int) -> Pixels:
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)


def memory(folder: Path, frames: int) -> Numbers:
    """One frame alone, the same frame after earlier ones, and how the gain grows."""
    numbers: Numbers = {}
    rows = []
    curves = []
    for photograph in ("coffee", "chelsea"):
        hr, lr = clip(photograph, 2, frames)
        with_memory = enlarged(lr, "reel", 2)
        alone = [enlarged([frame], "reel", 2)[0] for frame in lr]
        curve = [
            psnr_y(a, t) - psnr_y(b, t) for a, b, t in zip(with_memory, alone, hr, strict=True)
        ]
        curves.append(curve)
        window = telling_window(alone[-1], with_memory[-1], 72, 108)
        versions = (nearest(lr[-1], 2), alone[-1], with_memory[-1], hr[-1])
        rows.append([pixels[window] for pixels in versions])
        for name, pixels in (("alone", alone[-1]), ("memory", with_memory[-1])):
            numbers[f"{photograph}_{name}"] = psnr_y(pixels, hr[-1])
        bicubic = ops.resize(lr[-1], HEIGHT, WIDTH)
        numbers[f"{photograph}_bicubic"] = psnr_y(bicubic, hr[-1])
    labels = ("input", "this frame alone", f"after {frames - 1} frames", "truth")
    save(side_by_side(labels, rows, zoom=2), folder / "memory.webp")
    gain = np.mean(curves, axis=0)
    save(chart(gain), folder / "gain.webp")
    numbers["gain_last"] = float(gain[-1])
    return numbers


def chart(gain: np.ndarray) -> Image.Image:
    """The gain in dB over the number of frames seen before, as a line."""
    width, height, left, bottom = 864, 300, 64, 52
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    top = max(float(gain.max()), 0.1) * 1.15
    across = (width - left - 24) / (len(gain) - 1)
    down = (height - bottom - 20) / top
    step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if top / s <= 6)
    for k in range(int(top / step) + 1):
        y = height - bottom - k * step * down
        draw.line([(left, y), (width - 24, y)], fill=GRID)
        draw.text((left - 8, y), f"{k * step:g}", fill=INK, font=font, anchor="rm")
    for k in range(0, len(gain), 4):
        draw.text(
            (left + k * across, height - bottom + 6), str(k), fill=INK, font=font, anchor="ma"
        )
    points = [(left + k * across, height - bottom - g * down) for k, g in enumerate(gain)]
    draw.line(points, fill=LINE, width=3, joint="curve")
    draw.text((left, 2), "gain over one frame alone, dB", fill=INK, font=font)
    words = "frames seen before"
    draw.text(((left + width) / 2, height - 8), words, fill=INK, font=font, anchor="ms")
    return sheet


def motion(folder: Path, frames: int) -> Numbers:
    """Two frames, the motion between them, and their difference before and after warping."""
    hr = list(make_clip.scene("astronaut", 432, 244, frames))
    a, b = hr[frames // 2], hr[frames // 4]
    flow = estimate_flow(as_tensor(a), as_tensor(b))
    warped = np.round(255 * flow_warp(as_tensor(b), flow)[0].permute(1, 2, 0).numpy())
    before, after = (amplified(a, x) for x in (b, warped))
    panels = [b, a, before, colours(flow[0].numpy()), after]
    inside = (slice(20, -20), slice(100, -100))
    labels = ("earlier", "now", "difference", "motion", "difference, aligned")
    save(side_by_side(labels, [[p[inside] for p in panels]], zoom=1), folder / "motion.webp")
    apart = [float(np.abs(x[inside].astype(float) - a[inside]).mean()) for x in (b, warped)]
    return {"apart_before": apart[0], "apart_after": apart[1]}


def as_tensor(frame: Pixels) -> torch.Tensor:
    return torch.from_numpy(frame.astype(np.float32) / 255).permute(2, 0, 1)[None]


def amplified(a: Pixels, b: np.ndarray, times: int = 3) -> Pixels:
    """The difference, centred on grey."""
    return np.asarray(np.clip(128 + times * (a.astype(float) - b), 0, 255), np.uint8)


def colours(flow: np.ndarray) -> Pixels:
    """Motion (2, H, W) as colour: direction is the hue, length the strength."""
    length = np.hypot(*flow)
    hue = (np.arctan2(flow[1], flow[0]) / (2 * np.pi)) % 1
    strength = np.clip(length / np.percentile(length, 99), 0, 1)
    hsv = np.stack([hue, strength, np.ones_like(hue)], axis=-1)
    image = Image.fromarray(np.round(255 * hsv).astype(np.uint8), "HSV").convert("RGB")
    return np.asarray(image)


def back_projection(folder: Path, frames: int) -> Numbers:
    """Upscale, downscale again, compare with the input, correct; and how close networks come."""
    hr, lr = clip("chelsea", 2, frames)
    truth, small = hr[-1], lr[-1]
    sr = ops.resize(small, HEIGHT, WIDTH)
    first, numbers = sr, {"steps": 8.0}
    numbers["miss_bicubic"] = miss(first, small)
    numbers["psnr_bicubic"] = psnr_y(first, truth)
    estimate = first.astype(float)
    for _ in range(8):
        low = ops.resize(np.clip(np.round(estimate), 0, 255).astype(np.uint8), *small.shape[:2])
        error = np.clip(small.astype(float) - low + 128, 0, 255).astype(np.uint8)
        estimate = np.clip(estimate + ops.resize(error, HEIGHT, WIDTH).astype(float) - 128, 0, 255)
    corrected = np.round(estimate).astype(np.uint8)
    network = enlarged(lr, "reel", 2)[-1]
    numbers["miss_corrected"], numbers["miss_network"] = (
        miss(corrected, small),
        miss(network, small),
    )
    numbers["psnr_corrected"] = psnr_y(corrected, truth)
    numbers["psnr_network"] = psnr_y(network, truth)
    window = telling_window(first, network, 72, 108)
    versions = (first, corrected, network, truth)
    labels = ("bicubic", "back-projected", "reel", "truth")
    errors = [
        amplified(nearest(small, 2), nearest(ops.resize(x, *small.shape[:2]), 2), 8)
        for x in versions
    ]
    rows = [[x[window] for x in versions], [x[window] for x in errors]]
    save(side_by_side(labels, rows, zoom=2), folder / "back_projection.webp")
    return numbers


def miss(sr: Pixels, lr: Pixels) -> float:
    """Mean difference, in levels, between the downscaled result and the input."""
    return float(np.abs(ops.resize(sr, *lr.shape[:2]).astype(float) - lr).mean())


def invented(folder: Path, frames: int) -> Numbers:
    """Text and a face that are too small for the pixels: they stay unreadable and unknown."""
    page = Image.new("RGB", (432, 288), (250, 248, 242))
    draw = ImageDraw.Draw(page)
    words = "Meet me at Pier 47, 8.35 pm"
    for row, size in enumerate((24, 17, 12, 9)):
        draw.text((24, 30 + 62 * row), words, fill=(30, 30, 40), font=ImageFont.load_default(size))
    texts = [np.roll(np.asarray(page), k, axis=1) for k in range(frames)]
    faces = [frame[20:164, 130:346] for frame in make_clip.scene("astronaut", 480, 270, frames)]
    rows = []
    for video, scale in ((texts, 4), (faces, 4)):
        height, width = (side - side % 4 for side in video[0].shape[:2])
        hr = [np.ascontiguousarray(f[:height, :width]) for f in video]
        lr = [ops.resize(f, height // scale, width // scale) for f in hr]
        sr = enlarged(lr, "reel", scale)[-1]
        bicubic = ops.resize(lr[-1], height, width)
        rows.append([x[:144, :216] for x in (nearest(lr[-1], scale), bicubic, sr, hr[-1])])
        if video is texts:
            rows.append([x[144:288, :216] for x in (nearest(lr[-1], scale), bicubic, sr, hr[-1])])
    labels = ("input, 4 times smaller", "bicubic", "reel", "truth")
    save(side_by_side(labels, rows, zoom=1), folder / "cannot.webp")
    return {}


def artefacts(folder: Path, frames: int) -> Numbers:
    """Strong compression, with a model that sharpens it and one that does not."""
    hr, lr = clip("coffee", 2, frames)
    coded = list(compress(np.stack(lr), "h264", crf=32))
    fast, live = (enlarged(coded, model, 2)[-1] for model in ("reel-fast", "reel-live"))
    bicubic = ops.resize(coded[-1], HEIGHT, WIDTH)
    window = telling_window(fast, live, 72, 108)
    versions = (nearest(coded[-1], 2), fast, live, hr[-1])
    labels = ("H.264 at CRF 32", "reel-fast", "reel-live", "truth")
    save(side_by_side(labels, [[x[window] for x in versions]], zoom=2), folder / "artefacts.webp")
    return {
        "coded_bicubic": psnr_y(bicubic, hr[-1]),
        "coded_fast": psnr_y(fast, hr[-1]),
        "coded_live": psnr_y(live, hr[-1]),
    }


def save(image: Image.Image | Pixels, path: Path) -> None:
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    image.save(path, quality=QUALITY, method=6)
    print(f"{path}: {image.width}x{image.height}, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--frames", type=int, default=24, help="of each clip; 24 is more than the memory needs"
    )
    a = parser.parse_args()
    folder: Path = a.folder
    folder.mkdir(parents=True, exist_ok=True)
    numbers: Numbers = {"frames": a.frames}
    for make in (memory, motion, back_projection, invented, artefacts):
        numbers |= make(folder, a.frames)
    rounded = {name: round(value, 2) for name, value in numbers.items()}
    (folder / "numbers.json").write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
