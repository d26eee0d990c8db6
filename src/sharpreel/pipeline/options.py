"""The settings of one upscaling run: the one list that every front end takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from sharpreel.engines.choose import validate_choice
from sharpreel.errors import UsageError
from sharpreel.media.frame import MAX_SIDE, MIN_SIDE
from sharpreel.models import DEFAULT_MODEL
from sharpreel.pipeline.schedule import SEGMENT_SECONDS

MAX_SCALE = 16


@dataclass(frozen=True)
class UpscaleOptions:
    """What the user may choose; `upscale_video` documents each field.

    `live` is for pipes: process the newest frame and drop late ones; see `live.py`.

    Raises:
        ValueError: A field is of the wrong type.
    """

    model: str | Path = DEFAULT_MODEL
    scale: float | None = None
    height: int | None = None
    size: tuple[int, int] | None = None
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    choices: Mapping[str, Any] = field(default_factory=dict)
    tile: int | None = None
    max_memory: int | None = None
    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    allow_audio_transcode: bool = False
    overwrite: bool = False
    resume: bool = True
    skip_existing: bool = False
    strict: bool = False
    segment_seconds: float = SEGMENT_SECONDS
    batch: int = 1
    live: bool = False

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, (tuple, list)) else (self.size,) * 2
        if self.size is not None and len(sides) != 2:
            raise ValueError(f"size must be (width, height), got {self.size!r}.")
        if self.scale is not None and not isinstance(self.scale, (int, float)):
            raise ValueError(f"scale must be a number, got {self.scale!r}.")
        whole = {"height": self.height, "crf": self.crf, "tile": self.tile, "batch": self.batch}
        for name, number in [*whole.items(), *(("size", side) for side in sides)]:
            if number is not None and not isinstance(number, int):
                raise ValueError(f"{name} must be of whole numbers, got {number!r}.")
        for name in ("start", "end"):  # plain numbers are welcome; exact ones are kept
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Fraction(value))


def validate_options(options: UpscaleOptions) -> None:
    """Raise UsageError for what can be refused without looking at the input."""
    _validate_size(options)
    start, end = options.start, options.end
    if (start is not None and start < 0) or (end is not None and end <= (start or 0)):
        raise UsageError("start must be 0 or more and `end` must be greater than `start`.")
    validate_choice(options.device, options.engine, options.precision)
    if options.tile is not None and options.tile < 0:
        raise UsageError(f"tile must be auto or a number of pixels, got {options.tile}.")
    if options.batch < 1:
        raise UsageError(f"batch must be 1 or more, got {options.batch}.")
    if not options.segment_seconds > 0:
        raise UsageError(f"segment_seconds must be above 0, got {options.segment_seconds}.")


def _validate_size(options: UpscaleOptions) -> None:
    sides = [*(options.size or ()), *([] if options.height is None else [options.height])]
    for side in sides:
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise UsageError(
                f"A side of {side} pixels is not possible; choose between {MIN_SIDE} and "
                f"{MAX_SIDE}."
            )
    if options.scale is not None and not 0 < options.scale <= MAX_SCALE:
        raise UsageError(f"scale={options.scale:g} is not possible; choose 2 or 4.")
    if options.height is not None and options.size is not None:
        raise UsageError("Give `height` or `size`, not both.")
