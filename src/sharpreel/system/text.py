"""Sizes, durations and settings as text that people read and type."""

from __future__ import annotations

import re

from sharpreel.errors import UsageError

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str | float | None) -> int | None:
    """Bytes from 6000000000, "800M" or "4.5G" (also MiB, GB: units of 1024).

    Raises:
        UsageError: Not an amount of memory.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?", str(text).strip(), re.IGNORECASE)
    amount = float(match[1]) * UNITS[match[2].upper()] if match else 0
    if amount < 1 << 20:
        raise UsageError(f"{text!r} is not an amount of memory; write 800M or 4G, and at least 1M.")
    return round(amount)


def parse_settings(words: list[str] | None) -> dict[str, str]:
    """{"residual": "true"} from ["residual=true"]."""
    pairs = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise UsageError(f"--set {word}: write NAME=VALUE, such as residual=true.")
        pairs[name] = value
    return pairs


def format_duration(seconds: float | None) -> str:
    """1:02:03, or ? when nobody knows."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{whole % 60:02d}"
