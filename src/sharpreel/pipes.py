"""A side door: raw y4m on standard input and output, for programs joined by pipes.

A pipe cannot be read twice, so there is no journal and nothing to resume; a file that is made from
a pipe gets its name when it is whole, all the same.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from av.video.frame import VideoFrame

from sharpreel import engine, mux, plan, upscale, video, weights
from sharpreel.errors import InputError, UsageError
from sharpreel.plan import Options
from sharpreel.video import Frame
from sharpreel.windows import cue

PIPE = Path("-")


def run(
    source: Path, output: Path | None, options: Options, stdin: IO[bytes], stdout: IO[bytes]
) -> upscale.Result:
    """Upscale y4m from `stdin` (source "-") or a video, to `stdout` (output "-") or a file.

    Raises:
        InputError: The stream is not y4m, or the file not a video.
        UsageError: The output has no name, exists, or cannot hold what is made.
    """
    if output is None:
        raise UsageError("standard input has no name to make one from: give -o FILE or -o -.")
    plan.check_options(options)
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
        model, options.device, options.engine, options.tile, options.max_memory
    )
    if output == PIPE:
        settings = plan.encode_settings(options, info, size, ".mp4")
        return _drain(reader, runner, model, Y4mWriter(stdout, settings), output, options)
    suffix = output.suffix.lower()
    if suffix not in mux.CONTAINERS:
        raise UsageError(f"{output}: name the output with one of {', '.join(mux.CONTAINERS)}.")
    plan.check_output(source, output, options)
    settings = plan.encode_settings(options, info, size, suffix)
    folder = output.with_name(output.name + ".sharpreel")
    folder.mkdir(exist_ok=True)
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
    cues = cue(
        upscale.ahead(_inside(reader, options)), reader.info.time_base, 0,
        max_frames=None, segment_seconds=float("inf"), keeps_state=not runner.clip_len,
    )  # fmt: skip
    for picture in upscale.ahead(upscale.sharpen(cues, runner)):
        sink.write(picture.sr)
        count += 1
    sink.close()
    seconds = time.perf_counter() - began
    return upscale.Result(
        output, count, reader.report.lost, seconds, count / seconds if seconds else 0.0, runner.name
    )


def _inside(reader: Any, options: Options) -> Iterator[Frame]:
    window, unit = mux.Window(options.start, options.end), reader.info.time_base
    for frame in reader:
        if window.end is not None and frame.pts * unit >= window.end:
            return
        if window.holds(frame.pts * unit):
            yield replace(frame, pts=frame.pts - round(window.shift / unit))


class Y4mWriter:
    """Pictures as a y4m stream, 8 to 12 bits, for the next program in a pipe.

    y4m knows one frame rate and no timestamps: frames follow each other at the average rate.
    """

    def __init__(self, file: IO[bytes], settings: video.EncodeSettings) -> None:
        self._file, self._settings = file, settings
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
            self._file.write(b"FRAME\n")
            for plane in ready.planes:
                self._file.write(_plane_bytes(plane, ready))

    def close(self) -> None:
        self._file.flush()


def _plane_bytes(plane: Any, frame: VideoFrame) -> bytes:
    """A plane's pixels without the padding at the end of its lines."""
    sample = 2 if max(c.bits for c in frame.format.components) > 8 else 1
    lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width * sample].tobytes()
