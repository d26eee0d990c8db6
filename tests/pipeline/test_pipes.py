"""Runs that read or write y4m pipes, in this process and as commands."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import pytest

from sharpreel import upscale
from sharpreel.errors import InputError, UsageError
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import probe
from sharpreel.pipeline.inputs import PIPE
from sharpreel.pipeline.journal import folder_of
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from sharpreel.pipeline.stages import Result
from sharpreel.upscale import upscale_video
from tests.support.videos import (
    BARS,
    count_frames,
    ffmpeg,
    make_bars,
    make_clip,
    patches,
    video_pts,
)

BICUBIC = UpscaleOptions(model="bicubic", preset="ultrafast")


def sharpreel(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command itself, in a process of its own."""
    command = [sys.executable, "-m", "sharpreel", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)


def y4m(clip: Path) -> bytes:
    return ffmpeg("-i", clip, "-strict", "-1", "-f", "yuv4mpegpipe", "-")


def through(data: bytes, options: UpscaleOptions = BICUBIC) -> bytes:
    out = io.BytesIO()
    run(PIPE, PIPE, options, io.BytesIO(data), out)
    return out.getvalue()


def run(
    source: Path,
    output: Path | None,
    options: UpscaleOptions,
    stdin: IO[bytes],
    stdout: IO[bytes],
) -> Result:
    return upscale.run(make_plan(source, output, options, stdin=stdin, stdout=stdout))


def planes(stream: bytes) -> list[Any]:
    """Each frame of a y4m stream as it is stored."""
    with av.open(io.BytesIO(stream), "r", format="yuv4mpegpipe") as file:
        return [frame.to_ndarray() for frame in file.decode(video=0)]


@pytest.mark.parametrize(
    ("pix_fmt", "bits"), [("yuv420p", 8), ("yuv444p", 8), ("yuv420p10le", 10), ("yuv422p10le", 10)]
)
def test_y4m_is_doubled_in_size_and_keeps_its_format(
    tmp_path: Path, pix_fmt: str, bits: int
) -> None:
    clip = make_clip(tmp_path / "in.mkv", pix_fmt=pix_fmt, frames=9, rate=Fraction(30000, 1001))
    out = through(y4m(clip))
    assert out.startswith(b"YUV4MPEG2 W128 H96 F30000:1001 ")
    (tmp_path / "out.y4m").write_bytes(out)
    info = probe(tmp_path / "out.y4m")
    assert (info.pix_fmt, info.bits, info.rate) == (pix_fmt, bits, Fraction(30000, 1001))
    assert count_frames(tmp_path / "out.y4m") == 9


def test_the_pixels_of_a_pipe_are_those_of_a_file(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4, audio=False)
    upscale_video(clip, tmp_path / "out.mkv", model="bicubic", codec="ffv1")
    with av.open(str(tmp_path / "out.mkv")) as file:
        wanted = [f.to_ndarray() for f in file.decode(video=0)]
    have = planes(through(y4m(clip)))
    np.testing.assert_array_equal(have, wanted)


def test_full_range_is_kept_through_a_pipe(tmp_path: Path) -> None:
    clip = make_bars(tmp_path / "in.mp4", "bt601", full=True)
    out = through(y4m(clip))
    assert b"XCOLORRANGE=FULL" in out[:120]
    (tmp_path / "out.y4m").write_bytes(out)
    frame = next(iter(video_reader.VideoReader(probe(tmp_path / "out.y4m"))))
    np.testing.assert_allclose(patches(frame.pixels), BARS, atol=3)


def test_odd_lines_are_written_without_padding(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(33, 19), pix_fmt="yuv444p", frames=2)
    out = through(y4m(clip))
    header, rest = out.split(b"\n", 1)
    assert header.startswith(b"YUV4MPEG2 W66 H38")
    assert len(rest) == 2 * (len(b"FRAME\n") + 3 * 66 * 38)


def test_the_command_reads_and_writes_pipes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6)
    first = sharpreel("upscale", clip, "-o", "-", "-m", "bicubic", "-q")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(b"YUV4MPEG2 W128 H96 F25:1 ")
    out = tmp_path / "out.mp4"
    second = sharpreel("upscale", "-", "-o", out, "-m", "bicubic", "-q", stdin=first.stdout)
    assert second.returncode == 0, second.stderr
    assert (probe(out).width, probe(out).height) == (256, 192)
    assert count_frames(out) == 6
    assert video_pts(out) == [Fraction(k, 25) for k in range(6)]
    assert [p.name for p in tmp_path.iterdir() if "sharpreel" in p.name] == []


def test_standard_input_that_is_not_y4m_exits_with_three(tmp_path: Path) -> None:
    done = sharpreel("upscale", "-", "-o", tmp_path / "out.mp4", stdin=b"GIF89a" + bytes(100))
    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr.decode().startswith("sharpreel: standard input: not a y4m stream")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"text", b"YUV4MPEG2 W64 H48 F25:1 C420\n"])
def test_a_stream_that_is_not_y4m_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"standard input: (not )?a y4m stream"):
        through(data)


def test_a_file_made_from_a_pipe_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Standard input has no name"):
        run(PIPE, None, BICUBIC, io.BytesIO(b""), io.BytesIO())


def test_an_unknown_suffix_for_a_pipe_is_refused(tmp_path: Path) -> None:
    data = y4m(make_clip(tmp_path / "in.mp4", frames=2))
    with pytest.raises(UsageError, match="name the output with one of"):
        run(PIPE, tmp_path / "out.avi", BICUBIC, io.BytesIO(data), io.BytesIO())


def test_a_time_range_of_a_pipe_begins_at_zero(tmp_path: Path) -> None:
    data = y4m(make_clip(tmp_path / "in.mp4", frames=20))
    out = tmp_path / "out.mp4"
    options = UpscaleOptions(
        model="bicubic", preset="ultrafast", start=Fraction(1, 5), end=Fraction(3, 5)
    )
    result = run(PIPE, out, options, io.BytesIO(data), io.BytesIO())
    assert result.frames == 10
    assert video_pts(out) == [Fraction(k, 25) for k in range(10)]


def test_the_state_is_kept_across_frames_of_a_pipe(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=5, audio=False)
    upscale_video(clip, tmp_path / "out.mkv", codec="ffv1")
    with av.open(str(tmp_path / "out.mkv")) as file:
        wanted = [f.to_ndarray() for f in file.decode(video=0)]
    have = planes(through(y4m(clip), UpscaleOptions()))
    np.testing.assert_array_equal(have, wanted)


@pytest.mark.parametrize(("size", "matrix"), [((640, 360), "bt601"), ((1280, 720), "bt709")])
def test_y4m_has_the_colours_that_readers_assume(
    tmp_path: Path, size: tuple[int, int], matrix: str
) -> None:
    """The readers' rule goes by size, and the size has changed."""
    clip = make_bars(tmp_path / "in.mp4", matrix, full=False, size=size)
    wanted = next(iter(video_reader.VideoReader(probe(clip)))).pixels
    out = io.BytesIO()
    run(
        clip,
        PIPE,
        replace(BICUBIC, height=720 if matrix == "bt601" else 1440),
        io.BytesIO(),
        out,
    )
    (tmp_path / "out.y4m").write_bytes(out.getvalue())
    shown = next(iter(video_reader.VideoReader(probe(tmp_path / "out.y4m")))).pixels
    np.testing.assert_allclose(patches(shown), patches(wanted), atol=3)


def test_a_stream_that_ends_within_a_frame_is_reported(tmp_path: Path) -> None:
    data = y4m(make_clip(tmp_path / "in.mkv", frames=5, audio=False))
    whole = run(PIPE, PIPE, BICUBIC, io.BytesIO(data), io.BytesIO())
    assert (whole.frames, whole.lost, whole.notes) == (5, 0, [])
    cut = run(PIPE, PIPE, BICUBIC, io.BytesIO(data[:-100]), io.BytesIO())
    assert (cut.frames, cut.lost) == (4, 1)
    assert cut.notes == ["the stream ends within a frame (1 times)"]
    done = sharpreel("upscale", "-", "-o", "-", "-m", "bicubic", stdin=data[:-100])
    assert done.returncode == 1
    assert b"ends within a frame" in done.stderr


def test_a_piped_run_keeps_the_work_folder_of_a_file_run(tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "in.mp4", frames=6), tmp_path / "out.mp4"
    begun = folder_of(out)
    begun.mkdir()
    (begun / "journal.jsonl").write_text("{}")
    run(PIPE, out, BICUBIC, io.BytesIO(y4m(clip)), io.BytesIO())
    assert count_frames(out) == 6
    assert (begun / "journal.jsonl").read_text() == "{}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "out.mp4.sharpreel"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 6)])
def test_a_command_that_waits_for_a_pipe_ends_on_a_signal(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    data = y4m(make_clip(tmp_path / "in.mkv", frames=9, audio=False))
    command = [sys.executable, "-m", "sharpreel", "upscale", "-", "-o", "-", "-m", "bicubic"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(data)
            process.stdin.flush()
            assert process.stdout.read(9) == b"YUV4MPEG2"  # it is at work, and then waits
            process.send_signal(number)
            assert process.wait(60) == code
        finally:
            process.kill()


def test_each_frame_of_a_live_pipe_leaves_before_the_next_arrives(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=6, audio=False)  # 64x48
    stream = ffmpeg("-i", clip, "-f", "yuv4mpegpipe", "-")
    header, *frames = stream.split(b"FRAME\n")
    command = [sys.executable, "-m", "sharpreel", "upscale", "-", "-o", "-", "--live"]
    command += ["-m", "bicubic"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        one = len(b"FRAME\n") + 128 * 96 * 3 // 2
        process.stdin.write(header + b"".join(b"FRAME\n" + f for f in frames[:3]))
        process.stdin.flush()
        read_header = process.stdout.readline()
        assert read_header.startswith(b"YUV4MPEG2 W128 H96 ")
        seen = 0
        while seen < 3:  # repeats stand for frames that were dropped while the command began
            assert len(process.stdout.read(one)) == one
            seen += 1
        for frame in frames[3:]:
            process.stdin.write(b"FRAME\n" + frame)
            process.stdin.flush()
            assert len(process.stdout.read(one)) == one
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(60) == 0


def test_a_live_file_is_read_at_its_own_frame_rate(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=12, audio=False)
    command = [sys.executable, "-m", "sharpreel", "upscale", str(clip), "-o", "-", "--live"]
    command += ["-m", "bicubic"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert done.stdout.count(b"FRAME\n") == 12
