"""Degrade high-resolution clips to low resolution, for training and for evaluation.

    name           blur and downscale                   then
    bi             MATLAB bicubic                       -
    bd             Gaussian, centred phase (BasicVSR)   -
    bd-duf         Gaussian, phase 0 (DUF)              -
    bd-tecogan     Gaussian, phase 0 (TecoGAN)          -
    area           block mean (OpenCV's INTER_AREA)     -
    random-kernel  bilinear, gaussian, nearest or area  -
    bi-h264        MATLAB bicubic                       H.264, on half of the clips
    call           MATLAB bicubic                       light noise, H.264 or VP8
    real           random blurs and resizes, twice      noise, JPEG and a video codec
    afm            MATLAB bicubic, or none at scale 1   streaks along the scan lines
    realistic      area, bicubic or lanczos             noise, one or two codecs; 15 % clean
    h264-20, h264-25, h264-30, h264-35, vp9-44, mpeg2-5, mpeg4-6, twice, camera
                   lanczos or area                      the codec; see realworld.py

`degrade` runs one of them by its name in DEGRADATIONS. A clip is (T, H, W, 3), RGB, integers of
full range. Random degradations use a NumPy generator, created for each clip: the same seed gives
the same bytes. Random parameters are constant over the frames of a clip or drift slowly, as in a
real video; only noise is new in each frame. Sizes are cropped to a multiple of the scale, from the
top left.

BD is not one definition. With scale 4, `x` marks the centres of the lr pixels among the hr pixels:

    hr pixel          0   1   2   3   4   5   6   7
    bi, bd, area            x               x         (1.5, 5.5: lr and hr cover the same area)
    bd-duf, -tecogan  x               x               (0, 4: lr is shifted by 1.5 hr pixels)

A network trained with one phase and tested with the other loses several dB by the shift alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sharpreel.data.degrade import realworld
from sharpreel.data.degrade.realistic import afm, bi_h264, call, second_order
from sharpreel.data.degrade.resample import (
    Clip,
    area,
    bd,
    bd_duf,
    bd_tecogan,
    bicubic,
    crop_to_multiple,
    random_kernel,
)
from sharpreel.errors import UsageError, did_you_mean


def _plain(function: Callable[[Clip, int], Clip]) -> Callable[..., Clip]:
    """A deterministic degradation with the signature that the table needs."""
    return lambda hr, scale, _rng: function(hr, scale)


def _condition(condition: realworld.Condition) -> Callable[..., Clip]:
    """A fixed condition, in which only the noise is random, in the form that the table needs."""

    def function(hr: Clip, scale: int, rng: np.random.Generator) -> Clip:
        return realworld.apply(hr, scale, condition, int(rng.integers(1 << 30)))

    return function


@dataclass(frozen=True)
class Degradation:
    """A row of DEGRADATIONS.

    Attributes:
        summary: One line for a list of choices.
        function: hr clip (T, H, W, 3) of a size that divides by the scale, scale, generator -> lr
            clip (T, H / scale, W / scale, 3).
        standard: A published definition that benchmarks use, without randomness.
        scales: Those it is defined for; empty: every integer from 1.
    """

    name: str
    summary: str
    function: Callable[[Clip, int, np.random.Generator], Clip]
    standard: bool = False
    scales: tuple[int, ...] = ()


DEGRADATIONS: dict[str, Degradation] = {
    row.name: row
    for row in (
        Degradation("bi", "MATLAB's bicubic, the usual one", _plain(bicubic), True),
        Degradation(
            "bd", "Gaussian blur, centred (BasicVSR's BD)", _plain(bd), True, scales=(2, 3, 4)
        ),
        Degradation(
            "bd-duf", "Gaussian blur, phase 0 (DUF's BD)", _plain(bd_duf), True, scales=(2, 3, 4)
        ),
        Degradation(
            "bd-tecogan",
            "Gaussian blur of sigma 1.5, phase 0 (TecoGAN's BD)",
            _plain(bd_tecogan),
            True,
            scales=(2, 4),
        ),
        Degradation("area", "means of blocks", _plain(area)),
        Degradation(
            "random-kernel", "bilinear, gaussian, nearest or area at random", random_kernel
        ),
        Degradation("bi-h264", "bicubic, then H.264 (CRF 15 to 35) on half of the clips", bi_h264),
        Degradation("call", "bicubic, light noise and H.264 or VP8, as in a video call", call),
        Degradation("real", "blur, resize, noise, JPEG, twice, and a video codec", second_order),
        Degradation("afm", "scan-line streaks of a microscope, after bicubic", afm),
        Degradation(
            "realistic",
            "a random scaler, noise and codecs, as in the video that people have",
            realworld.realistic,
        ),
        *(
            Degradation(name, summary, _condition(condition))
            for name, (summary, condition) in realworld.CONDITIONS.items()
        ),
    )
}


def degrade(
    hr: Clip, scale: int, name: str = "bi", seed: int | tuple[int, ...] = 0
) -> tuple[Clip, Clip]:
    """Crop hr to a multiple of the scale from the top left, and compute its lr version.

    Args:
        hr: (T, H, W, 3) uint8; uint16 where no codec is involved.
        scale: An integer.
        name: A key of DEGRADATIONS.
        seed: Of the clip, such as (seed of the run, number of the clip); equal seeds give equal
            bytes.

    Returns:
        The cropped hr (a view), and lr, (T, H // scale, W // scale, 3), of its type.

    Raises:
        UsageError: No such degradation, or not for this scale.
    """
    if name not in DEGRADATIONS:
        raise UsageError(
            f"degradation={name!r} is not known.{did_you_mean(name, DEGRADATIONS)} "
            f"Choose one of {', '.join(DEGRADATIONS)}."
        )
    row = DEGRADATIONS[name]
    if row.scales and scale not in row.scales:
        allowed = ", ".join(str(s) for s in row.scales)
        raise UsageError(f"degradation={name!r} is defined for scale {allowed}, not {scale}.")
    hr = crop_to_multiple(hr, scale)
    lr = row.function(hr, scale, np.random.default_rng(seed))
    t, h, w, c = hr.shape
    assert lr.shape == (t, h // scale, w // scale, c)
    return hr, lr
