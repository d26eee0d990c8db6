"""Cuts frames into overlapping tiles that fit into memory, and blends the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.errors import DeviceError, UsageError
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import SHARE

if TYPE_CHECKING:
    from torch import Tensor


SOFT_OVERLAP = 32  # lr pixels, for networks that see farther than a tile can be wide
FARTHEST = 64  # lr pixels: a network that sees no farther gets tiles that join exactly


class TiledEngine:
    """What both engines share: a frame goes through the network whole, or tile by tile.

    Tiles overlap by as much as the network sees (`ModelSpec.reach`), so that the picture is the
    same; where it sees too far for that, they fade into each other. They are chosen at the first
    frame by what memory there is, and halved when it does not suffice after all: the same frame
    is tried again, and none is ever left out.

    Args:
        tile: Side in lr pixels, 0 for whole frames, None to choose.
        max_memory: Bytes that the network may take for one frame; None: most of what is free.

    Raises:
        UsageError: The tile is too small for this network.
    """

    def __init__(self, model: Model, tile: int | None, max_memory: int | None) -> None:
        self.scale, self.tile = model.scale, tile
        self.sharers = 1
        self._max_memory, self._title = max_memory, model.name
        self._multiple = model.spec.multiple_of
        self._overlap, self._soft, self._step = tile_geometry(model)
        validate_tile(model, tile)

    @property
    def _smallest(self) -> int:
        return smallest_side(self._overlap, self._step)

    def _needed(self, height: int, width: int) -> int:
        """Bytes that a frame of this size takes."""
        raise NotImplementedError

    def _free(self) -> int | None:
        """Bytes that the device has left."""
        raise NotImplementedError

    def _plenty(self, pixels: int) -> int:
        """Bytes that surely suffice, so that nothing must be reckoned."""
        raise NotImplementedError

    def _pictures(
        self, frame: Pixels, begin: Callable[[], Callable[[Tile], list[Pixels]]]
    ) -> list[Pixels]:
        """The pictures that the network makes, for frames like this one.

        Args:
            begin: Starts from what was known before these frames, and returns what makes the
                pictures of one tile. It is called again when memory did not suffice.
        """
        height, width = frame.shape[:2]
        high, wide = ops.enlarged(height, self.scale), ops.enlarged(width, self.scale)
        # What the network is given: both sides a multiple of what it needs.
        rows, columns = self._padded(height), self._padded(width)
        while True:
            self.fit(height, width)
            side = self.tile or max(rows, columns)
            parts = tiles(rows, columns, side, self._overlap, self._step or 1, self._soft)
            try:
                return self._by_tiles(parts, begin(), (high, wide, 3), frame.dtype)
            except (MemoryError, RuntimeError) as e:
                if not out_of_memory(e):
                    raise
                shortage = e.with_traceback(None)  # which would hold the tensors
            self._give_back()
            self._shrink(rows, columns, shortage)

    def _by_tiles(
        self,
        parts: Sequence[Tile],
        make: Callable[[Tile], list[Pixels]],
        shape: tuple[int, int, int],
        dtype: Any,
    ) -> list[Pixels]:
        if len(parts) == 1:
            return [picture[: shape[0], : shape[1]] for picture in make(parts[0])]
        pictures: list[Pixels] = []
        for part in parts:
            made = make(part)
            pictures = pictures or [np.empty(shape, dtype) for _ in made]
            for picture, one in zip(pictures, made, strict=True):
                paste(picture, one, part, self.scale)
        return pictures

    def _give_back(self) -> None:
        """Free what is kept from frame to frame and is not needed, after a shortage."""

    def fit(self, height: int, width: int) -> None:
        if self.tile is None:
            self.tile = self._choose(self._padded(height), self._padded(width))

    def _padded(self, side: int) -> int:
        return ops.padded_side(side, self._multiple)

    def _choose(self, height: int, width: int) -> int:
        """The largest tile that fits into memory, 0 for the whole frame."""
        budget = self._max_memory
        if budget is None:
            free = self._free()
            budget = None if free is None else round(free * SHARE / self.sharers)
        if budget is None or self._step == 0 or budget >= self._plenty(height * width):
            return 0
        side = max(height, width)
        while self._needed(min(side, height), min(side, width)) > budget:
            if side == self._smallest:
                if self._max_memory is None:
                    break  # perhaps it works all the same
                need = self._needed(min(side, height), min(side, width)) / 2**20
                raise DeviceError(
                    f"--max-memory {budget / 2**20:.0f}M is too little: {self._title} needs about "
                    f"{need:.0f} MiB even for tiles of {side} pixels."
                )
            side = self._half(side)
        return 0 if side >= max(height, width) else side

    def _half(self, side: int) -> int:
        return max(side // 2 // self._step * self._step, self._smallest)

    def _shrink(self, height: int, width: int, shortage: Exception) -> None:
        """Halve the tile after memory did not suffice.

        Raises:
            DeviceError: It is as small as it can be.
        """
        side = min(self.tile or max(height, width), max(height, width))
        if self._step == 0 or side <= self._smallest:
            raise DeviceError(
                f"Out of memory at {width}x{height}, even in tiles of {side} pixels. Close other "
                "programs, or use another device or a smaller network."
            ) from shortage
        self.tile = self._half(side)


def tile_geometry(model: Model) -> tuple[int, bool, int]:
    """How a network's tiles are cut.

    Returns:
        Overlap in lr pixels, whether tiles fade into each other, and what their first pixels are
        multiples of: where the factor makes whole pixels, and where the network may be cut; 0 when
        no such place is near.
    """
    reach = None if model.spec.reach is None else model.spec.reach(model.arguments)
    soft = reach is None or reach > FARTHEST
    factor = Fraction(model.scale).limit_denominator(64)
    exact = float(factor) == model.scale
    step = math.lcm(model.spec.multiple_of, factor.denominator) if exact else 0
    return (SOFT_OVERLAP if reach is None or soft else reach), soft, step


def validate_tile(model: Model, tile: int | None) -> None:
    """Raise UsageError unless a network can run in tiles of this side (None, 0: no tiles asked)."""
    overlap, _, step = tile_geometry(model)
    if not tile:
        return
    if step == 0:
        raise UsageError(f"--tile: factor {model.scale:g} makes no whole pixels; leave it out.")
    smallest = smallest_side(overlap, step)
    if tile < smallest:
        raise UsageError(
            f"--tile {tile} is too small: {model.name} needs to see {overlap} pixels "
            f"beyond what a tile shows. Give {smallest} or more, or auto."
        )


def out_of_memory(error: Exception) -> bool:
    """Does this error mean that memory did not suffice?"""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    known = ("out of memory", "can't allocate", "cannot allocate", "not enough memory", "bad_alloc",
             "bad allocation")  # fmt: skip
    return type(error).__name__ == "OutOfMemoryError" or any(k in words for k in known)


def folded_size(tile: Tile, fold: int) -> tuple[Any, Any, Any]:
    """Of a state whose pixels stand for fold x fold lr pixels, in both axes: what a tile sees,
    what it shows, and where that lies in the tile's own state, as indices."""
    axes = (tile.rows, tile.columns)
    return (
        (..., *(slice(a.start // fold, a.stop // fold) for a in axes)),
        (..., *(slice(a.first // fold, a.last // fold) for a in axes)),
        (..., *(slice((a.first - a.start) // fold, (a.last - a.start) // fold) for a in axes)),
    )


def crop_frame(tensor: Tensor, tile: Tile) -> Tensor:
    rows, columns = tile.seen
    return tensor[..., rows, columns]


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in lr pixels: what the network sees, and what is shown of it.

    Over the first `fade` shown pixels the tile fades in over the one before it.
    """

    start: int
    stop: int
    first: int
    last: int
    fade: int

    @property
    def seen(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def shown(self) -> slice:
        return slice(self.first, self.last)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame that goes through a network by itself."""

    rows: Span
    columns: Span

    @property
    def seen(self) -> tuple[slice, slice]:
        return self.rows.seen, self.columns.seen


def smallest_side(overlap: int, multiple_of: int = 1) -> int:
    """The least side of a tile in lr pixels: less would show nothing beyond the overlap."""
    inner = max(8, overlap // 2)
    return _up(2 * _up(overlap, multiple_of) + inner, multiple_of)


def spans(
    length: int, side: int, overlap: int, multiple_of: int = 1, soft: bool = False
) -> list[Span]:
    """Cut an axis to spans of `side` pixels that lie evenly and overlap by 2 * overlap and more.

    length = 16, side = 8, overlap = 2           s seen, S shown

    span 0  S S S S S S s s
    span 1          s s S S S S s s
    span 2                  s s S S S S S S

    Args:
        overlap: Pixels that a span sees beyond what it shows, at the least.
        multiple_of: Spans begin at multiples of this.
        soft: Fade each span in over `overlap` pixels about its border instead of cutting there;
            what it then shows is at least half of `overlap` away from its edge.

    Raises:
        ValueError: `side` is less than `smallest_side`.
    """
    if length <= side:
        return [Span(0, length, 0, length, 0)]
    if side < smallest_side(overlap, multiple_of):
        raise ValueError(
            f"A tile of {side} pixels shows nothing beyond an overlap of {overlap}; "
            f"at least {smallest_side(overlap, multiple_of)} are needed."
        )
    overlap, side = _up(overlap, multiple_of), side // multiple_of * multiple_of
    gaps = -(-(length - side) // (side - 2 * overlap))  # between neighbouring starts
    units = (length - side) // multiple_of
    starts = [k * units // gaps * multiple_of for k in range(gaps + 1)]
    stops = [*(start + side for start in starts[:-1]), length]
    middles = [(stops[k] + starts[k + 1]) // 2 for k in range(gaps)]
    borders = [middle // multiple_of * multiple_of for middle in middles]
    fade = overlap // 2 * 2 if soft else 0
    made = []
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first = 0 if k == 0 else borders[k - 1] - fade // 2
        last = length if k == gaps else borders[k] + fade // 2
        made.append(Span(start, stop, first, last, fade if k else 0))
    return made


def tiles(
    height: int, width: int, side: int, overlap: int, multiple_of: int = 1, soft: bool = False
) -> list[Tile]:
    """Cut a frame to tiles, row by row; see `spans`. Every tile has one size, but for the last
    of a row or column where the frame's is no multiple of `multiple_of`."""
    rows = spans(height, side, overlap, multiple_of, soft)
    columns = spans(width, side, overlap, multiple_of, soft)
    return [Tile(row, column) for row in rows for column in columns]


def paste(picture: Pixels, made: Pixels, tile: Tile, scale: float) -> None:
    """Put a tile's picture into the frame's, over those of the tiles before it.

    Args:
        picture: The whole frame's, (sH, sW, C); changed in place.
        made: What the network made of the tile, from its first seen pixel on, and of its type.
        scale: Tiles begin where this makes whole pixels of them.
    """
    (y, y0, wy), (x, x0, wx) = (_placed(span, scale) for span in (tile.rows, tile.columns))
    y = slice(y.start, min(y.stop, picture.shape[0]))  # a frame may have been padded
    x = slice(x.start, min(x.stop, picture.shape[1]))
    inside = made[y0 : y0 + y.stop - y.start, x0 : x0 + x.stop - x.start]
    if not (tile.rows.fade or tile.columns.fade):
        picture[y, x] = inside
        return
    weight = wy[: y.stop - y.start, None, None] * wx[None, : x.stop - x.start, None]
    old = picture[y, x].astype(np.float32)
    picture[y, x] = np.rint(old + weight * (inside - old)).astype(picture.dtype)


def _placed(span: Span, scale: float) -> tuple[slice, int, npt.NDArray[np.float32]]:
    """Where a span's picture goes, its first pixel in what the network made, and its weights."""
    first, last = round(span.first * scale), round(span.last * scale)
    weights = np.ones(last - first, np.float32)
    fade = round(span.fade * scale)
    weights[:fade] = (np.arange(fade) + 0.5) / max(fade, 1)
    return slice(first, last), first - round(span.start * scale), weights


def _up(number: int, multiple_of: int) -> int:
    return -(-number // multiple_of) * multiple_of
