"""Frames of the live socket: their size is read from the header before they are decoded."""

from __future__ import annotations

import numpy as np
import pytest

from sharpreel.web.http import live_protocol as protocol
from sharpreel.web.http.live_images import decode, encode, image_size


@pytest.mark.parametrize("kind", [".jpg", ".webp"])
def test_an_encoded_frame_is_decoded_again(kind: str) -> None:
    ramp = np.linspace(0, 255, 64 * 48, dtype=np.uint8).reshape(48, 64, 1)
    frame = np.repeat(ramp, 3, axis=2)
    data = encode(kind, frame)
    assert image_size(data) == (kind, 64, 48)
    decoded_kind, pixels = decode(data)
    assert (decoded_kind, pixels.shape) == (kind, frame.shape)
    assert np.abs(pixels.astype(int) - frame).mean() < 3


@pytest.mark.parametrize(
    ("size", "code"), [((400, 400), protocol.TOO_BIG), ((100, 8), protocol.INVALID_IMAGE)]
)
def test_a_frame_outside_the_size_limits_is_rejected(size: tuple[int, int], code: int) -> None:
    data = encode(".jpg", np.zeros((size[1], size[0], 3), np.uint8))
    with pytest.raises(protocol.LiveError) as rejected:
        decode(data)
    assert rejected.value.code == code


def test_other_data_is_rejected() -> None:
    for data in (b"", b"GIF89a" + bytes(100), b"\xff\xd8" + bytes(100)):
        with pytest.raises(protocol.LiveError) as rejected:
            decode(data)
        assert rejected.value.code == protocol.INVALID_IMAGE
