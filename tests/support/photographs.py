"""Short scenes made of photographs: still, and panned."""

from __future__ import annotations

import skimage.data

from tests.support.videos import Pixels

ASTRONAUT: Pixels = skimage.data.astronaut()


COFFEE: Pixels = skimage.data.coffee()


CAT: Pixels = skimage.data.chelsea()


def still(photograph: Pixels, frames: int) -> list[Pixels]:
    return [photograph[:96, :128]] * frames


def pan(photograph: Pixels, frames: int, speed: int) -> list[Pixels]:
    """The camera moves right by `speed` pixels a frame."""
    return [photograph[100:196, 40 + speed * t : 168 + speed * t] for t in range(frames)]
