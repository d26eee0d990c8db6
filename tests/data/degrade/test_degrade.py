"""The table of degradations, and `degrade`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sharpreel.data import degrade
from sharpreel.data import degrade as d
from sharpreel.data.degrade import DEGRADATIONS, Degradation
from sharpreel.data.degrade.realworld import CONDITIONS
from sharpreel.data.degrade.resample import (
    bicubic,
)
from sharpreel.errors import UsageError
from tests.support.degradations import Clip, scene

FIXED = {"area", *CONDITIONS} - {"camera"}  # its noise is left to chance
ROWS = [
    pytest.param(row, scale, id=f"{row.name}-x{scale}")
    for row in DEGRADATIONS.values()
    for scale in (row.scales or (1, 2, 3, 4, 8))
]


@pytest.mark.parametrize(("row", "scale"), ROWS)
def test_every_row_gives_its_size_on_an_odd_clip_and_the_same_bytes_for_a_seed(
    row: Degradation, scale: int
) -> None:
    hr = scene(3, 45, 63)
    before = hr.copy()
    cropped, lr = degrade.degrade(hr, scale, row.name, (3, 1))
    assert cropped.shape == (3, 45 // scale * scale, 63 // scale * scale, 3)
    assert lr.shape == (3, 45 // scale, 63 // scale, 3)
    assert lr.dtype == np.uint8
    np.testing.assert_array_equal(degrade.degrade(hr, scale, row.name, (3, 1))[1], lr)
    np.testing.assert_array_equal(hr, before)
    assert not np.shares_memory(lr, hr)
    others = [degrade.degrade(hr, scale, row.name, seed)[1] for seed in range(8)]
    fixed = all(np.array_equal(other, others[0]) for other in others)
    # At scale 1 all kernels are the identity.
    assert fixed == (row.standard or row.name in FIXED or (row.name, scale) == ("random-kernel", 1))


def test_the_table_names_its_rows_and_marks_the_standards() -> None:
    names = ["bi", "bd", "bd-duf", "bd-tecogan", "area", "random-kernel", "bi-h264", "call"]
    assert list(DEGRADATIONS) == [*names, "real", "afm", "realistic", *CONDITIONS]
    assert all(name == row.name and row.summary for name, row in DEGRADATIONS.items())
    assert [r.name for r in DEGRADATIONS.values() if r.standard] == names[:4]
    assert all(name in (d.__doc__ or "") for name in DEGRADATIONS)


def test_degrade_is_bi_by_default() -> None:
    hr = scene(2, 22, 30)
    cropped, lr = degrade.degrade(hr, 4)
    np.testing.assert_array_equal(cropped, hr[:, :20, :28])
    np.testing.assert_array_equal(lr, bicubic(cropped, 4))


@pytest.mark.parametrize(("wrong", "near"), [("bicubic", "bi"), ("bd_duf", "bd-duf")])
def test_an_unknown_name_suggests_the_nearest(wrong: str, near: str) -> None:
    message = rf"degradation='{wrong}' is not known\. Did you mean {near}\?"
    with pytest.raises(UsageError, match=message):
        degrade.degrade(scene(1, 16, 16), 4, wrong)


def test_an_undefined_scale_is_rejected() -> None:
    with pytest.raises(
        UsageError, match="degradation='bd-tecogan' is defined for scale 2, 4, not 3"
    ):
        degrade.degrade(scene(1, 16, 16), 3, "bd-tecogan")


BAD: list[tuple[Callable[[], Clip], int, str]] = [
    (lambda: scene(1, 16, 16)[0], 4, r"must be \(T, H, W, 3\).*got \(16, 16, 3\)"),
    (lambda: scene(1, 16, 16)[:0], 4, "at least one frame"),
    (lambda: scene(1, 16, 16)[..., :1], 4, "got .1, 16, 16, 1."),
    (lambda: scene(1, 16, 16).astype(np.float32), 4, "must be uint8 or uint16, got float32"),
    (lambda: scene(1, 16, 3), 4, "Frames of 3x16 are smaller than one lr pixel, which is 4x4"),
    (lambda: scene(1, 16, 16), 0, "integer of at least 1, got 0"),
]


@pytest.mark.parametrize(("make", "scale", "words"), BAD)
def test_arrays_that_are_not_clips_are_rejected(
    make: Callable[[], Clip], scale: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        degrade.degrade(make(), scale)
