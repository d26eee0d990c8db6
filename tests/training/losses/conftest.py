"""VGG files with random weights, and the networks that have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sharpreel.training.losses.perceptual import Perceptual

# torchvision's configurations D and E: widths of convolutions, M for a pooling.
VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"


VGG19 = "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"


def plain_vgg(configuration: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    into = 3
    for word in configuration.split():
        if word == "M":
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            layers += [nn.Conv2d(into, int(word), kernel_size=3, padding=1), nn.ReLU()]
            into = int(word)
    return nn.Sequential(*layers)


def make(folder: Path, name: str, configuration: str) -> tuple[Path, nn.Sequential]:
    """A file of random weights with torchvision's names, and the network that has them."""
    torch.manual_seed(0)
    network = plain_vgg(configuration)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # so that differences survive to the end
    state = {f"features.{key}": tensor for key, tensor in network.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    torch.save(state, folder / name)
    return folder / name, network.eval()


Vgg = tuple[Path, nn.Sequential]


@pytest.fixture(scope="session")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Vgg:
    return make(tmp_path_factory.mktemp("vgg16"), "vgg16-397923af.pth", VGG16)


@pytest.fixture(scope="session")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Vgg:
    return make(tmp_path_factory.mktemp("vgg19"), "vgg19-dcbb9e9d.pth", VGG19)


@pytest.fixture(scope="session")
def perceptual(vgg16: Vgg) -> Perceptual:
    return Perceptual(weights=vgg16[0])


def expected(
    network: nn.Sequential, sr: Tensor, hr: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    with torch.no_grad():
        return loss(network(sr), network(hr)).item()
