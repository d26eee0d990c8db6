"""NIQE: quality of a frame without a reference, from the statistics of its luma."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.errors import InputError
from sharpreel.evaluation.metrics.fidelity import Plane, correlate, gaussian_window, validate_frames
from sharpreel.ops import Pixels

BLOCK = 96  # pixels
FEATURES = 36  # 18 at each of two scales
NIQE_WINDOW = gaussian_window(7, 7 / 6)


@dataclass(frozen=True, eq=False)
class Niqe:
    """The natural image quality evaluator: distance of an image's statistics from good images'.

    Lower is better.

    Paper: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer",
    IEEE SPL 2013. The features follow the authors' MATLAB release: locally normalised luma in
    blocks of 96x96 pixels, and of 48x48 of the image halved by bicubic; in each block an
    asymmetric generalised Gaussian is fitted to the values and to the products of neighbours in
    four directions. What we changed: luma is BT.601 Y of studio range, as in BasicSR, where the
    release uses rgb2gray.

    Values depend on the images that the model was fitted on. The published model is not part of
    sharpreel: numbers of a model that you fitted (`fit`) can be compared with each other, but NOT
    with published NIQE, nor with those of another set of images.

        model = Niqe.fit(sharp_photographs)
        model.save("niqe.npz")
        Niqe.load("niqe.npz")(frame)

    Args:
        mean: Of the features of good images, (36,).
        covariance: Of the same, (36, 36).
    """

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = (self.mean.shape, self.covariance.shape)
        if shapes != ((FEATURES,), (FEATURES, FEATURES)):
            raise ValueError(
                f"NIQE has {FEATURES} features: mean and covariance must be of shape "
                f"({FEATURES},) and ({FEATURES}, {FEATURES}), got {shapes[0]} and {shapes[1]}."
            )

    @classmethod
    def fit(cls, frames: Iterable[Pixels], sharpness: float = 0.75) -> Niqe:
        """Fit a model on images, which should be many, sharp, without noise or compression.

        Args:
            frames: RGB, (H, W, 3), sides of 96 pixels or more; they are read one by one.
            sharpness: Only blocks count whose mean local deviation is above this share of the
                sharpest block's in their image, which excludes blurred background. The paper's
                .75 accepts few blocks: with less than some dozens of images use a lower value.

        Raises:
            ValueError: There are fewer than two such blocks.
        """
        chosen = []
        for frame in frames:
            features, deviation = _niqe_features(frame)
            chosen.append(features[deviation > sharpness * deviation.max()])
        blocks = _complete(np.concatenate(chosen)) if chosen else np.empty((0, FEATURES))
        if len(blocks) < 2:
            raise ValueError(
                f"Only {len(blocks)} blocks of {BLOCK}x{BLOCK} pixels are sharp enough to fit "
                "NIQE on; use more images, some hundred blocks are a good number."
            )
        return cls(blocks.mean(axis=0), np.cov(blocks, rowvar=False))

    def save(self, path: str | Path) -> None:
        """Write the model as an .npz file."""
        with open(path, "wb") as file:
            np.savez(file, mean=self.mean, covariance=self.covariance)

    @classmethod
    def load(cls, path: str | Path) -> Niqe:
        """Read a model that `save` wrote.

        Raises:
            InputError: The file is missing, or not a NIQE model.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(*(arrays[name].astype(np.float64) for name in ("mean", "covariance")))
        except OSError as e:
            raise InputError(f"{path}: cannot be read ({e.strerror or e}).") from e
        except (ValueError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as e:
            raise InputError(
                f"{path}: is not a NIQE model ({e}). Make one with Niqe.fit and save."
            ) from e

    def __call__(self, frame: Pixels) -> float:
        """The distance of an image from the model; NaN when fewer than two blocks are not flat.

        Args:
            frame: RGB, (H, W, 3), of at least two blocks of 96x96 pixels. Pixels at the bottom and
                right that do not fill a block are ignored.
        """
        features = _niqe_features(frame)[0]
        if len(features) < 2:
            raise ValueError(
                f"NIQE needs two blocks of {BLOCK}x{BLOCK} pixels, got "
                f"{frame.shape[1]}x{frame.shape[0]}."
            )
        complete = _complete(features)
        if len(complete) < 2:
            return math.nan
        offset = self.mean - np.nanmean(features, axis=0)
        spread = (self.covariance + np.cov(complete, rowvar=False)) / 2
        return math.sqrt(max(float(offset @ np.linalg.pinv(spread) @ offset), 0.0))


def _complete(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The blocks whose features are all finite; a flat block has none."""
    return features[np.isfinite(features).all(axis=1)]


def _niqe_features(frame: Pixels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The 36 features of N blocks, (N, 36), and their mean local deviation, (N,)."""
    validate_frames(frame)
    height, width = (side // BLOCK * BLOCK for side in frame.shape[:2])
    if not (height and width):
        raise ValueError(
            f"NIQE needs sides of {BLOCK} pixels or more, got {frame.shape[1]}x{frame.shape[0]}."
        )
    luma = ops.luma(frame[:height, :width])
    half = ops.resize_matrix(height, height // 2) @ luma @ ops.resize_matrix(width, width // 2).T
    scales, deviations = [], []
    for image, block in ((luma, BLOCK), (half, BLOCK // 2)):
        wide = np.pad(image, len(NIQE_WINDOW) // 2, mode="edge")
        local = correlate(wide, NIQE_WINDOW)
        deviation = np.sqrt(np.abs(correlate(wide * wide, NIQE_WINDOW) - local * local))
        scales.append(_block_features(_blocks((image - local) / (deviation + 1), block)))
        deviations.append(_blocks(deviation, block).mean(axis=(1, 2)))
    return np.concatenate(scales, axis=1), deviations[0]


def _blocks(image: Plane, size: int) -> Plane:
    """(H, W) -> (N, size, size), line by line."""
    h, w = image.shape
    return image.reshape(h // size, size, w // size, size).swapaxes(1, 2).reshape(-1, size, size)


def _block_features(blocks: Plane) -> npt.NDArray[np.float64]:
    """(N, size, size) of locally normalised luma -> (N, 18)."""
    shape, left, right, _ = _asymmetric_fit(blocks)
    columns = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right, ratio = _asymmetric_fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        columns += [shape, (right - left) * ratio, left, right]
    return np.stack(columns, axis=1)


@lru_cache(maxsize=1)
def _gamma_table() -> tuple[npt.NDArray[np.float64], ...]:
    """Shapes a from .2 to 10, G(2/a)^2 / (G(1/a) G(3/a)), which grows with a, sqrt(G(1/a)/G(3/a))
    and G(2/a)/G(1/a), where G is the gamma function."""
    shapes = 0.2 + 0.001 * np.arange(9801, dtype=np.float64)
    one, two, three = (np.array([math.lgamma(n / a) for a in shapes]) for n in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.exp((one - three) / 2), np.exp(two - one)


def _asymmetric_fit(blocks: Plane) -> tuple[npt.NDArray[np.float64], ...]:
    """Asymmetric generalised Gaussians by their moments (Lasmar et al., ICIP 2009).

    Args:
        blocks: (N, h, w).

    Returns:
        Shape, left and right scale, and G(2/shape)/G(1/shape), each (N,); NaN for a block without
        values on both sides of zero.
    """
    values = blocks.reshape(len(blocks), -1)
    squares = values**2
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (
            np.sqrt((squares * side).sum(axis=1) / side.sum(axis=1))
            for side in (values < 0, values > 0)
        )
        skew = left / right
        peaked = np.abs(values).mean(axis=1) ** 2 / squares.mean(axis=1)
        wanted = peaked * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, moments, scale, ratio = _gamma_table()
    above = np.searchsorted(moments, wanted).clip(1, len(moments) - 1)
    nearest = above - (wanted - moments[above - 1] <= moments[above] - wanted)
    known = np.where(np.isfinite(wanted), 1.0, np.nan)
    spread = scale[nearest] * known
    return shapes[nearest] * known, left * spread, right * spread, ratio[nearest] * known
