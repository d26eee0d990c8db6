"""Amounts of memory, settings and durations as text."""

from __future__ import annotations

import pytest

from sharpreel.errors import UsageError
from sharpreel.system.text import parse_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (None, None),
        ("800M", 800 << 20),
        ("4G", 4 << 30),
        ("1.5gib", 3 << 29),
        ("2097152", 2 << 20),
        ("4 GB", 4 << 30),
    ],
)
def test_an_amount_of_memory_is_read(text: str | None, amount: int | None) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["much", "4X", "-1G", "0", "1000"])
def test_text_that_is_not_an_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        parse_bytes(text)
