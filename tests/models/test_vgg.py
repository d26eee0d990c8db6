"""VGG files: torchvision's numbering and names, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sharpreel.errors import WeightsError
from sharpreel.models import vgg
from sharpreel.models.vgg import read_vgg, vgg_features


@pytest.mark.parametrize(("network", "modules"), [("vgg16", 31), ("vgg19", 37)])
def test_layers_are_numbered_as_in_torchvision(network: str, modules: int) -> None:
    with torch.device("meta"):
        features = vgg_features(network)
    assert len(features) == modules
    assert isinstance(features[-1], nn.MaxPool2d)
    for layer in vgg.LAYERS.values():
        if layer.network == network:
            assert layer.end <= modules


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> nn.Sequential:
    """Stands for the features of a VGG."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(
        {f"features.{k}": v for k, v in state.items()} | {"classifier.0.bias": torch.zeros(1)}, path
    )
    return path


def test_the_tensors_below_the_end_are_read_in_float32(
    small: nn.Sequential, tmp_path: Path
) -> None:
    path = saved(tmp_path / "v.pth", {k: v.half() for k, v in small.state_dict().items()})
    tensors = read_vgg(path, "vgg16", small, 1)
    assert set(tensors) == {"0.weight", "0.bias"}
    assert {t.dtype for t in tensors.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, r"features\.0\.bias is missing"),
        ({"9.bias": torch.zeros(1)}, r"features\.9\.bias is none of its tensors"),
        ({"0.bias": torch.zeros(5)}, r"features\.0\.bias is \(5,\), not \(2,\)"),
    ],
)
def test_a_file_of_another_network_is_refused_with_the_first_difference(
    change: dict[str, torch.Tensor | None], message: str, small: nn.Sequential, tmp_path: Path
) -> None:
    state = {k: v for k, v in (dict(small.state_dict()) | change).items() if v is not None}
    with pytest.raises(WeightsError, match=message):
        read_vgg(saved(tmp_path / "v.pth", state), "vgg16", small, 3)


def test_a_missing_file_is_an_error_with_its_address(small: nn.Sequential, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file.*vgg16-397923af\.pth"):
        read_vgg(tmp_path / "v.pth", "vgg16", small, 3)
