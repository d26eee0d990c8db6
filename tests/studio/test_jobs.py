"""Jobs: processes that outlive whoever started them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.studio import (
    jobs,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    ended,
)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A process that idles until it is stopped."""
    one = Job(tmp_path / "idle")
    one.start(["0", "--bind", "127.0.0.1"], {"k": 1}, {"VARIABLE": "v"}, program="http.server")
    yield one
    one.stop()
    ended(one)


def test_a_job_starts_once_and_is_alive_while_its_process_is(job: Job) -> None:
    assert Job(job.folder).running()
    with pytest.raises(UsageError, match="idle is already running"):
        Job(job.folder).start(["0"], program="http.server")
    code = (
        "import sys; from pathlib import Path;"
        "from sharpreel.studio.jobs import Job; print(Job(Path(sys.argv[1])).running())"
    )
    command = [sys.executable, "-c", code, str(job.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert job.outcome() == jobs.Outcome("running")
    facts = job.facts()
    assert (facts["about"], facts["environment"]) == ({"k": 1}, {"VARIABLE": "v"})
    os.kill(facts["pid"], signal.SIGKILL)
    assert ended(job) == jobs.Outcome(
        "failed", "It ended without an error message: killed, or out of memory."
    )


def test_a_job_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from sharpreel.studio.jobs import Job
Job(Path(sys.argv[1])).start(["0", "--bind", "127.0.0.1"], program="http.server")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "idle")], check=True)
    job = Job(tmp_path / "idle")
    assert job.running()
    job.stop()
    assert ended(job) == jobs.Outcome("stopped", "Stopped before it started.")


def test_pages_that_test_the_lock_do_not_look_like_the_job(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (tmp_path / "studio").mkdir()
    lock = tmp_path / "studio" / "lock"
    lock.touch()
    with lock.open("rb") as looking:  # as another page does
        assert jobs.lock_file(looking, fcntl.LOCK_SH)
        assert not job.running()
        threading.Timer(0.2, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        job.start(["0", "--bind", "127.0.0.1"], program="http.server")  # it waits for that one
    job.stop()
    ended(job)
