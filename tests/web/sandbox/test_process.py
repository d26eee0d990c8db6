"""Child processes: their limits, their lock, and that they end with their parent."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from sharpreel.web.sandbox import process


@pytest.mark.parametrize(
    ("program", "limits", "seconds"),
    [
        ("b = bytearray(1 << 31)", process.ResourceLimits(memory=1 << 30), 60),
        ("while True: pass", process.ResourceLimits(cpu_seconds=1), 60),
        (
            "open(__file__ + '.big', 'wb').write(b'x' * 10_000)",
            process.ResourceLimits(file_bytes=5_000),
            60,
        ),
        ("import time; time.sleep(1000)", process.ResourceLimits(), 1.5),
        ("import os; os.kill(os.getpid(), 11)", process.ResourceLimits(), 60),
    ],
)
def test_a_child_that_exceeds_a_limit_is_ended(
    program_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    limits: process.ResourceLimits,
    seconds: float,
) -> None:
    program_file.write_text(program)
    ended = process.run("hostile", [], limits, seconds)
    assert ended.exit_code != 0
    assert ended.stopped == (seconds < 60)


@pytest.fixture
def waiting(program_file: Path, tmp_path: Path) -> Iterator[Callable[[], Popen[str]]]:
    """Starts children that hold one lock and wait; each prints "up" when it has the lock."""
    program_file.write_text("import time; print('up', flush=True); time.sleep(1000)")
    limits = process.ResourceLimits(lock=str(tmp_path / "lock"))
    started: list[Popen[str]] = []

    def start() -> Popen[str]:
        started.append(process.start("hostile", [], limits))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            assert stream is not None
            stream.close()


def test_a_child_ends_with_its_parent(waiting: Callable[[], Popen[str]]) -> None:
    child = waiting()
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "up\n"
    child.stdin.close()  # as the system does for a parent that was killed
    assert child.wait(60) != 0


def test_a_child_waits_until_another_child_releases_the_lock(
    waiting: Callable[[], Popen[str]],
) -> None:
    first = waiting()
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    second = waiting()
    assert second.stdout is not None
    assert select.select([second.stdout], [], [], 2)[0] == []
    first.kill()
    assert second.stdout.readline() == "up\n"
