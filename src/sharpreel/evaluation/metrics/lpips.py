"""LPIPS: perceptual distance of two images, from deep features weighted by human judgements.

Paper: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018. Code: github.com/richzhang/PerceptualSimilarity, BSD-2, version 0.1 of its weights. A VGG-16
or an AlexNet (the trunk) processes both images; its features after five ReLUs are normalised to
length 1 at each position, and their squared difference is weighted by channel (the heads), averaged
over the positions and summed. Lower is better.

Neither file comes with sharpreel: the trunk is torchvision's, the heads are the lpips package's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sharpreel.errors import WeightsError
from sharpreel.models.checkpoints import read_tensors
from sharpreel.models.vgg import VGG_FILES, VGG_URL, vgg_features
from sharpreel.ops import Pixels
from sharpreel.system import download

# Of images in [-1, 1], as in the package.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10
HEADS_URL = "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/"


def alexnet_features() -> nn.Sequential:
    """The convolutional part of AlexNet (Krizhevsky, 2014), numbered as torchvision does."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


@dataclass(frozen=True)
class Trunk:
    """A network whose features LPIPS compares.

    Attributes:
        taken: Layers whose output is used.
        widths: Channels of each.
        smallest: Minimum side of an image, pixels.
        file: Name of torchvision's file.
        heads: Name of the lpips package's file.
    """

    taken: tuple[int, ...]
    widths: tuple[int, ...]
    smallest: int
    file: str
    heads: str


TRUNKS = {
    "vgg16": Trunk((3, 8, 15, 22, 29), (64, 128, 256, 512, 512), 16, VGG_FILES["vgg16"], "vgg.pth"),
    "alexnet": Trunk(
        (1, 4, 7, 9, 11), (64, 192, 384, 256, 256), 31, "alexnet-owt-7be5be79.pth", "alex.pth"
    ),
}


def needed_files() -> str:
    """The URLs of the two files of each trunk, as text."""
    pairs = (f"{VGG_URL}{t.file} with {HEADS_URL}{t.heads}" for t in TRUNKS.values())
    return " or ".join(pairs)


class Lpips:
    """Computes the distance of two frames, with the trunk that is in the file.

    Args:
        trunk: torchvision's state dict of vgg16 or alexnet, .pth or .safetensors.
        heads: The lpips package's weights/v0.1/vgg.pth or alex.pth: lin0.model.1.weight to
            lin4.model.1.weight.
        device: Of torch.

    Raises:
        WeightsError: A file is missing, unreadable, or not one of these; the message names the
            files to download.

    Attributes:
        name: "vgg16" or "alexnet".
        about: The name and the checksums of the files, for captions.
    """

    def __init__(self, trunk: Path, heads: Path, device: str = "cpu") -> None:
        for path in (trunk, heads):
            if not path.is_file():
                raise WeightsError(f"{path}: no such file. LPIPS needs {needed_files()}.")
        state = read_tensors(trunk)
        first = state.get("features.0.weight", torch.empty(0)).shape[-1]
        if first not in (3, 11):
            raise WeightsError(
                f"{trunk}: neither VGG-16 nor AlexNet. LPIPS needs {needed_files()}."
            )
        self.name = "vgg16" if first == 3 else "alexnet"
        self._trunk = TRUNKS[self.name]
        network = vgg_features("vgg16") if first == 3 else alexnet_features()
        network = nn.Sequential(*list(network)[: self._trunk.taken[-1] + 1])
        shapes = {f"features.{name}": tensor.shape for name, tensor in network.state_dict().items()}
        tensors = _tensors(trunk, state, shapes, VGG_URL + self._trunk.file)
        network.load_state_dict({name.removeprefix("features."): t for name, t in tensors.items()})
        self._layers = list(network.requires_grad_(False).eval().to(device))
        shapes = {
            f"lin{k}.model.1.weight": torch.Size((1, width, 1, 1))
            for k, width in enumerate(self._trunk.widths)
        }
        tensors = _tensors(heads, read_tensors(heads), shapes, HEADS_URL + self._trunk.heads)
        self._heads = [weight.to(device) for weight in tensors.values()]
        self._shift, self._scale = (
            torch.tensor(values, device=device).reshape(3, 1, 1) for values in (SHIFT, SCALE)
        )
        self._device = device
        sums = (download.sha256_of(path)[:8] for path in (trunk, heads))
        self.about = f"{self.name}, SHA-256 {' and '.join(sums)}"

    def features(self, frame: Pixels) -> list[Tensor]:
        """The features of a frame, of length 1 at each position: five tensors (1, C, H', W').

        Args:
            frame: RGB, (H, W, 3), uint8 or uint16; sides of 16 pixels (AlexNet: 31) or more.
        """
        if min(frame.shape[:2]) < self._trunk.smallest:
            raise ValueError(
                f"LPIPS by {self.name} needs sides of {self._trunk.smallest} pixels or more, got "
                f"{frame.shape[1]}x{frame.shape[0]}."
            )
        values = frame.astype(np.float32) * (2 / np.iinfo(frame.dtype).max) - 1
        x = torch.from_numpy(values.transpose(2, 0, 1)[None]).to(self._device)
        x = (x - self._shift) / self._scale
        features = []
        with torch.inference_mode():
            for number, layer in enumerate(self._layers):
                x = layer(x)
                if number in self._trunk.taken:
                    features.append(x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON))
        return features

    def distance(self, sr: list[Tensor], hr: list[Tensor]) -> float:
        """The distance of two frames of one size by their `features`."""
        with torch.inference_mode():
            parts = [
                (head * (a - b).square()).sum(1).mean()
                for head, a, b in zip(self._heads, sr, hr, strict=True)
            ]
            return float(torch.stack(parts).sum())

    def __call__(self, sr: Pixels, hr: Pixels) -> float:
        """The distance of two frames of one size; 0 for equal ones."""
        if sr.shape != hr.shape:
            raise ValueError(f"sr and hr must have one shape, got {sr.shape} and {hr.shape}.")
        return self.distance(self.features(sr), self.features(hr))


def _tensors(
    path: Path, state: dict[str, Tensor], shapes: dict[str, torch.Size], source: str
) -> dict[str, Tensor]:
    """The tensors of these names and shapes, in float32."""
    for name, shape in shapes.items():
        if name not in state:
            raise WeightsError(f"{path}: {name} is missing. The file should be {source}.")
        if state[name].shape != shape:
            raise WeightsError(
                f"{path}: {name} is {tuple(state[name].shape)}, not {tuple(shape)}. The file "
                f"should be {source}."
            )
    return {name: state[name].to(torch.float32) for name in shapes}
