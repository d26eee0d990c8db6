"""A side door: raw y4m on standard input and output, for programs joined by pipes.

A pipe cannot be read twice, so there is no journal and nothing to resume; a file that is made from
a pipe gets its name when it is whole, all the same.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from av.video.frame import VideoFrame

from sharpreel import engine, live, mux, plan, upscale, video, weights
from sharpreel.errors import InputError, UsageError
from sharpreel.plan import Options
from sharpreel.video import Frame

PIPE = Path("-")


def run(
    source: Path, output: Path | None, options: Options, stdin: IO[bytes], stdout: IO[bytes]
) -> upscale.Result:
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
    plan.check_options(options)
    if options.batch > 1:
        raise UsageError("--batch is for files: the segments of a pipe come one after the other.")
    reader: Any = video.Y4mReader(stdin) if source == PIPE else None
    info = video.probe(source) if reader is None else reader.info
    if info.alpha:
        raise InputError(video.transparent(str(source)))
    model = plan.choose_model(options, *info.shown_size)
    scale = model.scale
    size = plan.target_size(options, info, scale)
    plan.check_sides(source, info, size, scale)
    if reader is None:
        reader = video.VideoReader(info, strict=options.strict)
    runner = engine.choose_engine(
        model, options.device, options.engine, options.tile, options.max_memory, options.precision
    )
    if options.live:
        live.check_live(runner)
    if output == PIPE:
        settings = as_read(plan.encode_settings(options, info, size, ".mp4"))
        writer = Y4mWriter(stdout, settings, fill=options.live)
        return _drain(reader, runner, model, writer, output, options)
    suffix = output.suffix.lower()
    if suffix not in mux.CONTAINERS:
        raise UsageError(f"{output}: name the output with one of {', '.join(mux.CONTAINERS)}.")
    plan.check_output(source, output, options)
    settings = plan.encode_settings(options, info, size, suffix)
    # Not the folder of a run from a file to the same name, which may want to go on.
    folder = Path(tempfile.mkdtemp(prefix=f"{output.name}.", suffix=".pipe", dir=output.parent))
    try:
        encoder = video.VideoEncoder(folder / "seg.mkv", settings)
        result = _drain(reader, runner, model, encoder, output, options)
        segment = mux.Segment(encoder.path, encoder.pts, encoder.order)
        last = round(1 / (info.rate * info.time_base)) or 1
        joined = mux.Assembly(None, (), suffix, settings, info.display_matrix, last)
        mux.assemble(joined, [segment], folder / f"finished{suffix}")
        os.replace(folder / f"finished{suffix}", output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _drain(
    reader: Any,
    runner: engine.Engine,
    model: weights.Model,
    sink: Any,
    output: Path,
    options: Options,
) -> upscale.Result:
    began, count = time.perf_counter(), 0
    for picture in _made(reader, runner, options):
        sink.write(picture.sr)
        count += 1
    sink.close()
    seconds = time.perf_counter() - began
    fps = count / seconds if seconds else 0.0
    return upscale.Result(
        output, count, reader.report.lost, seconds, fps, runner.name,
        notes=upscale.afterwards(reader.report),
    )  # fmt: skip


def _made(reader: Any, runner: engine.Engine, options: Options) -> Iterator[upscale.Picture]:
    """The pictures in order; of a live source, those that the network is in time for."""
    frames, unit = _inside(reader, options), reader.info.time_base
    if options.live:
        at_pace = frames if isinstance(reader, video.Y4mReader) else _paced(frames, unit)
        return upscale.sharpen(upscale.endless(live.Newest(at_pace), runner, unit), runner)
    cues = upscale.endless(upscale.ahead(frames), runner, unit)
    return upscale.ahead(upscale.sharpen(cues, runner))


def _paced(frames: Iterator[Frame], unit: Fraction) -> Iterator[Frame]:
    """The frames of a file, each at its own time."""
    began: float | None = None
    for frame in frames:
        at = float(frame.pts * unit)
        began = time.monotonic() - at if began is None else began
        time.sleep(max(began + at - time.monotonic(), 0))
        yield frame


def _inside(reader: Any, options: Options) -> Iterator[Frame]:
    window, unit = mux.Window(options.start, options.end), reader.info.time_base
    for frame in reader:
        if window.end is not None and frame.pts * unit >= window.end:
            return
        if window.holds(frame.pts * unit):
            yield replace(frame, pts=frame.pts - round(window.shift / unit))


def as_read(settings: video.EncodeSettings) -> video.EncodeSettings:
    """The same in the colour matrix that readers take a y4m stream of this size for.

    y4m cannot name one. Wide gamuts keep theirs: another matrix would not make them narrow.
    """
    color = settings.color
    if color.matrix == video.BT2020:
        return settings
    matrix = video.default_matrix(settings.width, settings.height)
    return replace(settings, color=replace(color, matrix=matrix))


class Y4mWriter:
    """Pictures as a y4m stream, 8 to 12 bits, for the next program in a pipe.

    y4m knows one frame rate and no timestamps: frames follow each other at the average rate.

    Args:
        fill: Repeat a picture in place of those that are missing behind it.
    """

    def __init__(self, file: IO[bytes], settings: video.EncodeSettings, fill: bool = False) -> None:
        self._file, self._settings, self._fill = file, settings, fill
        self._before: tuple[int, bytes] | None = None
        self._convert = video.from_rgb(settings)
        chroma = {"yuv420p": "420mpeg2", "yuv422p": "422", "yuv444p": "444"}
        base, depth = settings.pix_fmt.removesuffix("le"), ""
        found = re.fullmatch(r"(yuv4\d\dp)(\d+)?", base)
        if found is None:
            raise UsageError(f"y4m cannot carry {settings.pix_fmt}; choose --pix-fmt yuv420p.")
        if found[2]:
            depth = f"p{found[2]}"
            chroma = {"yuv420p": "420", "yuv422p": "422", "yuv444p": "444"}
        aspect, rate = settings.sample_aspect_ratio, settings.rate
        full = "FULL" if settings.color.full_range else "LIMITED"
        file.write(
            f"YUV4MPEG2 W{settings.width} H{settings.height} "
            f"F{rate.numerator}:{rate.denominator} Ip A{aspect.numerator}:{aspect.denominator} "
            f"C{chroma[found[1]]}{depth} XCOLORRANGE={full}\n".encode()
        )

    def write(self, frame: Frame) -> None:
        raw = video.to_video_frame(frame.pixels)
        raw.pts, raw.time_base = frame.pts, self._settings.time_base
        self._convert.push(raw)
        for ready in self._convert.pull():
            planes = b"".join(_plane_bytes(plane, ready) for plane in ready.planes)
            if self._fill and self._before is not None:
                pts, shown = self._before
                steps = (frame.pts - pts) * self._settings.time_base * self._settings.rate
                self._file.write((b"FRAME\n" + shown) * (round(steps) - 1))
            self._file.write(b"FRAME\n" + planes)
            self._file.flush()
            self._before = (frame.pts, planes) if self._fill else None

    def close(self) -> None:
        self._file.flush()


def _plane_bytes(plane: Any, frame: VideoFrame) -> bytes:
    """A plane's pixels without the padding at the end of its lines."""
    sample = 2 if max(c.bits for c in frame.format.components) > 8 else 1
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width * sample].tobytes()
