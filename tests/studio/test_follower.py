"""JSON lines that are read while they are written."""

from __future__ import annotations

from pathlib import Path

from sharpreel.studio.follower import Follower
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    ended,
)


def test_a_follower_forgets_the_rows_of_a_job_that_is_restarted(tmp_path: Path) -> None:
    job = Job(tmp_path / "one")
    words = ["-c", "print", "--help"]
    job.start(words, program="this")
    ended(job)
    job.events_path.write_text('{"a": 1}\n')
    follower = Follower(job.events_path)
    assert follower.read() == [{"a": 1}]
    job.start(words, program="this")
    ended(job)
    with job.events_path.open("w") as file:  # by the time of the next look it is as long again
        file.write('{"a": 2}\n')
    assert follower.read() == [{"a": 2}]


def test_lines_are_read_once_and_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    reader = Follower(path)
    assert reader.read() == []
    with path.open("a") as file:
        file.write('{"a": 1}\n{"a": ')
        file.flush()
        assert reader.read() == [{"a": 1}]
        file.write('2}\nnonsense\n{"a": 3}\n')
        file.flush()
        assert reader.read() == [{"a": 1}, {"a": 2}, {"a": 3}]
    path.unlink()
    path.write_text('{"a": 4}\n')
    assert reader.read() == [{"a": 4}]
