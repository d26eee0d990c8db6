"""Tiles: cuts a frame into overlapping rectangles, and pastes their results back together.

A tile sees `overlap` pixels more than it shows on each side, so that its result is that of the
whole frame; where a network sees farther than that, neighbouring tiles fade into each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpreel.ops import Pixels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in lr pixels: the part the network sees, and the part that is shown.

    Over the first `fade` shown pixels the tile fades in over the previous one.
    """

    start: int
    stop: int
    first: int
    last: int
    fade: int

    @property
    def seen(self) -> slice:
        """The pixels that the network gets."""
        return slice(self.start, self.stop)

    @property
    def shown(self) -> slice:
        """The pixels whose result is used."""
        return slice(self.first, self.last)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame that is run through a network on its own."""

    rows: Span
    columns: Span

    @property
    def seen(self) -> tuple[slice, slice]:
        """Rows and columns that the network gets."""
        return self.rows.seen, self.columns.seen


def smallest_side(overlap: int, multiple_of: int = 1) -> int:
    """The smallest side of a tile in lr pixels: with less, nothing is left beside the overlap."""
    inner = max(8, overlap // 2)
    return _up(2 * _up(overlap, multiple_of) + inner, multiple_of)


def spans(
    length: int, side: int, overlap: int, multiple_of: int = 1, soft: bool = False
) -> list[Span]:
    """Cut an axis into evenly spaced spans of `side` pixels that overlap by at least 2 * overlap.

    length = 16, side = 8, overlap = 2           s seen, S shown

    span 0  S S S S S S s s
    span 1          s s S S S S s s
    span 2                  s s S S S S S S

    Args:
        overlap: Pixels that a span sees beyond what it shows, at least.
        multiple_of: Spans start at multiples of this.
        soft: Fade each span in over `overlap` pixels around its border instead of cutting there;
            what it then shows is at least half of `overlap` away from its edge.

    Raises:
        ValueError: `side` is less than `smallest_side`.
    """
    if length <= side:
        return [Span(0, length, 0, length, 0)]
    if side < smallest_side(overlap, multiple_of):
        raise ValueError(
            f"side must be at least {smallest_side(overlap, multiple_of)} for an overlap of "
            f"{overlap} pixels, got {side}."
        )
    overlap, side = _up(overlap, multiple_of), side // multiple_of * multiple_of
    gaps = -(-(length - side) // (side - 2 * overlap))  # between neighbouring starts
    units = (length - side) // multiple_of
    starts = [k * units // gaps * multiple_of for k in range(gaps + 1)]
    stops = [*(start + side for start in starts[:-1]), length]
    middles = [(stops[k] + starts[k + 1]) // 2 for k in range(gaps)]
    borders = [middle // multiple_of * multiple_of for middle in middles]
    fade = overlap // 2 * 2 if soft else 0
    cut = []
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first = 0 if k == 0 else borders[k - 1] - fade // 2
        last = length if k == gaps else borders[k] + fade // 2
        cut.append(Span(start, stop, first, last, fade if k else 0))
    return cut


def tiles(
    height: int, width: int, side: int, overlap: int, multiple_of: int = 1, soft: bool = False
) -> list[Tile]:
    """Cut a frame into tiles, row by row; see `spans`.

    All tiles have the same size, except the last of a row or column when the frame's size is not
    a multiple of `multiple_of`.
    """
    rows = spans(height, side, overlap, multiple_of, soft)
    columns = spans(width, side, overlap, multiple_of, soft)
    return [Tile(row, column) for row in rows for column in columns]


def paste(sr: Pixels, sr_tile: Pixels, tile: Tile, scale: float) -> None:
    """Copy a tile's result into the frame's, over those of the tiles before it.

    Args:
        sr: The upscaled frame, (sH, sW, C); changed in place.
        sr_tile: The network's output for the tile, from its first seen pixel on; same type.
        scale: Output pixels per input pixel; tiles start where this gives whole pixels.
    """
    (y, y0, wy), (x, x0, wx) = (_placed(span, scale) for span in (tile.rows, tile.columns))
    y = slice(y.start, min(y.stop, sr.shape[0]))  # the frame may be padded
    x = slice(x.start, min(x.stop, sr.shape[1]))
    inside = sr_tile[y0 : y0 + y.stop - y.start, x0 : x0 + x.stop - x.start]
    if not (tile.rows.fade or tile.columns.fade):
        sr[y, x] = inside
        return
    weight = wy[: y.stop - y.start, None, None] * wx[None, : x.stop - x.start, None]
    old = sr[y, x].astype(np.float32)
    sr[y, x] = np.rint(old + weight * (inside - old)).astype(sr.dtype)


def _placed(span: Span, scale: float) -> tuple[slice, int, npt.NDArray[np.float32]]:
    """Where a span's result goes, its first pixel in the network's output, and its weights."""
    first, last = round(span.first * scale), round(span.last * scale)
    weights = np.ones(last - first, np.float32)
    fade = round(span.fade * scale)
    weights[:fade] = (np.arange(fade) + 0.5) / max(fade, 1)
    return slice(first, last), first - round(span.start * scale), weights


def _up(number: int, multiple_of: int) -> int:
    return -(-number // multiple_of) * multiple_of


def state_indices(tile: Tile, fold: int) -> tuple[Any, Any, Any]:
    """Indices of a tile into a state (..., H / fold, W / fold), whose pixels cover fold x fold.

    Returns:
        What the tile sees, what it shows, and where that is in the tile's own state.
    """
    axes = (tile.rows, tile.columns)
    return (
        (..., *(slice(a.start // fold, a.stop // fold) for a in axes)),
        (..., *(slice(a.first // fold, a.last // fold) for a in axes)),
        (..., *(slice((a.first - a.start) // fold, (a.last - a.start) // fold) for a in axes)),
    )


def crop(tensor: Tensor, tile: Tile) -> Tensor:
    """The part of frames (..., H, W) that a tile sees."""
    rows, columns = tile.seen
    return tensor[..., rows, columns]
