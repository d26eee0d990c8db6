"""Array operations that several packages need: the bicubic kernel, resizing, padding, luma.

NumPy only, so that the core runs without PyTorch. The networks use the same weights
(`bicubic_phases`, `resize_matrix`), so "bicubic" means the same everywhere: MATLAB's imresize.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[Any]  # uint8 or uint16, (H, W, C), full range of its type


def cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5, as in MATLAB's imresize."""
    a = np.abs(x)
    near = (1.5 * a - 2.5) * a * a + 1.0
    far = ((-0.5 * a + 2.5) * a - 4.0) * a + 2.0
    return np.where(a <= 1, near, np.where(a < 2, far, 0.0))


@lru_cache(maxsize=64)
def resize_taps(
    size_in: int, size_out: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Indices and weights of the input samples of each output sample, along one axis.

    MATLAB's imresize: output centres are at (i + 0.5) * size_in / size_out - 0.5; for downscaling
    the kernel widens with the ratio (antialiasing); samples outside are mirrored at the edge
    (symmetric: c b a | a b c); weights are normalised per output sample.

    Returns:
        Indices, (size_out, taps), and float32 weights of the same shape.
    """
    ratio = size_in / size_out
    widen = max(ratio, 1.0)
    centre = (np.arange(size_out) + 0.5) * ratio - 0.5
    taps = int(np.ceil(4 * widen)) + 2
    left = np.floor(centre - 2 * widen).astype(np.intp)
    index = left[:, None] + np.arange(taps)
    weight = cubic((centre[:, None] - index) / widen)
    weight /= weight.sum(axis=1, keepdims=True)
    used = (weight != 0).any(axis=0)
    index, weight = index[:, used], weight[:, used]
    period = np.concatenate([np.arange(size_in), np.arange(size_in)[::-1]])
    return period[index % (2 * size_in)], weight.astype(np.float32)


def resize_matrix(size_in: int, size_out: int) -> Array:
    """`resize_taps` as a dense (size_out, size_in) matrix, for small sizes and for tests."""
    index, weight = resize_taps(size_in, size_out)
    matrix = np.zeros((size_out, size_in), np.float32)
    np.add.at(matrix, (np.arange(size_out)[:, None], index), weight)
    return matrix


def resize(frame: Pixels, height: int, width: int) -> Pixels:
    """Resize a frame by MATLAB-exact bicubic, antialiased for downscaling.

    Both axes are computed in float32 and rounded once, at the end.

    Args:
        frame: Integer frame, (H, W, C), uint8 or uint16, full range of its type.
        height, width: Output size in pixels.

    Returns:
        (height, width, C) of the same type.
    """
    if frame.shape[:2] == (height, width):
        return frame
    image = frame.astype(np.float32)
    # The axis that shrinks most is first: fewer samples for the second.
    if height * frame.shape[1] <= frame.shape[0] * width:
        image = _resize_columns(_resize_rows(image, height), width)
    else:
        image = _resize_rows(_resize_columns(image, width), height)
    top = np.iinfo(frame.dtype).max
    np.rint(image, out=image)
    np.clip(image, 0, top, out=image)
    return image.astype(frame.dtype)


def _resize_columns(image: Array, size_out: int) -> Array:
    return np.ascontiguousarray(_resize_rows(image.swapaxes(0, 1), size_out).swapaxes(0, 1))


def _resize_rows(image: Array, size_out: int) -> Array:
    index, weight = resize_taps(image.shape[0], size_out)
    out = np.zeros((size_out, *image.shape[1:]), np.float32)
    tail = (1,) * (image.ndim - 1)
    for tap in range(index.shape[1]):
        out += weight[:, tap].reshape(-1, *tail) * image[index[:, tap]]
    return out


def bicubic_phases(scale: int) -> Array:
    """Bicubic upscaling by an integer as a convolution: a 5x5 kernel for each of scale^2 phases.

    Output pixel (scale * y + p, scale * x + q) is kernel[p * scale + q] over the 5x5 input
    neighbourhood of (y, x), of which four rows and four columns are not zero.

    Returns:
        (scale * scale, 5, 5), float32.
    """
    phase = np.arange(scale)
    centre = (phase + 0.5) / scale - 0.5
    line = cubic(centre[:, None] - np.arange(-2, 3))  # (scale, 5)
    line /= line.sum(axis=1, keepdims=True)
    kernels = np.einsum("pi,qj->pqij", line, line)
    phases: Array = kernels.reshape(scale * scale, 5, 5).astype(np.float32)
    return phases


def enlarged(size: int, scale: float) -> int:
    """The upscaled length of a side of `size` pixels; halves round to even, as in `round`."""
    return round(size * scale)


def padded_side(side: int, multiple_of: int) -> int:
    """The length of a side after `pad_to_multiple`: at least 2, as networks mirror borders."""
    return -(-max(side, 2) // multiple_of) * multiple_of


def pad_to_multiple(frame: Pixels, multiple_of: int) -> Pixels:
    """Pad a frame at its bottom and right, by repeating the edge, to a multiple in both axes.

    Args:
        frame: (H, W, C).
        multiple_of: Height and width become multiples of this.
    """
    height, width = frame.shape[:2]
    bottom = padded_side(height, multiple_of) - height
    right = padded_side(width, multiple_of) - width
    if not (bottom or right):
        return frame
    return np.pad(frame, ((0, bottom), (0, right), (0, 0)), mode="edge")


def luma(frame: Pixels) -> npt.NDArray[np.float64]:
    """Y of BT.601 in studio range (16 to 235), not rounded, as in MATLAB's rgb2ycbcr and BasicSR.

    Args:
        frame: RGB, (H, W, 3), uint8 or uint16, full range of its type.

    Returns:
        (H, W), float64, in units of 8-bit levels.
    """
    rgb = frame.astype(np.float64) * (255.0 / np.iinfo(frame.dtype).max)
    y: npt.NDArray[np.float64] = 16.0 + (rgb @ np.array([65.481, 128.553, 24.966])) / 255.0
    return y
