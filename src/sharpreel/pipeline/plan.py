"""What a run will do, decided before its first frame.

`Options` is what the user asked for, `make_plan` turns it into what will happen: which network at
which size, which encoder, what becomes of every stream, and what must be said (`notes`). Whatever
cannot work is refused here, not after five days.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.video.format import VideoFormat

from sharpreel import ops
from sharpreel._version import __version__
from sharpreel.engines import choose
from sharpreel.engines.base import Engine, EngineKind
from sharpreel.engines.choose import EngineChoice, engine_choice, validate_engine
from sharpreel.engines.tiling import validate_tile
from sharpreel.errors import InputError, NothingToDoError, UsageError, VerificationError
from sharpreel.media import mux, verify, writer
from sharpreel.media import reader as video_reader
from sharpreel.media.color import RGB, default_matrix
from sharpreel.media.containers import CONTAINERS, choose_suffix
from sharpreel.media.encoders import (
    CODECS,
    EncodeSettings,
    codec_named,
    output_pixel_format,
    validate_quality,
)
from sharpreel.media.frame import (
    MAX_SIDE,
    Frame,
    TimeRange,
    VideoInfo,
    time_range_of,
    validate_time_range,
)
from sharpreel.media.mux import Assembly, Segment
from sharpreel.media.probe import open_input, probe, transparent
from sharpreel.media.streams import StreamPlan
from sharpreel.models import MODELS
from sharpreel.models.weights import Model, available_scales, load_model
from sharpreel.pipeline.journal import Journal, folder_of, identify, settings_of
from sharpreel.pipeline.options import UpscaleOptions, validate_options
from sharpreel.system.files import fsync


@dataclass(frozen=True)
class Plan:
    """One video's run, ready to be done.

    `notes` are what must be said before it; `losses` are the differences, in `verify`'s words, that
    this kind of output cannot be without.
    """

    source: Path
    output: Path
    options: UpscaleOptions
    info: VideoInfo
    model: Model
    settings: EncodeSettings
    streams: tuple[StreamPlan, ...]
    suffix: str
    chapters: int
    notes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()

    @property
    def window(self) -> TimeRange:
        return time_range_of(self.info, self.options.start, self.options.end)

    @property
    def num_frames(self) -> int | None:
        """Frames that will be made, as far as the container tells."""
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
    def engine_size(self) -> tuple[int, int]:
        """(width, height) the network makes, before any resize to the exact size."""
        return enlarged_size(self.info, self.model.scale)

    @property
    def choice(self) -> EngineChoice:
        """Which engine that is, and why."""
        chosen = self.options
        return engine_choice(self.model, chosen.device, chosen.engine, chosen.precision)

    def refuse_engine(self) -> None:
        """Raise what `choose_engine` would, at no cost."""
        chosen = self.options
        validate_engine(self.model, chosen.device, chosen.engine, chosen.precision)

    def choose_engine(self, threads: int | None = None) -> Engine:
        """What will run the network, on so many processors; None: all."""
        chosen = self.options
        return choose.choose_engine(
            self.model, chosen.device, chosen.engine, chosen.tile, chosen.max_memory,
            chosen.precision, threads,
        )  # fmt: skip

    def as_begun(self) -> Plan:
        """This plan, with what an unfinished run of it has from the machine where it began.

        That is the number of the encoder's threads, on which the bytes depend.
        """
        begun = settings_of(folder_of(self.output)) or {}
        threads = dict(begun.get("encoder", {})).get("threads", "")
        if not (self.options.resume and str(threads).isdecimal()):
            return self
        return replace(self, settings=replace(self.settings, threads=int(threads)))

    def journal_settings(self, engine_name: str) -> dict[str, Any]:
        """All that the output's bytes depend on; two engines differ in the last bit."""
        settings = asdict(self.settings)
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
            "encoder": {key: str(value) for key, value in settings.items()},
            "suffix": self.suffix,
            "streams": [asdict(s) for s in self.streams],
        }

    def reader(self, start_pts: int | None = None) -> Any:
        """The input's frames, from the first of at least this pts; its `report` tells of losses."""
        return video_reader.VideoReader(self.info, start_pts, self.options.strict)

    def frames(self, start_pts: int | None = None) -> tuple[Iterator[Frame], Any]:
        """The frames of the window from `start_pts` on, and the reader's report."""
        unit, window = self.info.time_base, self.window
        if start_pts is None and window.start is not None:
            start_pts = -int(-window.start // unit)  # the first tick at or behind it
        reader = self.reader(start_pts)
        inside = itertools.takewhile(
            lambda f: window.end is None or f.pts * unit < window.end, reader
        )
        return inside, reader.report

    def segment_name(self, number: int) -> str:
        return f"seg-{number:05d}.mkv"

    def sink(self, part: Path) -> Any:
        """What takes one segment's pictures and makes `part` of them."""
        return writer.SegmentWriter(part, self.settings)

    def finish(self, work: Journal, tell: Callable[[float], None]) -> Path:
        """Join the journalled segments and everything else to one file in the work folder."""
        target = work.path(f"finished{self.suffix}")
        segments = [Segment(work.path(e.name), e.pts, e.order) for e in work.entries]
        mux.assemble(self._assembly(work.entries[-1].last_duration), segments, target, tell)
        fsync(target)
        return target

    def check(self, finished: Path, work: Journal) -> None:
        """Raise VerificationError unless the finished file holds what the input held."""
        expected = replace(
            self._expected(),
            pts=[p for e in work.entries for p in e.pts],
            last_duration=work.entries[-1].last_duration,
        )
        found = verify.verify(self.source, finished, self.window, expected)
        differences = [d for d in found if d not in self.losses]
        if differences:
            raise VerificationError(
                f"{self.output}: not written, because it would not hold what {self.source} holds: "
                f"{'; '.join(differences[:3])}. The file is {finished}.",
                differences,
            )

    def _assembly(self, last_duration: int) -> Assembly:
        return Assembly(
            source=self.source,
            streams=self.streams,
            suffix=self.suffix,
            settings=self.settings,
            display_matrix=self.info.display_matrix,
            last_duration=last_duration,
            window=self.window,
        )

    def _expected(self) -> verify.Expected:
        return verify.Expected(
            streams=self.streams,
            aspect=self.settings.sample_aspect_ratio,
            color=self.settings.color,
        )

    def rehearsed(self) -> Plan:
        """The plan with what its output would lose, found by writing a tiny one and looking at it.

        No table knows which tag, flag or colour a muxer leaves out; the muxer does.
        """
        pts = max(self.info.start_pts, round(self.window.shift / self.info.time_base))
        with tempfile.TemporaryDirectory() as folder:
            small = replace(self.settings, width=64, height=64)
            encoder = writer.SegmentWriter(Path(folder) / "segment.mkv", small)
            step = round(1 / (self.info.rate * self.info.time_base)) or 1
            for k in range(4):  # a transport stream is not found by less
                encoder.write(Frame(np.zeros((64, 64, 3), np.uint8), pts + k * step))
            encoder.close()
            segment = Segment(encoder.path, encoder.pts, encoder.order)
            target = Path(folder) / f"rehearsal{self.suffix}"
            mux.assemble(self._assembly(1), [segment], target, rehearsal=True)
            losses = verify.compare_headers(self.source, target, self.window, self._expected())
        said = [f"cannot be kept in {self.suffix}: {loss}" for loss in losses]
        return replace(self, losses=tuple(losses), notes=(*self.notes, *said))

    def place(self, finished: Path) -> None:
        """Give the finished file its name."""
        os.replace(finished, self.output)

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
            "chapters": self.chapters,
            "notes": list(self.notes),
        }


def versions() -> dict[str, str]:
    """Of the parts on which the output's bytes depend."""
    parts = {part: importlib.metadata.version(part) for part in ("av", "openvino")}
    return {"sharpreel": __version__, **parts}


def output_name(source: Path, model: str, scale: float, suffix: str) -> Path:
    """`<stem>_<model>_x<scale>.<ext>` beside the input."""
    return source.with_name(f"{source.stem}_{model}_x{scale}{suffix}")


def choose_model(options: UpscaleOptions, width: int, height: int) -> Model:
    """The network, at the factor asked for or the smallest that reaches the target size.

    Args:
        width, height: Of the input as shown.

    Raises:
        NothingToDoError: The input is that large already.
        UsageError, WeightsError: As `weights.load_model`.
    """
    if options.scale is not None or (options.height is None and options.size is None):
        return load_model(options.model, options.scale, choices=options.choices)
    wanted_w, wanted_h = options.size or (0, options.height or 0)
    factor = max(wanted_w / width, wanted_h / height)
    if factor <= 1:
        target = f"{wanted_w}x{wanted_h}" if options.size else f"{wanted_h} lines"
        raise NothingToDoError(
            f"already {width}x{height}, at least {target}; give -s 2 to enlarge it anyway"
        )
    if options.model not in MODELS:
        return load_model(options.model, choices=options.choices)
    scales = available_scales(options.model) or MODELS[options.model].scales
    scale = next((s for s in scales if s >= factor), max(scales))
    return load_model(options.model, scale, choices=options.choices)


def enlarged_size(info: VideoInfo, scale: float) -> tuple[int, int]:
    """(width, height) that a network of this factor makes."""
    return ops.enlarged(info.width, scale), ops.enlarged(info.height, scale)


def target_size(options: UpscaleOptions, info: VideoInfo, scale: float) -> tuple[int, int]:
    """Stored (width, height) of the output."""
    width, height = enlarged_size(info, scale)
    if options.size is not None:
        width, height = options.size
        if info.sideways:
            width, height = height, width
    elif options.height is not None:
        if info.sideways:  # the height that is seen is the width that is stored
            width, height = (
                options.height,
                round(info.height * options.height / info.width / 2) * 2,
            )
        else:
            width, height = (
                round(info.width * options.height / info.height / 2) * 2,
                options.height,
            )
    return width, height


def default_codec(info: VideoInfo, suffix: str) -> str:
    """H.264 where it can hold the picture, HEVC above 8 bits, VP9 or AV1 in WebM."""
    if suffix == ".webm":
        return "av1" if info.codec == "av1" or info.bits > 8 else "vp9"
    return "hevc" if info.bits > 8 else "h264"


def encode_settings(
    options: UpscaleOptions, info: VideoInfo, size: tuple[int, int], suffix: str
) -> EncodeSettings:
    """What the encoder will be told, for an output of this size (width, height) and suffix.

    Raises:
        UsageError: The codec, pixel format and size do not go together.
    """
    codec = options.codec or default_codec(info, suffix)
    key = codec_named(codec)
    chosen = CODECS[key]
    validate_quality(key, options.crf, options.preset)
    color = info.color
    pix_fmt = output_pixel_format(info, key, options.pix_fmt)
    if VideoFormat(pix_fmt).is_rgb:
        color = replace(color, matrix=RGB, full_range=True)
    elif color.matrix == RGB:
        matrix = default_matrix(*size)
        color = replace(color, matrix=matrix, full_range=False)
    width, height = size
    if options.size is None:
        aspect = info.sample_aspect_ratio
    else:  # the exact pixels asked for, shown in the input's proportions
        aspect = info.sample_aspect_ratio * Fraction(info.width * height, info.height * width)
        aspect = aspect.limit_denominator(4095)
    narrow = VideoFormat(pix_fmt)
    if width % (2 if narrow.chroma_width(2) == 1 else 1) or height % (
        2 if narrow.chroma_height(2) == 1 else 1
    ):
        raise UsageError(
            f"{width}x{height} is odd, which {pix_fmt} cannot store. "
            "Choose an even size, or --pix-fmt yuv444p."
        )
    return EncodeSettings(
        codec=key,
        pix_fmt=pix_fmt,
        width=width,
        height=height,
        crf=options.crf if options.crf is not None else chosen.crf,
        preset=options.preset or chosen.preset,
        color=color,
        sample_aspect_ratio=aspect,
        rate=info.rate.limit_denominator(1_000_000),
        time_base=info.time_base,
        hdr10=info.hdr10,
    )


def make_plan(source: Path, output: Path | None, options: UpscaleOptions) -> Plan:
    """Decide everything about one video's run.

    Args:
        output: None: `output_name` beside the input. Its suffix names the container.

    Raises:
        InputError: The input cannot be read or is of a kind we do not take.
        UsageError: What is asked for cannot be done.
        NothingToDoError: There is nothing to do.
    """
    validate_options(options)
    info = probe(source)
    if info.alpha:
        raise InputError(transparent(str(source)))
    model = choose_model(options, *info.shown_size)
    validate_tile(model, options.tile)
    scale = model.scale
    validate_time_range(info, time_range_of(info, options.start, options.end))
    size = target_size(options, info, scale)
    validate_size(source, info, size, scale)
    folder = output if output is not None and output.is_dir() else None
    with open_input(source) as container:

        def settings_for(suffix: str) -> EncodeSettings:
            return encode_settings(options, info, size, suffix)

        wanted = None if output is None or folder else output.suffix.lower()
        suffix, streams, moved = choose_suffix(
            container, info, settings_for, wanted, options.allow_audio_transcode
        )
        settings = settings_for(suffix)
        chapters = len(container.chapters())
    if output is None or folder is not None:
        name = output_name(source, model.name, scale, suffix)
        output = name if folder is None else folder / name.name
    engine_size = enlarged_size(info, scale)
    notes = _notes(info, settings, streams, suffix, moved, engine_size)
    plan = Plan(
        source=source,
        output=output,
        options=options,
        info=info,
        model=model,
        settings=settings,
        streams=tuple(streams),
        suffix=suffix,
        chapters=chapters,
        notes=notes,
    )
    validate_output(plan.source, plan.output, options)
    return plan.rehearsed()


def validate_size(source: Path, info: VideoInfo, size: tuple[int, int], scale: float) -> None:
    """Raise UsageError when the network's picture or the output would be absurdly large."""
    for width, height in (size, enlarged_size(info, scale)):
        if max(width, height) > MAX_SIDE:
            raise UsageError(
                f"{source}: {info.width}x{info.height} enlarged to {width}x{height} is more than "
                f"{MAX_SIDE} pixels a side. Choose a smaller scale or size."
            )


def validate_output(source: Path, output: Path, options: UpscaleOptions) -> None:
    """Refuse an output that would overwrite something or cannot be written.

    Raises:
        UsageError: It exists, is the input, or its folder is not there or not writable.
        NothingToDoError: It exists and `skip_existing` is set.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise UsageError(f"{output}: the output is the input. Choose another name with -o.")
    if output.exists() and options.skip_existing:
        raise NothingToDoError(f"{output} exists")
    if output.exists() and not options.overwrite:
        raise UsageError(f"{output} exists. Give --overwrite, --skip-existing or another -o.")
    folder = output.parent
    if not folder.is_dir():
        raise UsageError(f"{output}: the folder {folder} does not exist.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as e:
        raise UsageError(f"{output}: {folder} cannot be written to ({e.strerror}).") from e


def _notes(
    info: VideoInfo,
    settings: EncodeSettings,
    streams: list[StreamPlan],
    suffix: str,
    moved: str,
    engine_size: tuple[int, int],
) -> tuple[str, ...]:
    """What must be said before the run, in plain words."""
    notes = _picture_notes(info, settings)
    if (settings.width, settings.height) != engine_size:
        notes.append(
            f"the network makes {engine_size[0]}x{engine_size[1]}, resized once to "
            f"{settings.width}x{settings.height}"
        )
    if moved:
        notes.append(f"the output is {suffix}: {moved}")
    unit = CONTAINERS[suffix][1]
    if unit is not None and (info.time_base / unit).denominator != 1:
        notes.append(f"{suffix} stores times in steps of 1/{unit.denominator} s: rounded to that")
    for s in streams:
        verb = {"drop": "cannot be kept", "transcode": "is re-encoded", "convert": "is converted"}
        if s.action in verb:
            notes.append(f"{s.kind} stream {s.index} ({s.codec}) {verb[s.action]}: {s.why}")
    return tuple(notes)


def _picture_notes(info: VideoInfo, settings: EncodeSettings) -> list[str]:
    """What happens to colour, depth, fields and rotation."""
    notes = []
    color, was_rgb = settings.color, info.color.matrix == RGB
    if info.color.guessed:
        notes.append(
            f"colour matrix not stated: taken for {info.color.matrix_name}, "
            "as players do for this size; the output states it"
        )
    if info.color.hdr:
        notes.append(f"HDR ({info.color.hdr}) is kept, with its metadata")
    for kind in info.dynamic_hdr:
        notes.append(f"{kind} metadata of each frame cannot be re-encoded: it is lost")
    if info.interlaced:
        notes.append("interlaced: deinterlaced with bwdif, one frame for each frame")
    if info.rotation:
        notes.append(f"shown turned by {info.rotation} degrees: the rotation tag is kept")
    source, target = VideoFormat(info.pix_fmt), VideoFormat(settings.pix_fmt)
    bits = max(c.bits for c in target.components)
    if bits < info.bits:
        notes.append(f"{info.bits} bits become {bits}: {settings.codec} takes no more")
    if was_rgb and color.matrix != RGB:
        notes.append(f"RGB is stored as {settings.pix_fmt}, {color.matrix_name}")
    elif not was_rgb and len(source.components) >= 3:
        before = (source.chroma_width(64), source.chroma_height(64))
        if (target.chroma_width(64), target.chroma_height(64)) < before:
            notes.append(f"chroma is reduced: {info.pix_fmt} becomes {settings.pix_fmt}")
    return notes
