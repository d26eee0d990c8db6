"""PSNR and SSIM of batches, and those of bicubic on the same batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.training.batches import BatchLoader
from sharpreel.training.setup import TrainModule
from sharpreel.training.similarity import BicubicBaseline, similarity
from tests.support.training import SMALL_GAN, TINY


def test_similarity_is_psnr_and_for_large_frames_ssim() -> None:
    hr = torch.full((1, 1, 3, 8, 8), 0.5)
    assert similarity(hr + 0.1, hr, with_ssim=False) == {"psnr": pytest.approx(20, abs=1e-3)}
    assert similarity(hr, hr, with_ssim=True)["ssim"] == pytest.approx(1)
    assert similarity(hr + 9, hr, with_ssim=False)["psnr"] == pytest.approx(6.02, abs=0.01)
    small = hr[..., :6, :6]
    assert set(similarity(small, small, with_ssim=True)) == {"psnr"}


def test_bicubic_is_measured_like_an_untrained_network(three: list[Clip]) -> None:
    module = TrainModule(TINY)
    pairs = BatchLoader(TINY, three, module).batch(0)
    baseline = BicubicBaseline(TINY, module, torch.device("cpu")).measure(pairs)
    ((lr, hr),) = pairs
    with torch.no_grad():
        network = similarity(module(lr / 255), hr / 255, with_ssim=True)
    assert baseline["bicubic_psnr"] == pytest.approx(network["psnr"], abs=0.1)
    assert baseline["bicubic_ssim"] == pytest.approx(network["ssim"], abs=0.01)
    assert "bicubic_loss" in baseline
    gan = replace(TINY, gan=SMALL_GAN)  # its combined loss is not comparable
    assert "bicubic_loss" not in BicubicBaseline(gan, module, torch.device("cpu")).measure(pairs)
