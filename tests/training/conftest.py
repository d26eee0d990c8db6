"""Clips that the training tests share."""

from __future__ import annotations

import pytest

from sharpreel.data.store import Clip
from tests.support.tiles import tile_clips


@pytest.fixture(scope="module")
def three() -> list[Clip]:
    return tile_clips(3)
