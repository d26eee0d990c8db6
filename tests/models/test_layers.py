"""Shared blocks: warping, deformable convolution, networks of luma."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.media import images
from sharpreel.models import layers
from sharpreel.models.layers import deform_conv2d, flow_warp, plain_deform_conv2d
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames
from tests.support.checkpoints import rbpn, run_cli, scene
from tests.support.networks import bilinear, slow_deform_conv2d

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.mark.parametrize("denoise", [False, True])
def test_a_grey_network_upscales_luma_and_leaves_chroma(denoise: bool, tmp_path: Path) -> None:
    path = rbpn(tmp_path, channels=1, denoise=denoise)
    model = load_model(path, choices={"residual": True})
    scale = int(model.scale)
    assert scale == (1 if denoise else 2)
    frames = scene(3)
    grey = [np.repeat(f[..., :1], 3, axis=2) for f in frames]
    for made in upscale_frames(grey, model, engine="torch"):
        assert made.shape == (64 * scale, 64 * scale, 3)
        assert (made.min(axis=2) == made.max(axis=2)).all()
    module: Any = model.module()
    clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255
    luma = (clip * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(2, keepdim=True)
    with torch.no_grad():
        wanted = module(luma)[0, :, 0].clamp(0, 1).numpy() * 255
    for made, y in zip(upscale_frames(frames, model, engine="torch"), wanted, strict=True):
        inside = (made.min(axis=2) > 0) & (made.max(axis=2) < 255)  # not clipped
        ours = made @ np.array([0.299, 0.587, 0.114])
        assert inside.mean() > 0.3
        assert np.abs(ours - y)[inside].max() <= 1.0


def test_a_burst_of_grey_scans_is_denoised_at_its_own_size(tmp_path: Path) -> None:
    path = rbpn(tmp_path, channels=1, denoise=True)
    burst = tmp_path / "burst"
    burst.mkdir()
    rng = np.random.default_rng(0)
    for k in range(5):
        scan = rng.integers(0, 65535, (40, 48, 1), np.uint16).repeat(3, axis=2)
        (burst / f"{k:04d}.png").write_bytes(images.encode_png(scan))
    done = run_cli("upscale", burst, "-o", tmp_path / "clean", "-m", path, "--set", "residual=true")
    assert done.exit_code == 0, done.output
    made = sorted((tmp_path / "clean").iterdir())
    assert [p.name for p in made] == [f"{k:04d}.png" for k in range(5)]
    assert {images.read_image(p).format.name for p in made} == {"rgb48be"}
    assert {(f.width, f.height) for f in map(images.read_image, made)} == {(48, 40)}


def test_a_flow_to_the_right_fetches_what_lies_to_the_right() -> None:
    feat = torch.arange(12.0).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = 1
    wanted = torch.tensor([[[[1.0, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]]])
    torch.testing.assert_close(flow_warp(feat, flow), wanted, atol=1e-5, rtol=0)
    flow = flow.flip(1)  # now down
    wanted = torch.tensor([[[[4.0, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]]])
    torch.testing.assert_close(flow_warp(feat, flow, "border"), wanted, atol=1e-5, rtol=0)


def slow_warp(feat: Tensor, flow: Tensor) -> Tensor:
    out = torch.zeros_like(feat)
    for n, c, y, x in itertools.product(*map(range, feat.shape)):
        right, down = flow[n, :, y, x].tolist()
        out[n, c, y, x] = bilinear(feat[n, c], y + down, x + right)
    return out


def test_warping_is_bilinear_and_zero_outside() -> None:
    feat, flow = torch.rand(2, 2, 5, 6), 3 * torch.randn(2, 2, 5, 6)
    torch.testing.assert_close(flow_warp(feat, flow), slow_warp(feat, flow), atol=1e-5, rtol=0)


def test_half_precision_features_are_sampled_at_exact_positions() -> None:
    feat = torch.rand(1, 1, 2, 1000).half()
    flow = torch.full((1, 2, 2, 1000), 0.0)
    flow[:, 0] = 0.5
    warped = flow_warp(feat, flow.half())
    wanted = (feat[..., :-1].float() + feat[..., 1:].float()) / 2
    assert warped.dtype == torch.float16
    torch.testing.assert_close(warped[..., :-1].float(), wanted, atol=1e-3, rtol=0)


def test_a_flow_of_another_size_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"flow must be \(1, 2, 4, 4\).*multiply its values"):
        flow_warp(torch.rand(1, 3, 4, 4), torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), 2),
        ((3, 2), (2, 1), (0, 1), (1, 2), 1),
        ((1, 3), (1, 2), (1, 2), (2, 1), 4),
    ],
)
def test_deformable_convolution_equals_a_loop_over_every_pixel(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> None:
    feat, weight, bias = torch.rand(2, 4, 6, 5), torch.randn(2, 4, *kernel), torch.randn(2)
    size = F.conv2d(feat, weight, None, stride, padding, dilation).shape[2:]
    points = kernel[0] * kernel[1] * groups
    offset, mask = 2 * torch.randn(2, 2 * points, *size), torch.rand(2, points, *size)
    out = deform_conv2d(feat, offset, weight, bias, stride, padding, dilation, mask, groups)
    wanted = slow_deform_conv2d(feat, offset, weight, bias, stride, padding, dilation, mask, groups)
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mask", [torch.ones(2, 18, 7, 9), None])
def test_without_offsets_it_is_an_ordinary_convolution(mask: Tensor | None) -> None:
    feat, weight, bias = torch.rand(2, 6, 7, 9), torch.randn(5, 6, 3, 3), torch.randn(5)
    still = torch.zeros(2, 36, 7, 9)
    out = deform_conv2d(feat, still, weight, bias, padding=(1, 1), mask=mask, offset_groups=2)
    torch.testing.assert_close(out, F.conv2d(feat, weight, bias, padding=1), atol=1e-4, rtol=0)


def test_whole_pixel_offsets_shift_the_channels_of_their_group() -> None:
    feat, weight = torch.rand(1, 4, 8, 9), torch.randn(3, 4, 3, 3)
    offset = torch.zeros(1, 2, 9, 2, 8, 9)
    offset[:, 0, :, 0] = 2  # channels 0 and 1 are fetched from two rows below
    offset[:, 1, :, 1] = -1  # channels 2 and 3 from one column to the left
    out = deform_conv2d(feat, offset.flatten(1, 3), weight, padding=(1, 1), offset_groups=2)
    wide = F.pad(feat, (2, 2, 3, 3))
    moved = torch.cat([wide[:, :2, 4:14, 1:12], wide[:, 2:, 2:12, 0:11]], dim=1)
    torch.testing.assert_close(out, F.conv2d(moved, weight), atol=1e-4, rtol=0)


def test_deformable_convolution_has_the_gradients_that_differences_show() -> None:
    feat, weight = torch.rand(1, 2, 3, 2).double(), torch.randn(1, 2, 3, 3).double()
    offset, mask = 0.3 + 0.3 * torch.rand(1, 18, 3, 2).double(), torch.rand(1, 9, 3, 2).double()
    inputs = tuple(tensor.requires_grad_() for tensor in (feat, offset, weight, mask))

    def run(feat: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        one = (1, 1)
        return plain_deform_conv2d(feat, offset, weight, None, one, one, one, mask)

    with torch.enable_grad():
        assert torch.autograd.gradcheck(run, inputs)


def test_offsets_that_do_not_match_are_refused() -> None:
    feat, weight = torch.rand(1, 4, 8, 9), torch.randn(3, 4, 3, 3)
    with pytest.raises(ValueError, match=r"offset must be \(1, 36, 8, 9\) for 2 groups"):
        deform_conv2d(feat, torch.zeros(1, 18, 8, 9), weight, padding=(1, 1), offset_groups=2)
    with pytest.raises(ValueError, match=r"weight must be \(C_out, 3, kh, kw\)"):
        deform_conv2d(feat[:, :3], torch.zeros(1, 18, 8, 9), weight, padding=(1, 1))


@pytest.fixture
def forget_torchvision() -> Iterator[None]:
    layers.compiled_deform_conv2d.cache_clear()
    yield
    layers.compiled_deform_conv2d.cache_clear()


def torchvision_with(operator: Callable[..., Tensor]) -> dict[str, ModuleType]:
    package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
    ops.__dict__["deform_conv2d"] = operator
    return {"torchvision": package, "torchvision.ops": ops}


class BrokenFinder:
    """An installed torchvision that was built for another torch: importing it raises."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.split(".", maxsplit=1)[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.usefixtures("forget_torchvision")
def test_a_torchvision_that_cannot_be_imported_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.delitem(sys.modules, "torchvision.ops", raising=False)
    monkeypatch.setattr(sys, "meta_path", [BrokenFinder(), *sys.meta_path])
    assert layers.compiled_deform_conv2d("cpu") is None


@pytest.mark.usefixtures("forget_torchvision")
def test_a_torchvision_without_its_operators_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object) -> Tensor:
        raise NotImplementedError("Couldn't load custom C++ ops.")

    for name, module in torchvision_with(missing).items():
        monkeypatch.setitem(sys.modules, name, module)
    assert layers.compiled_deform_conv2d("cpu") is None


@pytest.mark.usefixtures("forget_torchvision")
def test_a_torchvision_that_works_is_tested_once_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def working(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return plain_deform_conv2d(*arguments)

    for name, module in torchvision_with(working).items():
        monkeypatch.setitem(sys.modules, name, module)
    for _ in range(2):
        deform_conv2d(torch.rand(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 1, 1))
    assert len(calls) == 3  # to find out, then twice in earnest


@pytest.mark.usefixtures("forget_torchvision")
def test_our_deformable_convolution_is_torchvisions() -> None:
    compiled = layers.compiled_deform_conv2d("cpu")
    if compiled is None:
        pytest.skip("torchvision with compiled operators is not installed")
    feat, weight, bias = torch.rand(2, 32, 20, 24), torch.randn(8, 32, 3, 3), torch.randn(8)
    offset, mask = 8 * torch.randn(2, 288, 20, 24), torch.rand(2, 144, 20, 24)
    arguments = (feat, offset, weight, bias, (1, 1), (1, 1), (1, 1), mask)
    ours, theirs = plain_deform_conv2d(*arguments), compiled(*arguments)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-4)
