"""ops.py: the bicubic kernel is MATLAB's, whoever computes it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sharpreel import ops


def by_torch(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """imresize by another road: torch's antialiased bicubic on a mirrored image, cropped."""
    h, w = image.shape
    pad = 64
    mirrored = np.pad(image, pad, mode="symmetric")
    up_h, up_w = height / h, width / w
    out = F.interpolate(
        torch.from_numpy(mirrored)[None, None],
        size=(round((h + 2 * pad) * up_h), round((w + 2 * pad) * up_w)),
        mode="bicubic",
        antialias=True,
    )[0, 0].numpy()
    top, left = round(pad * up_h), round(pad * up_w)
    return out[top : top + height, left : left + width]


@pytest.mark.parametrize("factor", [1 / 4, 1 / 2, 2, 4])
def test_resize_matches_imresize_up_to_the_border(factor: float) -> None:
    image = np.random.default_rng(0).random((48, 64))
    height, width = round(48 * factor), round(64 * factor)
    ours = ops.resize_matrix(48, height) @ image @ ops.resize_matrix(64, width).T
    np.testing.assert_allclose(ours, by_torch(image, height, width), atol=2e-6)


def test_resize_gives_the_values_matlab_prints() -> None:
    # imresize(uint8([0 64 128 192; 32 96 160 224; 64 128 192 255; 0 0 255 255]), 0.5) by hand:
    # 8 taps of the widened kernel, mirrored at the border, rounded once.
    image = np.array(
        [[0, 64, 128, 192], [32, 96, 160, 224], [64, 128, 192, 255], [0, 0, 255, 255]], np.uint8
    )
    taps = np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    kernel = ops.cubic(taps / 2) / 2
    mirrored = np.pad(image.astype(float), 4, mode="symmetric")
    wanted = np.zeros((2, 2))
    for y in range(2):
        for x in range(2):
            patch = mirrored[4 + 2 * y - 3 : 4 + 2 * y + 5, 4 + 2 * x - 3 : 4 + 2 * x + 5]
            wanted[y, x] = kernel @ patch @ kernel
    got = ops.resize(image[..., None], 2, 2)[..., 0]
    np.testing.assert_array_equal(got, np.rint(wanted))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resize_keeps_flat_frames_flat_and_clips_overshoot(dtype: type) -> None:
    top = np.iinfo(dtype).max
    flat: np.ndarray = np.full((20, 30, 3), top, dtype)
    np.testing.assert_array_equal(ops.resize(flat, 45, 17), np.full((45, 17, 3), top, dtype))
    edge: np.ndarray = np.zeros((8, 8, 1), dtype)
    edge[:, 4:] = top
    enlarged = ops.resize(edge, 32, 32)
    assert enlarged.max() == top
    assert enlarged.min() == 0


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_phases_of_an_enlargement_are_the_same_bicubic(scale: int) -> None:
    image = np.random.default_rng(1).random((12, 10)).astype(np.float32)
    padded = torch.from_numpy(np.pad(image, 2, mode="symmetric"))[None, None]
    kernel = torch.from_numpy(ops.bicubic_phases(scale))[:, None]
    sub_pixels = F.conv2d(padded, kernel)
    enlarged = F.pixel_shuffle(sub_pixels, scale)[0, 0].numpy()
    wanted = ops.resize_matrix(12, 12 * scale) @ image @ ops.resize_matrix(10, 10 * scale).T
    np.testing.assert_allclose(enlarged, wanted, atol=1e-6)


def test_weights_of_every_output_sample_sum_to_one() -> None:
    for size_in, size_out in [(5, 13), (13, 5), (1, 7), (7, 1), (480, 1080)]:
        np.testing.assert_allclose(ops.resize_matrix(size_in, size_out).sum(1), 1, atol=1e-6)


def test_padding_repeats_the_edge_and_leaves_multiples_alone() -> None:
    frame = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    padded = ops.pad_to_multiple(frame, 4)
    assert padded.shape == (8, 8, 3)
    np.testing.assert_array_equal(padded[:5, :7], frame)
    np.testing.assert_array_equal(padded[7, :7], frame[4])
    assert ops.pad_to_multiple(padded, 4) is padded


def test_luma_of_black_and_white_is_studio_range_at_any_depth() -> None:
    for dtype in (np.uint8, np.uint16):
        frame = np.zeros((1, 2, 3), dtype)
        frame[0, 1] = np.iinfo(dtype).max
        np.testing.assert_allclose(ops.luma(frame), [[16, 235]], atol=1e-9)
