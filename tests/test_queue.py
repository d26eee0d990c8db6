"""A folder of inputs: one outcome for each, and a failure does not stop the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sharpreel
from sharpreel.errors import DiskFullError, InputError, UsageError
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan
from sharpreel.pipeline.stages import Progress, ProgressCallback
from sharpreel.queue import Job, UpscaleQueue, upscale_folder
from tests.support.videos import make_clip

BICUBIC = UpscaleOptions(model="bicubic", preset="ultrafast")


@contextmanager
def silent(plan: Plan) -> Iterator[ProgressCallback]:
    yield lambda progress: None


def queue_of(*jobs: Job, options: UpscaleOptions = BICUBIC) -> UpscaleQueue:
    return UpscaleQueue(options, jobs, progress_of=silent)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good video, a broken one and another good one, in order of name."""
    folder = tmp_path / "in"
    folder.mkdir()
    make_clip(folder / "a.mp4", frames=2, audio=False)
    (folder / "b.mp4").write_bytes(b"not a video" * 100)
    make_clip(folder / "c.mp4", frames=2, audio=False)
    return folder


def test_a_broken_input_has_an_error_and_the_others_a_result(folder: Path, tmp_path: Path) -> None:
    outcomes = sharpreel.upscale_folder(folder, tmp_path / "out", BICUBIC)
    assert [one.source.name for one in outcomes] == ["a.mp4", "b.mp4", "c.mp4"]
    assert isinstance(outcomes[1].error, InputError)
    assert outcomes[1].result is None
    for one in (outcomes[0], outcomes[2]):
        assert one.error is None
        assert one.result is not None
        assert one.result.frames == 2
        assert one.result.output == tmp_path / "out" / f"{one.source.stem}_bicubic_x2.mp4"
        assert one.result.output.exists()


def test_an_existing_output_is_skipped_with_the_reason(folder: Path, tmp_path: Path) -> None:
    upscale_folder(folder, tmp_path / "out", BICUBIC)
    options = UpscaleOptions(model="bicubic", preset="ultrafast", skip_existing=True)
    outcomes = upscale_folder(folder, tmp_path / "out", options)
    assert [bool(one.skipped) for one in outcomes] == [True, False, True]
    assert outcomes[0].skipped == f"{tmp_path / 'out' / 'a_bicubic_x2.mp4'} exists"
    assert outcomes[0].result is None


def test_progress_is_reported_for_each_plan(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    def progress_of(plan: Plan) -> ProgressCallback:
        def callback(progress: Progress) -> None:
            seen.append((plan.source.name, progress.event))

        return callback

    upscale_folder(folder, tmp_path / "out", BICUBIC, on_progress=progress_of)
    assert {("a.mp4", "progress"), ("c.mp4", "verify")} <= set(seen)
    assert "b.mp4" not in {name for name, _ in seen}


def test_subfolders_are_searched_only_when_requested(folder: Path, tmp_path: Path) -> None:
    (folder / "b.mp4").unlink()
    (folder / "deep").mkdir()
    make_clip(folder / "deep" / "d.mp4", frames=2, audio=False)
    out = tmp_path / "out"
    assert len(upscale_folder(folder, out, BICUBIC)) == 2
    outcomes = upscale_folder(
        folder, out, UpscaleOptions(model="bicubic", overwrite=True), recursive=True
    )
    results = [one.result.output for one in outcomes if one.result is not None]
    assert results[-1] == out / "deep" / "d_bicubic_x2.mp4"
    assert len(results) == 3


def test_a_folder_without_videos_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos"):
        upscale_folder(tmp_path)


def test_a_second_input_with_the_same_output_is_refused(tmp_path: Path) -> None:
    for name in ("a.avi", "a.wmv"):
        make_clip(tmp_path / "clip.mp4", frames=2, audio=False).rename(tmp_path / name)
    out = tmp_path / "out.mp4"
    options = UpscaleOptions(model="bicubic", preset="ultrafast", overwrite=True)
    queue = queue_of((tmp_path / "a.avi", out), (tmp_path / "a.wmv", out), options=options)
    first, second = (queue.run(job) for job in queue.jobs)
    assert first.error is None
    assert isinstance(second.error, UsageError)
    assert "was already written for another input of this run" in str(second.error)


@pytest.mark.parametrize("error", [DiskFullError("the disk is full"), KeyboardInterrupt()])
def test_what_concerns_the_next_input_too_is_raised(
    error: BaseException, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("sharpreel.queue.run", fail)
    with pytest.raises(type(error)):
        upscale_folder(folder, tmp_path / "out", BICUBIC)


def test_an_unexpected_error_of_one_of_several_inputs_is_its_outcome(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr("sharpreel.queue.run", fail)
    outcomes = upscale_folder(folder, tmp_path / "out", BICUBIC)
    assert [type(one.error) for one in outcomes] == [RuntimeError, InputError, RuntimeError]
    only = queue_of((folder / "a.mp4", tmp_path / "a.mp4"))
    assert only.is_single
    with pytest.raises(RuntimeError, match="unexpected"):
        only.run(only.jobs[0])


def test_check_reports_only_inputs_that_cannot_start(folder: Path, tmp_path: Path) -> None:
    queue = queue_of((folder / "a.mp4", tmp_path / "o.mp4"), (folder / "b.mp4", None))
    assert queue.check(queue.jobs[0]) is None
    refused = queue.check(queue.jobs[1])
    assert refused is not None
    assert isinstance(refused.error, InputError)
    assert not (tmp_path / "o.mp4").exists()
