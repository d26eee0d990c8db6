"""Sizes, durations and settings as text that people read and type."""

from __future__ import annotations

import re

from sharpreel.errors import UsageError

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_bytes(text: str | float | None) -> int | None:
    """Bytes from 6000000000, "800M" or "4.5G" (also MiB, GB: units of 1024); None from None.

    Raises:
        UsageError: Not an amount of memory of at least 1M.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?", str(text).strip(), re.IGNORECASE)
    amount = float(match[1]) * UNITS[match[2].upper()] if match else 0
    if amount < 1 << 20:
        raise UsageError(f"{text!r} is not an amount of memory; write 800M or 4G, and at least 1M.")
    return round(amount)


def parse_settings(assignments: list[str] | None) -> dict[str, str]:
    """{"residual": "true"} from ["residual=true"].

    Raises:
        UsageError: An item is not NAME=VALUE.
    """
    settings = {}
    for assignment in assignments or []:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{assignment}: write NAME=VALUE, such as residual=true.")
        settings[name] = value
    return settings


def format_duration(seconds: float | None) -> str:
    """A duration as 1:02:03 or 2:03; "?" when it is unknown."""
    if seconds is None:
        return "?"
    total = round(seconds)
    hours, minutes = total // 3600, total // 60 % 60
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{total % 60:02d}"
