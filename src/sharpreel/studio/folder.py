"""The studio's folder: where runs, searches and tests are, and which names are free."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sharpreel.errors import UsageError, write_error
from sharpreel.studio.jobs import Job

FOLDER_VARIABLE = "SHARPREEL_STUDIO"
RUNS, SEARCHES, TESTS = "runs", "searches", "tests"
UPLOAD_MB = 500  # per file: the server holds uploads in memory
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,79}")


def studio_folder() -> Path:
    """Return the folder that `sharpreel studio` was started with."""
    return Path(os.environ.get(FOLDER_VARIABLE, "studio")).resolve()


def mlflow_job(folder: Path) -> Job:
    """Return the job of MLflow's server; `sharpreel studio` stops it when it ends itself."""
    return Job(folder / "mlflow")


def all_jobs(folder: Path) -> list[Job]:
    """Return the jobs in a folder, newest first."""
    if not folder.is_dir():
        return []
    jobs = [Job(path) for path in folder.iterdir() if Job(path).exists()]
    return sorted(jobs, key=lambda job: job.facts().get("began", 0), reverse=True)


@contextlib.contextmanager
def new_job(folder: Path, name: str) -> Iterator[Job]:
    """Create the folder of a new job.

    An exception inside removes the folder, unless the job has started.

    Raises:
        UsageError: The name is invalid or taken, or the folder cannot be created.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name; use letters, digits, dots, dashes and underscores."
        )
    job = Job(folder / name)
    try:
        job.folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{name} exists; choose another name.") from None
    except OSError as e:
        raise write_error(job.folder, e) from e
    try:
        yield job
    except BaseException:
        if not job.running():
            shutil.rmtree(job.folder, ignore_errors=True)
        raise


def free_name(folder: Path, stem: str) -> str:
    """Return `stem-1`, or the stem with the first number that is not taken."""
    number = 1
    while (folder / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"
