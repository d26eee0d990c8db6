"""Tiles cover a frame, and their results join to the frame's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sharpreel.engines.tiles import (
    Span,
    Tile,
    crop,
    paste,
    smallest_side,
    spans,
    state_indices,
    tiles,
)
from sharpreel.engines.tiles import tiles as tiles_of


@pytest.mark.parametrize("length", [16, 17, 40, 101])
def test_spans_show_every_pixel_once(length: int) -> None:
    cut = spans(length, 14, 2, 2)
    assert [pixel for span in cut for pixel in range(span.first, span.last)] == list(range(length))
    assert all(span.start % 2 == 0 for span in cut)
    inner = cut[1:-1]
    assert all(s.first - s.start >= 2 and s.stop - s.last >= 2 for s in inner)


def test_a_side_below_the_smallest_is_refused_with_the_smallest() -> None:
    least = smallest_side(4, 2)
    assert len(spans(100, least, 4, 2)) > 1
    with pytest.raises(ValueError, match=f"side must be at least {least} for an overlap of 4"):
        spans(100, least - 2, 4, 2)


@pytest.mark.parametrize("soft", [False, True])
def test_equal_results_join_to_the_frame(soft: bool) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    joined = np.zeros_like(frame)
    for tile in tiles_of(50, 70, 24, 4, soft=soft):
        paste(joined, frame[tile.seen], tile, 1)
    np.testing.assert_array_equal(joined, frame)


def test_a_tile_finds_its_part_of_a_folded_state() -> None:
    tile = Tile(Span(4, 16, 6, 14, 0), Span(0, 12, 0, 10, 0))
    state = torch.arange(8 * 6).reshape(1, 8, 6)
    seen, shown, inner = state_indices(tile, 2)
    assert state[seen].shape == (1, 6, 6)
    torch.testing.assert_close(state[seen][inner], state[shown])
    assert crop(torch.zeros(1, 3, 20, 12), tile).shape == (1, 3, 12, 12)


@pytest.mark.parametrize("multiple_of", [1, 2, 8])
@pytest.mark.parametrize("overlap", [0, 3, 16])
@pytest.mark.parametrize("length", [64, 96, 184, 1000])
@pytest.mark.parametrize("soft", [False, True])
def test_spans_cover_an_axis_evenly_and_drop_their_edges(
    length: int, overlap: int, multiple_of: int, soft: bool
) -> None:
    side = smallest_side(overlap, multiple_of) + 3 * multiple_of
    found = spans(length, side, overlap, multiple_of, soft)
    assert found[0].start == found[0].first == 0
    assert found[-1].stop == found[-1].last == length
    for one, two in itertools.pairwise(found):
        assert two.start % multiple_of == 0
        assert one.last - two.first == two.fade  # what fades is shown by both
        margin = overlap // 2 if soft else overlap
        assert one.stop - one.last >= margin
        assert two.first - two.start >= margin
    if length > side:
        sizes = {s.stop - s.start for s in found[:-1]}
        assert sizes == {side // multiple_of * multiple_of}
        steps = [b.start - a.start for a, b in itertools.pairwise(found)]
        assert max(steps) - min(steps) <= 2 * multiple_of


def test_an_axis_that_fits_is_one_span() -> None:
    assert spans(50, 64, 16) == [Span(0, 50, 0, 50, 0)]


def test_a_tile_that_shows_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap of 16"):
        spans(100, 32, 16)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 1.5])
def test_tiles_of_a_frame_join_to_the_frame(scale: float, soft: bool) -> None:
    rng = np.random.default_rng(1)
    height, width = 70, 101
    whole = rng.integers(0, 255, (round(height * scale), round(width * scale), 3), np.uint8)
    frame = np.zeros_like(whole)
    for tile in tiles(height, width, 32, 8, multiple_of=2, soft=soft):
        rows, columns = tile.seen
        y, x = round(rows.start * scale), round(columns.start * scale)
        bottom, right = round(rows.stop * scale), round(columns.stop * scale)
        paste(frame, whole[y:bottom, x:right], tile, scale)
    np.testing.assert_array_equal(frame, whole)


def test_tiles_that_differ_fade_into_each_other() -> None:
    frame = np.zeros((40, 100, 3), np.uint8)
    for k, tile in enumerate(tiles(40, 100, 60, 16, soft=True)):
        rows, columns = tile.seen
        shape = (rows.stop - rows.start, columns.stop - columns.start, 3)
        paste(frame, np.full(shape, 100 * k, np.uint8), tile, 1)
    line = frame[20, :, 0].astype(int)
    steps = np.diff(line)
    assert line[0] == 0
    assert line[-1] > 90
    assert steps.min() >= 0
    assert steps.max() <= 8  # no seam: a hundred levels over sixteen pixels
