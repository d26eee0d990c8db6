"""Runs a network on whole frames or tile by tile, by how much memory there is: `TiledEngine`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import numpy as np

from sharpreel import ops
from sharpreel.engines.base import EngineKind
from sharpreel.engines.tiles import Tile, paste, smallest_side, tiles
from sharpreel.errors import DeviceError, UsageError
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.system.resources import SHARE

SOFT_OVERLAP = 32  # lr pixels, for networks that see farther than a tile can be wide
FARTHEST = 64  # lr pixels: tiles of a network that sees no farther join exactly
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate",
    "cannot allocate",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
)


class TilePass(Protocol):
    """One pass over some frames, tile by tile.

    It starts from the engine's state and does not change it: the next state is collected in the
    pass, and the engine takes it over when all tiles are done. So a pass that runs out of memory
    is discarded, and a new one starts with smaller tiles.
    """

    def run(self, tile: Tile) -> list[Pixels]:
        """The upscaled frames of one tile, from its first seen pixel on."""


Pass = TypeVar("Pass", bound=TilePass)


class TiledEngine:
    """What both engines share: frames run through the network as a whole, or tile by tile.

    Tiles overlap by as much as the network sees (`ModelSpec.reach`), so that the result is the
    same; where it sees too far for that, they fade into each other. Their size is chosen at the
    first frame by the memory available, and halved when it does not suffice after all: the same
    frame is then tried again, and none is ever skipped.

    Args:
        tile: Side in lr pixels, 0 for whole frames, None to choose.
        max_memory: Bytes that the network may use for one frame; None: most of what is free.

    Raises:
        UsageError: The tile is too small for this network.
    """

    kind: EngineKind

    def __init__(self, model: Model, tile: int | None, max_memory: int | None) -> None:
        validate_tile(model, tile)
        self.scale, self.tile = model.scale, tile
        self.sharers = 1
        self._max_memory, self._title = max_memory, model.name
        self._multiple = model.spec.multiple_of
        self._overlap, self._soft, self._step = tile_geometry(model)

    @property
    def name(self) -> str:
        """Such as "openvino-int8" or "torch-cuda": what journals and reports contain."""
        return self.kind.name

    def fit(self, height: int, width: int) -> None:
        """Decide the tile for frames of this size if that is open; nothing is run."""
        if self.tile is None:
            self.tile = self._largest_tile(self._padded(height), self._padded(width))

    def _required_bytes(self, height: int, width: int) -> int:
        """Estimated bytes that the network needs for a frame of this size."""
        raise NotImplementedError

    def _free_bytes(self) -> int | None:
        """Bytes that the device has left; None when unknown."""
        raise NotImplementedError

    def _ample_bytes(self, pixels: int) -> int:
        """Bytes that certainly suffice, so that no estimate is needed."""
        raise NotImplementedError

    def _release_cache(self) -> None:
        """After a shortage, free what is kept from frame to frame and can be rebuilt."""

    def _run_tiles(self, frame: Pixels, begin: Callable[[], Pass]) -> tuple[list[Pixels], Pass]:
        """Run the network over frames of this frame's size and type, in as many tiles as needed.

        Args:
            begin: Starts a pass; called again when memory did not suffice.

        Returns:
            The upscaled frames, and the pass that produced them.

        Raises:
            DeviceError: Memory does not suffice for the smallest tile.
        """
        height, width = frame.shape[:2]
        high, wide = ops.enlarged(height, self.scale), ops.enlarged(width, self.scale)
        rows, columns = self._padded(height), self._padded(width)
        while True:
            self.fit(height, width)
            side = self.tile or max(rows, columns)
            parts = tiles(rows, columns, side, self._overlap, self._step or 1, self._soft)
            try:
                current = begin()
                return self._join(parts, current, (high, wide, 3), frame.dtype), current
            except (MemoryError, RuntimeError) as e:
                if not is_out_of_memory(e):
                    raise
                shortage = e.with_traceback(None)  # which would keep the tensors alive
            self._release_cache()
            self._shrink(rows, columns, shortage)

    def _join(
        self, parts: Sequence[Tile], current: TilePass, shape: tuple[int, int, int], dtype: Any
    ) -> list[Pixels]:
        """Run all tiles of a pass; the upscaled frames, of this shape and type."""
        if len(parts) == 1:
            return [sr[: shape[0], : shape[1]] for sr in current.run(parts[0])]
        joined: list[Pixels] = []
        for tile in parts:
            sr_tiles = current.run(tile)
            joined = joined or [np.empty(shape, dtype) for _ in sr_tiles]
            for sr, sr_tile in zip(joined, sr_tiles, strict=True):
                paste(sr, sr_tile, tile, self.scale)
        return joined

    def _padded(self, side: int) -> int:
        return ops.padded_side(side, self._multiple)

    @property
    def _smallest(self) -> int:
        return smallest_side(self._overlap, self._step)

    def _largest_tile(self, height: int, width: int) -> int:
        """The largest tile that fits into memory, 0 for the whole frame.

        Raises:
            DeviceError: `max_memory` is too little for the smallest tile.
        """
        budget = self._max_memory
        if budget is None:
            free = self._free_bytes()
            budget = None if free is None else round(free * SHARE / self.sharers)
        if budget is None or self._step == 0 or budget >= self._ample_bytes(height * width):
            return 0
        side = max(height, width)
        while self._required_bytes(min(side, height), min(side, width)) > budget:
            if side == self._smallest:
                if self._max_memory is None:
                    break  # it may work all the same
                required = self._required_bytes(min(side, height), min(side, width)) / 2**20
                raise DeviceError(
                    f"max_memory={budget / 2**20:.0f}M is too little: {self._title} needs about "
                    f"{required:.0f} MiB even for tiles of {side} pixels."
                )
            side = self._halved(side)
        return 0 if side >= max(height, width) else side

    def _halved(self, side: int) -> int:
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
        self.tile = self._halved(side)


def tile_geometry(model: Model) -> tuple[int, bool, int]:
    """How the tiles of a network overlap and where they may start.

    Returns:
        Overlap in lr pixels; whether tiles fade into each other; and what their first pixels must
        be multiples of, so that the scale gives whole pixels and the network may be cut there (0
        when the scale never gives whole pixels).
    """
    reach = None if model.spec.reach is None else model.spec.reach(model.arguments)
    soft = reach is None or reach > FARTHEST
    scale = Fraction(model.scale).limit_denominator(64)
    exact = float(scale) == model.scale
    step = math.lcm(model.spec.multiple_of, scale.denominator) if exact else 0
    return (SOFT_OVERLAP if reach is None or soft else reach), soft, step


def validate_tile(model: Model, tile: int | None) -> None:
    """Raise UsageError unless a network can run in tiles of this side (None, 0: no tiles)."""
    overlap, _, step = tile_geometry(model)
    if not tile:
        return
    if step == 0:
        raise UsageError(
            f"tile={tile}: a scale of {model.scale:g} does not map tiles to whole pixels; remove "
            "`tile`."
        )
    smallest = smallest_side(overlap, step)
    if tile < smallest:
        raise UsageError(
            f"tile={tile} is too small: {model.name} needs {overlap} pixels of context on each "
            f"side. Choose {smallest} or more, or no `tile`."
        )


def is_out_of_memory(error: Exception) -> bool:
    """Does this error mean that memory did not suffice?"""
    if isinstance(error, MemoryError):
        return True
    message = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(k in message for k in OUT_OF_MEMORY)
