"""Images side by side, enlarged so that pixels are visible, with labels below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
INK, PAPER = (36, 36, 36), (255, 255, 255)
DIVIDER = 2  # pixels between two panels
LABEL_HEIGHT = 30


def side_by_side(labels: Sequence[str], rows: Sequence[Sequence[Pixels]], zoom: int) -> Image.Image:
    """Rows of RGB images of one size, each pixel zoom x zoom, with labels below the last row."""
    height, width = (zoom * side for side in rows[0][0].shape[:2])
    across, down = width + DIVIDER, height + DIVIDER
    size = (len(labels) * across - DIVIDER, len(rows) * down - DIVIDER + LABEL_HEIGHT)
    sheet = Image.new("RGB", size, PAPER)
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            panel = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(panel, (x * across, y * down))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for x, label in enumerate(labels):
        middle = (x * across + width / 2, size[1] - LABEL_HEIGHT / 2)
        draw.text(middle, label, fill=INK, font=font, anchor="mm")
    return sheet


def telling_window(a: Pixels, b: Pixels, height: int, width: int) -> tuple[slice, slice]:
    """The window in which two images (H, W, 3) differ most: largest mean difference."""
    height, width = min(height, a.shape[0]), min(width, a.shape[1])
    difference = np.abs(a.astype(np.float64) - b).mean(axis=2)
    # Integral image: sums over every window at once.
    total = np.pad(difference, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = total[height:, width:] - total[:-height, width:]
    sums += total[:-height, :-width] - total[height:, :-width]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(y), int(y) + height), slice(int(x), int(x) + width)
