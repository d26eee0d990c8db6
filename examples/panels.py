"""Images side by side, enlarged so that pixels are visible, with a label below each column.

Needs PyAV and NumPy only, so that the demo runs without any optional dependency. The letters are
those of Aileron (CC0) at 16 pixels, white on black, one cell for each printable ASCII character.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
HERE = Path(__file__).parent
INK, PAPER = 36, 255  # grey levels
DIVIDER = 2  # pixels between two panels
LABEL_HEIGHT = 30
FIRST_LETTER, NUM_LETTERS, SPACE_WIDTH = ord(" "), 95, 4


def read_image(path: Path) -> Pixels:
    """An image file as RGB, (H, W, 3)."""
    with av.open(str(path)) as file:
        return np.asarray(next(file.decode(video=0)).to_ndarray(format="rgb24"), np.uint8)


def write_png(path: Path, pixels: Pixels) -> Path:
    """Write RGB pixels (H, W, 3) as a PNG file; returns its path."""
    height, width, _ = pixels.shape
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    return path


@functools.cache
def letters() -> list[npt.NDArray[np.float64]]:
    """Coverage in [0, 1] of each printable ASCII character, cut off after its last column."""
    sheet = read_image(HERE / "letters.png")[..., 0] / 255
    cells = np.split(sheet, NUM_LETTERS, axis=1)
    return [cell[:, : np.flatnonzero(cell.any(axis=0))[-1] + 1] for cell in cells if cell.any()]


def draw_label(sheet: Pixels, label: str, middle_x: int, middle_y: int) -> None:
    """Draw one line of ASCII text on `sheet`, centred on a point."""
    glyphs = [None if c == " " else letters()[ord(c) - FIRST_LETTER - 1] for c in label]
    # The first column of a glyph is empty and overlaps the last column of the one before it.
    widths = [SPACE_WIDTH if glyph is None else glyph.shape[1] - 1 for glyph in glyphs]
    height = letters()[0].shape[0]
    coverage = np.zeros((height, sum(widths) + 1))
    x = 0
    for glyph, width in zip(glyphs, widths, strict=True):
        if glyph is not None:
            part = coverage[:, x : x + glyph.shape[1]]
            np.maximum(part, glyph, out=part)
        x += width
    top, left = middle_y - height // 2, max(middle_x - coverage.shape[1] // 2, 0)
    area = sheet[top : top + height, left : left + coverage.shape[1]]
    ink = coverage[:, : area.shape[1], None]
    area[:] = np.round(area + ink * (INK - area.astype(np.float64)))


def side_by_side(labels: Sequence[str], rows: Sequence[Sequence[Pixels]], zoom: int) -> Pixels:
    """Rows of RGB images of one size, each pixel zoom x zoom, with labels below the last row."""
    height, width = (zoom * side for side in rows[0][0].shape[:2])
    across, down = width + DIVIDER, height + DIVIDER
    size = (len(rows) * down - DIVIDER + LABEL_HEIGHT, len(labels) * across - DIVIDER, 3)
    sheet = np.full(size, PAPER, np.uint8)
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            panel = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
            sheet[y * down : y * down + height, x * across : x * across + width] = panel
    for x, label in enumerate(labels):
        draw_label(sheet, label, x * across + width // 2, size[0] - LABEL_HEIGHT // 2)
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
