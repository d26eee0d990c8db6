"""Uploads, refreshing pages, and followers of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from sharpreel.studio import (
    jobs,
    widgets,
)
from sharpreel.studio.folder import (
    FOLDER_VARIABLE,
    RUNS,
    new_job,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    ended,
    errors,
    labelled,
    opened,
)


def test_uploads_of_different_jobs_are_separate(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(
        Job, "start", lambda self, arguments, *a, **k: begun.append(list(arguments))
    )
    given = [(path.name, path.read_bytes(), "video/mp4") for path in sorted(videos.iterdir())]

    def start(name: str, key: str, files: Any, called: str | None = None) -> Path:
        at = opened(name)
        at.radio(key=f"{key}-way").set_value("Upload").run()
        at.get("file_uploader")[0].set_value(files)
        if called:
            labelled(at.text_input, "Name").set_value(called)
        labelled(at.button, "Start").click().run()
        assert errors(at) == []
        words = begun[-1]
        return Path(words[words.index("--data") + 1])

    learnt = start("train", "train", given)
    searched = start("tune", "tune", given[:3])  # proposes the very same name
    measured = start("test", "test-hr", given[0], "reel-fast-1")
    assert len({learnt, searched, measured}) == 3
    assert len(list(learnt.iterdir())) == 4
    assert len(list(searched.iterdir())) == 3
    assert measured.name == "clip0.mp4"


def test_training_and_validation_uploads_do_not_mix_with_a_run_of_similar_name(
    home: Path,
) -> None:
    upload = type("Upload", (), {"name": "a.mp4", "getbuffer": lambda self: b"a"})
    places = set()
    for name in ("x", "x-val"):
        with new_job(home / RUNS, name) as one:
            for role in ("videos", "val"):
                places.add(widgets.ChosenVideos(uploads=[upload()]).save(one.uploads / role))
    assert len(places) == 4


def test_a_job_that_ends_during_rendering_is_not_shown_as_running(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(trained))
    outcome = Job.outcome
    reported = [jobs.Outcome("running")]
    monkeypatch.setattr(Job, "outcome", lambda self: reported.pop() if reported else outcome(self))
    at = opened("train")
    reported[:] = [jobs.Outcome("running")]
    labelled(at.selectbox, "Show").set_value("first").run()
    assert reported == []
    assert "Stop" not in [button.label for button in at.button]
    assert [s.value for s in at.success] == ["Finished"]


def test_the_page_of_an_ended_job_notices_that_another_page_resumes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Callable[[], None], float | None]] = []
    reruns: list[bool] = []

    def fragment(part: Callable[[], None], run_every: float | None = None) -> Callable[[], None]:
        begun.append((part, run_every))
        return part

    monkeypatch.setattr(st, "fragment", fragment)
    monkeypatch.setattr(st, "rerun", lambda: reruns.append(True))
    job = Job(tmp_path / "one")
    shown: list[bool] = []
    widgets.live(job, lambda: shown.append(True), running=False)
    again = [part for part, run_every in begun if run_every == widgets.POLL_SECONDS]
    assert (len(again), shown, reruns) == (1, [True], [])
    again[0]()
    assert (shown, reruns) == ([True], [])  # nothing is drawn again for nothing
    job.start(["-c", "print"], program="this")
    ended(job)
    again[0]()
    assert reruns == [True]  # though it has ended again


def test_a_restarted_job_gets_a_new_follower(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(st, "session_state", {})
    facts: dict[str, Any] = {"began": 1.0}
    monkeypatch.setattr(Job, "facts", lambda self: facts)
    job, path = Job(home), home / "batches.jsonl"
    first = widgets.follower(job, path)
    assert widgets.follower(job, path) is first
    facts["began"] = 2.0
    assert widgets.follower(job, path) is not first
