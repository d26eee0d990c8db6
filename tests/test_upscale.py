"""Whole runs: resumed, interrupted, refused; frames in and out; memory."""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

import sharpreel as api
from sharpreel.engines import choose
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import DiskFullError, InputError, ResumableError, write_error
from sharpreel.media import encoders, writer
from sharpreel.media.frame import Frame
from sharpreel.media.reader import read_frames
from sharpreel.models.weights import load_model
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.stages import Progress
from sharpreel.upscale import upscale_frames, upscale_video
from tests.support.resuming import (
    FRAMES,
    SEGMENT,
    SMALL,
    journalled,
    resume,
    sha256,
    stop_at,
    work_folder,
)
from tests.support.terminal import (
    events,
    is_root,
    peak_memory_mib,
    sharpreel,
    started,
    suicidal_run,
    wait_for,
)
from tests.support.videos import Pixels, make_clip, moving, write_frames


@pytest.mark.parametrize(
    ("source", "model", "event", "frames"),
    [
        ("mp4", SMALL, "progress", 1),
        ("mp4", SMALL, "progress", 4),
        ("mp4", SMALL, "segment", 1),
        ("mp4", SMALL, "progress", 22),
        ("mp4", SMALL, "join", 0),
        ("mp4", SMALL, "verify", 0),
        ("mp4", "bicubic", "progress", 30),
        ("mkv", SMALL, "segment", 12),
        ("mkv", "bicubic", "join", 0),
        ("vfr", SMALL, "progress", 17),
        ("vfr", SMALL, "segment", 30),
        ("vfr", "bicubic", "progress", 9),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(
    source: str,
    model: str,
    event: str,
    frames: int,
    sources: dict[str, Path],
    uncut: Callable[[str, str], str],
    tmp_path: Path,
) -> None:
    path = sources[source]
    output = tmp_path / f"out{path.suffix}"
    options = {"model": model, "segment_seconds": SEGMENT}
    assert suicidal_run(event, frames, path, output, **options) == -signal.SIGKILL
    assert not output.exists()
    assert work_folder(output).is_dir()
    result, _ = resume(path, output, model=model)
    assert (result.resumed_frames > 0) == (frames > 6 or event != "progress")
    assert result.frames == FRAMES
    assert sha256(output) == uncut(source, model)
    assert list(tmp_path.iterdir()) == [output]


def test_a_killed_command_resumes_when_it_is_run_again(
    sources: dict[str, Path], uncut: Callable[[str, str], str], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    command = ["upscale", sources["mp4"], "-o", output, "-m", SMALL]
    command += ["--segment-seconds", str(SEGMENT)]
    with started(*command, "--json") as process:
        wait_for(process, "segment")
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    done = sharpreel(*command, "--json")
    assert done.returncode == 0, done.stderr
    reported = events(done.stdout)
    resumed = next(one for one in reported if one["event"] == "resume")
    assert resumed["frames"] > 0
    assert reported[-1]["event"] == "done"
    assert reported[-1]["resumed_frames"] == resumed["frames"]
    assert sha256(output) == uncut("mp4", SMALL)
    assert list(tmp_path.iterdir()) == [output]


def test_a_run_killed_again_and_again_still_ends_in_the_same_bytes(
    sources: dict[str, Path], uncut: Callable[[str, str], str], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    for _ in range(4):
        stop_at(sources["mp4"], output, "segment", times=1, model=SMALL)
        assert not output.exists()
    assert len(journalled(output)) == 4
    result, _ = resume(sources["mp4"], output, model=SMALL)
    assert 4 * 6 <= result.resumed_frames < FRAMES
    assert sha256(output) == uncut("mp4", SMALL)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 6), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_terminated_command_reports_it_and_resumes_when_it_is_run_again(
    number: signal.Signals,
    code: int,
    sources: dict[str, Path],
    uncut: Callable[[str, str], str],
    tmp_path: Path,
) -> None:
    # Long enough that the signal comes before the end, on any machine.
    path = make_clip(tmp_path / "in.mp4", size=(192, 128), frames=400, options={"g": "12"})
    output = tmp_path / "out.mp4"
    command = ["upscale", path, "-o", output, "-m", SMALL]
    command += ["--segment-seconds", str(SEGMENT), "--json"]
    with started(*command) as process:
        wait_for(process, "segment")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Run the same command again to resume" in err
    assert "Traceback" not in err
    assert events(out)[-1]["event"] == "error"
    assert not output.exists()
    before = len(journalled(output))
    assert before >= 1
    stop_at(path, output, "segment", model=SMALL)
    assert len(journalled(output)) == before + 1


def test_a_finished_run_leaves_only_its_output(sources: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    resume(sources["mp4"], output)
    assert list(tmp_path.iterdir()) == [output]


def test_the_output_gets_its_name_only_when_it_is_complete_and_verified(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    seen = []

    def callback(progress: Progress) -> None:
        assert not output.exists()
        seen.append(progress.event)

    upscale_video(sources["mp4"], output, on_progress=callback, model="bicubic")
    assert seen[0] == "start"
    assert seen[-1] == "verify"
    assert {"progress", "segment", "join"} < set(seen)
    assert output.exists()


def test_an_overwritten_output_stays_until_the_new_one_is_complete(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"the old one")
    stop_at(sources["mp4"], output, "verify", overwrite=True)
    assert output.read_bytes() == b"the old one"
    resume(sources["mp4"], output, overwrite=True)
    assert output.stat().st_size > 1000


def test_a_changed_setting_starts_over_with_the_reason(
    stopped: Path, sources: dict[str, Path]
) -> None:
    result, seen = resume(sources["mp4"], stopped, crf=30)
    assert result.resumed_frames == 0
    assert seen[0].note == "encoder changed since the earlier run"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"scale": 4}, "scale"),
        ({"model": SMALL}, "model"),
        ({"end": 1}, "time"),
        ({"segment_seconds": 0.5}, "segment_seconds"),
        ({"engine": "torch"}, "engine"),
    ],
)
def test_whatever_changes_the_bytes_starts_over(
    options: dict[str, Any], what: str, stopped: Path, sources: dict[str, Path]
) -> None:
    result, seen = resume(sources["mp4"], stopped, **options)
    assert result.resumed_frames == 0
    assert what in seen[0].note


def test_a_changed_input_starts_over_with_the_reason(
    stopped: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"
    make_clip(other, frames=FRAMES - 1)
    result, seen = resume(other, stopped)
    assert (result.resumed_frames, result.frames) == (0, FRAMES - 1)
    assert seen[0].note == "input changed since the earlier run"


def test_no_resume_starts_over(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    result, _ = resume(sources["mp4"], stopped, resume=False)
    assert result.resumed_frames == 0
    assert sha256(stopped) == uncut("mp4", "bicubic")


def test_a_resumed_run_counts_earlier_frames(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    done = sum(len(e["pts"]) for e in journalled(stopped))
    result, seen = resume(sources["mp4"], stopped)
    assert (result.resumed_frames, result.frames) == (done, FRAMES)
    assert seen[0].resumed_frames == done
    assert [p.frames for p in seen if p.event == "progress"] == list(range(done + 1, FRAMES + 1))
    assert sha256(stopped) == uncut("mp4", "bicubic")


def test_a_torn_last_line_of_the_journal_costs_one_segment(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    path = work_folder(stopped) / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    kept = sum(len(json.loads(line)["pts"]) for line in path.read_text().splitlines()[:2])
    result, _ = resume(sources["mp4"], stopped)
    assert result.resumed_frames == kept
    assert sha256(stopped) == uncut("mp4", "bicubic")


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("damage", ["deleted", "cut short"])
def test_an_incomplete_segment_is_computed_again(
    damage: str,
    number: int,
    stopped: Path,
    sources: dict[str, Path],
    uncut: Callable[[str, str], str],
) -> None:
    entries = journalled(stopped)
    path = work_folder(stopped) / entries[number]["name"]
    if damage == "deleted":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)
    result, _ = resume(sources["mp4"], stopped)
    assert result.resumed_frames == sum(len(e["pts"]) for e in entries[:number])
    assert sha256(stopped) == uncut("mp4", "bicubic")


def test_a_run_that_resumes_with_fewer_processors_keeps_its_bytes(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "usable_cpus", lambda: 3)
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    resume(sources["mp4"], whole)
    stop_at(sources["mp4"], output, "segment", times=3)
    monkeypatch.setattr(encoders, "usable_cpus", lambda: 1)
    result, seen = resume(sources["mp4"], output)
    assert result.resumed_frames > 0
    assert seen[0].note == ""
    assert sha256(output) == sha256(whole)


def test_the_same_run_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    # 68x36: neither side a multiple of 16, as encoders like them.
    random = np.random.default_rng(7)
    noise = random.integers(0, 80, (31, 18, 34, 3), np.uint8)
    frames = [p // 2 + n for p, n in zip(moving((34, 18), 31), noise, strict=True)]
    source = write_frames(tmp_path / "in.mp4", frames)
    digests = {
        sha256(resume(source, tmp_path / f"{k}.mp4", segment_seconds=10)[0].output)
        for k in range(8)
    }
    assert len(digests) == 1


def test_two_runs_of_one_output_are_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    refused: list[BaseException] = []

    def callback(progress: Progress) -> None:
        if progress.event == "segment" and not refused:
            with pytest.raises(ResumableError, match="another run") as caught:
                upscale_video(sources["mp4"], output, model="bicubic", segment_seconds=SEGMENT)
            refused.append(caught.value)

    upscale_video(
        sources["mp4"], output, model="bicubic", segment_seconds=SEGMENT, on_progress=callback
    )
    assert refused
    assert output.exists()


def test_a_second_command_at_the_same_time_is_refused_with_code_six(
    sources: dict[str, Path], uncut: Callable[[str, str], str], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    codes: list[subprocess.CompletedProcess[str]] = []

    def callback(progress: Progress) -> None:
        if progress.event == "segment" and not codes:
            codes.append(sharpreel("upscale", sources["mp4"], "-o", output, "-m", "bicubic"))

    upscale_video(
        sources["mp4"], output, model="bicubic", segment_seconds=SEGMENT, on_progress=callback
    )
    assert codes[0].returncode == 6
    assert "another run is writing this output" in codes[0].stderr
    assert sha256(output) == uncut("mp4", "bicubic")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not is_root() or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path, leave: int) -> None:
    """Take all space of a disk but `leave` bytes."""
    free = shutil.disk_usage(path.parent).free
    path.write_bytes(b"\0" * max(free - leave, 0))


@pytest.mark.parametrize(
    ("share", "finished"), [(0.05, "nothing"), (0.5, "some segments"), (1.4, "all segments")]
)
def test_a_full_disk_is_reported_and_the_run_resumes_when_there_is_space(
    share: float, finished: str, sources: dict[str, Path], small_disk: Path, tmp_path: Path
) -> None:
    quality: dict[str, Any] = {"crf": 1, "segment_seconds": SEGMENT, "model": "bicubic"}
    uncut = upscale_video(sources["mp4"], tmp_path / "uncut.mp4", **quality).output
    output, ballast = small_disk / "out.mp4", small_disk / "ballast"
    fill(ballast, leave=round(share * uncut.stat().st_size))
    command = ["upscale", sources["mp4"], "-o", output, "-m", "bicubic", "--crf", "1"]
    command += ["--segment-seconds", str(SEGMENT), "--json"]
    failed = sharpreel(*command)
    assert failed.returncode == 6, (failed.stdout[-500:], failed.stderr)
    assert "the disk is full" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert not output.exists()
    ballast.unlink()
    done = sharpreel(*command)
    assert done.returncode == 0, done.stderr
    resumed = events(done.stdout)[-1]["resumed_frames"]
    if finished == "nothing":
        assert resumed == 0
    elif finished == "some segments":
        assert 0 < resumed < FRAMES
    else:
        assert resumed == FRAMES
    assert sha256(output) == sha256(uncut)
    assert list(small_disk.iterdir()) == [output]


@pytest.mark.parametrize("call", [2, 5])
def test_no_space_for_a_packet_is_a_full_disk(
    call: int, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, count = writer.SegmentWriter.write, 0

    def full(encoder: writer.SegmentWriter, frame: Frame) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise write_error(encoder.path, OSError(errno.ENOSPC, "No space left"))
        honest(encoder, frame)

    output = tmp_path / "out.mp4"
    with monkeypatch.context() as patched:
        patched.setattr(writer.SegmentWriter, "write", full)
        with pytest.raises(DiskFullError, match="run the same command again"):
            resume(sources["mp4"], output)
    assert not output.exists()
    resume(sources["mp4"], output)


@pytest.mark.parametrize("model", ["bicubic", SMALL])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("deep", [False, True], ids=["uint8", "uint16"])
def test_upscaled_frames_have_the_type_of_the_input(deep: bool, scale: int, model: str) -> None:
    frames = list(moving((34, 22), 3, deep))
    results = list(upscale_frames(frames, model, scale=scale))
    assert [m.shape for m in results] == [(22 * scale, 34 * scale, 3)] * 3
    assert {m.dtype for m in results} == {frames[0].dtype}
    # They show what went in: each block's mean is near its pixel.
    blocks = results[1].reshape(22, scale, 34, scale, 3).mean(axis=(1, 3), dtype=np.float64)
    top = np.iinfo(frames[1].dtype).max
    assert np.abs(blocks - frames[1]).mean() < 0.02 * top


def test_eight_and_sixteen_bits_give_the_same_frame() -> None:
    frames = list(moving((32, 32), 3))
    runner = OpenVinoEngine(load_model())  # in float32, which sixteen bits are run in
    plain = np.stack(list(upscale_frames(frames, engine=runner)))
    runner.reset()
    deep = np.stack(
        list(upscale_frames([f.astype(np.uint16) * 257 for f in frames], engine=runner))
    )
    assert np.abs(deep / 257 - plain).max() <= 0.51


def test_frames_are_read_one_by_one_as_results_are_requested() -> None:
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield np.full((16, 16, 3), taken % 7 * 20, np.uint8)

    results = upscale_frames(endless(), "bicubic")
    assert taken == 0
    for count in range(1, 6):
        next(results)
        assert taken == count


def test_no_frames_give_no_frames() -> None:
    assert list(upscale_frames([])) == []


def test_upscale_frames_refuses_an_unknown_model() -> None:
    with pytest.raises(api.SharpreelError, match="reel-fst"):
        upscale_frames([], "reel-fst")


@pytest.mark.parametrize("scale", [2, 4])
def test_a_video_holds_exactly_the_frames_of_upscale_frames(scale: int, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=12)
    output = tmp_path / "out.mkv"
    upscale_video(source, output, scale=scale, codec="ffv1", pix_fmt="bgr0")  # lossless RGB
    expected = np.stack(list(upscale_frames(list(read_frames(source)), scale=scale)))
    with av.open(str(output)) as file:
        results = np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])
    np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize(("count", "size"), [(1, (64, 48)), (2, (16, 16)), (5, (17, 33))])
def test_short_and_small_videos_are_upscaled(
    count: int, size: tuple[int, int], tmp_path: Path
) -> None:
    even = size[0] % 2 == size[1] % 2 == 0
    source = make_clip(
        tmp_path / "in.mkv",
        frames=count,
        size=size,
        pix_fmt="yuv420p" if even else "yuv444p",
        audio=False,
    )
    result = upscale_video(source, tmp_path / "out.mkv")
    assert result.frames == count
    assert read_frames(result.output).shape == (count, 2 * size[1], 2 * size[0], 3)


def test_the_result_describes_the_run(clip: Path, tmp_path: Path) -> None:
    result = upscale_video(clip, tmp_path / "out.mp4", model="bicubic")
    assert result.output == tmp_path / "out.mp4"
    assert (result.frames, result.lost, result.resumed_frames) == (24, 0, 0)
    assert result.fps > 0
    assert result.seconds > 0
    assert result.engine == "openvino"


def test_a_time_range_without_frames_is_an_input_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        upscale_video(clip, tmp_path / "out.mp4", start=Fraction(3600))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_leaves_no_thread(clip: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    stop_at(clip, tmp_path / "out.mp4", "progress", times=3)
    assert threading.active_count() == before


def test_a_network_that_fails_ends_the_run_with_its_error(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks:
        name, scale, warm_up, clip_len, past, future, tile = "breaks", 2, 0, 0, 0, 0, 0

        def reset(self) -> None: ...

        def run(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
            raise RuntimeError("the network broke")

    monkeypatch.setattr(choose, "choose_engine", lambda *a: Breaks())
    with pytest.raises(RuntimeError, match="the network broke"):
        upscale_video(clip, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def peak_of_run(source: Path, output: Path, model: str) -> float:
    return peak_memory_mib(
        f"import sharpreel\nsharpreel.upscale_video({str(source)!r}, {str(output)!r}, "
        f"model={model!r}, preset='ultrafast', segment_seconds=4)"
    )


def memory_clip(path: Path, frames: int) -> Path:
    """160x90 of few distinct frames, so that encoding it is cheap."""
    return make_clip(
        path, size=(160, 90), frames=frames, audio=False, options={"preset": "ultrafast", "g": "25"}
    )


def test_memory_does_not_depend_on_length(tmp_path: Path) -> None:
    peaks = [
        peak_of_run(memory_clip(tmp_path / f"{n}.mp4", n), tmp_path / f"{n}_out.mp4", "bicubic")
        for n in (200, 1200)
    ]
    assert peaks[1] <= 1.1 * peaks[0], peaks


@pytest.mark.slow
def test_memory_does_not_depend_on_length_with_the_default_network(tmp_path: Path) -> None:
    peaks = [
        peak_of_run(memory_clip(tmp_path / f"{n}.mp4", n), tmp_path / f"{n}_out.mp4", SMALL)
        for n in (250, 5000)
    ]
    assert peaks[1] <= 1.1 * peaks[0], peaks


def test_upscale_video_has_a_parameter_for_each_option_but_live() -> None:
    parameters = inspect.signature(upscale_video).parameters.values()
    named = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert named.pop("on_progress") is None
    assert named.pop("choices") is None  # an empty mapping, which a default cannot be
    expected = {
        field.name: field.default
        for field in fields(UpscaleOptions)
        if field.name not in ("live", "choices")
    }
    assert MISSING not in expected.values()
    assert named == expected
    assert list(named) == list(expected)  # in the same order


def test_every_parameter_of_upscale_video_is_documented() -> None:
    text = (inspect.getdoc(upscale_video) or "").partition("Args:")[2].partition("Returns:")[0]
    documented = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*): ", text, re.MULTILINE)
    names = [name for line in documented for name in line.split(", ")]
    assert names == list(inspect.signature(upscale_video).parameters)


def test_every_parameter_of_upscale_video_reaches_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[UpscaleOptions] = []

    def planned(source: Path, output: Path | None, options: UpscaleOptions) -> None:
        seen.append(options)
        raise InputError("seen")

    monkeypatch.setattr("sharpreel.upscale.make_plan", planned)
    values: dict[str, Any] = {
        "model": "bicubic",
        "scale": 4,
        "height": 720,
        "size": (320, 200),
        "device": "cpu",
        "engine": "torch",
        "precision": "float32",
        "choices": {"residual": "true"},
        "tile": 0,
        "max_memory": 1 << 30,
        "codec": "hevc",
        "crf": 20,
        "preset": "slow",
        "pix_fmt": "yuv444p",
        "start": Fraction(1, 2),
        "end": Fraction(2),
        "allow_audio_transcode": True,
        "overwrite": True,
        "resume": False,
        "skip_existing": True,
        "strict": True,
        "segment_seconds": 2.5,
        "batch": 4,
    }
    with pytest.raises(InputError, match="seen"):
        upscale_video(tmp_path / "in.mp4", **values)
    assert {**vars(seen[0])} == {**values, "live": False}
