"""Values of options as they are typed."""

from __future__ import annotations

import pytest

from sharpreel.cli.arguments import seconds_of, size_of, tile_of
from sharpreel.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("12.5", 12.5), ("1:02", 62), ("1:02:03.25", 3723.25), ("90:00", 5400)],
)
def test_a_time_is_parsed_to_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "1:-2", "1:", "1/0"])
def test_text_that_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["1920", "x1080", "1920x", "axb", "-1x5", "1.5x2"])
def test_text_that_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        size_of(text)


def test_a_size_is_parsed_to_width_and_height() -> None:
    assert size_of("1920x1080") == size_of("1920X1080") == (1920, 1080)
    assert size_of(None) is None


@pytest.mark.parametrize(("text", "tile"), [("auto", None), ("0", 0), ("256", 256)])
def test_a_tile_is_parsed_to_pixels(text: str, tile: int | None) -> None:
    assert tile_of(text) == tile


@pytest.mark.parametrize("text", ["", "some", "-1", "1.5"])
def test_text_that_is_not_a_tile_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write auto, or a number of pixels"):
        tile_of(text)
