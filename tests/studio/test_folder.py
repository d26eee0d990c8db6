"""Names and folders of jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.studio.folder import (
    all_jobs,
    free_name,
    new_job,
)


def test_jobs_are_listed_newest_first_and_named_apart(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        (tmp_path / name / "studio").mkdir(parents=True)
        (tmp_path / name / "studio" / "job.json").write_text(json.dumps({"began": number}))
    (tmp_path / "other").mkdir()
    assert [one.name for one in all_jobs(tmp_path)] == ["c", "b", "a"]
    (tmp_path / "reel-1").mkdir()
    assert free_name(tmp_path, "reel") == "reel-2"
    with pytest.raises(UsageError, match="a exists; choose another"), new_job(tmp_path, "a"):
        pass
    for name in ("", "..", "a/b", "-x", ".hidden"):
        with (
            pytest.raises(UsageError, match="is not a valid name"),
            new_job(tmp_path, name),
        ):
            pass


def test_a_job_that_does_not_start_leaves_its_name_free(tmp_path: Path) -> None:
    def fail() -> None:
        with new_job(tmp_path, "a") as one:
            (one.folder / "upload").touch()
            raise UsageError("It cannot begin.")

    with pytest.raises(UsageError, match="It cannot begin"):
        fail()
    with new_job(tmp_path, "a") as one:
        assert list(one.folder.iterdir()) == []
