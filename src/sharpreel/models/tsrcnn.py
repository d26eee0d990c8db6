"""TSRCNN: SRCNN over a window of frames, small (51,203 parameters) and large (222,723).

Where it comes from: "Temporal Super Resolution" (code
github.com/Dawid64/super-enhanced-resolution, `qsr/model.py`; no licence file found there, so the
code here is our own and only the layers and the tensor names are theirs), after SRCNN (Dong et
al., "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016). A window of frames is
enlarged bicubically, stacked on channels, oldest first, and three convolutions make the target
frame from it. No residual, no output activation.

What we changed: the original convolves without padding and loses 6 (small) or 9 (large) pixels on
every side, so that 640x360 becomes 1268x708. Here the enlarged window is padded with its edge
pixels by as much as will be lost: the output is exactly `scale` times the input, and inside that
border it is what the original computes. The enlargement keeps the original's sampling positions
(those of `F.interpolate(scale_factor=...)`) but rounds the size where that cuts it: at scale 1.5,
13 rows become 20 here and 19 there. (Halves round to the even number, as Python's `round` does.) A
missing neighbour at a clip's ends is the target frame itself; the original makes no frame there.

A `.pt` file holds six tensors, but neither the scale nor how the frames split into past and future;
both are in the original's file names, which `read_name` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import bare, fits
from sharpreel.models.layers import window_times

Size = Literal["small", "large"]


class Widths(NamedTuple):
    """Kernel sizes and channels of the three convolutions."""

    kernels: tuple[int, int, int]
    channels: tuple[int, int]

    @property
    def border(self) -> int:
        """Pixels that the convolutions without padding lose on every side."""
        return sum(kernel // 2 for kernel in self.kernels)


WIDTHS: dict[Size, Widths] = {
    "small": Widths(kernels=(9, 1, 5), channels=(64, 32)),
    "large": Widths(kernels=(11, 3, 7), channels=(128, 64)),
}


def rounded(length: float | Tensor) -> Any:
    """The nearest integer, halves to even. Sizes are tensors while a network is traced."""
    return torch.round(length).long() if isinstance(length, Tensor) else round(length)


class Enlarge(nn.Module):
    """Bicubic enlargement by any scale from 1 up, and a border of repeated edge pixels.

    (N, C, H, W) -> (N, C, round(scale * H) + 2 * border, round(scale * W) + 2 * border)
    """

    def __init__(self, scale: float, border: int) -> None:
        super().__init__()
        self.scale, self.border = scale, border

    def forward(self, x: Tensor) -> Tensor:
        if self.scale.is_integer():
            x = self.interpolate(x)
        else:
            # `interpolate` truncates where we round: add one pixel before, cut the surplus after.
            # It repeats edge pixels itself, so a repeated pixel changes no sample.
            rows, columns = (rounded(self.scale * side) for side in x.shape[-2:])
            x = self.interpolate(F.pad(x, (0, 1, 0, 1), mode="replicate"))[..., :rows, :columns]
        return F.pad(x, (self.border,) * 4, mode="replicate")

    def interpolate(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)


class TSRCNN(nn.Module):
    """The three-layer network and its windows over a clip.

    Args:
        size: "small" (9x9, 1x1, 5x5) or "large" (11x11, 3x3, 7x7).
        past, future: Neighbours before and after the target frame.
        scale: Any scale from 1 up.
    """

    at_once = 4  # frames per call of `along` in engines: neighbouring windows share frames

    def __init__(
        self, size: Size = "small", past: int = 1, future: int = 1, scale: float = 2
    ) -> None:
        super().__init__()
        if size not in WIDTHS:
            raise ValueError(f"size must be one of {', '.join(WIDTHS)}, got {size!r}.")
        if past < 0 or future < 0:
            raise ValueError(f"past and future must be 0 or more, got {past} and {future}.")
        if not scale >= 1:
            raise ValueError(f"scale must be 1 or more, got {scale}.")
        self.size, self.past, self.future, self.scale = size, past, future, float(scale)
        widths = WIDTHS[size]
        (k1, k2, k3), (c1, c2) = widths
        self.layers = nn.Sequential(
            Enlarge(self.scale, widths.border),
            nn.Conv2d(3 * (past + 1 + future), c1, k1),
            nn.ReLU(),
            nn.Conv2d(c1, c2, k2),
            nn.ReLU(),
            nn.Conv2d(c2, 3, k3),
        )

    def centre(self, window: Tensor) -> Tensor:
        """(N, past+1+future, 3, H, W), oldest first -> the target frame, (N, 3, sH, sW)."""
        sr: Tensor = self.layers(window.flatten(1, 2))  # frames become channels, RGB within each
        return sr

    def along(self, clip: Tensor, first: int, count: int) -> Tensor:
        """Frames first, first + 1, ... of (N, T, 3, H, W) -> (N, count, 3, sH, sW), not clamped.

        Each frame is enlarged once, for all the windows it is in.
        """
        n, t = clip.shape[:2]
        enlarged = self.layers[0](clip.flatten(0, 1)).unflatten(0, (n, t))
        sr = []
        for now in range(first, first + count):
            window = enlarged[:, window_times(t, now, self.past, self.future)]
            sr.append(self.layers[1:](window.flatten(1, 2)))
        return torch.stack(sr, dim=1)

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W) in [0, 1] -> (N, T, 3, sH, sW), not clamped."""
        return self.along(clip, 0, clip.shape[1])


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Arguments of the `TSRCNN` that `state` belongs to, and its tensors; None for another.

    The arguments are `size`, `past` and `future`, never `scale`, which no tensor depends on: the
    caller must supply it. How the frames split is not in the tensors either; an even number of
    neighbours is split in halves (as in every published file), an odd one gets one more past frame.
    """
    tensors = bare(state)
    first = tensors.get("layers.1.weight")
    if first is None or first.ndim != 4 or first.shape[1] % 3 or first.shape[1] == 0:
        return None
    neighbours = first.shape[1] // 3 - 1
    future = neighbours // 2
    for size in WIDTHS:
        arguments = {"size": size, "past": neighbours - future, "future": future}
        found = fits(TSRCNN, arguments, tensors)
        if found is not None:
            return arguments, found
    return None


def recognise_file(
    state: Mapping[str, Tensor], file_name: str
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """As `recognise`, with the scale and the split of the frames from the original's file name."""
    found = recognise(state)
    if found is None:
        return None
    arguments, tensors = found
    named = read_name(file_name)
    frames = named.get("past", 0) + named.get("future", 0)
    if named.get("size") == arguments["size"] and frames == arguments["past"] + arguments["future"]:
        arguments = arguments | named
    return arguments, tensors


_NAME = re.compile(
    r"(?P<size>small|large)_(?P<low>\d+)_(?P<high>\d+)_"
    r"(?:.*_)?(?P<past>\d+)fb_(?P<future>\d+)ff(?:_|\.|$)"
)


def read_name(name: str) -> dict[str, Any]:
    """All arguments of `TSRCNN` from a file name of the original; empty when it is not one.

    small_360_720_252videos_AdamWopt_PNSRloss_1fb_1ff_3ep_final.pt
        ->  size="small", past=1, future=1, scale=2.0
    """
    match = _NAME.match(name)
    if match is None or not 0 < int(match["low"]) <= int(match["high"]):
        return {}
    return {
        "size": match["size"],
        "past": int(match["past"]),
        "future": int(match["future"]),
        "scale": int(match["high"]) / int(match["low"]),
    }
