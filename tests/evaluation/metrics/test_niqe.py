"""NIQE against a plain program, and its model files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sharpreel import ops
from sharpreel.errors import InputError
from sharpreel.evaluation.metrics.niqe import Niqe, _niqe_features
from tests.support.photos import CAMERA, CAT, COFFEE, HR, PHOTO, blurred, noisy


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


def test_niqe_features_equal_a_plain_implementation() -> None:
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


def test_a_file_that_is_not_a_niqe_model_is_reported(tmp_path: Path) -> None:
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


def test_niqe_of_flat_images_is_nan_and_small_ones_are_rejected(niqe: Niqe) -> None:
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
