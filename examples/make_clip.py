"""Make a small video with sound from photographs: pans and zooms, cuts between scenes, chords.

    python examples/make_clip.py video.mp4 --size 320x180 --seconds 6

The photographs come with scikit-image and are free of rights: coffee (CC0, Rachel Michetti),
astronaut (public domain, NASA), chelsea (CC0, Stéfan van der Walt), rocket (public domain, SpaceX).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

from sharpreel.media.color import BT709, ColorInfo
from sharpreel.media.convert import from_rgb, to_video_frame
from sharpreel.media.encoders import EncodeSettings, add_video_stream

Pixels = npt.NDArray[np.uint8]
RATE = Fraction(25)
SAMPLE_RATE = 48000
SCENES = ("coffee", "astronaut", "chelsea")


@dataclass(frozen=True)
class Camera:
    """The view of a scene: centre and width of its window, as shares of the photograph."""

    x: float
    y: float
    width: float

    def towards(self, other: Camera, share: float) -> Camera:
        """Interpolate to another camera, easing in and out; `share` in [0, 1]."""
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
    "rocket": (Camera(0.45, 0.70, 0.75), Camera(0.52, 0.45, 0.95)),
}


def scene(photograph: str, width: int, height: int, num_frames: int) -> Iterator[Pixels]:
    """Yield RGB frames (H, W, 3) of a photograph under a moving camera."""
    picture = Image.fromarray(getattr(skimage.data, photograph)())
    begin, end = MOVES[photograph]
    for index in range(num_frames):
        at = begin.towards(end, index / max(num_frames - 1, 1))
        # The window has the aspect ratio of the video and stays inside the photograph.
        w = min(at.width * picture.width, picture.height * width / height)
        h = w * height / width
        left = min(max(at.x * picture.width - w / 2, 0), picture.width - w)
        top = min(max(at.y * picture.height - h / 2, 0), picture.height - h)
        box = (left, top, left + w, top + h)
        yield np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))


def film(width: int, height: int, seconds: float) -> Iterator[Pixels]:
    """Yield every scene of SCENES for an equal share of the time."""
    num_frames = round(seconds * RATE)
    cuts = [round(num_frames * k / len(SCENES)) for k in range(len(SCENES) + 1)]
    for photograph, (begin, end) in zip(SCENES, itertools.pairwise(cuts), strict=True):
        yield from scene(photograph, width, height, end - begin)


def chords(seconds: float) -> npt.NDArray[np.float32]:
    """Soft plucked notes over a slow bass, stereo (2, samples) in [-1, 1]."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros((2, time.size))
    notes = (220.00, 277.18, 329.63, 440.00, 329.63, 277.18, 246.94, 293.66, 369.99, 293.66)
    for k in range(int(seconds / 0.4) + 1):
        since = (time - 0.4 * k).clip(0)  # the envelope is 0 until the note is struck
        tone = sum(np.sin(2 * np.pi * n * notes[k % 10] * since) / n**2 for n in (1, 2, 3))
        envelope = np.exp(-2.2 * since) * (1 - np.exp(-80 * since))
        right = 0.5 + 0.35 * np.sin(1.7 * k)  # each note has its own position
        sound += 0.16 * np.outer([1 - right, right], tone * envelope)
    sound += 0.08 * np.sin(2 * np.pi * 110 * time)
    fade = np.clip(np.minimum(time, seconds - time) / 0.15, 0, 1)
    return np.asarray(sound * fade, dtype=np.float32)


def write_film(
    path: Path, width: int = 320, height: int = 180, *, seconds: float = 6.0, crf: int = 14
) -> Path:
    """Write the video with its sound, H.264 and AAC; return the path."""
    settings = EncodeSettings(
        codec="h264",
        pix_fmt="yuv420p",
        width=width,
        height=height,
        crf=crf,
        preset="medium",
        color=ColorInfo(BT709, full_range=False, primaries=1, transfer=1),
        rate=RATE,
        time_base=1 / RATE,
    )
    with av.open(str(path), "w") as out:
        picture = add_video_stream(out, settings)
        sound = out.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        to_yuv = from_rgb(settings)
        samples = chords(seconds)
        step = int(SAMPLE_RATE / RATE)  # what is heard while one frame is shown
        for index, pixels in enumerate(film(width, height, seconds)):
            frame = to_video_frame(pixels)
            frame.pts, frame.time_base = index, settings.time_base
            to_yuv.push(frame)
            for ready in to_yuv.pull():
                out.mux(picture.encode(ready))
            heard = np.ascontiguousarray(samples[:, index * step : (index + 1) * step])
            piece = av.AudioFrame.from_ndarray(heard, format="fltp", layout="stereo")
            piece.sample_rate, piece.pts = SAMPLE_RATE, index * step
            out.mux(sound.encode(piece))
        out.mux(picture.encode(None))
        out.mux(sound.encode(None))
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
    print(write_film(a.output, width, height, seconds=a.seconds, crf=a.crf))


if __name__ == "__main__":
    main()
