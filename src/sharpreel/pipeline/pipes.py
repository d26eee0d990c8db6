"""A side door: raw y4m on standard input and output, for programs joined by pipes.

A pipe cannot be read twice, so there is no journal and nothing to resume; a file that is made from
a pipe gets its name when it is whole, all the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from sharpreel.engines import choose
from sharpreel.engines.base import Engine
from sharpreel.errors import InputError, UsageError
from sharpreel.media import mux
from sharpreel.media import reader as video_reader
from sharpreel.media import writer as segment_writer
from sharpreel.media.color import BT2020, default_matrix
from sharpreel.media.containers import CONTAINERS
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame, TimeRange
from sharpreel.media.mux import Assembly, Segment
from sharpreel.media.probe import probe, transparent
from sharpreel.media.y4m import Y4mReader, Y4mWriter
from sharpreel.models.weights import Model
from sharpreel.pipeline.live import validate_live
from sharpreel.pipeline.options import UpscaleOptions, validate_options
from sharpreel.pipeline.plan import (
    choose_model,
    encode_settings,
    target_size,
    validate_output,
    validate_size,
)
from sharpreel.pipeline.stages import Result, UpscaledFrame, afterwards, run_network, single_segment
from sharpreel.system.prefetch import LatestOnly, prefetch

PIPE = Path("-")


def run(
    source: Path, output: Path | None, options: UpscaleOptions, stdin: IO[bytes], stdout: IO[bytes]
) -> Result:
    """Upscale y4m from `stdin` (source "-") or a video, to `stdout` (output "-") or a file.

    With `options.live` the newest frame is made and late ones are left out; y4m, which has no
    timestamps, then repeats the picture before. A file is read at its own pace, as a camera's
    would be.

    Args:
        stdin: For a live source unbuffered, so that a frame is there when it was written.

    Raises:
        InputError: The stream is not y4m, or the file not a video.
        UsageError: The output has no name, exists, or cannot hold what is made.
    """
    if output is None:
        raise UsageError("standard input has no name to make one from: give -o FILE or -o -.")
    validate_options(options)
    if options.batch > 1:
        raise UsageError("--batch is for files: the segments of a pipe come one after the other.")
    reader: Any = Y4mReader(stdin) if source == PIPE else None
    info = probe(source) if reader is None else reader.info
    if info.alpha:
        raise InputError(transparent(str(source)))
    model = choose_model(options, *info.shown_size)
    scale = model.scale
    size = target_size(options, info, scale)
    validate_size(source, info, size, scale)
    if reader is None:
        reader = video_reader.VideoReader(info, strict=options.strict)
    runner = choose.choose_engine(
        model, options.device, options.engine, options.tile, options.max_memory, options.precision
    )
    if options.live:
        validate_live(runner)
    if output == PIPE:
        settings = as_read(encode_settings(options, info, size, ".mp4"))
        writer = Y4mWriter(stdout, settings, fill=options.live)
        return _drain(reader, runner, model, writer, output, options)
    suffix = output.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(f"{output}: name the output with one of {', '.join(CONTAINERS)}.")
    validate_output(source, output, options)
    settings = encode_settings(options, info, size, suffix)
    # Not the folder of a run from a file to the same name, which may want to go on.
    folder = Path(tempfile.mkdtemp(prefix=f"{output.name}.", suffix=".pipe", dir=output.parent))
    try:
        encoder = segment_writer.SegmentWriter(folder / "seg.mkv", settings)
        result = _drain(reader, runner, model, encoder, output, options)
        segment = Segment(encoder.path, encoder.pts, encoder.order)
        last = round(1 / (info.rate * info.time_base)) or 1
        joined = Assembly(None, (), suffix, settings, info.display_matrix, last)
        mux.assemble(joined, [segment], folder / f"finished{suffix}")
        os.replace(folder / f"finished{suffix}", output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _drain(
    reader: Any,
    runner: Engine,
    model: Model,
    sink: Any,
    output: Path,
    options: UpscaleOptions,
) -> Result:
    began, count = time.perf_counter(), 0
    for picture in _made(reader, runner, options):
        sink.write(picture.sr)
        count += 1
    sink.close()
    seconds = time.perf_counter() - began
    fps = count / seconds if seconds else 0.0
    return Result(
        output, count, reader.report.lost, seconds, fps, runner.name,
        notes=afterwards(reader.report),
    )  # fmt: skip


def _made(reader: Any, runner: Engine, options: UpscaleOptions) -> Iterator[UpscaledFrame]:
    """The pictures in order; of a live source, those that the network is in time for."""
    frames, unit = _inside(reader, options), reader.info.time_base
    if options.live:
        at_pace = frames if isinstance(reader, Y4mReader) else _paced(frames, unit)
        return run_network(single_segment(LatestOnly(at_pace), runner, unit), runner)
    cues = single_segment(prefetch(frames), runner, unit)
    return prefetch(run_network(cues, runner))


def _paced(frames: Iterator[Frame], unit: Fraction) -> Iterator[Frame]:
    """The frames of a file, each at its own time."""
    began: float | None = None
    for frame in frames:
        at = float(frame.pts * unit)
        began = time.monotonic() - at if began is None else began
        time.sleep(max(began + at - time.monotonic(), 0))
        yield frame


def _inside(reader: Any, options: UpscaleOptions) -> Iterator[Frame]:
    window, unit = TimeRange(options.start, options.end), reader.info.time_base
    for frame in reader:
        if window.end is not None and frame.pts * unit >= window.end:
            return
        if window.holds(frame.pts * unit):
            yield replace(frame, pts=frame.pts - round(window.shift / unit))


def as_read(settings: EncodeSettings) -> EncodeSettings:
    """The same in the colour matrix that readers take a y4m stream of this size for.

    y4m cannot name one. Wide gamuts keep theirs: another matrix would not make them narrow.
    """
    color = settings.color
    if color.matrix == BT2020:
        return settings
    matrix = default_matrix(settings.width, settings.height)
    return replace(settings, color=replace(color, matrix=matrix))
