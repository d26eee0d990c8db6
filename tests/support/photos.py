"""Photographs of scikit-image, and simple distortions of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import skimage.data
from skimage.filters import gaussian

from tests.support.videos import Pixels

PHOTO: Pixels = skimage.data.astronaut()


CAT: Pixels = skimage.data.chelsea()


COFFEE: Pixels = skimage.data.coffee()


CAMERA: Pixels = np.repeat(skimage.data.camera()[..., None], 3, axis=2)


def noisy(frame: Pixels, sigma: float = 8.0) -> Pixels:
    values = frame + np.random.default_rng(0).normal(0, sigma, frame.shape)
    return to_bytes(values)


def blurred(frame: Pixels, sigma: float = 2.0) -> Pixels:
    return to_bytes(gaussian(frame.astype(float), sigma, channel_axis=2))


def to_bytes(values: npt.NDArray[np.float64]) -> Pixels:
    frame: Pixels = np.rint(values.clip(0, 255)).astype(np.uint8)
    return frame


HR: Pixels = PHOTO[100:220, 150:270]


SR: Pixels = noisy(blurred(HR, 0.8))
