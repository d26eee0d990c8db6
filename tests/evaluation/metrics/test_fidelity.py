"""metrics.py against scikit-image, torchmetrics, plain loops and pictures whose answer is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sharpreel import ops
from sharpreel.errors import InputError, MissingExtra, UsageError
from sharpreel.evaluation import protocols
from sharpreel.evaluation.metrics.fidelity import (
    MS_SSIM_WEIGHTS,
    is_constant,
    ms_ssim,
    psnr,
    psnr_y,
    qm,
    score,
    ssim,
)
from sharpreel.evaluation.metrics.niqe import Niqe, _niqe_features
from sharpreel.evaluation.metrics.seams import seam_in_space, seam_in_time
from sharpreel.evaluation.metrics.temporal import (
    _Samples,
    _seen_in_both,
    _targets,
    flicker,
    tof,
    tof_pair,
    warping_error,
)
from sharpreel.evaluation.metrics.vmaf import vmaf
from sharpreel.evaluation.protocols import PROTOCOLS, Measured, Protocol, measure
from tests.support.videos import Pixels, moving, write_frames

PHOTO: Pixels = skimage.data.astronaut()
CAT: Pixels = skimage.data.chelsea()
COFFEE: Pixels = skimage.data.coffee()
CAMERA: Pixels = np.repeat(skimage.data.camera()[..., None], 3, axis=2)


def noisy(frame: Pixels, sigma: float = 8.0) -> Pixels:
    values = frame + np.random.default_rng(0).normal(0, sigma, frame.shape)
    return to_bytes(values)


def blurred(frame: Pixels, sigma: float = 2.0) -> Pixels:
    return to_bytes(gaussian(frame.astype(float), sigma, channel_axis=2))


def to_bytes(values: npt.NDArray[np.float64]) -> Pixels:
    frame: Pixels = np.rint(values.clip(0, 255)).astype(np.uint8)
    return frame


HR: Pixels = PHOTO[100:220, 150:270]
SR: Pixels = noisy(blurred(HR, 0.8))


def deep(frame: Pixels) -> Pixels:
    """The same picture in 16 bits."""
    return frame.astype(np.uint16) * 257


def texture(height: int, width: int, right: int = 0, down: int = 0) -> Pixels:
    """A smooth pattern whose content is moved by whole pixels."""
    noise = np.random.default_rng(1).normal(0, 1, (height + 40, width + 40, 3))
    large = gaussian(noise, 2.5, channel_axis=2)
    view = large[20 - down : 20 - down + height, 20 - right : 20 - right + width]
    return to_bytes(127 + 200 * view / np.abs(large).max())


def pair(frames: list[Pixels], t: int) -> tuple[Pixels, Pixels]:
    return frames[t], frames[t + 1]


# Pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("crop_border", [0, 4])
def test_psnr_of_rgb_is_scikit_images(crop_border: int) -> None:
    inner = slice(crop_border, -crop_border or None)
    wanted = peak_signal_noise_ratio(HR[inner, inner], SR[inner, inner])
    assert psnr(SR, HR, "rgb", crop_border) == pytest.approx(wanted)


def test_psnr_of_y_is_scikit_images_on_luma_rounded_or_not() -> None:
    a, b = ops.luma(SR), ops.luma(HR)
    wanted = peak_signal_noise_ratio(b, a, data_range=255)
    assert psnr(SR, HR) == psnr_y(SR, HR) == pytest.approx(wanted)
    wanted = peak_signal_noise_ratio(np.rint(b), np.rint(a), data_range=255)
    assert psnr(SR, HR, rounded=True) == pytest.approx(wanted, rel=1e-12)
    assert psnr(SR, HR, rounded=True) != psnr(SR, HR)


def test_equal_pictures_are_infinitely_far_above_noise_and_wholly_similar() -> None:
    large = PHOTO[:200, :180]
    assert psnr(HR, HR) == psnr(HR, HR, "rgb", 3) == math.inf
    assert ssim(HR, HR, "rgb") == pytest.approx(1, abs=1e-12)
    assert ms_ssim(large, large) == pytest.approx(1, abs=1e-12)


def test_sixteen_bits_score_like_their_eight_bit_twins() -> None:
    a, b = deep(SR), deep(HR)
    assert psnr(a, b, "rgb") == pytest.approx(psnr(SR, HR, "rgb"))
    assert ssim(a, b) == pytest.approx(ssim(SR, HR))
    assert flicker(a, b, b, b) == pytest.approx(flicker(SR, HR, HR, HR))
    assert tof_pair(a, b, b, b) == tof_pair(SR, HR, HR, HR)


def test_matlab_ssim_is_scikit_images_on_full_windows() -> None:
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = [(ops.luma(SR), ops.luma(HR)), *((SR[..., c], HR[..., c]) for c in range(3))]
    wanted = []
    for a, b in pairs:
        _, full = structural_similarity(
            a.astype(float), b.astype(float), data_range=255, full=True, **settings
        )
        wanted.append(full[5:-5, 5:-5].mean())
    assert ssim(SR, HR) == pytest.approx(wanted[0], abs=1e-9)
    assert ssim(SR, HR, "rgb") == pytest.approx(np.mean(wanted[1:]), abs=1e-9)


def test_uniform_ssim_is_scikit_images_default() -> None:
    a, b = ops.luma(SR), ops.luma(HR)
    wanted = structural_similarity(b, a, data_range=255)
    assert ssim(SR, HR, window="uniform") == pytest.approx(wanted, abs=1e-9)


def test_seven_tap_ssim_is_a_plain_sum_over_windows() -> None:
    sr, hr = SR[:10, :9].astype(float), HR[:10, :9].astype(float)
    line = np.exp(-(np.arange(-3, 4) ** 2) / 2)
    weight = np.outer(line, line) / line.sum() ** 2
    c1, c2 = 2.55**2, 7.65**2
    values = []
    for c in range(3):
        for y in range(4):
            for x in range(3):
                a, b = (f[y : y + 7, x : x + 7, c] for f in (sr, hr))
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a = (weight * (a - mean_a) ** 2).sum()
                var_b = (weight * (b - mean_b) ** 2).sum()
                both = (weight * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + c1)
                    * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
    measured = ssim(SR[:10, :9], HR[:10, :9], "rgb", window="seven")
    assert measured == pytest.approx(np.mean(values), abs=1e-9)


def test_ssim_leaves_out_the_border() -> None:
    inner = slice(6, -6)
    assert ssim(SR, HR, crop_border=6) == ssim(SR[inner, inner], HR[inner, inner])


def test_ms_ssim_is_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    similarity = torchmetrics.structural_similarity_index_measure
    hr = PHOTO[:192, :208]
    sr = noisy(blurred(hr, 1.5), 12)
    a, b = (torch.from_numpy(ops.luma(f))[None, None] for f in (sr, hr))
    wanted = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale < 4:
            _, value = similarity(a, b, data_range=255.0, return_contrast_sensitivity=True)
        else:  # its own MS-SSIM takes borders that are made up into this one; Wang's does not
            _, full = similarity(a, b, data_range=255.0, return_full_image=True)
            value = full[..., 5:-5, 5:-5].mean()
        wanted *= float(value) ** weight
        a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
    assert ms_ssim(sr, hr) == pytest.approx(wanted, abs=1e-6)
    assert 0.5 < wanted < 0.99


def test_ms_ssim_takes_odd_sizes_and_colours() -> None:
    hr = PHOTO[:179, :201]
    values = [ms_ssim(noisy(hr, sigma), hr, "rgb") for sigma in (4, 12, 36)]
    assert sorted(values, reverse=True) == values


@pytest.mark.parametrize(
    ("sr", "hr", "message"),
    [
        (SR[:-1], HR, r"one shape, got \(119, 120, 3\) and \(120, 120, 3\)"),
        (deep(SR), HR, "one type, got uint16 and uint8"),
        (SR[..., :1], HR[..., :1], r"\(H, W, 3\)"),
        (SR / 255, HR / 255, "uint8 or uint16, got float64"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(sr: Pixels, hr: Pixels, message: str) -> None:
    measures: list[Callable[[Pixels, Pixels], object]] = [
        psnr,
        ssim,
        ms_ssim,
        lambda a, b: protocols.measure(a, b, PROTOCOLS["P1"]),
        lambda a, b: warping_error(a, a, b, b),
    ]
    for one in measures:
        with pytest.raises(ValueError, match=message):
            one(sr, hr)


def test_frames_too_small_for_a_window_are_refused() -> None:
    tiny = HR[:10, :30]
    with pytest.raises(ValueError, match="11x11 does not fit into 30x10"):
        ssim(tiny, tiny)
    assert ssim(tiny, tiny, window="seven") == pytest.approx(1)
    with pytest.raises(ValueError, match="176 pixels or more, got 120x120"):
        ms_ssim(HR, HR)
    with pytest.raises(ValueError, match="leaves nothing"):
        psnr(tiny, tiny, crop_border=5)
    with pytest.raises(ValueError, match="16 pixels or more"):
        warping_error(tiny, tiny, tiny, tiny)


def test_unknown_channels_and_windows_are_named() -> None:
    with pytest.raises(ValueError, match="Unknown channel 'luma'"):
        psnr(SR, HR, "luma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unknown window 'box'; there are matlab, seven"):
        ssim(SR, HR, window="box")  # type: ignore[arg-type]


def test_a_picture_of_one_colour_is_constant() -> None:
    flat = np.full((8, 8, 3), (3, 200, 7), np.uint8)
    assert is_constant(flat)
    flat[5, 5, 1] += 1
    assert not is_constant(flat)


def test_qm_is_the_geometric_mean_and_score_the_share_above_zero() -> None:
    assert qm(32.0, 0.5) == 4.0
    assert math.isnan(qm(10.0, -0.1))
    # One line of published edges, of "R1 small AdamW PNSR 36v".
    edges = [-0.1344, 0.0582, 0.0921, 0.0228, 0.0090, -0.0265, -1.2760, 0.0081, 0.0776, -0.2818]
    assert score(edges) == 0.6
    assert score([0.0, 1.0]) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        score([])


# NIQE ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def niqe() -> Niqe:
    return Niqe.fit([CAMERA, COFFEE, CAT, PHOTO[:, ::-1]], sharpness=0)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_niqe_of_a_new_photograph_is_better_than_of_its_blurred_and_noisy_copies(name: str) -> None:
    photos = {"astronaut": PHOTO, "coffee": COFFEE, "chelsea": CAT, "camera": CAMERA}
    photo = photos.pop(name)
    model = Niqe.fit(photos.values(), sharpness=0)
    clean, soft, softer, rough = map(
        model, (photo, blurred(photo, 1), blurred(photo, 2), noisy(photo, 20))
    )
    assert 0 < clean < soft < softer
    assert clean < min(softer, rough) / 2


def test_niqe_features_are_those_of_a_plain_program() -> None:
    frame = CAT[:192, :200]
    features, _ = _niqe_features(frame)
    x = np.arange(-3, 4)
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def smooth(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        wide = np.pad(image, 3, mode="edge")
        views = np.lib.stride_tricks.sliding_window_view(wide, (7, 7))
        out: npt.NDArray[np.float64] = np.einsum("hwij,ij->hw", views, window)
        return out

    image = ops.luma(frame)[:192, :192]
    wanted = []
    for size in (96, 48):
        mean = smooth(image)
        deviation = np.sqrt(np.abs(smooth(image**2) - mean**2))
        normal = (image - mean) / (deviation + 1)
        for y in (0, size):
            for x0 in (0, size):
                wanted.append(plain_features(normal[y : y + size, x0 : x0 + size]))
        if size == 96:
            image = ops.resize_matrix(192, 96) @ image @ ops.resize_matrix(192, 96).T
    assert features == pytest.approx(np.hstack([wanted[:4], wanted[4:]]), rel=1e-6, abs=1e-9)


def plain_features(block: npt.NDArray[np.float64]) -> list[float]:
    shape, left, right = plain_fit(block)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = plain_fit(block * np.roll(block, shift, (0, 1)))
        mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
        features += [shape, mean, left, right]
    return features


def plain_fit(block: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    shapes = np.arange(0.2, 10.0001, 0.001)
    one, two, three = ([math.gamma(n / shape) for shape in shapes] for n in (1, 2, 3))
    table = np.array(two) ** 2 / (np.array(one) * np.array(three))
    left = np.sqrt(np.mean(block[block < 0] ** 2))
    right = np.sqrt(np.mean(block[block > 0] ** 2))
    skew = left / right
    wanted = np.mean(np.abs(block)) ** 2 / np.mean(block**2)
    wanted *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = shapes[np.argmin((table - wanted) ** 2)]
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * scale, right * scale


def test_only_the_sharpest_blocks_are_fitted() -> None:
    blocks, deviation = _niqe_features(PHOTO)
    sharp = blocks[deviation > 0.5 * deviation.max()]
    assert 2 < len(sharp) < len(blocks)
    model = Niqe.fit(iter([PHOTO]), sharpness=0.5)
    assert model.mean == pytest.approx(sharp.mean(axis=0))
    assert model.covariance == pytest.approx(np.cov(sharp.T))


def test_niqe_is_saved_and_loaded(niqe: Niqe, tmp_path: Path) -> None:
    path = tmp_path / "model.data"
    niqe.save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert Niqe.load(path)(CAT) == niqe(CAT)


def test_a_file_that_is_no_niqe_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.npz"):
        Niqe.load(tmp_path / "gone.npz")
    path = tmp_path / "other.npz"
    for write in (
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(b"PK\3\4 damaged"),
        lambda: path.write_text("words"),
        lambda: np.savez(path, mean=np.zeros(36)),
        lambda: np.savez(path, mean=np.zeros(3), covariance=np.eye(3)),
        lambda: np.savez(path, mean=np.array([None]), covariance=np.eye(36)),
    ):
        write()
        with pytest.raises(InputError, match=r"other\.npz: is not a NIQE model"):
            Niqe.load(path)


def test_niqe_of_flat_and_of_small_pictures_is_no_number(niqe: Niqe) -> None:
    assert math.isnan(niqe(np.full((200, 200, 3), 90, np.uint8)))
    half = PHOTO[:192, :288].copy()
    half[:96, :96] = 128
    assert niqe(half) > 0  # its flat block does not count
    with pytest.raises(ValueError, match="two blocks of 96x96 pixels, got 120x120"):
        niqe(HR)
    with pytest.raises(ValueError, match="96 pixels or more"):
        Niqe.fit([HR[:90]])
    for frames in ([], [HR]):
        with pytest.raises(ValueError, match="blocks of 96x96 pixels are sharp enough"):
            Niqe.fit(frames)


# Motion --------------------------------------------------------------------------------------


def test_tof_is_the_difference_of_two_known_shifts() -> None:
    still, right = texture(120, 160), texture(120, 160, right=2)
    both = texture(120, 160, right=2, down=2)
    protocol = Protocol("inner", "Away from the frame's edge.", crop_border=30)
    assert tof_pair(still, right, still, right) == 0
    assert tof_pair(still, still, still, right, protocol) == pytest.approx(2, abs=0.1)
    assert tof_pair(still, right, still, both, protocol) == pytest.approx(2, abs=0.1)
    assert tof_pair(still, still, still, both, protocol) == pytest.approx(8**0.5, abs=0.1)


def test_tof_of_a_video_is_the_mean_over_its_pairs_and_takes_frames_one_by_one() -> None:
    hr = list(moving((96, 64), 5))
    sr = [noisy(f, 6) for f in hr]
    pairs = [tof_pair(*pair(sr, t), *pair(hr, t)) for t in range(4)]
    assert tof(iter(sr), iter(hr)) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="equally many frames, but sr ends after 4"):
        tof(sr[:-1], hr)
    with pytest.raises(ValueError, match="two frames or more"):
        tof(sr[:1], hr[:1])


def test_tof_by_tecogans_protocol_leaves_out_border_and_ends() -> None:
    hr = list(moving((96, 64), 7))
    sr = [noisy(f, 6) for f in hr]
    teco = PROTOCOLS["P3"]
    pairs = [tof_pair(*pair(sr, t), *pair(hr, t), teco) for t in (2, 3)]
    assert tof(sr, hr, teco) == pytest.approx(np.mean(pairs))
    assert pairs[0] != tof_pair(*pair(sr, 2), *pair(hr, 2))
    with pytest.raises(ValueError, match="two frames or more"):
        tof(sr[:5], hr[:5], teco)


def test_a_video_that_moves_like_the_truth_has_no_warping_error() -> None:
    a, b = texture(120, 160), texture(120, 160, right=3, down=-2)
    assert warping_error(a, b, a, b) < 2e-6
    darker = (b - b // 5).astype(np.uint8)
    wanted = np.mean(((b // 5) / 255.0) ** 2)
    assert warping_error(a, darker, a, b) == pytest.approx(wanted, rel=0.05)
    assert warping_error(a, a, a, b) > 1000 * warping_error(a, b, a, b)


def test_warping_error_of_a_still_truth_is_the_mean_square_of_the_change() -> None:
    truth = texture(48, 64)
    sr = noisy(truth, 5)
    wanted = np.mean((sr.astype(float) - truth) ** 2) / 255**2
    assert warping_error(truth, sr, truth, truth) == pytest.approx(wanted)


def test_pixels_that_get_hidden_do_not_count_in_the_warping_error() -> None:
    ground, box = texture(120, 160), texture(120, 160, down=9)[:40, :40]
    frames = []
    for left in (50, 58):  # the box covers 8 columns more at its right
        frame = ground.copy()
        frame[40:80, left : left + 40] = box
        frames.append(frame)
    flow = np.zeros((120, 160, 2))
    flow[40:80, 50:90, 0] = 8
    back = np.zeros((120, 160, 2))
    back[40:80, 58:98, 0] = -8
    seen = _seen_in_both(flow, back)
    assert not seen[41:79, 90:98].any()
    assert seen[41:79, 52:88].all()
    assert seen[:38].all()
    assert warping_error(*pair(frames, 0), *pair(frames, 0)) < 1e-4


def test_pixels_that_leave_the_frame_do_not_count_in_the_warping_error() -> None:
    flow = np.zeros((20, 30, 2))
    flow[..., 0] = 4
    seen = _seen_in_both(flow, -flow)
    assert seen[:, :26].all()
    assert not seen[:, 26:].any()
    assert not _seen_in_both(flow + 100, -flow - 100).any()


def test_warping_samples_where_the_flow_points() -> None:
    image = np.random.default_rng(0).normal(0, 1, (6, 7, 2))
    flow = np.zeros((6, 7, 2))
    flow[..., 0], flow[..., 1] = 1.25, -0.5
    warped = _Samples(*_targets(flow), (6, 7)).of(image)
    upper, lower = (0.75 * image[y, 4] + 0.25 * image[y, 5] for y in (2, 3))
    assert warped[3, 3] == pytest.approx((upper + lower) / 2)
    assert warped[0, 6] == pytest.approx(image[0, 6])  # the edge goes on


def test_flicker_is_the_change_where_the_truth_stands_still() -> None:
    hr_prev = np.full((10, 10, 3), 100, np.uint8)
    hr_next = hr_prev.copy()
    hr_next[:, 5:, 2] = 110  # moves
    sr_next = hr_prev.copy()
    sr_next[:5] += 4
    sr_next[:, 5:] += 50
    assert flicker(hr_prev, sr_next, hr_prev, hr_next) == 2
    assert flicker(hr_prev, sr_next, hr_prev, hr_next, still=10) == 27
    assert flicker(hr_prev, hr_prev, hr_prev, hr_next) == 0


def test_flicker_is_no_number_when_nothing_stands_still() -> None:
    assert math.isnan(flicker(HR, HR, HR, HR ^ 128))


@pytest.mark.parametrize(
    "call",
    [
        lambda: tof_pair(HR, HR, HR, HR),
        lambda: tof([HR, HR], [HR, HR]),
        lambda: warping_error(HR, HR, HR, HR),
    ],
)
def test_without_opencv_measuring_motion_names_the_extra(
    call: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"sharpreel\[torch\]"):
        call()


# Joins ---------------------------------------------------------------------------------------


def test_a_seam_in_time_is_the_step_over_the_border_by_its_neighbours() -> None:
    levels = [10, 12, 14, 16, 25, 27, 29, 31]  # a step of 9 among steps of 2
    frames = [np.full((4, 5, 3), level, np.uint8) for level in levels]
    assert seam_in_time(frames, 4) == 4.5
    assert seam_in_time(frames, 3, reach=2) == 1
    truth = [frame - np.uint8(9 * (t >= 4) + t) for t, frame in enumerate(frames)]
    assert seam_in_time(frames, 4, truth) == 10
    assert seam_in_time(frames, 4, frames) == 1  # a cut that is true
    still = frames[:1] * 4
    assert seam_in_time(still, 2) == 1
    assert seam_in_time(still[:2] + frames[1:2] * 2, 2) == math.inf
    for position in (0, 8):
        with pytest.raises(ValueError, match="no steps on it and around it in 8 frames"):
            seam_in_time(frames, position)
    with pytest.raises(ValueError, match="equally many frames, got 8 and 4"):
        seam_in_time(frames, 4, still)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_seam_in_space_is_the_bend_over_the_line_by_those_beside_it(
    axis: Literal[0, 1],
) -> None:
    for step, wanted in ((-3, 2.5), (3, 0.5)):  # a step on bends of 2: with or against the grain
        line = np.full(30, 60, np.uint8)
        line[::2] += 1
        line[15:] += np.uint8(step % 256)
        shape = (30, 1, 1) if axis == 0 else (1, 30, 1)
        frame = np.broadcast_to(line.reshape(shape), (30, 30, 3))
        assert seam_in_space(frame, 15, axis) == wanted
        assert seam_in_space(frame, 15, axis, frame) == 1


def test_a_photograph_has_no_seam_until_one_half_is_made_brighter() -> None:
    usual = [seam_in_space(PHOTO, p, 1) for p in range(16, 496, 4)]
    assert np.median(usual) == pytest.approx(1, abs=0.1)
    sr = np.minimum(PHOTO, 250)
    sr[:, 256:] += 4
    assert seam_in_space(sr, 256, 1) > seam_in_space(PHOTO, 256, 1)
    assert seam_in_space(sr, 256, 1, np.minimum(PHOTO, 250)) == math.inf
    assert seam_in_space(noisy(sr, 2), 256, 1, np.minimum(PHOTO, 250)) > 1.2


def test_lines_where_no_seam_can_be_are_refused() -> None:
    for position in (1, 119):
        with pytest.raises(ValueError, match="not inside 120 lines: 2 to 118"):
            seam_in_space(HR, position, 0)
    with pytest.raises(ValueError, match="no line beside"):
        seam_in_space(HR[:4], 2, 0)
    with pytest.raises(ValueError, match="axis must be 0"):
        seam_in_space(HR, 60, 2)  # type: ignore[arg-type]


# Protocols -----------------------------------------------------------------------------------


def frame_with(outside: int, region: tuple[slice, slice], shape: tuple[int, int]) -> Pixels:
    """The photograph, spoilt everywhere but in this region."""
    frame = PHOTO[: shape[0], : shape[1]].copy()
    inside = np.zeros(shape, bool)
    inside[region] = True
    frame[~inside] ^= outside
    return frame


@pytest.mark.parametrize(
    ("name", "shape", "region"),
    [
        ("P1", (60, 70), (slice(0, 60), slice(0, 70))),
        ("P1-RGB", (60, 70), (slice(0, 60), slice(0, 70))),
        ("P2", (60, 70), (slice(8, 52), slice(8, 62))),
        ("P3", (60, 144), (slice(14, 46), slice(8, 136))),  # 144 - 128 leaves 16: enough
        ("P3", (96, 143), (slice(16, 80), slice(23, 119))),  # 143 - 128 leaves 15: not enough
        ("P4", (60, 70), (slice(5, 56), slice(5, 66))),
        ("E", (60, 70), (slice(0, 60), slice(0, 70))),
    ],
)
def test_a_protocol_looks_at_its_region_and_nowhere_else(
    name: str, shape: tuple[int, int], region: tuple[slice, slice]
) -> None:
    protocol = PROTOCOLS[name]
    truth = PHOTO[: shape[0], : shape[1]]
    assert protocol.region(*shape) == region
    same = measure(frame_with(255, region, shape), truth, protocol)
    assert same.psnr == pytest.approx(measure(truth, truth, protocol).psnr)
    assert same.ssim == pytest.approx(1)
    smaller = slice(region[0].start + 1, region[0].stop), region[1]
    assert measure(frame_with(255, smaller, shape), truth, protocol).psnr < 40


def test_the_asymmetric_border_follows_the_scale() -> None:
    twice = replace(PROTOCOLS["P4"], crop_border=2)
    assert twice.region(20, 30) == (slice(3, 18), slice(3, 28))


def test_protocol_one_is_psnr_and_ssim_on_luma() -> None:
    measured = measure(SR, HR, PROTOCOLS["P1"])
    assert measured == Measured(psnr(SR, HR), ssim(SR, HR))
    measured = measure(SR, HR, PROTOCOLS["P1-RGB"])
    assert measured == Measured(psnr(SR, HR, "rgb"), ssim(SR, HR, "rgb"))
    rounded = replace(PROTOCOLS["P1"], rounded_luma=True)
    assert measure(SR, HR, rounded).psnr == psnr(SR, HR, rounded=True)


def test_protocol_three_takes_ssim_over_the_range_of_the_prediction() -> None:
    rows = slice(12, 108)  # 120 -> 96
    a, b = (ops.luma(f[rows, rows]) for f in (SR, HR))
    measured = measure(SR, HR, PROTOCOLS["P3"])
    wanted = structural_similarity(b, a, data_range=a.max() - a.min())
    assert measured.ssim == pytest.approx(wanted, abs=1e-9)
    assert measured.psnr == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255))
    black = np.zeros_like(HR)
    assert math.isnan(measure(black, black, PROTOCOLS["P3"]).ssim)


def test_protocol_four_is_rbpns_script() -> None:
    scale = 4
    a, b = (f[1 + scale : -scale, 1 + scale : -scale].astype(float) for f in (SR, HR))
    wanted = 20 * math.log10(255 / math.sqrt(np.mean((a - b) ** 2)))
    assert measure(SR, HR, PROTOCOLS["P4"]).psnr == pytest.approx(wanted)
    assert measure(HR, HR, PROTOCOLS["P4"]).psnr == 100


def test_protocol_e_adds_its_floor_and_takes_seven_taps() -> None:
    error = np.mean((SR / 255 - HR / 255) ** 2)
    measured = measure(SR, HR, PROTOCOLS["E"])
    assert measured.psnr == pytest.approx(10 * math.log10(1 / (error + 1e-8)))
    assert measured.ssim == ssim(SR, HR, "rgb", window="seven")
    assert measure(HR, HR, PROTOCOLS["E"]).psnr == pytest.approx(80)


def test_frames_too_small_for_a_protocol_are_refused() -> None:
    for name, side in (("P2", 16), ("P3", 47), ("P4", 8), ("P4", 9)):
        with pytest.raises(ValueError, match=f"leaves nothing of a frame of {side}x{side}"):
            PROTOCOLS[name].region(side, side)
    assert PROTOCOLS["P3"].region(48, 48) == (slice(8, 40), slice(8, 40))


@pytest.mark.parametrize(
    ("name", "frames", "chosen"),
    [
        ("P1", 5, [0, 1, 2, 3, 4]),
        ("P1-Vimeo", 7, [3]),
        ("P1-Vimeo", 0, []),
        ("P3", 7, [2, 3, 4]),
        ("P3", 4, []),
        ("P4", 8, [3, 4]),
    ],
)
def test_a_protocol_selects_its_frames(name: str, frames: int, chosen: list[int]) -> None:
    assert list(PROTOCOLS[name].select(range(frames))) == chosen


def test_selecting_holds_back_no_more_frames_than_it_leaves_out() -> None:
    taken = []

    def source() -> Iterator[int]:
        for index in range(100):
            taken.append(index)
            yield index

    frames = PROTOCOLS["P3"].select(source())
    assert [next(frames), next(frames)] == [2, 3]
    assert len(taken) == 6


def test_every_protocol_is_named_as_its_key_and_measures() -> None:
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name
        measured = measure(SR, HR, protocol)
        assert 20 < measured.psnr < 40
        assert 0.4 < measured.ssim < 1


# VMAF ----------------------------------------------------------------------------------------

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def clip(path: Path, frames: list[Pixels], **more: object) -> Path:
    return write_frames(path, frames, options=LOSSLESS, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films: it's [odd], 100%")
    frames = list(moving((160, 120), 50))
    uneven = [3600 * t + 700 * (t % 3) for t in range(len(frames))]
    return {
        "truth": clip(folder / "truth.mkv", frames),
        "blurred": clip(folder / "blurred.mkv", [blurred(f, 1) for f in frames]),
        "worse": clip(folder / "worse.mkv", [blurred(f, 2) for f in frames]),
        "timed": clip(folder / "timed.mp4", frames, pts=uneven, time_base=Fraction(1, 90000)),
        "deep": clip(folder / "deep.mkv", frames, codec="ffv1", pix_fmt="yuv420p10le"),
        "short": clip(folder / "short.mkv", frames[:-1]),
        "small": clip(folder / "small.mkv", [f[:-2] for f in frames]),
    }


def test_vmaf_of_the_truth_is_near_100_and_falls_with_blur(films: dict[str, Path]) -> None:
    values = [vmaf(films[k], films["truth"], 2) for k in ("truth", "blurred", "worse")]
    assert all(set(v) == {"vmaf", "vmaf_neg"} for v in values)
    for name in ("vmaf", "vmaf_neg"):
        same, soft, softer = (v[name] for v in values)
        assert 95 < same <= 100
        assert softer < soft - 5 < same - 10


def test_vmaf_compares_frames_in_order_whatever_their_timestamps(films: dict[str, Path]) -> None:
    assert vmaf(films["timed"], films["truth"]) == vmaf(str(films["truth"]), films["truth"])


def test_vmaf_compares_across_bit_depths(films: dict[str, Path]) -> None:
    assert vmaf(films["deep"], films["truth"])["vmaf"] > 95


def test_vmaf_of_files_that_do_not_match_is_refused(films: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"160x118 and .*truth.mkv is 160x120"):
        vmaf(films["small"], films["truth"])
    with pytest.raises(UsageError, match=r"has 49 frames and .*truth.mkv has 50"):
        vmaf(films["short"], films["truth"])
    with pytest.raises(InputError, match="no such file"):
        vmaf(films["truth"], "gone.mp4")


def test_vmaf_without_its_ffmpeg_names_the_extra(
    films: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtra, match=r"sharpreel\[train\]"):
        vmaf(films["truth"], films["truth"])
