"""Features of ImageNet-trained VGG networks (torchvision's), for perceptual losses and LPIPS."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sharpreel.errors import WeightsError
from sharpreel.models.checkpoints import read_tensors


class Layer(NamedTuple):
    """Where features are taken: torchvision's `network`.features[:end]."""

    network: str
    end: int


LAYERS: dict[str, Layer] = {
    "vgg16_pool5": Layer("vgg16", 31),  # ends with the last max-pooling
    "vgg19_43": Layer("vgg19", 25),  # conv4_3, after its ReLU
    "vgg19_53": Layer("vgg19", 34),  # conv5_3, after its ReLU
    "vgg19_54": Layer("vgg19", 36),  # conv5_4, after its ReLU
}
CONVS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # before each of five poolings
VGG_FILES = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}
VGG_URL = "https://download.pytorch.org/models/"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def vgg_features(network: str) -> nn.Sequential:
    """The convolutional part of a VGG (Simonyan & Zisserman, 2015), numbered as torchvision does.

    vgg16: 0 conv1_1, 1 ReLU, 2 conv1_2, 3 ReLU, 4 pool, 5 conv2_1, ... 28 conv5_3, 29 ReLU, 30 pool
    vgg19: ... 32 conv5_3, 33 ReLU, 34 conv5_4, 35 ReLU, 36 pool
    """
    layers: list[nn.Module] = []
    into = 3
    for width, convs in zip((64, 128, 256, 512, 512), CONVS[network], strict=True):
        for _ in range(convs):
            layers += [nn.Conv2d(into, width, 3, padding=1), nn.ReLU(inplace=True)]
            into = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def read_vgg(path: Path, network: str, whole: nn.Sequential, end: int) -> dict[str, Tensor]:
    """Read the tensors of `whole[:end]`, by their names there, in float32.

    Raises:
        WeightsError: The file is missing, unreadable, or has other tensors than `whole`.
    """
    file = VGG_FILES[network]
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. It must be torchvision's {VGG_URL}{file}.")
    state = read_tensors(path)
    found = {
        name.removeprefix("features."): tensor
        for name, tensor in state.items()
        if str(name).startswith("features.")
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in whole.state_dict().items()}
    wanted = [name for name in shapes if int(name.split(".")[0]) < end]
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in shapes]
    unlike = [name for name in shapes if name in found and found[name].shape != shapes[name]]
    if missing:
        reason = f"features.{missing[0]} is missing"
    elif strange:
        reason = f"features.{strange[0]} is none of its tensors"
    elif unlike:
        name = unlike[0]
        reason = f"features.{name} is {tuple(found[name].shape)}, not {shapes[name]}"
    else:
        return {name: found[name].to(torch.float32) for name in wanted}
    raise WeightsError(f"{path}: not torchvision's {file}: {reason}. It is at {VGG_URL}{file}.")
