"""Pages of the studio in Streamlit's test harness, and jobs that end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel.studio import (
    jobs,
)
from sharpreel.studio.jobs import Job

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

SMALL = [
    *("--set", "arguments.channels=8", "--set", "arguments.blocks=1", "--set", "patch=16"),
    *("--set", "stages=[[1.0,2,2]]", "--json", "--no-mlflow", "--threads", "1"),
]
DEADLINE = 240.0  # seconds; a machine that also trains is slow


def wait_until(true: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s"
        time.sleep(0.1)


def ended(job: Job) -> jobs.Outcome:
    wait_until(lambda: not job.running(), f"{job.name} ends")
    return job.outcome()


def page(name: str) -> AppTest:
    from streamlit.testing.v1 import AppTest

    script = f"from sharpreel.studio.pages import PAGES\nPAGES[{name.capitalize()!r}]()"
    return AppTest.from_string(script, default_timeout=DEADLINE)


def opened(name: str) -> AppTest:
    """Open a page in a new session; it must not raise."""
    at = page(name).run()
    assert not at.exception, at.exception[0].message
    return at


def labelled(widgets: Any, label: str) -> Any:
    """Return the only widget whose label starts with this."""
    (widget,) = [w for w in widgets if w.label.startswith(label)]
    return widget


def errors(at: AppTest) -> list[str]:
    assert not at.exception, at.exception[0].message
    return [error.value for error in at.error]


def start_training(at: AppTest, path: Path) -> AppTest:
    at.text_input(key="train-path").set_value(str(path))
    labelled(at.button, "Start training").click().run()
    return at
