"""Images and text of the page."""

from __future__ import annotations

import base64

import numpy as np

from sharpreel.evaluation import html_page
from sharpreel.media import images


def test_16_bit_images_are_shown_in_8_bits() -> None:
    deep = np.array([[[0, 257, 65535]]], np.uint16)
    png = base64.b64decode(html_page._png(deep))
    assert png == images.encode_png(np.array([[[0, 1, 255]]], np.uint8))
