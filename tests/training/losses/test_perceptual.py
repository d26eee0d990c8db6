"""The perceptual loss, against a plain VGG."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.errors import UsageError, WeightsError
from sharpreel.models.vgg import LAYERS
from sharpreel.training.losses.perceptual import Perceptual
from tests.support.losses import rand, two
from tests.training.losses.conftest import VGG19, Vgg, expected


def test_features_are_those_of_a_plain_vgg16_after_its_last_pooling(
    vgg16: Vgg, perceptual: Perceptual
) -> None:
    sr, hr = (frame.float() for frame in two(2, 3, 40, 33))
    wanted = expected(vgg16[1], sr, hr, F.mse_loss)
    assert wanted > 1e-4
    assert perceptual(sr, hr).item() == pytest.approx(wanted, rel=1e-4)
    assert perceptual(sr[None], hr[None]).item() == pytest.approx(wanted, rel=1e-4)
    assert perceptual(hr, hr) == 0
    double = perceptual(sr.double(), hr.double())  # the network's precision decides
    assert double.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("layer", "last"),
    [
        ("vgg19_43", "conv4_3"),
        ("vgg19_53", "conv5_3"),
        ("vgg19_54", "conv5_4"),
    ],
)
def test_a_layer_of_vgg19_ends_where_its_name_says(vgg19: Vgg, layer: str, last: str) -> None:
    names: list[str] = []
    stage, convs = 1, 0
    for word in VGG19.split():
        if word == "M":
            names.append(f"pool{stage}")
            stage, convs = stage + 1, 0
        else:
            convs += 1
            names += [f"conv{stage}_{convs}", f"relu{stage}_{convs}"]
    network = nn.Sequential(*list(vgg19[1])[: names.index(last.replace("conv", "relu")) + 1])
    sr, hr = (frame.float() for frame in two(1, 3, 16, 18))
    module = Perceptual(layer, vgg19[0])
    assert len(module.features) == LAYERS[layer].end
    assert module(sr, hr).item() == pytest.approx(expected(network, sr, hr, F.mse_loss), rel=1e-4)


def test_normalising_smooth_l1_and_a_divisor_are_settings(vgg16: Vgg) -> None:
    path, network = vgg16
    sr, hr = (frame.float() for frame in two(1, 3, 32, 32))
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        f_sr, f_hr = network((sr - mean) / std) / 12.75, network((hr - mean) / std) / 12.75
    module = Perceptual(weights=path, normalise=True, distance="smooth_l1", divisor=12.75)
    difference = (f_sr - f_hr).abs()
    smooth = torch.where(difference < 1, 0.5 * difference**2, difference - 0.5).mean()
    assert module(sr, hr).item() == pytest.approx(smooth.item(), rel=1e-4)


def test_gradients_reach_sr_and_nothing_else(perceptual: Perceptual) -> None:
    sr, hr = (frame.float().requires_grad_() for frame in two(1, 3, 32, 32))
    perceptual(sr, hr).backward()
    assert sr.grad is not None
    assert sr.grad.isfinite().all()
    assert sr.grad.abs().sum() > 0
    assert hr.grad is None
    assert all(p.grad is None and not p.requires_grad for p in perceptual.parameters())


def test_the_network_stays_in_inference_mode_and_its_tensors_keep_torchvisions_names(
    vgg16: Vgg, perceptual: Perceptual
) -> None:
    assert not any(module.training for module in nn.Sequential(perceptual).train()[0].modules())
    saved = torch.load(vgg16[0], weights_only=True)
    assert set(perceptual.state_dict()) == {n for n in saved if n.startswith("features.")}


def test_a_safetensors_file_gives_the_same(
    vgg16: Vgg, perceptual: Perceptual, tmp_path: Path
) -> None:
    path = tmp_path / "vgg16.safetensors"
    safetensors.torch.save_file(torch.load(vgg16[0], weights_only=True), path)
    sr, hr = (frame.float() for frame in two(1, 3, 32, 32))
    assert Perceptual(weights=path)(sr, hr) == perceptual(sr, hr)


@pytest.mark.parametrize(
    ("layer", "file"),
    [("vgg16_pool5", "vgg16-397923af.pth"), ("vgg19_54", "vgg19-dcbb9e9d.pth")],
)
def test_without_a_file_the_message_names_the_download_and_the_parameter(
    layer: str, file: str, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=rf"Download https://\S+/{file} and pass its path as `weights`"
    ):
        Perceptual(layer, None)
    with pytest.raises(WeightsError, match=rf"no\.pth: no such file\. .*/{file}"):
        Perceptual(layer, tmp_path / "no.pth")


def test_the_file_of_the_other_vgg_is_refused_in_one_line(vgg16: Vgg, vgg19: Vgg) -> None:
    with pytest.raises(WeightsError, match=r"not torchvision's vgg19-dcbb9e9d.pth: features\.16"):
        Perceptual("vgg19_54", vgg16[0])
    with pytest.raises(WeightsError, match=r"not torchvision's vgg16-397923af.pth: features\.17"):
        Perceptual(weights=vgg19[0])


Change = Callable[[dict[str, Tensor]], Any]


def with_norm(state: dict[str, Tensor]) -> Any:
    return state | {"features.1.running_mean": torch.zeros(64)}


def with_thin(state: dict[str, Tensor]) -> Any:
    return state | {"features.0.weight": torch.zeros(64, 1, 3, 3)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: {n: t for n, t in s.items() if "28" not in n}, r"features\.28\.weight is missi"),
        (with_norm, r"features\.1\.running_mean is none of its tensors"),
        (with_thin, r"features\.0\.weight is \(64, 1, 3, 3\), not \(64, 3, 3, 3\)"),
        (lambda s: {"state_dict": s}, r"features\.0\.weight is missing"),
        (list, "not a file of tensors"),
    ],
)
def test_a_file_with_other_tensors_is_refused_in_one_line(
    vgg16: Vgg, tmp_path: Path, change: Change, reason: str
) -> None:
    empty = {n: torch.zeros(()).expand(t.shape) for n, t in vgg16[1].state_dict().items()}
    torch.save(change({f"features.{n}": t for n, t in empty.items()}), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=reason) as caught:
        Perceptual(weights=tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize("name", ["trap.pth", "trap.safetensors"])
def test_no_code_in_a_file_is_executed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(
        WeightsError, match=rf"{name}: not a file of tensors .* No code in the file was"
    ):
        Perceptual(weights=tmp_path / name)


def test_frames_that_a_vgg_cannot_process_are_refused(perceptual: Perceptual) -> None:
    with pytest.raises(ValueError, match=r"RGB frames of at least 32 x 32 .* 3 channels of 31 x"):
        perceptual(rand(1, 3, 31, 40), rand(1, 3, 31, 40))
    with pytest.raises(ValueError, match="got 1 channels of 32 x 32"):
        perceptual(rand(1, 1, 32, 32), rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="must have one shape"):
        perceptual(rand(1, 3, 32, 32), rand(1, 3, 32, 34))


def test_settings_of_the_perceptual_loss_that_do_not_exist_are_refused(vgg16: Vgg) -> None:
    with pytest.raises(UsageError, match=r"vgg19_5\. Did you mean vgg19_54\?"):
        Perceptual("vgg19_5", vgg16[0])
    with pytest.raises(ValueError, match="distance must be mse or smooth_l1, got 'l3'"):
        Perceptual(weights=vgg16[0], distance="l3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="divisor must be more than 0"):
        Perceptual(weights=vgg16[0], divisor=0)
