from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

import sharpreel as api
from sharpreel.engines import choose
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import DiskFullError, InputError, ResumableError, write_error
from sharpreel.media import encoders, writer
from sharpreel.media import reader as video_reader
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame, VideoInfo
from sharpreel.media.reader import read_frames
from sharpreel.models import MODELS
from sharpreel.models.weights import load_model
from sharpreel.pipeline.stages import Progress
from sharpreel.system.prefetch import prefetch
from sharpreel.upscale import upscale_frames, upscale_video
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

SMALL = "reel-fast"  # as any causal network, and in the least time
FRAMES, SEGMENT = 48, 0.24  # a segment of 6 frames, shorter than the warm-up of that network
UNEVEN = np.cumsum([3600, 1800, 7200, 3000, 4500, 3600] * (FRAMES // 6)).tolist()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def work_folder(output: Path) -> Path:
    return output.with_name(output.name + ".sharpreel")


def journalled(output: Path) -> list[dict[str, Any]]:
    text = (work_folder(output) / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Clips with key frames every 12 frames, B-frames and sound; evenly timed, and not."""
    folder = tmp_path_factory.mktemp("sources")
    options = {"g": "12", "bf": "2"}
    return {
        "mp4": make_clip(folder / "even.mp4", frames=FRAMES, options=options),
        "mkv": make_clip(folder / "even.mkv", frames=FRAMES, options=options),
        "vfr": make_clip(folder / "uneven.mp4", pts=UNEVEN, options=options),
    }


@pytest.fixture(scope="module")
def uncut(
    sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], str]:
    """SHA-256 of what an uninterrupted run makes of a source with a network."""
    folder = tmp_path_factory.mktemp("uncut")

    @lru_cache
    def digest(source: str, model: str) -> str:
        output = folder / f"{source}_{model}{sources[source].suffix}"
        upscale_video(sources[source], output, model=model, segment_seconds=SEGMENT)
        return sha256(output)

    return digest


@pytest.fixture
def stopped(sources: dict[str, Path], tmp_path: Path) -> Path:
    """The output of a bicubic run of "mp4" that an exception stopped behind its third segment."""
    output = tmp_path / "out.mp4"
    stop_at(sources["mp4"], output, "segment", times=3)
    assert len(journalled(output)) == 3
    return output


class Stop(Exception):
    """What a caller's callback raises to end a run."""


def stop_at(source: Path, output: Path, event: str, times: int = 1, **options: Any) -> None:
    """Run until the progress callback has seen this event so often, then stop by an exception."""
    seen = 0

    def tell(progress: Progress) -> None:
        nonlocal seen
        seen += progress.event == event
        if seen == times:
            raise Stop

    options = {"model": "bicubic", "segment_seconds": SEGMENT, **options}
    with pytest.raises(Stop):
        upscale_video(source, output, on_progress=tell, **options)


def go_on(source: Path, output: Path, **options: Any) -> tuple[api.Result, list[Progress]]:
    seen: list[Progress] = []
    options = {"model": "bicubic", "segment_seconds": SEGMENT, **options}
    return upscale_video(source, output, on_progress=seen.append, **options), seen


# A killed run goes on.


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
def test_a_killed_run_goes_on_to_the_same_bytes(
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
    result, _ = go_on(path, output, model=model)
    assert (result.resumed_frames > 0) == (frames > 6 or event != "progress")
    assert result.frames == FRAMES
    assert sha256(output) == uncut(source, model)
    assert list(tmp_path.iterdir()) == [output]


def test_a_command_killed_from_outside_goes_on_when_given_again(
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
    said = events(done.stdout)
    resumed = next(one for one in said if one["event"] == "resume")
    assert resumed["frames"] > 0
    assert said[-1]["event"] == "done"
    assert said[-1]["resumed_frames"] == resumed["frames"]
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
    result, _ = go_on(sources["mp4"], output, model=SMALL)
    assert 4 * 6 <= result.resumed_frames < FRAMES
    assert sha256(output) == uncut("mp4", SMALL)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 6), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_command_told_to_end_says_so_and_goes_on_when_given_again(
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
    assert "Give the same command again to go on" in err
    assert "Traceback" not in err
    assert events(out)[-1]["event"] == "error"
    assert not output.exists()
    before = len(journalled(output))
    assert before >= 1
    stop_at(path, output, "segment", model=SMALL)
    assert len(journalled(output)) == before + 1


def test_a_finished_run_leaves_only_its_output(sources: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    go_on(sources["mp4"], output)
    assert list(tmp_path.iterdir()) == [output]


def test_the_output_has_its_name_only_when_it_is_whole_and_verified(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    seen = []

    def tell(progress: Progress) -> None:
        assert not output.exists()
        seen.append(progress.event)

    upscale_video(sources["mp4"], output, on_progress=tell, model="bicubic")
    assert seen[0] == "start"
    assert seen[-1] == "verify"
    assert {"progress", "segment", "join"} < set(seen)
    assert output.exists()


def test_an_output_that_is_overwritten_stays_until_the_new_one_is_whole(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"the old one")
    stop_at(sources["mp4"], output, "verify", overwrite=True)
    assert output.read_bytes() == b"the old one"
    go_on(sources["mp4"], output, overwrite=True)
    assert output.stat().st_size > 1000


def test_a_changed_setting_starts_over_and_says_why(
    stopped: Path, sources: dict[str, Path]
) -> None:
    result, seen = go_on(sources["mp4"], stopped, crf=30)
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
    result, seen = go_on(sources["mp4"], stopped, **options)
    assert result.resumed_frames == 0
    assert what in seen[0].note


def test_a_changed_input_starts_over_and_says_why(
    stopped: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"
    make_clip(other, frames=FRAMES - 1)
    result, seen = go_on(other, stopped)
    assert (result.resumed_frames, result.frames) == (0, FRAMES - 1)
    assert seen[0].note == "input changed since the earlier run"


def test_no_resume_starts_over(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    result, _ = go_on(sources["mp4"], stopped, resume=False)
    assert result.resumed_frames == 0
    assert sha256(stopped) == uncut("mp4", "bicubic")


def test_resume_counts_the_frames_of_before(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    done = sum(len(e["pts"]) for e in journalled(stopped))
    result, seen = go_on(sources["mp4"], stopped)
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
    result, _ = go_on(sources["mp4"], stopped)
    assert result.resumed_frames == kept
    assert sha256(stopped) == uncut("mp4", "bicubic")


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("damage", ["deleted", "cut short"])
def test_a_segment_that_is_not_whole_is_made_again(
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
    result, _ = go_on(sources["mp4"], stopped)
    assert result.resumed_frames == sum(len(e["pts"]) for e in entries[:number])
    assert sha256(stopped) == uncut("mp4", "bicubic")


@pytest.mark.parametrize("model", [SMALL, "bicubic"])
@pytest.mark.parametrize("gap", [0, 1, 3])
def test_segments_behind_a_gap_are_not_made_again(
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
    made: list[Path] = []
    honest = writer.SegmentWriter

    class Counted(honest):  # type: ignore[misc, valid-type]
        def __init__(self, path: Path, settings: EncodeSettings) -> None:
            made.append(path)
            super().__init__(path, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SegmentWriter", Counted)
        result, _ = go_on(sources["mp4"], output, model=model)
    assert result.resumed_frames == sum(len(e["pts"]) for e in entries)
    assert result.frames == FRAMES
    again = [p.name for p in made if p.name.startswith("part-seg")]
    assert again[0] == f"part-{lost['name']}"
    assert not {f"part-{e['name']}" for e in entries} & set(again)
    assert sha256(output) == uncut("mp4", model)


def test_a_run_that_goes_on_with_fewer_processors_keeps_its_bytes(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "usable_cpus", lambda: 3)
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    go_on(sources["mp4"], whole)
    stop_at(sources["mp4"], output, "segment", times=3)
    monkeypatch.setattr(encoders, "usable_cpus", lambda: 1)
    result, seen = go_on(sources["mp4"], output)
    assert result.resumed_frames > 0
    assert seen[0].note == ""
    assert sha256(output) == sha256(whole)


@pytest.mark.parametrize("source", ["mp4", "mkv", "vfr"])
def test_where_seeking_leads_elsewhere_the_input_is_read_from_its_start(
    source: str,
    sources: dict[str, Path],
    uncut: Callable[[str, str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / f"out{sources[source].suffix}"
    stop_at(sources[source], output, "segment", times=3, model=SMALL)
    honest, starts = video_reader.VideoReader, []

    def misled(info: VideoInfo, start_pts: int | None = None, *more: Any) -> Any:
        starts.append(start_pts)
        if start_pts is None:
            return honest(info, None, *more)
        last = max(p for e in journalled(output) for p in e["pts"])
        return honest(info, last + 1, *more)

    monkeypatch.setattr(video_reader, "VideoReader", misled)
    result, seen = go_on(sources[source], output, model=SMALL)
    assert starts[0] is not None
    assert starts[1:] == [None]
    assert result.resumed_frames > 0
    assert seen[0].note == ""
    assert sha256(output) == uncut(source, SMALL)


def test_an_input_that_decodes_otherwise_is_made_anew(
    stopped: Path, sources: dict[str, Path], uncut: Callable[[str, str], str]
) -> None:
    path = work_folder(stopped) / "journal.jsonl"
    entries = journalled(stopped)
    entries[-1]["tail"] = "0" * 32
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    result, seen = go_on(sources["mp4"], stopped)
    assert result.resumed_frames == 0
    assert seen[0].note == "the input no longer decodes to the same frames"
    assert sha256(stopped) == uncut("mp4", "bicubic")


def test_resume_works_inside_a_stretch(sources: dict[str, Path], tmp_path: Path) -> None:
    stretch = {"start": Fraction(1, 2), "end": Fraction(8, 5), "model": SMALL}
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    go_on(sources["mp4"], whole, **stretch)
    stop_at(sources["mp4"], output, "segment", times=2, **stretch)
    result, _ = go_on(sources["mp4"], output, **stretch)
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
def test_real_files_go_on_to_the_same_bytes_and_losses(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    source = corpus / "media" / name
    if not source.exists():
        pytest.skip(f"{name} is not here")
    options: dict[str, Any] = {"segment_seconds": 0.4, "end": Fraction(5, 2)}
    whole, _ = go_on(source, tmp_path / f"whole{source.suffix}", **options)
    output = tmp_path / f"out{source.suffix}"
    stop_at(source, output, "segment", times=2, **options)
    result, _ = go_on(source, output, **options)
    assert result.resumed_frames > 0
    assert (result.frames, result.lost) == (whole.frames, whole.lost)
    assert sha256(output) == sha256(whole.output)


def test_the_same_run_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    # 68x36: neither side a multiple of 16, as encoders like them.
    random = np.random.default_rng(7)
    noise = random.integers(0, 80, (31, 18, 34, 3), np.uint8)
    pictures = [p // 2 + n for p, n in zip(moving((34, 18), 31), noise, strict=True)]
    source = write_frames(tmp_path / "in.mp4", pictures)
    made = {
        sha256(go_on(source, tmp_path / f"{k}.mp4", segment_seconds=10)[0].output) for k in range(8)
    }
    assert len(made) == 1


def test_two_runs_of_one_output_are_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    refused: list[BaseException] = []

    def tell(progress: Progress) -> None:
        if progress.event == "segment" and not refused:
            with pytest.raises(ResumableError, match="another run") as caught:
                upscale_video(sources["mp4"], output, model="bicubic", segment_seconds=SEGMENT)
            refused.append(caught.value)

    upscale_video(
        sources["mp4"], output, model="bicubic", segment_seconds=SEGMENT, on_progress=tell
    )
    assert refused
    assert output.exists()


def test_a_second_command_at_the_same_time_is_refused_with_code_six(
    sources: dict[str, Path], uncut: Callable[[str, str], str], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    codes: list[subprocess.CompletedProcess[str]] = []

    def tell(progress: Progress) -> None:
        if progress.event == "segment" and not codes:
            codes.append(sharpreel("upscale", sources["mp4"], "-o", output, "-m", "bicubic"))

    upscale_video(
        sources["mp4"], output, model="bicubic", segment_seconds=SEGMENT, on_progress=tell
    )
    assert codes[0].returncode == 6
    assert "another run is making this output" in codes[0].stderr
    assert sha256(output) == uncut("mp4", "bicubic")


# A full disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not is_root() or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk")
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
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_space(
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
            go_on(sources["mp4"], output)
    assert not output.exists()
    go_on(sources["mp4"], output)


# The network's state.


def psnr(a: Pixels, b: Pixels) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * np.log10(255**2 / error) if error else float("inf")


def real_clips() -> dict[str, list[Pixels]]:
    """28 frames each of three real clips where they are at hand, else a pan over a photograph."""
    from tests.support.videos import REPO

    size = (96, 128)
    clips: dict[str, list[Pixels]] = {}
    for path in sorted((REPO.parent / "shared" / "data" / "val").glob("*.mp4"))[:4]:
        whole = read_frames(path)
        y, x = (whole.shape[1] - size[0]) // 2, (whole.shape[2] - size[1]) // 2
        clips[path.stem] = list(whole[:, y : y + size[0], x : x + size[1]])
    photo: Pixels = skimage.data.astronaut()
    clips["pan"] = [photo[60 + t : 60 + t + size[0], 3 * t : 3 * t + size[1]] for t in range(28)]
    return clips


@pytest.mark.parametrize("scale", [2, 4])
def test_warmed_up_anew_the_default_network_makes_the_picture_of_the_uncut_run(
    scale: int,
) -> None:
    warm_up = MODELS[SMALL].warm_up
    engine = OpenVinoEngine(load_model(SMALL, scale))
    for name, frames in real_clips().items():
        engine.reset()
        uncut = [engine.run(f) for f in frames]
        begin = len(frames) - 4
        engine.reset()
        anew = [engine.run(f) for f in frames[max(begin - warm_up, 0) :]][-4:]
        worst = min(psnr(a, b) for a, b in zip(anew, uncut[begin:], strict=True))
        assert worst >= 60, f"{name}: {worst:.1f} dB after {warm_up} frames"


def test_a_scene_cut_resets_the_state() -> None:
    one, two = real_clips()["pan"][:6], list(moving((128, 96), 6))
    joined = list(upscale_frames([*one, *two]))
    np.testing.assert_array_equal(np.stack(joined[6:]), np.stack(list(upscale_frames(two))))


def test_within_a_scene_the_network_remembers() -> None:
    frames = real_clips()["pan"][:6]
    whole, last = list(upscale_frames(frames)), list(upscale_frames(frames[-1:]))
    assert (whole[-1] != last[0]).any()


# Frames in, frames out.


@pytest.mark.parametrize("model", ["bicubic", SMALL])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("deep", [False, True], ids=["uint8", "uint16"])
def test_frames_come_out_enlarged_and_of_the_type_they_went_in(
    deep: bool, scale: int, model: str
) -> None:
    frames = list(moving((34, 22), 3, deep))
    made = list(upscale_frames(frames, model, scale=scale))
    assert [m.shape for m in made] == [(22 * scale, 34 * scale, 3)] * 3
    assert {m.dtype for m in made} == {frames[0].dtype}
    # They show what went in: each block's mean is near its pixel.
    blocks = made[1].reshape(22, scale, 34, scale, 3).mean(axis=(1, 3), dtype=np.float64)
    top = np.iinfo(frames[1].dtype).max
    assert np.abs(blocks - frames[1]).mean() < 0.02 * top


def test_eight_and_sixteen_bits_make_the_same_picture() -> None:
    frames = list(moving((32, 32), 3))
    runner = OpenVinoEngine(load_model())  # in float32, which sixteen bits are run in
    plain = np.stack(list(upscale_frames(frames, engine=runner)))
    runner.reset()
    deep = np.stack(
        list(upscale_frames([f.astype(np.uint16) * 257 for f in frames], engine=runner))
    )
    assert np.abs(deep / 257 - plain).max() <= 0.51


def test_frames_are_taken_one_by_one_as_pictures_are_wanted() -> None:
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield np.full((16, 16, 3), taken % 7 * 20, np.uint8)

    made = upscale_frames(endless(), "bicubic")
    assert taken == 0
    for count in range(1, 6):
        next(made)
        assert taken == count


def test_no_frames_make_no_pictures() -> None:
    assert list(upscale_frames([])) == []


def test_frames_refuse_a_network_that_is_not_there() -> None:
    with pytest.raises(api.SharpreelError, match="reel-fst"):
        upscale_frames([], "reel-fst")


@pytest.mark.parametrize("scale", [2, 4])
def test_a_video_holds_exactly_the_pictures_that_frames_give(scale: int, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=12)
    output = tmp_path / "out.mkv"
    upscale_video(source, output, scale=scale, codec="ffv1", pix_fmt="bgr0")  # lossless RGB
    expected = np.stack(list(upscale_frames(list(read_frames(source)), scale=scale)))
    with av.open(str(output)) as file:
        made = np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])
    np.testing.assert_array_equal(made, expected)


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


def test_a_run_tells_what_it_made(clip: Path, tmp_path: Path) -> None:
    result = upscale_video(clip, tmp_path / "out.mp4", model="bicubic")
    assert result.output == tmp_path / "out.mp4"
    assert (result.frames, result.lost, result.resumed_frames) == (24, 0, 0)
    assert result.fps > 0
    assert result.seconds > 0
    assert result.engine == "openvino"


def test_a_stretch_without_frames_is_an_input_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        upscale_video(clip, tmp_path / "out.mp4", start=Fraction(3600))
    assert list(tmp_path.iterdir()) == []


# Threads.


def test_items_come_in_order_from_the_other_thread() -> None:
    where = set()

    def items() -> Iterator[int]:
        for number in range(200):
            where.add(threading.get_ident())
            yield number

    assert list(prefetch(items())) == list(range(200))
    assert threading.get_ident() not in where
    assert len(where) == 1


def test_an_error_of_the_other_thread_is_raised_here_after_what_came_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise InputError("broken")

    got: list[int] = []
    with pytest.raises(InputError, match="broken"):
        got.extend(prefetch(items()))
    taken = prefetch(items())
    assert [next(taken), next(taken)] == [1, 2]
    with pytest.raises(InputError):
        next(taken)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; False when a deadline passes first."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_no_more_than_a_few_items_are_made_before_they_are_wanted() -> None:
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        for number in range(1000):
            made += 1
            yield number

    with closing(prefetch(items(), size=3)) as taken:
        for _ in range(10):
            next(taken)
        # Ten taken, three waiting, one in the producer's hand.
        assert until(lambda: made == 14)
        assert not until_more(lambda: made, 14)


def until_more(value: Callable[[], int], than: int) -> bool:
    """Does it grow past this within a moment in which the other thread surely runs?"""
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        if value() > than:
            return True
        time.sleep(0.01)
    return False


def test_closing_stops_the_other_thread_and_what_it_reads() -> None:
    closed = threading.Event()
    before = threading.active_count()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    taken = prefetch(items())
    next(taken)
    taken.close()
    assert closed.is_set()
    assert threading.active_count() == before


def test_nothing_is_read_before_the_first_item_is_wanted() -> None:
    read: list[int] = []
    taken = prefetch(read.append(n) or n for n in range(3))  # type: ignore[func-returns-value]
    assert read == []
    assert list(taken) == [0, 1, 2]


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


# Memory.


def peak_of_run(source: Path, output: Path, model: str) -> float:
    return peak_memory_mib(
        f"import sharpreel\nsharpreel.upscale_video({str(source)!r}, {str(output)!r}, "
        f"model={model!r}, preset='ultrafast', segment_seconds=4)"
    )


def memory_clip(path: Path, frames: int) -> Path:
    """160x90 of few distinct pictures, so that making it is cheap."""
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


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([np.zeros((8, 8, 3), np.float32)], "Frame 0 must be an array of uint8 or uint16, got f"),
        ([[[1, 2, 3]]], "Frame 0 must be an array of uint8 or uint16, got list"),
        ([np.zeros((8, 8), np.uint8)], r"Frame 0 must be RGB of shape \(H, W, 3\), got \(8, 8\)"),
        ([np.zeros((3, 8, 8), np.uint8)], r"got \(3, 8, 8\)"),
        ([np.zeros((8, k, 3), np.uint8) for k in (8, 9)], r"Frame 1 is uint8 \(8, 9, 3\), those"),
        ([np.zeros((8, 8, 3), k) for k in (np.uint8, np.uint16)], "Frame 1 is uint16"),
    ],
)
def test_frames_that_no_engine_takes_are_refused_in_words(frames: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(upscale_frames(frames, "bicubic"))
