"""Segments: where they begin, what is read again before them, how they are written."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import InputChangedError
from sharpreel.media import reader as video_reader
from sharpreel.media import writer
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.models.weights import load_model
from sharpreel.pipeline.journal import ResumePoint
from sharpreel.pipeline.segments import (
    lookback,
    open_at,
    remaining_segments,
    write_segment,
)
from sharpreel.pipeline.stages import UpscaledFrame
from tests.support.plans import plan_of
from tests.support.resuming import (
    FRAMES,
    SMALL,
    journalled,
    resume,
    sha256,
    stop_at,
    work_folder,
)


@pytest.mark.parametrize("model", [SMALL, "bicubic"])
@pytest.mark.parametrize("gap", [0, 1, 3])
def test_segments_after_a_gap_are_not_computed_again(
    model: str,
    gap: int,
    sources: dict[str, Path],
    uncut: Callable[[str, str], str],
    tmp_path: Path,
) -> None:
    output = tmp_path / "out.mp4"
    stop_at(sources["mp4"], output, "segment", times=5, model=model)
    path = work_folder(output) / "journal.jsonl"
    entries = journalled(output)
    lost = entries.pop(gap)
    path.write_text("".join(json.dumps(e) + "\n" for e in reversed(entries)))
    (work_folder(output) / lost["name"]).unlink()
    opened: list[Path] = []
    honest = writer.SegmentWriter

    class Counted(honest):  # type: ignore[misc, valid-type]
        def __init__(self, path: Path, settings: EncodeSettings) -> None:
            opened.append(path)
            super().__init__(path, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SegmentWriter", Counted)
        result, _ = resume(sources["mp4"], output, model=model)
    assert result.resumed_frames == sum(len(e["pts"]) for e in entries)
    assert result.frames == FRAMES
    again = [p.name for p in opened if p.name.startswith("part-seg")]
    assert again[0] == f"part-{lost['name']}"
    assert not {f"part-{e['name']}" for e in entries} & set(again)
    assert sha256(output) == uncut("mp4", model)


@pytest.mark.parametrize("source", ["mp4", "mkv", "vfr"])
def test_an_input_where_seeking_fails_is_read_from_its_start(
    source: str,
    sources: dict[str, Path],
    uncut: Callable[[str, str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / f"out{sources[source].suffix}"
    stop_at(sources[source], output, "segment", times=3, model=SMALL)
    honest, starts = video_reader.VideoReader, []

    def misled(info: VideoInfo, start_pts: int | None = None, *more: Any, **named: Any) -> Any:
        starts.append(start_pts)
        if start_pts is None:
            return honest(info, None, *more, **named)
        last = max(p for e in journalled(output) for p in e["pts"])
        return honest(info, last + 1, *more, **named)

    monkeypatch.setattr(video_reader, "VideoReader", misled)
    result, seen = resume(sources[source], output, model=SMALL)
    assert starts[0] is not None
    assert starts[1:] == [None]
    assert result.resumed_frames > 0
    assert seen[0].note == ""
    assert sha256(output) == uncut(source, SMALL)


def test_an_input_that_decodes_differently_starts_over(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    path = work_folder(stopped) / "journal.jsonl"
    entries = journalled(stopped)
    entries[-1]["tail"] = "0" * 32
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    result, seen = resume(sources["mp4"], stopped)
    assert result.resumed_frames == 0
    assert seen[0].note == "the input no longer decodes to the same frames"
    assert sha256(stopped) == uncut("mp4", "bicubic")


def test_a_run_with_start_and_end_resumes_to_the_same_bytes(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    window = {"start": Fraction(1, 2), "end": Fraction(8, 5), "model": SMALL}
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    resume(sources["mp4"], whole, **window)
    stop_at(sources["mp4"], output, "segment", times=2, **window)
    result, _ = resume(sources["mp4"], output, **window)
    assert result.resumed_frames > 0
    assert sha256(output) == sha256(whole)


@pytest.mark.parametrize(
    "name",
    [
        "gen_damaged.mp4",
        "gen_interlaced_tff_mpeg2.ts",
        "gen_2audio_srt.mkv",
        "gen_vfr_audio_480x270.mp4",
        "gen_tiny_34x18.mp4",
        "gen_truncated_faststart.mp4",
        "h265_10bits.mp4",
    ],
)
def test_real_files_resume_to_the_same_bytes_and_losses(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    source = corpus / "media" / name
    if not source.exists():
        pytest.skip(f"{name} is not here")
    options: dict[str, Any] = {"segment_seconds": 0.4, "end": Fraction(5, 2)}
    whole, _ = resume(source, tmp_path / f"whole{source.suffix}", **options)
    output = tmp_path / f"out{source.suffix}"
    stop_at(source, output, "segment", times=2, **options)
    result, _ = resume(source, output, **options)
    assert result.resumed_frames > 0
    assert (result.frames, result.lost) == (whole.frames, whole.lost)
    assert sha256(output) == sha256(whole.output)


@dataclass
class Needs:
    """The context of an engine."""

    warm_up: int = 0
    clip_len: int = 0
    past: int = 0


@pytest.mark.parametrize(
    ("needs", "frames"),
    [
        (Needs(), 1),  # one, to identify the resume point
        (Needs(warm_up=7), 7),
        (Needs(clip_len=5), 2),
        (Needs(clip_len=5, past=3, warm_up=9), 5),
    ],
)
def test_a_resumed_run_reads_as_many_frames_again_as_the_network_needs(
    needs: Needs, frames: int
) -> None:
    assert lookback(needs) == frames


class Sink:
    """Keeps the pts of its frames, and how it ended."""

    def __init__(self) -> None:
        self.pts: list[int] = []
        self.order: list[int] = []
        self.ended = ""

    def write(self, frame: Frame) -> None:
        self.pts.append(frame.pts)

    def close(self) -> None:
        self.ended = "closed"

    def abandon(self) -> None:
        self.ended = "abandoned"


def frames_up_to(count: int, error: Exception | None = None) -> Iterator[UpscaledFrame]:
    for pts in range(count):
        frame = Frame(np.zeros((2, 2, 3), np.uint8), pts)
        yield UpscaledFrame(0, frame, frame)
    if error is not None:
        raise error


def test_a_written_segment_keeps_its_last_input_frames() -> None:
    sink, tail = Sink(), deque[Frame](maxlen=2)
    seen: list[int] = []
    write_segment(frames_up_to(4), sink, tail, lambda frame: seen.append(frame.sr.pts))
    assert sink.pts == seen == [0, 1, 2, 3]
    assert [frame.pts for frame in tail] == [2, 3]
    assert sink.ended == "closed"


def test_a_segment_that_fails_is_abandoned() -> None:
    sink = Sink()
    with pytest.raises(ValueError, match="broken"):
        write_segment(frames_up_to(2, ValueError("broken")), sink, deque())
    assert (sink.pts, sink.ended) == ([0, 1], "abandoned")


def test_the_scan_finds_each_segment_with_its_resume_point(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(sources["mp4"], tmp_path / "out.mp4", model="bicubic", segment_seconds=0.5)
    engine = OpenVinoEngine(load_model("bicubic"))
    whole = open_at(plan, ResumePoint(), lookback(engine))
    tasks = list(remaining_segments(plan, whole, engine, {}))
    assert sum(len(record.pts) for _, record in tasks) == FRAMES
    assert [point.segment for point, _ in tasks] == list(range(len(tasks)))
    assert tasks[0][0] == ResumePoint()
    for (point, record), (following, _) in itertools.pairwise(tasks):
        assert following == point.after(record, lookback(engine))
        resumed = open_at(plan, following, lookback(engine))
        assert [frame.pts for frame in resumed.tail] == list(following.pts)
    first = open_at(plan, ResumePoint(), lookback(engine))
    done = {record.after for _, record in tasks[1:]}
    assert list(remaining_segments(plan, first, engine, done)) == tasks[:1]


def test_a_resume_point_of_other_frames_is_refused(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(sources["mp4"], tmp_path / "out.mp4", model="bicubic")
    point = ResumePoint(1, 3, (0,), "of another input")
    with pytest.raises(InputChangedError):
        open_at(plan, point, 1)
