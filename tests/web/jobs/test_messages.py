"""Messages of commands, rewritten for users of the site."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.web.jobs.messages import for_users, without_paths


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("--codec vp9: choose mp4", "codec vp9: choose mp4"),
        ("use --pix-fmt yuv420p or --crf 20.", "use pix_fmt yuv420p or crf 20."),
        ("a--b and 3 -- 4", "a--b and 3 -- 4"),
    ],
)
def test_options_become_names_of_the_api(message: str, expected: str) -> None:
    assert for_users(message) == expected


def test_paths_of_the_server_are_removed() -> None:
    source = Path("/data/jobs/1/input.mp4")
    message = f"{source}: --crf 99 is too high; see /data/jobs/1/output"
    assert without_paths(message, source, "my video.mp4") == (
        "my video.mp4: crf 99 is too high; see output"
    )
