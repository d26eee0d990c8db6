"""Parses values of options."""

from __future__ import annotations

from fractions import Fraction

from sharpreel.errors import UsageError


def seconds_of(text: str | None) -> Fraction | None:
    """Seconds from "12.5", "1:02" or "1:02:03.25".

    Raises:
        UsageError: Not a time.
    """
    if text is None:
        return None
    try:
        parts = [Fraction(part) for part in text.split(":")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if not 1 <= len(parts) <= 3 or any(p < 0 for p in parts):
        raise UsageError(f"{text!r} is not a time; write 12.5, 1:02 or 1:02:03.25.")
    total = Fraction(0)
    for part in parts:
        total = total * 60 + part
    return total


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) from "1920x1080"."""
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"{text!r} is not a size; write 1920x1080.")
    return int(width), int(height)


def tile_of(text: str) -> int | None:
    """Pixels from "256", None from "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal():
        raise UsageError(f"--tile {text}: write auto, or a number of pixels (0: whole frames).")
    return int(text)
