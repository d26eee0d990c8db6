"""A contact sheet: a few frames of a comparison as one image, evenly spread over the video."""

from __future__ import annotations

import importlib

import numpy as np

from sharpreel import ops
from sharpreel.ops import Pixels

SHEET_FRAMES, THUMBNAIL_WIDTH = 6, 480  # rows of the sheet; width of a thumbnail, pixels
AMPLIFIED = 4  # times, differences in the sheet
TITLES = ("a", "b", f"|a - b| x{AMPLIFIED}", "reference")
GAP, HEAD, GREY = 8, 26, 24  # pixels between thumbnails and above them; level of both


class ContactSheet:
    """Rows of thumbnails of a few frames, spread evenly over a video of unknown length.

    Every `step`-th frame is kept; when there are twice as many as needed, every other one is
    dropped and the step doubles.
    """

    def __init__(self) -> None:
        self._step = 1
        self._rows: list[tuple[int, list[Pixels]]] = []

    def offer(self, index: int, pixels: list[Pixels]) -> None:
        """Consider frame `index`: a, b and, if there is one, the reference."""
        if index % self._step:
            return
        if len(self._rows) == 2 * SHEET_FRAMES:
            self._rows = self._rows[::2]
            self._step *= 2
            if index % self._step:
                return
        a, b, *reference = pixels
        top = np.iinfo(a.dtype).max
        difference = np.abs(a.astype(np.int32) - b.astype(np.int32)) * AMPLIFIED
        versions = [a, b, difference.clip(0, top).astype(a.dtype), *reference]
        self._rows.append((index, [_thumbnail(version) for version in versions]))

    def image(self) -> Pixels:
        """The sheet, RGB in 8 bits."""
        count = min(len(self._rows), SHEET_FRAMES)
        chosen = [self._rows[round(k)] for k in np.linspace(0, len(self._rows) - 1, count)]
        lines = []
        for index, thumbnails in chosen:
            cells = []
            for title, thumbnail in zip(TITLES, thumbnails, strict=False):
                cell = np.pad(thumbnail, ((HEAD, 0), (0, GAP), (0, 0)), constant_values=GREY)
                cells.append(_labelled(cell, f"{title}, frame {index}"))
            lines.append(np.concatenate(cells, axis=1))
        sheet = np.concatenate(lines, axis=0)
        return np.pad(sheet, ((0, GAP), (GAP, 0), (0, 0)), constant_values=GREY)


def _thumbnail(pixels: Pixels) -> Pixels:
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    height, width = pixels.shape[:2]
    if width <= THUMBNAIL_WIDTH:
        return pixels.copy()
    return ops.resize(pixels, max(round(height * THUMBNAIL_WIDTH / width), 1), THUMBNAIL_WIDTH)


def _labelled(cell: Pixels, text: str) -> Pixels:
    """The cell with a line of text at its top, if OpenCV is installed and the text fits."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return cell
    cell = np.ascontiguousarray(cell)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for label in (text, text.partition(",")[0]):
        if cv2.getTextSize(label, font, 0.42, 1)[0][0] <= cell.shape[1]:
            cv2.putText(cell, label, (0, 18), font, 0.42, (230,) * 3, 1, cv2.LINE_AA)
            break
    return cell
