"""The options of a run: types, ranges, and combinations that are refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from sharpreel.errors import UsageError
from sharpreel.pipeline.options import UpscaleOptions, validate_options


@pytest.mark.parametrize("wrong", [{"height": 720.5}, {"size": "320x200"}, {"scale": "2"}])
def test_an_option_of_the_wrong_type_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        UpscaleOptions(**wrong)


def test_a_size_must_have_two_sides() -> None:
    with pytest.raises(ValueError, match=r"size must be \(width, height\)"):
        UpscaleOptions(size=(1, 2, 3))  # type: ignore[arg-type]


def test_times_become_exact_fractions() -> None:
    options = UpscaleOptions(start=0.5, end=2)  # type: ignore[arg-type]
    assert (options.start, options.end) == (Fraction(1, 2), Fraction(2))
    assert isinstance(options.end, Fraction)


def test_the_defaults_are_valid() -> None:
    validate_options(UpscaleOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 15}, "A side of 15 pixels is not possible"),
        ({"size": (16, 16385)}, "A side of 16385 pixels"),
        ({"scale": 17}, "scale=17 is not possible"),
        ({"scale": -1}, "scale=-1 is not possible"),
        ({"height": 96, "size": (96, 96)}, "Give `height` or `size`, not both"),
        ({"start": -1}, "start must be 0 or more"),
        ({"start": 2, "end": 2}, "`end` must be greater than `start`"),
        ({"tile": -1}, "tile must be auto or a number of pixels, got -1"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"segment_seconds": 0}, "segment_seconds must be above 0"),
    ],
)
def test_a_value_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        validate_options(UpscaleOptions(**options))
