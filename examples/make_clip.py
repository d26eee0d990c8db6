"""Make a small video with sound from photographs: pans and zooms, cuts between scenes, chords.

    python examples/make_clip.py clip.mp4 --size 320x180 --seconds 6

Needs PyAV and NumPy only. The photographs in examples/photographs/ are those of scikit-image and
free of rights: coffee (CC0, Rachel Michetti), astronaut (public domain, NASA), chelsea (CC0,
Stéfan van der Walt).
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace
from panels import HERE, Pixels, read_image

RATE = Fraction(25)
SAMPLE_RATE = 48000
SCENES = ("coffee", "astronaut", "chelsea")
BT709 = 1  # matrix, primaries and transfer have the same number in H.264


@dataclass(frozen=True)
class Camera:
    """Where a scene looks: the middle of its window and its width, as shares of the photograph."""

    x: float
    y: float
    width: float

    def towards(self, other: Camera, share: float) -> Camera:
        """A camera between this one and another, eased in and out; `share` in [0, 1]."""
        s = share * share * (3 - 2 * share)
        return Camera(
            self.x + s * (other.x - self.x),
            self.y + s * (other.y - self.y),
            self.width + s * (other.width - self.width),
        )


MOVES = {
    "coffee": (Camera(0.50, 0.50, 0.98), Camera(0.60, 0.52, 0.75)),
    "astronaut": (Camera(0.48, 0.30, 0.64), Camera(0.46, 0.36, 0.92)),
    "chelsea": (Camera(0.58, 0.40, 0.98), Camera(0.46, 0.46, 0.80)),
}


@functools.cache
def photograph(name: str) -> Pixels:
    """A photograph of examples/photographs/, RGB, (H, W, 3)."""
    return read_image(HERE / "photographs" / f"{name}.png")


def resample(image: Pixels, begin: float, extent: float, count: int) -> Pixels:
    """Rows `begin` to `begin + extent` of an image as `count` rows, by antialiased bicubic."""
    scale = extent / count
    width = max(scale, 1.0)  # a reduction stretches the kernel, Keys' with a = -0.5
    centres = begin + scale * (np.arange(count) + 0.5)
    first = np.ceil(centres - 2 * width - 0.5).astype(int)
    rows = first[:, None] + np.arange(int(4 * width) + 1)  # (count, taps)
    x = np.abs(rows + 0.5 - centres[:, None]) / width
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    inside = (rows >= 0) & (rows < len(image))
    weights = np.where(x < 1, near, np.where(x < 2, far, 0)) * inside
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    rows = rows.clip(0, len(image) - 1)
    total = np.zeros((count, *image.shape[1:]), np.float32)
    for tap in range(rows.shape[1]):
        total += weights[:, tap, None, None] * image[rows[:, tap]]
    return np.asarray(total.round().clip(0, 255), np.uint8)


def crop(image: Pixels, box: tuple[float, float, float, float], height: int, width: int) -> Pixels:
    """The part of an image (H, W, 3) in `box`, (left, top, width, height), at another size."""
    left, top, w, h = box
    columns = resample(image.swapaxes(0, 1), left, w, width)  # (width, H, 3)
    return resample(columns.swapaxes(0, 1), top, h, height)


def scene(name: str, width: int, height: int, num_frames: int) -> Iterator[Pixels]:
    """One photograph under a moving camera, RGB frames (H, W, 3)."""
    image = photograph(name)
    image_height, image_width, _ = image.shape
    begin, end = MOVES[name]
    for index in range(num_frames):
        at = begin.towards(end, index / max(num_frames - 1, 1))
        # The window has the proportions of the video and stays inside the photograph.
        w = min(at.width * image_width, image_height * width / height)
        h = w * height / width
        left = min(max(at.x * image_width - w / 2, 0), image_width - w)
        top = min(max(at.y * image_height - h / 2, 0), image_height - h)
        yield crop(image, (left, top, w, h), height, width)


def frames(width: int, height: int, seconds: float) -> Iterator[Pixels]:
    """Every scene of SCENES for an equal share of the time."""
    num_frames = round(seconds * RATE)
    cuts = [round(num_frames * k / len(SCENES)) for k in range(len(SCENES) + 1)]
    for name, (begin, end) in zip(SCENES, itertools.pairwise(cuts), strict=True):
        yield from scene(name, width, height, end - begin)


def chords(seconds: float) -> npt.NDArray[np.float32]:
    """Soft plucked notes over a slow bass, stereo (2, samples) in [-1, 1]."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros((2, time.size))
    notes = (220.00, 277.18, 329.63, 440.00, 329.63, 277.18, 246.94, 293.66, 369.99, 293.66)
    for k in range(int(seconds / 0.4) + 1):
        since = (time - 0.4 * k).clip(0)  # the envelope is 0 until the note is struck
        tone = sum(np.sin(2 * np.pi * n * notes[k % 10] * since) / n**2 for n in (1, 2, 3))
        envelope = np.exp(-2.2 * since) * (1 - np.exp(-80 * since))
        right = 0.5 + 0.35 * np.sin(1.7 * k)  # each note has its own position in the stereo field
        sound += 0.16 * np.outer([1 - right, right], tone * envelope)
    sound += 0.08 * np.sin(2 * np.pi * 110 * time)
    fade = np.clip(np.minimum(time, seconds - time) / 0.15, 0, 1)
    return np.asarray(sound * fade, dtype=np.float32)


def write_video(
    path: Path, width: int = 320, height: int = 180, *, seconds: float = 6.0, crf: int = 14
) -> Path:
    """Write the video with its sound, H.264 (BT.709) and AAC; returns the path."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE, options={"crf": str(crf)})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        context = video.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        audio = out.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        samples = chords(seconds)
        step = int(SAMPLE_RATE / RATE)  # audio samples in the time of one frame
        for index, pixels in enumerate(frames(width, height, seconds)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                interpolation="BICUBIC",
            )
            frame.pts, frame.time_base = index, 1 / RATE
            out.mux(video.encode(frame))
            part = np.ascontiguousarray(samples[:, index * step : (index + 1) * step])
            chunk = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            chunk.sample_rate, chunk.pts = SAMPLE_RATE, index * step
            out.mux(audio.encode(chunk))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def size(text: str) -> tuple[int, int]:
    """(width, height) from "320x180"."""
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", type=size, default=(320, 180), metavar="WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--crf", type=int, default=14, help="quality of the encoder, 0 to 51")
    a = parser.parse_args()
    width, height = a.size
    print(write_video(a.output, width, height, seconds=a.seconds, crf=a.crf))


if __name__ == "__main__":
    main()
