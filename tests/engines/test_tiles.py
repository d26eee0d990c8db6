"""Tiles cover a frame, and their results join to the frame's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sharpreel.engines.tiles import Span, Tile, crop, paste, smallest_side, spans, state_indices
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
