"""Amounts of memory, settings and durations as text."""

from __future__ import annotations

import pytest

from sharpreel.errors import UsageError
from sharpreel.system.text import format_duration, parse_bytes, parse_settings


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


def test_settings_are_names_and_values() -> None:
    assert parse_settings(None) == {}
    assert parse_settings(["flow=dis", "note=a=b"]) == {"flow": "dis", "note": "a=b"}


@pytest.mark.parametrize("assignment", ["residual", "=true", "residual="])
def test_a_setting_without_name_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(UsageError, match=f"{assignment}: write NAME=VALUE"):
        parse_settings([assignment])


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0, "0:00"), (59.6, "1:00"), (3723, "1:02:03")]
)
def test_a_duration_is_written_as_a_clock(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text
