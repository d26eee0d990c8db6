"""The check of wordings reports each phrase with its place and what to write instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(REPO / ".ci" / "words.py"), str(folder)]
    return subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "One.\nIt begins Anew.\n", "README.md:2: 'Anew': write 'again' or"),
        ("docs/deep/a.md", "It goes\non later.", "docs/deep/a.md:1: 'goes on': write 'resume'"),
        ("src/a.py", "def it_goes_on(): ...", "src/a.py:1: 'goes_on': write 'resume'"),
        ("src/page.html", "<p>Your films</p>", "src/page.html:1: 'films': write 'video'"),
        ("tests/deep/test_a.py", "film_path = 1", "test_a.py:1: 'film': write 'video'"),
    ],
)
def test_a_wording_of_the_list_is_an_error(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    done = check(tmp_path)
    assert done.returncode == 1
    assert expected in done.stdout


def test_technical_english_passes(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "The run resumes from its journal and is compared with the ground truth. "
        "Film grain is noise. A clip is made up of frames; see the filmstrip and the amendment.\n"
    )
    (tmp_path / "notes.txt").write_text("Only prose and code of the project are checked: anew.\n")
    done = check(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
