"""Parameters of runs as readable text."""

from __future__ import annotations

import pytest

from sharpreel.studio import (
    mlflow_runs,
)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            "({'share': 0.5, 'batch': 4}, {'share': 0.5, 'batch': 2})",
            "share 0.5, batch 4; share 0.5, batch 2",
        ),
        ("{'CC0': 3}", "CC0 3"),
        ("l1", "l1"),
        ("(broken", "(broken"),
        ("", ""),
    ],
)
def test_parameters_are_readable(value: str, words: str) -> None:
    assert mlflow_runs.readable(value) == words
