"""Decides everything about a run before its first frame.

`UpscaleOptions` is what the user wants. `make_plan` turns it into a `Plan`: where the frames come
from (`inputs.py`), which network runs at which size, where the frames go and what becomes of every
stream (`outputs.py`), and what the user must know (`notes`). Whatever cannot work is refused here,
and not after five days.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from av.video.format import VideoFormat

from sharpreel import ops
from sharpreel._version import __version__
from sharpreel.engines import choose
from sharpreel.engines.base import Engine, EngineKind
from sharpreel.engines.choose import EngineChoice, engine_choice, validate_engine
from sharpreel.engines.tiling import validate_tile
from sharpreel.errors import NothingToDoError, UsageError
from sharpreel.media.color import RGB
from sharpreel.media.containers import CONTAINERS
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import (
    MAX_SIDE,
    Frame,
    TimeRange,
    VideoInfo,
    time_range_of,
    validate_time_range,
)
from sharpreel.media.image_folder import means_folder
from sharpreel.media.reader import ReadReport
from sharpreel.media.streams import StreamPlan
from sharpreel.models import MODELS
from sharpreel.models.weights import Model, available_scales, load_model
from sharpreel.pipeline import outputs
from sharpreel.pipeline.inputs import PIPE, Input, open_source
from sharpreel.pipeline.journal import folder_of, identify, settings_of
from sharpreel.pipeline.options import UpscaleOptions, validate_options
from sharpreel.pipeline.outputs import Output, Request


@dataclass(frozen=True)
class Plan:
    """One run, ready to start.

    Attributes:
        source: The input's path; "-" for standard input.
        input: The input, opened by `make_plan`.
        target: Where the frames go; `output` is its path.
        notes: What the user must know before the run.
    """

    source: Path
    input: Input
    target: Output
    options: UpscaleOptions
    model: Model
    notes: tuple[str, ...] = ()

    @property
    def info(self) -> VideoInfo:
        return self.input.info

    @property
    def output(self) -> Path:
        return self.target.path

    @property
    def settings(self) -> EncodeSettings:
        return self.target.settings

    @property
    def streams(self) -> tuple[StreamPlan, ...]:
        return self.target.streams

    @property
    def is_piped(self) -> bool:
        """Does the run read or write a pipe? Then it has no segments and cannot be resumed."""
        return PIPE in (self.source, self.output)

    @property
    def window(self) -> TimeRange:
        return time_range_of(self.info, self.options.start, self.options.end)

    @property
    def num_frames(self) -> int | None:
        """Frames of the output, as far as the container states them."""
        info, window = self.info, self.window
        if info.num_frames is None or info.duration_seconds is None:
            return info.num_frames
        length, first = info.duration_seconds, float(info.start_pts * info.time_base)
        begin = first if window.start is None else max(float(window.start), first)
        last = first + length
        end = last if window.end is None else min(float(window.end), last)
        return max(round(info.num_frames * max(end - begin, 0) / length), 1)

    @property
    def num_segments(self) -> int | None:
        if self.num_frames is None:
            return None
        seconds = float(self.num_frames / self.info.rate)
        return max(round(seconds / self.options.segment_seconds), 1)

    @property
    def choice(self) -> EngineChoice:
        """Which engine runs the network in which precision, and why."""
        chosen = self.options
        return engine_choice(self.model, chosen.device, chosen.engine, chosen.precision)

    def validate_engine(self) -> None:
        """Raise what `choose_engine` would, at no cost."""
        chosen = self.options
        validate_engine(self.model, chosen.device, chosen.engine, chosen.precision)

    def choose_engine(self, threads: int | None = None) -> Engine:
        """The engine that runs the network, on this many processors; None: all."""
        chosen = self.options
        return choose.choose_engine(
            self.model,
            chosen.device,
            chosen.engine,
            chosen.tile,
            chosen.max_memory,
            chosen.precision,
            threads,
        )

    def resumed(self) -> Plan:
        """This plan, with the number of encoder threads that an unfinished run of it began with.

        The output's bytes depend on that number, and another machine may have another one.
        """
        begun = settings_of(folder_of(self.output)) or {}
        threads = dict(begun.get("encoder", {})).get("threads", "")
        if not (self.options.resume and str(threads).isdecimal()):
            return self
        settings = replace(self.settings, threads=int(threads))
        return replace(self, target=self.target.encoded_by(settings))

    def journal_settings(self, engine_name: str) -> dict[str, Any]:
        """All that the output's bytes depend on; two engines differ in the last bit."""
        return {
            "versions": versions(),
            "input": identify(self.source),
            "model": {
                "name": self.model.name,
                "sha256": self.model.digest(EngineKind.parse(engine_name).precision),
                "choices": {key: str(value) for key, value in self.options.choices.items()},
            },
            "scale": self.model.scale,
            "engine": engine_name,
            "time": [str(self.options.start), str(self.options.end)],
            "segment_seconds": self.options.segment_seconds,
            "encoder": {key: str(value) for key, value in asdict(self.settings).items()},
            "suffix": self.target.suffix,
            "streams": [asdict(stream) for stream in self.streams],
        }

    def frames(self, start_pts: int | None = None) -> tuple[Generator[Frame], ReadReport]:
        """The frames of the window from `start_pts` on, and the reader's report."""
        unit, window = self.info.time_base, self.window
        if start_pts is None and window.start is not None:
            start_pts = -int(-window.start // unit)  # the first tick at or after it
        source = self.input.open(start_pts)

        def inside() -> Generator[Frame]:
            for frame in source:
                if window.end is not None and frame.pts * unit >= window.end:
                    return
                if start_pts is None or frame.pts >= start_pts:
                    yield frame

        return inside(), source.report

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-able data, for `--json`."""
        info, s, choice = self.info, self.settings, self.choice
        return {
            "input": str(self.source),
            "output": str(self.output),
            "model": self.model.name,
            "scale": self.model.scale,
            "precision": choice.precision,
            "why": choice.why,
            "from": {
                "width": info.width,
                "height": info.height,
                "codec": info.codec,
                "pix_fmt": info.pix_fmt,
                "rate": str(info.rate),
                "seconds": info.duration_seconds,
                "frames": info.num_frames,
            },
            "to": {
                "width": s.width,
                "height": s.height,
                "codec": s.codec,
                "pix_fmt": s.pix_fmt,
                "crf": s.crf,
                "preset": s.preset,
                "sample_aspect_ratio": str(s.sample_aspect_ratio),
            },
            "segments": self.num_segments,
            "streams": [asdict(stream) for stream in self.streams],
            "chapters": self.target.chapters,
            "notes": list(self.notes),
        }


def versions() -> dict[str, str]:
    """Of the parts on which the output's bytes depend."""
    parts = {part: importlib.metadata.version(part) for part in ("av", "openvino")}
    return {"sharpreel": __version__, **parts}


def make_plan(
    source: Path,
    output: Path | None,
    options: UpscaleOptions,
    *,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
) -> Plan:
    """Decide everything about one run.

    Args:
        source: A video, a folder of images, or "-" for y4m from `stdin`.
        output: A video file (its suffix names the container), a folder for PNG images (a name
            without suffix), "-" for y4m to `stdout`, or None for a name next to the input.
        stdin: For a live source unbuffered, so that a frame is there when it was written.

    Raises:
        InputError: The input cannot be read or is of a kind that sharpreel does not take.
        UsageError: The request cannot be met.
        NothingToDoError: There is nothing to do.
    """
    validate_options(options)
    to_images = source.is_dir() or (output not in (None, PIPE) and means_folder(output))
    _validate_names(source, output)
    opened = open_source(source, options.strict, alpha=to_images, stdin=stdin)
    info = opened.info
    model = choose_model(options, *info.shown_size)
    validate_tile(model, options.tile)
    if source != PIPE:  # whose length is not known
        validate_time_range(info, time_range_of(info, options.start, options.end))
    size = target_size(options, info, model.scale)
    validate_size(source, info, size, model.scale)
    name = f"_{model.name}_x{model.scale}"
    enlarged = enlarged_size(info, model.scale)
    request = Request(source, output, options, info, size, enlarged, name)
    target, notes = _choose_output(request, to_images, stdout)
    return Plan(source, opened, target, options, model, tuple(notes))


def _validate_names(source: Path, output: Path | None) -> None:
    """Raise UsageError for an output that cannot be made of this kind of input."""
    suffix = "" if output is None else output.suffix.lower()
    if source.is_dir() and suffix in CONTAINERS:
        raise UsageError(
            f"{output}: a folder of images becomes a folder; give `output` without suffix."
        )
    if source == PIPE and output is None:
        raise UsageError("Standard input has no name to derive an output's from: give `output`.")
    if source == PIPE and output != PIPE and suffix not in CONTAINERS:
        raise UsageError(f"{output}: name the output with one of {', '.join(CONTAINERS)}.")


def _choose_output(
    request: Request, to_images: bool, stdout: IO[bytes] | None
) -> tuple[Output, list[str]]:
    """The kind of output that a request means, and the notes about it."""
    if request.output == PIPE:
        return outputs.plan_pipe(request, stdout)
    if to_images:
        return outputs.plan_image_folder(request)
    target, notes = outputs.plan_video_file(request)
    if request.source == PIPE:
        return target, notes
    return target, [*_frame_notes(request, target.settings), *notes]


def choose_model(options: UpscaleOptions, width: int, height: int) -> Model:
    """The network at the requested scale, or at the smallest that reaches the target size.

    Args:
        width, height: Of the input as shown.

    Raises:
        NothingToDoError: The input is that large already.
        UsageError, WeightsError: As `weights.load_model`.
    """
    if options.scale is not None or (options.height is None and options.size is None):
        return load_model(options.model, options.scale, choices=options.choices)
    wanted_w, wanted_h = options.size or (0, options.height or 0)
    needed = max(wanted_w / width, wanted_h / height)
    if needed <= 1:
        target = f"{wanted_w}x{wanted_h}" if options.size else f"{wanted_h} lines"
        raise NothingToDoError(
            f"already {width}x{height}, at least {target}; give scale=2 to enlarge it anyway"
        )
    if options.model not in MODELS:
        return load_model(options.model, choices=options.choices)
    scales = available_scales(options.model) or MODELS[options.model].scales
    scale = next((s for s in scales if s >= needed), max(scales))
    return load_model(options.model, scale, choices=options.choices)


def enlarged_size(info: VideoInfo, scale: float) -> tuple[int, int]:
    """(width, height) of a network's output at this scale."""
    return ops.enlarged(info.width, scale), ops.enlarged(info.height, scale)


def target_size(options: UpscaleOptions, info: VideoInfo, scale: float) -> tuple[int, int]:
    """Stored (width, height) of the output."""
    if options.size is not None:
        width, height = options.size
        return (height, width) if info.sideways else (width, height)
    if options.height is None:
        return enlarged_size(info, scale)
    if info.sideways:  # the height that is shown is the width that is stored
        return options.height, round(info.height * options.height / info.width / 2) * 2
    return round(info.width * options.height / info.height / 2) * 2, options.height


def validate_size(source: Path, info: VideoInfo, size: tuple[int, int], scale: float) -> None:
    """Raise UsageError when the network's frames or the output would be absurdly large."""
    for width, height in (size, enlarged_size(info, scale)):
        if max(width, height) > MAX_SIDE:
            raise UsageError(
                f"{source}: {info.width}x{info.height} enlarged to {width}x{height} is more than "
                f"{MAX_SIDE} pixels a side. Choose a smaller scale or size."
            )


def _frame_notes(request: Request, settings: EncodeSettings) -> list[str]:
    """What happens to size, colour, depth, fields and rotation."""
    info = request.info
    notes = _color_notes(info, settings)
    for kind in info.dynamic_hdr:
        notes.append(f"{kind} metadata of each frame cannot be re-encoded: it is lost")
    if info.interlaced:
        notes.append("interlaced: deinterlaced with bwdif, one frame for each frame")
    if info.rotation:
        notes.append(f"shown turned by {info.rotation} degrees: the rotation tag is kept")
    notes += _format_notes(info, settings)
    if request.size != request.enlarged:
        (width, height), (w, h) = request.enlarged, request.size
        notes.append(f"the network makes {width}x{height}, resized once to {w}x{h}")
    return notes


def _color_notes(info: VideoInfo, settings: EncodeSettings) -> list[str]:
    notes = []
    if info.color.guessed:
        notes.append(
            f"no colour matrix in the file: assuming {info.color.matrix_name}, "
            "as players do for this size; the output states it"
        )
    if info.color.hdr:
        notes.append(f"HDR ({info.color.hdr}) is kept, with its metadata")
    return notes


def _format_notes(info: VideoInfo, settings: EncodeSettings) -> list[str]:
    """What the output's pixel format holds less of than the input's."""
    notes = []
    source, target = VideoFormat(info.pix_fmt), VideoFormat(settings.pix_fmt)
    bits = max(c.bits for c in target.components)
    if bits < info.bits:
        notes.append(f"{info.bits} bits become {bits}: {settings.codec} takes no more")
    was_rgb = info.color.matrix == RGB
    if was_rgb and settings.color.matrix != RGB:
        notes.append(f"RGB is stored as {settings.pix_fmt}, {settings.color.matrix_name}")
    elif not was_rgb and len(source.components) >= 3:
        before = (source.chroma_width(64), source.chroma_height(64))
        if (target.chroma_width(64), target.chroma_height(64)) < before:
            notes.append(f"chroma is subsampled: {info.pix_fmt} becomes {settings.pix_fmt}")
    return notes
