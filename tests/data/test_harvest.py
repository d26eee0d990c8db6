"""Harvesting: videos with good and bad stretches, made here; which clips result."""

from __future__ import annotations

import csv
import errno
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sharpreel import ops
from sharpreel.data import harvest
from sharpreel.data.clip_quality import ClipMeasures, HarvestSettings
from sharpreel.data.harvest import (
    PER_PART,
    HarvestReport,
    _CandidatePool,
    _Window,
    _write_clip,
    shrink,
)
from sharpreel.data.manifest import read_manifest
from sharpreel.errors import DiskFullError, InputError, SharpreelError
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.media.reader import read_frames
from sharpreel.system import download
from tests.support.footage import SMALL, dark, faint, pan, reports_of, video
from tests.support.videos import make_hdr10, video_pts, write_frames


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of 12 frames; windows of five do not fit their borders. Shared: read only."""
    folder = tmp_path_factory.mktemp("scenes")
    return video(folder / "a video.mp4", *(pan(12, seed) for seed in (1, 2, 3)))


def test_a_clip_is_a_downscaled_stretch_of_its_source(scenes: Path, tmp_path: Path) -> None:
    rows, _ = reports_of([scenes], tmp_path)
    source = read_frames(scenes)
    assert len(rows) == 6
    for row in rows:
        clip = read_frames(tmp_path / row.file)
        first = round(row.start_seconds * 25)
        wanted = np.stack([shrink(f, 64, 96) for f in source[first : first + 5]])
        assert clip.shape == wanted.shape == (row.frames, row.height, row.width, 3)
        assert min(map(psnr_y, clip, wanted)) > 42
        assert psnr_y(wanted[0], ops.resize(source[first], 64, 96)) > 30
    assert [row.file for row in rows] == [f"a_video_{k}.mp4" for k in range(6)]
    assert {(row.source, row.source_width, row.source_height) for row in rows} == {
        (str(scenes), 192, 128)
    }


def test_no_clip_spans_a_cut(scenes: Path, tmp_path: Path) -> None:
    rows, (report,) = reports_of([scenes], tmp_path)
    assert report.scenes == 3
    starts = [round(row.start_seconds * 25) for row in rows]
    assert starts == [0, 5, 12, 17, 24, 29]


def test_clips_are_silent_bt709_mp4_with_the_timing_of_the_source(
    tmp_path: Path,
) -> None:
    source = video(tmp_path / "loud.mp4", pan(6), rate=30, audio=True)
    (row,), _ = reports_of([source], tmp_path / "out")
    with av.open(str(tmp_path / "out" / row.file)) as clip:
        assert [stream.type for stream in clip.streams] == ["video"]
        stream = clip.streams.video[0]
        context: Any = stream.codec_context
        assert (context.name, context.pix_fmt, context.colorspace) == ("h264", "yuv420p", 1)
        assert (context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1)
    assert video_pts(tmp_path / "out" / row.file) == [Fraction(k, 30) for k in range(5)]


def test_the_manifest_has_a_row_for_each_clip(scenes: Path, tmp_path: Path) -> None:
    mine = HarvestSettings(
        clip_len=5, height=64, preset="veryfast", per_video=2, rights="permissive"
    )
    rows, _ = reports_of([scenes], tmp_path, mine)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert (
        lines[0]
        == (
            "file source start_seconds frames width height source_width source_height "
            "motion detail blockiness score sha256 rights"
        ).split()
    )
    assert read_manifest(tmp_path / "manifest.csv") == rows
    assert {row.rights for row in rows} == {"permissive"}
    assert all(download.sha256_of(tmp_path / row.file) == row.sha256 for row in rows)
    assert all(row.motion > 0.5 and row.detail > 20 and 0 < row.score <= 1 for row in rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a_video_0.mp4",
        "a_video_1.mp4",
        "done.txt",
        "manifest.csv",
    ]


def test_repeated_frames_are_skipped_and_a_frozen_image_makes_no_clip(tmp_path: Path) -> None:
    twice = [frame for frame in pan(10) for _ in (0, 1)]
    frozen = list(pan(1, seed=5)) * 12
    source = video(tmp_path / "video.mkv", twice, frozen)
    rows, (report,) = reports_of([source], tmp_path / "out")
    assert len(rows) == 2
    assert report.repeated == 10 + 11
    clip = read_frames(tmp_path / "out" / rows[0].file)
    assert min(np.abs(np.diff(clip.astype(np.int16), axis=0)).mean((1, 2, 3))) > 2
    assert rows[1].start_seconds == 0.4  # its own time in the video, repeats counted


def test_repeats_are_recognised_despite_compression(tmp_path: Path) -> None:
    twice = [frame for frame in pan(12) for _ in (0, 1)]
    source = write_frames(tmp_path / "video.mkv", twice, rate=25, options={"crf": "23"})
    rows, (report,) = reports_of([source], tmp_path / "out")
    assert report.repeated >= 11
    last = read_frames(tmp_path / "out" / rows[-1].file).astype(np.int16)
    assert min(np.abs(np.diff(last, axis=0)).mean((1, 2, 3))) > 2


def test_of_high_rate_videos_every_second_frame_is_skipped(tmp_path: Path) -> None:
    source = video(tmp_path / "fast.mkv", pan(20, step=1), rate=60)
    rows, _ = reports_of([source], tmp_path / "out")
    assert [row.start_seconds for row in rows] == pytest.approx([0, 10 / 60], abs=2e-3)
    clip = read_frames(tmp_path / "out" / rows[0].file)
    wanted = shrink(read_frames(source)[8], 64, 96)
    assert psnr_y(clip[4], wanted) > 42


def test_the_best_windows_are_taken_and_spread_over_the_video(tmp_path: Path) -> None:
    poor = [faint(pan(10, seed, step=1)) for seed in (1, 3)]
    good = [pan(10, seed, step=1) for seed in (2, 4)]
    source = video(tmp_path / "video.mkv", poor[0], good[0], poor[1], good[1])
    one = HarvestSettings(clip_len=5, height=64, preset="veryfast", per_scene=1)
    rows, _ = reports_of([source], tmp_path / "scenes", one)
    assert [int(row.start_seconds * 25) // 10 for row in rows] == [0, 1, 2, 3]
    two = HarvestSettings(clip_len=5, height=64, preset="veryfast", per_video=2)
    rows, _ = reports_of([source], tmp_path / "video", two)
    assert [int(row.start_seconds * 25) // 10 for row in rows] == [1, 3]


def test_a_part_without_a_good_window_leaves_its_slot_to_others(tmp_path: Path) -> None:
    source = video(tmp_path / "video.mkv", dark(20), pan(10, 1), pan(10, 2))
    two = HarvestSettings(clip_len=5, height=64, preset="veryfast", per_video=2)
    rows, (report,) = reports_of([source], tmp_path / "out", two)
    assert report.rejected == {"dark": 4}
    assert len(rows) == 2
    assert all(row.start_seconds >= 0.8 for row in rows)


@pytest.mark.parametrize("seconds", [1000.0, 10.0, None])
def test_few_windows_are_kept_whatever_the_length_of_the_video(
    seconds: float | None, tmp_path: Path
) -> None:
    settings = HarvestSettings(clip_len=2, per_video=4, per_scene=3)
    pool = _CandidatePool(tmp_path, settings, seconds)
    good = ClipMeasures(5, 1, 100, 1, 0, 100, 50)
    for k in range(1000):
        window = _Window(k // 4, [np.zeros((2, 2, 3), np.uint8)] * 2, [k, k + 1])
        pool.add(window, good, float(k))
        assert len(list(tmp_path.iterdir())) <= PER_PART * settings.per_video
    begins = [one.begins for one in pool.best()]
    assert 3 <= len(begins) <= 4
    assert begins[-1] - begins[0] > 400
    assert all(one.path.is_file() for one in pool.best())


def test_finished_sources_are_skipped(scenes: Path, tmp_path: Path) -> None:
    barren = video(tmp_path / "dark.mkv", dark(6))
    rows, _ = reports_of([scenes, barren], tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.mp4")}
    assert reports_of([scenes, barren, scenes], tmp_path / "out") == ([], [])
    more = video(tmp_path / "a video.mkv", pan(6, 7))
    new, reports = reports_of([scenes, barren, more], tmp_path / "out")
    assert [row.file for row in new] == ["a_video_6.mp4"]  # of one stem, and no clip is replaced
    assert [report.source for report in reports] == [str(more)]
    assert read_manifest(tmp_path / "out" / "manifest.csv") == [*rows, *new]
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert (tmp_path / "out" / "done.txt").read_text().splitlines() == [
        *map(str, (scenes, barren, more))
    ]


def test_a_killed_run_leaves_no_partial_clip_and_resumes(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = video(tmp_path / "first.mkv", pan(6))
    honest, calls = _write_clip, 0

    def dying(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        honest(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(harvest, "_write_clip", dying)
        with pytest.raises(KeyboardInterrupt):
            reports_of([first, scenes], tmp_path / "out")
    (tmp_path / "out" / ".harvest-left").mkdir()  # as SIGKILL leaves one
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 1
    rows, reports = reports_of([first, scenes], tmp_path / "out")
    assert [report.source for report in reports] == [str(scenes)]
    assert len(rows) == 6
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"manifest.csv", "done.txt", "first_0.mp4", *(row.file for row in rows)}


def test_unreadable_sources_are_reported_and_skipped(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    sources = [tmp_path / "missing.mp4", tmp_path / "broken.mp4", scenes]
    rows, (missing, broken, whole) = reports_of(sources, tmp_path / "out")
    assert "no such file" in missing.problem
    assert "not a readable video" in broken.problem
    assert (whole.problem, whole.clips, len(rows)) == ("", 6, 6)
    _, again = reports_of(sources, tmp_path / "out")
    assert [report.source for report in again] == [str(tmp_path / "missing.mp4"), broken.source]


def test_no_clip_spans_lost_frames(tmp_path: Path) -> None:
    source = write_frames(
        tmp_path / "video.mkv", pan(20), options={"g": "10", "bf": "0", "preset": "ultrafast"}
    )
    hurt = tmp_path / "hurt.mkv"
    with av.open(str(source)) as one, av.open(str(hurt), "w") as two:
        stream = two.add_stream_from_template(one.streams.video[0])
        for k, packet in enumerate(p for p in one.demux(video=0) if p.size):
            sent: Any = packet
            if k == 6:
                sent = av.Packet(b"\0" * packet.size)
                sent.pts, sent.dts, sent.time_base = packet.pts, packet.dts, packet.time_base
            sent.stream = stream
            two.mux(sent)
    rows, (report,) = reports_of([hurt], tmp_path / "out")
    assert [round(row.start_seconds * 25) for row in rows] == [0, 10, 15]
    assert report.scenes == 2
    assert "frames cannot be decoded" in report.problem


def test_small_sources_are_rejected_unless_allowed(tmp_path: Path) -> None:
    source = video(tmp_path / "small.mkv", pan(6, size=(130, 90)))
    rows, (report,) = reports_of([source], tmp_path / "no")
    assert rows == []
    assert "130x90 is too small: height=64 needs 96 pixels or more" in report.problem
    few = HarvestSettings(clip_len=5, height=64, allow_small=True, preset="veryfast")
    (row,), _ = reports_of([source], tmp_path / "down", few)
    assert (row.width, row.height) == (92, 64)
    same = HarvestSettings(clip_len=5, height=360, allow_small=True, preset="veryfast")
    (row,), _ = reports_of([source], tmp_path / "same", same)
    assert (row.width, row.height) == (130, 90)


def test_rotated_videos_become_upright_with_square_pixels(tmp_path: Path) -> None:
    upright = video(tmp_path / "upright.mkv", pan(6, size=(128, 192)))
    turned = video(tmp_path / "turned.mp4", pan(6), rotation=90)
    wide = video(tmp_path / "wide.mkv", pan(6), aspect=Fraction(4, 3))
    rows, _ = reports_of([upright, turned, wide], tmp_path / "out")
    assert [(row.width, row.height) for row in rows] == [(64, 96), (64, 96), (128, 64)]
    clip = read_frames(tmp_path / "out" / rows[1].file)
    source = shrink(read_frames(turned)[0], 64, 96)
    assert psnr_y(clip[0], np.rot90(source, -1)) > 42


def test_16_bits_become_8(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 3 * 8 * 12).astype(np.uint16).reshape(8, 12, 3)
    small = shrink(deep, 2, 3)
    means = deep.reshape(2, 4, 3, 4, 3).astype(np.float64).mean((1, 3)) / 257
    assert small.dtype == np.uint8
    assert np.abs(small - means).max() <= 0.5
    assert np.array_equal(shrink(deep, 8, 12), (deep.astype(np.uint32) + 128) // 257)


def test_hdr_is_rejected(tmp_path: Path) -> None:
    _, (report,) = reports_of([make_hdr10(tmp_path / "hdr.mkv")], tmp_path / "out")
    assert "is HDR (PQ); clips are BT.709" in report.problem


def test_harvested_clips_among_the_sources_are_skipped(tmp_path: Path) -> None:
    video(tmp_path / "video.mkv", pan(6))
    tiny = HarvestSettings(clip_len=5, height=64, least_shrink=1.0, preset="veryfast")
    rows, _ = reports_of([tmp_path], tmp_path, tiny)
    assert len(rows) == 1
    assert reports_of([tmp_path], tmp_path, tiny) == ([], [])


def test_a_foreign_manifest_is_not_overwritten(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,licence\na.mp4,CC0\n")
    with pytest.raises(InputError, match="line 2 is not a row of a manifest of clips"):
        harvest.harvest([scenes], tmp_path, SMALL)
    assert (tmp_path / "manifest.csv").read_text() == "file,licence\na.mp4,CC0\n"


def test_a_full_disk_stops_the_run_which_then_resumes(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(DiskFullError):
            harvest.harvest([scenes], tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []
    assert len(harvest.harvest([scenes], tmp_path, SMALL)) == 6


def test_an_unwritable_folder_is_named(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SharpreelError, match="cannot be written"):
        harvest.harvest([scenes], tmp_path / "file" / "out", SMALL)


def test_progress_is_reported_while_a_video_is_read(scenes: Path, tmp_path: Path) -> None:
    reports: list[HarvestReport] = []
    harvest.harvest([scenes], tmp_path, SMALL, reports.append)
    assert [report.windows for report in reports] == [1, 2, 3, 4, 5, 6, 6]
    assert [report.finished for report in reports] == [False] * 6 + [True]
    assert reports[0].seconds < reports[5].seconds < 36 / 25
    assert reports[0].of_seconds == pytest.approx(36 / 25)
