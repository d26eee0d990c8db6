"""Single-image generators trained against a discriminator, and those discriminators.

`SRResNet` and `Discriminator`: the SRGAN inside iSeeBetter (Chadha et al., "iSeeBetter:
Spatio-temporal video super-resolution using recurrent generative back-projection networks",
Computational Visual Media 2020; code github.com/amanchadha/iSeeBetter, `SRGAN/model.py`, no
licence file found), which is leftthomas's (github.com/leftthomas/SRGAN, MIT) after Ledig et al.,
"Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR 2017.
Five residual blocks, not the paper's sixteen; layers and tensor names are those of the code. The
figure of the discriminator draws batch normalisation on a 1024-wide layer, a dense layer and plain
ReLU; we follow the code, which has none of these and which the published weights fit.

`FastSRGAN` and `FastDiscriminator`: Fast-SRGAN in its PyTorch version of 2024
(github.com/HasnainRaz/Fast-SRGAN, no licence file found). Layers and names of the code; its names
`bn1` and `bn2` are instance normalisation, which has no tensors. Statistics are computed over the
whole frame, so tiles do not join to the result of the whole frame.

`MobileSRGAN` and `PatchDiscriminator`: the TensorFlow Fast-SRGAN with MobileNetV2's inverted
residual blocks (after Galteri et al., "Fast Video Quality Enhancement using GANs", ACM MM 2019),
as deployed at 2x by a video app (github.com/duongtruongtrong/super_resolution_video_srvgan, MIT)
and kept there at 4x. Conflicts: the README says six inverted blocks, the code has one without
expansion and five with; Fast-SRGAN's source enlarges bilinearly at 4x, the weights that were
published, and this file, by pixel shuffle. The weights are Keras files, which are not read here;
tensor names are ours. To convert them: TensorFlow's depth_to_space has the colour channel
innermost, pixel shuffle outermost.

What we changed in all: the code is our own; generators take a clip in [0, 1] and return one, frame
by frame, and the ranges they were trained with ([-1, 1] in and out for Fast-SRGAN, out only for
the MobileNet ones) are handled inside. Discriminators take images in [0, 1] too.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models.checkpoints import bare, count, fits


def conv(into: int, out: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size of its input (at stride 1) by zero padding."""
    return nn.Conv2d(into, out, kernel, stride, padding=kernel // 2, bias=bias)


class ImageNetwork(nn.Module):
    """An image network that takes a clip: every frame is processed on its own."""

    scale: int

    def upscale(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, sH, sW)."""
        raise NotImplementedError

    def forward(self, clip: Tensor) -> Tensor:
        """(N, T, 3, H, W) in [0, 1] -> (N, T, 3, sH, sW)."""
        n, t, c, h, w = clip.shape
        sr = self.upscale(clip.flatten(0, 1))
        return sr.reshape(n, t, c, h * self.scale, w * self.scale)


class UpBlock(nn.Module):
    """Twice the size: convolution to four times the channels, pixel shuffle, PReLU."""

    def __init__(self, channels: int, slopes: int = 1) -> None:
        super().__init__()
        self.conv = conv(channels, 4 * channels)
        self.prelu = nn.PReLU(slopes)

    def forward(self, x: Tensor) -> Tensor:
        up: Tensor = self.prelu(F.pixel_shuffle(self.conv(x), 2))
        return up


# --- iSeeBetter's SRGAN -------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """x + BN(conv(PReLU(BN(conv(x)))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2 = conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return x + residual


class SRResNet(ImageNetwork):
    """The generator of SRGAN; 586,379, 734,092 or 881,805 parameters.

    Args:
        scale: 2, 4 or 8: one up-step per doubling.
    """

    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        if scale not in (2, 4, 8):
            raise ValueError(f"scale must be 2, 4 or 8, got {scale}.")
        self.scale = scale
        self.block1 = nn.Sequential(conv(3, 64, 9), nn.PReLU())
        self.block2 = ResidualBlock(64)
        self.block3 = ResidualBlock(64)
        self.block4 = ResidualBlock(64)
        self.block5 = ResidualBlock(64)
        self.block6 = ResidualBlock(64)
        self.block7 = nn.Sequential(conv(64, 64), nn.PReLU())
        ups = [UpBlock(64) for _ in range(scale.bit_length() - 1)]
        self.block8 = nn.Sequential(*ups, conv(64, 3, 9))

    def upscale(self, lr: Tensor) -> Tensor:
        first = self.block1(lr)
        x = self.block6(self.block5(self.block4(self.block3(self.block2(first)))))
        sr = self.block8(first + self.block7(x))
        return (torch.tanh(sr) + 1) / 2


class Discriminator(nn.Module):
    """iSeeBetter's discriminator: the probability that an image is real; 5,215,425 parameters.

    (N, 3, H, W) in [0, 1], any size -> (N,)
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, 64), nn.LeakyReLU(0.2)]
        widths = [64, 64, 128, 128, 256, 256, 512, 512]
        for index, (into, out) in enumerate(pairwise(widths)):
            stride = 2 - index % 2
            layers += [conv(into, out, stride=stride), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
        layers += [nn.AdaptiveAvgPool2d(1), conv(512, 1024, 1), nn.LeakyReLU(0.2), conv(1024, 1, 1)]
        self.net = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.net(image).flatten())


# --- Fast-SRGAN, 2024 ---------------------------------------------------------------------------


class FastBlock(nn.Module):
    """x + IN(conv(PReLU(IN(conv(x))))), no biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, bias=False)
        self.relu1 = nn.PReLU()
        self.conv2 = conv(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu1(F.instance_norm(self.conv1(x)))
        return x + F.instance_norm(self.conv2(y))


class FastUpBlock(nn.Module):
    """`UpBlock` with Fast-SRGAN's name for its slope."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, 4 * channels)
        self.relu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        up: Tensor = self.relu(F.pixel_shuffle(self.conv(x), 2))
        return up


class FastSRGAN(ImageNetwork):
    """Fast-SRGAN's generator, 4x only; 925,646 parameters as published.

    Args:
        channels: Width (`n_filters`).
        blocks: Residual blocks (`n_layers`).
    """

    scale = 4

    def __init__(self, channels: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.neck = nn.Sequential(conv(3, channels), nn.PReLU())
        self.stem = nn.Sequential(*[FastBlock(channels) for _ in range(blocks)])
        self.bottleneck = nn.Sequential(
            conv(channels, channels, bias=False), nn.InstanceNorm2d(channels)
        )
        self.upsampling = nn.Sequential(FastUpBlock(channels), FastUpBlock(channels))
        self.head = nn.Sequential(conv(channels, 3), nn.Tanh())

    def upscale(self, lr: Tensor) -> Tensor:
        first = self.neck(2 * lr - 1)
        x = first + self.bottleneck(self.stem(first))
        sr: Tensor = self.head(self.upsampling(x))
        return (sr + 1) / 2


class FastDownBlock(nn.Module):
    """LeakyReLU(IN(conv(x))), no bias."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = conv(into, out, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.instance_norm(self.conv(x)), 0.01)


class FastDiscriminator(nn.Module):
    """Fast-SRGAN's discriminator: one logit per patch; 4,684,033 parameters at 64 channels.

    (N, 3, H, W) in [0, 1] -> (N, 1, H / 16, W / 16), rounded up
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.neck = nn.Sequential(conv(3, channels), nn.LeakyReLU(0.2))
        widths = [channels * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)]
        downs = [
            FastDownBlock(into, out, stride=2 - index % 2)
            for index, (into, out) in enumerate(pairwise(widths))
        ]
        self.stem = nn.Sequential(*downs, conv(8 * channels, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.stem(self.neck(2 * image - 1))
        return logits


# --- The MobileNetV2-style network of the TensorFlow Fast-SRGAN -----------------------------------


def batch_norm(channels: int, momentum: float = 0.99) -> nn.BatchNorm2d:
    """Keras's batch normalisation, whose momentum is the weight of the old value."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=1 - momentum)


def initialise_as_keras(network: nn.Module) -> None:
    """Glorot's uniform kernels, zero biases, PReLU that starts as ReLU."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif isinstance(module, nn.PReLU):
            nn.init.zeros_(module.weight)


class InvertedBlock(nn.Module):
    """x + project(depthwise(expand(x))): wide in the middle, no activation at the end."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = nn.Sequential()
        if expansion > 1:
            self.expand = nn.Sequential(conv(channels, wide, 1), batch_norm(wide, 0.999), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), batch_norm(wide, 0.999), nn.ReLU()
        )
        self.project = nn.Sequential(conv(wide, channels, 1), batch_norm(channels, 0.999))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + residual


class TransposedUp(nn.Module):
    """Twice the size by TensorFlow's SAME transposed convolution, 3x3 with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 3, stride=2)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        # SAME puts the one odd pixel of padding at the end: 2H + 1 rows, less the last.
        up: Tensor = self.prelu(self.conv(x)[..., :-1, :-1])
        return up


class MobileSRGAN(ImageNetwork):
    """The MobileNetV2-style generator: 102,691 numbers at 2x, 167,459 at 4x.

    Of these 4,416 are running statistics of batch normalisation, the rest is trained. The input is
    not shifted, the output is tanh's.

    Args:
        scale: 2, with a transposed convolution, or 4, with two pixel shuffles.
    """

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ValueError(f"scale must be 2 or 4, got {scale}.")
        self.scale = scale
        self.first = nn.Sequential(conv(3, 32), batch_norm(32), nn.PReLU(32))
        blocks = [InvertedBlock(32, expansion=1), *[InvertedBlock(32, 6) for _ in range(5)]]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(conv(32, 32), batch_norm(32))
        if scale == 2:
            self.up = nn.Sequential(TransposedUp(32))
        else:
            self.up = nn.Sequential(UpBlock(32, slopes=32), UpBlock(32, slopes=32))
        self.out = conv(32, 3)
        initialise_as_keras(self)

    def upscale(self, lr: Tensor) -> Tensor:
        first = self.first(lr)
        x = first + self.last(self.blocks(first))
        sr = self.out(self.up(x))
        return (torch.tanh(sr) + 1) / 2


class SameConv(nn.Conv2d):
    """TensorFlow's SAME 3x3 convolution: at stride 2 an even size is padded at its end only."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        stride = self.stride[0]
        rows, columns = ((-(-side // stride) - 1) * stride + 3 - side for side in (h, w))
        pads = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(F.pad(x, pads))


class PatchDiscriminator(nn.Module):
    """The video app's discriminator: per patch, the probability that it is real; 159,393 numbers.

    (N, 3, H, W) in [0, 1] -> (N, 1, H / 16, W / 16), rounded up at every halving
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [SameConv(3, 32, 3), nn.LeakyReLU(0.2)]
        widths = [32, 32, 32, 32, 64, 64, 64, 64]
        for index, (into, out) in enumerate(pairwise(widths)):
            down = SameConv(into, out, 3, stride=2 - index % 2)
            layers += [down, batch_norm(out, 0.8), nn.LeakyReLU(0.2)]
        layers.append(conv(64, 1, 1))
        self.net = nn.Sequential(*layers)
        initialise_as_keras(self)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.net(2 * image - 1))


# --- Recognising them ---------------------------------------------------------------------------

GENERATORS: dict[str, type[ImageNetwork]] = {
    "srresnet": SRResNet,
    "fast": FastSRGAN,
    "mobile": MobileSRGAN,
}


def build(network: str, **arguments: Any) -> ImageNetwork:
    """Build the generator called `network` in `GENERATORS` with the other arguments."""
    if network not in GENERATORS:
        raise ValueError(f"network must be one of {', '.join(GENERATORS)}, got {network!r}.")
    return GENERATORS[network](**arguments)


def recognise(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Arguments of `build` for the generator that `state` belongs to, and its tensors, or None.

    Discriminators are not recognised.
    """
    tensors = bare(state)
    candidates: list[dict[str, Any]] = []
    if "block8.0.conv.weight" in tensors:
        ups = count(tensors, "block8.", ".conv.weight")
        candidates = [{"network": "srresnet", "scale": 2**ups}] if ups <= 3 else []
    elif "neck.0.weight" in tensors:
        channels = tensors["neck.0.weight"].shape[:1]
        blocks = count(tensors, "stem.", ".conv1.weight")
        candidates = [{"network": "fast", "channels": c, "blocks": blocks} for c in channels if c]
    elif "first.0.weight" in tensors:
        candidates = [{"network": "mobile", "scale": scale} for scale in (2, 4)]
    for arguments in candidates:
        found = fits(build, arguments, tensors)
        if found is not None:
            return arguments, found
    return None
