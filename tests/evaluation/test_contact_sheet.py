"""The contact sheet of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel.evaluation import compare, contact_sheet
from sharpreel.media import images
from tests.support.evaluation import SIZE
from tests.support.videos import moving


def test_the_contact_sheet_shows_six_frames_spread_over_time(
    trio: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    found = compare.compare(*trio, tmp_path / "out.mp4", temporal=False)
    sheet = images.read_rgb(found.sheet)
    width, height = SIZE
    assert sheet.shape == (6 * (height + 26) + 8, 4 * (width + 8) + 8, 3)
    first = images.read_rgb(found.sheet)[26 : 26 + height, 8 + 3 * (width + 8) :][:, :width]
    assert (first == next(iter(moving(SIZE, 1)))).all()  # the reference's first frame


@pytest.mark.parametrize("count", [1, 5, 6, 13, 50, 1000])
def test_a_sheet_keeps_few_frames_of_any_number(count: int) -> None:
    sheet = contact_sheet.ContactSheet()
    frame = np.zeros((4, 4, 3), np.uint8)
    for index in range(count):
        sheet.offer(index, [frame, frame])
        assert len(sheet._rows) <= 12
    kept = [index for index, _ in sheet._rows]
    assert kept[0] == 0
    assert kept[-1] >= count // 2
    assert sheet.image().shape[0] == min(count, 6) * (4 + 26) + 8
