"""Optical flow between two frames: where the pixels of one are in the other.

Methods of `estimate_flow`:

    dis          OpenCV's dense inverse search (Kroeger et al., "Fast Optical Flow using Dense
                 Inverse Search", ECCV 2016), medium preset down to the finest scale. The default.
    coarse2fine  The variational flow that RBPN's published weights were trained with.
    spynet       A network, passed by the caller with its weights.
    none         Zeros, for networks that were trained without flow.

On `coarse2fine`. Paper: C. Liu, "Beyond Pixels: Exploring New Representations and Applications for
Motion Analysis", PhD thesis, MIT 2009, after Brox et al. (ECCV 2004) and Bruhn et al. (IJCV 2005).
Original code: people.csail.mit.edu/celiu/OpticalFlow, wrapped for Python by
github.com/pathak22/pyflow. Licence: the wrapper's is MIT, the C++ inside names none; this
implementation is our own and shares no line with it. Parameters, pyramid, features, energy and
numbers of iterations are the published ones. What we changed:

- One sweep of the SOR solver goes over the red, then over the black squares of a chess board, where
  the original goes row by row. Both are Gauss-Seidel orders of one linear system with the same
  relaxation: they converge to the same solution, but are stopped, as published, before that.
- Frames less than 27 pixels wide have at least one pyramid level (the original has none and
  crashes), and no level is less than 4 pixels high.
- The warped second frame is not returned.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.errors import MissingExtra

Method = Literal["dis", "coarse2fine", "spynet", "none"]

GREY = (0.299, 0.587, 0.114)
DIS_SMALLEST = 16  # pixels; OpenCV refuses sides below its patch of 8 and frames below 12


def estimate_flow(
    a: Tensor, b: Tensor, method: Method = "dis", network: nn.Module | None = None
) -> Tensor:
    """Where the pixels of `a` are in `b`: a[y, x] looks like b[y + flow_y, x + flow_x].

    Content that moves 3 pixels to the right from a to b has flow +3 in channel 0; content that
    moves down has a positive channel 1. Gradients flow through "spynet" only.

    Args:
        a: Frames, (N, 3, H, W), RGB in [0, 1].
        b: The same number of other frames, of the same size.
        method: See the top of this file.
        network: For "spynet" a trained `sharpreel.models.spynet.SPyNet`, or another module that
            maps (a, b) to their flow.

    Returns:
        (N, 2, H, W) in pixels of a, on its device and of its type; channel 0 right, 1 down.
    """
    if a.ndim != 4 or a.shape[1] != 3 or a.shape != b.shape or 0 in a.shape[2:]:
        raise ValueError(
            f"Flow needs two batches of RGB frames of one shape (N, 3, H, W), "
            f"got {tuple(a.shape)} and {tuple(b.shape)}. Repeat a grey frame three times."
        )
    match method:
        case "dis":
            return _dis(a.detach(), b.detach())
        case "coarse2fine":
            return _coarse2fine(a.detach(), b.detach())
        case "spynet":
            if network is None:
                raise ValueError(
                    "method='spynet' requires its network: pass network=, a SPyNet with weights."
                )
            flow: Tensor = network(a, b)
            return flow
        case "none":
            return a.new_zeros(a.shape[0], 2, *a.shape[2:])
        case _:
            raise ValueError(
                f"method={method!r} is not known; choose dis, coarse2fine, spynet or none."
            )


# Dense inverse search ------------------------------------------------------------------------


def _opencv() -> ModuleType:
    try:
        return importlib.import_module("cv2")
    except ImportError as e:
        raise MissingExtra("Optical flow by method 'dis' (OpenCV)", "torch") from e


def _dis(a: Tensor, b: Tensor) -> Tensor:
    cv2 = _opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    h, w = a.shape[2:]
    grow = (0, max(0, DIS_SMALLEST - w), 0, max(0, DIS_SMALLEST - h))
    both = F.pad(torch.stack([a, b]).flatten(0, 1).float(), grow, mode="replicate")
    grey = (both * both.new_tensor(GREY)[:, None, None]).sum(1).mul(255).round().clamp(0, 255)
    firsts, seconds = grey.to("cpu", torch.uint8).numpy().reshape(2, -1, *grey.shape[1:])
    flows = [
        search.calc(first, second, None)[:h, :w]
        for first, second in zip(firsts, seconds, strict=True)
    ]
    if not flows:
        return a.new_zeros(0, 2, h, w)
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(a).contiguous()


# Coarse to fine ------------------------------------------------------------------------------

ALPHA = 0.012  # weight of smoothness
RATIO = 0.75  # between two levels of the pyramid
MIN_WIDTH = 20
OUTER, SOR = 7, 30  # iterations at the finest level; level k adds k and 3 k
OMEGA = 1.8  # relaxation
EPSILON = 1e-6  # of the robust penalty sqrt(x^2 + epsilon)
SMOOTH = (0.02, 0.11, 0.74, 0.11, 0.02)
SLOPE = (1 / 12, -8 / 12, 0.0, 8 / 12, -1 / 12)
PIXELS_AT_ONCE = 1 << 17  # pairs of small frames are solved together


@torch.no_grad()
def _coarse2fine(a: Tensor, b: Tensor) -> Tensor:
    # In float64, as published; not every accelerator has it.
    device = a.device if a.device.type == "cuda" else torch.device("cpu")
    pairs = max(1, PIXELS_AT_ONCE // (a.shape[2] * a.shape[3]))
    flows = [
        _descend(first.to(device, torch.float64), second.to(device, torch.float64))
        for first, second in zip(torch.split(a, pairs), torch.split(b, pairs), strict=True)
    ]
    return torch.cat(flows).to(a)


def _descend(a: Tensor, b: Tensor) -> Tensor:
    """The flow (P, 2, H, W) of P pairs, from the coarsest level of two pyramids to the finest."""
    pyramids = list(zip(_pyramid(a), _pyramid(b), strict=True))
    flow = a.new_zeros(0)
    for level in reversed(range(len(pyramids))):
        first, second = map(_features, pyramids[level])
        p, _, h, w = first.shape
        if level == len(pyramids) - 1:
            flow, warped = a.new_zeros(p, 2, h, w), second
        else:
            ratio = (h / flow.shape[2], w / flow.shape[3])
            flow = _resize(flow, (h, w), ratio) / RATIO
            warped = _warp(second, flow, first)
        scored = torch.ones(p, first.shape[1], 1, 1, dtype=torch.bool, device=a.device)
        for _ in range(OUTER + level):
            flow = flow + _step(first, warped, flow, scored, SOR + 3 * level)
            warped = _warp(second, flow, first)
            # A channel that fits exactly no longer counts.
            scored = (first - warped).abs().mean((2, 3), keepdim=True) >= 1e-20
    return flow


def _pyramid(image: Tensor) -> list[Tensor]:
    """The image, finest first, each level RATIO times the size of the one before it."""
    h, w = image.shape[2:]
    levels = int(math.log(MIN_WIDTH / w) / math.log(RATIO))
    highest = int(math.log(min(4 / h, 1)) / math.log(RATIO)) + 1
    sigma = 1 / RATIO - 1
    leap = int(math.log(0.25) / math.log(RATIO))  # levels that one blur of the original spans
    pyramid = [image]
    for level in range(1, max(1, min(levels, highest))):
        back = min(level, leap)
        base = pyramid[level - back]
        # In floating point 3 * sigma falls just short of whole numbers, and the original cuts it
        # off: the radius is level - 1 pixels.
        blurred = _blur(base, sigma * back, int(sigma * back * 3))
        ratio = RATIO**level * w / base.shape[3]
        size = (max(1, int(base.shape[2] * ratio)), max(1, int(base.shape[3] * ratio)))
        pyramid.append(_resize(blurred, size, (ratio, ratio)))
    return pyramid


def _features(image: Tensor) -> Tensor:
    """Grey, its two slopes, G - R and G - B: (P, 3, H, W) -> (P, 5, H, W)."""
    red, green, blue = torch.split(image, 1, dim=1)
    grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
    slopes = [_filter(grey, SLOPE, dim) for dim in (3, 2)]
    return torch.cat([grey, *slopes, green - red, green - blue], dim=1)


def _step(a: Tensor, warped: Tensor, flow: Tensor, scored: Tensor, sweeps: int) -> Tensor:
    """One linearised improvement (P, 2, H, W) of the flow.

    It minimises, with both square roots replaced by parabolas that touch them here,

        mean over channels of sqrt((It + Ix du + Iy dv)^2 + eps)
        + ALPHA * sqrt(|grad (u + du)|^2 + |grad (v + dv)|^2 + eps)

    Args:
        a, warped: Features of the first frame, and of the second warped onto it, (P, 5, H, W).
        flow: The flow so far, (P, 2, H, W).
        scored: Which channels count, (P, 5, 1, 1).
        sweeps: Of the solver.
    """
    smooth_a, smooth_b = (_filter(_filter(x, SMOOTH, 3), SMOOTH, 2) for x in (a, warped))
    mixed = 0.4 * smooth_a + 0.6 * smooth_b
    ix, iy, it = _filter(mixed, SLOPE, 3), _filter(mixed, SLOPE, 2), smooth_b - smooth_a
    fit = 0.5 / (it * it + EPSILON).sqrt() * scored
    xx, yy, xy = ((fit * product).mean(1, keepdim=True) for product in (ix * ix, iy * iy, ix * iy))
    tx, ty = ((fit * it * slope).mean(1, keepdim=True) for slope in (ix, iy))

    right = F.pad(flow.diff(dim=3), (0, 1))
    down = F.pad(flow.diff(dim=2), (0, 0, 0, 1))
    stiff = ALPHA * 0.5 / ((right**2 + down**2).sum(1, keepdim=True) + EPSILON).sqrt()
    # A link ties a pixel to the one at its right, or below it, with the stiffness of the first.
    across, along = stiff[..., :-1], stiff[:, :, :-1]

    def add_neighbours(total: Tensor, of: Tensor) -> Tensor:
        total[..., 1:].addcmul_(across, of[..., :-1])
        total[..., :-1].addcmul_(across, of[..., 1:])
        total[:, :, 1:].addcmul_(along, of[:, :, :-1])
        total[:, :, :-1].addcmul_(along, of[:, :, 1:])
        return total

    ties = add_neighbours(torch.zeros_like(stiff), torch.ones_like(stiff))
    wanted = add_neighbours(-torch.cat([tx, ty], dim=1) - ties * flow, flow)
    diagonal = torch.cat([xx, yy], dim=1) + 0.05 * ALPHA + ties
    h, w = a.shape[2:]
    chess = (torch.arange(h, device=a.device)[:, None] + torch.arange(w, device=a.device)) % 2
    gains = [OMEGA * (chess == colour) / diagonal for colour in (0, 1)]
    change = torch.zeros_like(flow)
    du, dv = change[:, :1], change[:, 1:]
    for _ in range(sweeps):
        for gain in gains:
            left = add_neighbours(wanted.clone(), change).addcmul_(diagonal, change, value=-1)
            du.addcmul_(gain[:, :1], left[:, :1].addcmul_(xy, dv, value=-1))
            dv.addcmul_(gain[:, 1:], left[:, 1:].addcmul_(xy, du, value=-1))
    return change


def _filter(image: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    """Correlate along one axis (2 down, 3 right); outside the image its edge is repeated."""
    radius, size = len(taps) // 2, image.shape[dim]
    pad = (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius)
    wide = F.pad(image, pad, mode="replicate")
    out = torch.zeros_like(image)
    for i, tap in enumerate(taps):
        if tap:
            out.add_(wide.narrow(dim, i, size), alpha=tap)
    return out


def _blur(image: Tensor, sigma: float, radius: int) -> Tensor:
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-radius, radius + 1)]
    taps = tuple(weight / sum(weights) for weight in weights)
    return _filter(_filter(image, taps, 3), taps, 2)


def _resize(image: Tensor, size: tuple[int, int], ratio: tuple[float, float]) -> Tensor:
    """Bilinear, with the sample i + 1 of the output at (i + 1) / ratio of the input.

    Counting from 1 is the original's: it keeps the last samples, not the centres, together.
    """
    for dim, length, factor in zip((2, 3), size, ratio, strict=True):
        last = image.shape[dim] - 1
        at = ((torch.arange(1, length + 1, device=image.device) / factor) - 1).double()
        at = at.clamp(0, last)
        low = at.floor()
        part = at - low
        part = part[:, None] if dim == 2 else part
        index = low.long()
        below = image.index_select(dim, index)
        above = image.index_select(dim, (index + 1).clamp(max=last))
        image = below + part * (above - below)
    return image


def _warp(b: Tensor, flow: Tensor, a: Tensor) -> Tensor:
    """`b` sampled where the flow points, bilinear; pixels outside of it are taken from `a`."""
    p, c, h, w = b.shape
    x = torch.arange(w, device=b.device) + flow[:, 0]  # (P, H, W)
    y = torch.arange(h, device=b.device)[:, None] + flow[:, 1]
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    x, y = x.clamp(0, w - 1), y.clamp(0, h - 1)
    x0, y0 = x.floor(), y.floor()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    left, top = x0.long(), y0.long()
    pixels = b.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * w + column).reshape(p, 1, h * w).expand(p, c, h * w)
        return pixels.gather(2, index).reshape(p, c, h, w)

    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    upper = torch.lerp(at(top, left), at(top, right), fx)
    lower = torch.lerp(at(bottom, left), at(bottom, right), fx)
    return torch.where(inside[:, None], torch.lerp(upper, lower, fy), a)
