"""What training minimises: functions of (sr, hr), of a discriminator's scores, and of features.

Pixel losses, by name in `LOSSES`, see pictures only. `Perceptual` compares what a VGG sees in
them, `feature_matching` what a discriminator sees, which needs no file. `Adversarial` is the game
between a generator and a discriminator, both sides of it. `FourFold` adds four of these up.

sr and hr are clips, (N, T, C, H, W), or pictures, (N, C, H, W): RGB, floats in [0, 1], sr not
clamped. A clip is its N*T pictures. Half precision is computed in float32.

Where the sources disagree with themselves, and what we follow:

- iSeeBetter (Chadha et al., Computational Visual Media 2020; github.com/amanchadha/iSeeBetter,
  `rbpn.py`). The figure compares features of a VGG-19, the code those of a VGG-16, after its last
  pooling, without the normalisation that network was trained with. The report's adversarial term
  is -log D(SR), the code's -D(SR). The figure's total variation sums absolute differences, the
  code's averages squared ones. We follow the code; each of the other forms is an argument.
  Its stand-alone SRGAN has 1 - D(SR), which has the same gradient.
- Fast-SRGAN (github.com/HasnainRaz/Fast-SRGAN). The TensorFlow version, and the 2x video app made
  from it (github.com/duongtruongtrong/super_resolution_video_srvgan), compare Keras's
  `block5_conv4`, conv5_4 after its ReLU, divided by 12.75. The PyTorch version of 2024 takes
  `features[:34]`, which ends one convolution earlier, after the ReLU of conv5_3. Both are here,
  under the names of the layers they really are: `vgg19_54` and `vgg19_53`.
- TSRCNN (github.com/Dawid64/super-enhanced-resolution). What it calls the PNSR loss is 1 / PSNR.
  Its report has DSSIM in a quality figure where its code has SSIM; the loss is 1 - SSIM in both.
- ESRGAN (Wang et al., ECCV Workshops 2018; github.com/XPixelGroup/BasicSR). The paper adds the
  losses of real and fake pictures, the code takes their mean: we follow the code. In D's step it
  also cuts the gradient of the two means, a remedy for training on several devices: we do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.errors import UsageError, WeightsError, did_you_mean
from sharpreel.weights import read_content

PixelLoss = Callable[[Tensor, Tensor], Tensor]
Row = TypeVar("Row")


def find(table: Mapping[str, Row], what: str, name: str) -> Row:
    """The row called `name`, or a UsageError that names the nearest one."""
    if name in table:
        return table[name]
    hint = did_you_mean(name, table)
    raise UsageError(f"No {what} is called {name}.{hint} There are: {', '.join(table)}.")


def pictures_of(clip: Tensor, name: str = "sr") -> Tensor:
    """A clip or a batch of pictures as pictures, in float32 or better.

    Args:
        clip: (N, T, C, H, W) or (N, C, H, W).
        name: What a message calls it.

    Returns:
        (N*T, C, H, W) or (N, C, H, W).
    """
    if clip.ndim not in (4, 5) or not clip.is_floating_point():
        raise ValueError(
            f"{name} must be floats in [0, 1] of shape (N, T, C, H, W) or (N, C, H, W), "
            f"got {clip.dtype} of shape {tuple(clip.shape)}."
        )
    precise = clip.to(torch.promote_types(clip.dtype, torch.float32))
    return precise.flatten(0, 1) if clip.ndim == 5 else precise


def pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """sr and hr as pictures; they must be of one shape."""
    if sr.shape != hr.shape:  # (1, 3, H, W) against (N, 3, H, W) would be spread out, silently
        raise ValueError(
            f"sr and hr must have one shape, got {tuple(sr.shape)} and {tuple(hr.shape)}. "
            "A network that loses a border needs hr without that border."
        )
    return pictures_of(sr, "sr"), pictures_of(hr, "hr")


# --- Pixels -------------------------------------------------------------------------------------


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of the absolute difference: RBPN's loss, and iSeeBetter's unless told otherwise."""
    return F.l1_loss(*pair(sr, hr))


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean of the squared difference."""
    return F.mse_loss(*pair(sr, hr))


def charbonnier(sr: Tensor, hr: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(difference^2 + epsilon^2): L1 that is smooth at zero (Lai et al., 2017).

    Equal pictures give epsilon, not zero. BasicVSR++ has epsilon^2 = 1e-12.
    """
    sr, hr = pair(sr, hr)
    return torch.sqrt((sr - hr) ** 2 + epsilon**2).mean()


def inverse_psnr(sr: Tensor, hr: Tensor) -> Tensor:
    """1 / PSNR of the batch as a whole, TSRCNN's "PNSR": 0.0125 for equal pictures, 0.033 at 30 dB.

    PSNR = 10 log10(1 / (MSE + 1e-8)). At 0 dB, where the mean squared error is 1, the value is
    infinite, and beyond it negative: not a loss for a network whose first pictures are that far
    off.
    """
    psnr = 10 * torch.log10(1 / (mse(sr, hr) + 1e-8))
    return 1 / psnr


SSIM_TAPS = 7
SSIM_SIGMA = 1.0


def ssim7(sr: Tensor, hr: Tensor) -> Tensor:
    """SSIM of the pictures, 1 for equal ones, as TSRCNN measures it with piqa.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004,
    with a Gaussian of 7 taps and sigma 1 instead of 11 and 1.5, k1 = 0.01, k2 = 0.03 and range 1.
    Per channel; windows lie inside the picture, so its outer 3 pixels count less.

    Args:
        sr, hr: Clips or pictures of one shape, at least 7 x 7.

    Returns:
        The mean over windows, channels and pictures, a scalar.
    """
    sr, hr = pair(sr, hr)
    h, w = sr.shape[-2:]
    if min(h, w) < SSIM_TAPS:
        raise ValueError(f"SSIM needs pictures of at least 7 x 7 pixels, got {h} x {w}.")
    offsets = torch.arange(SSIM_TAPS, dtype=sr.dtype, device=sr.device) - SSIM_TAPS // 2
    taps = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    taps = taps / taps.sum()
    moments = torch.stack([sr, hr, sr * sr, hr * hr, sr * hr])
    # As channels with filters of their own, which torch runs five times as fast as as pictures.
    maps = moments.reshape(1, -1, h, w)  # (1, 5*N*C, H, W)
    count = maps.shape[1]
    down = taps.reshape(1, 1, -1, 1).repeat(count, 1, 1, 1)
    across = taps.reshape(1, 1, 1, -1).repeat(count, 1, 1, 1)
    with torch.autocast(sr.device.type, enabled=False):  # E[x^2] - E[x]^2 cancels in half precision
        maps = F.conv2d(F.conv2d(maps, down, groups=count), across, groups=count)
    mean_s, mean_h, square_s, square_h, product = maps.chunk(5, dim=1)
    var_s, var_h = square_s - mean_s**2, square_h - mean_h**2
    covariance = product - mean_s * mean_h
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_s * mean_h + c1) / (mean_s**2 + mean_h**2 + c1)
    structure = (2 * covariance + c2) / (var_s + var_h + c2)
    ssim: Tensor = luminance * structure
    return ssim.mean()


def dssim(sr: Tensor, hr: Tensor) -> Tensor:
    """1 - SSIM, in [0, 2]: TSRCNN's DSSIM. `ssim7` says which SSIM."""
    return 1 - ssim7(sr, hr)


LOSSES: dict[str, PixelLoss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "inverse_psnr": inverse_psnr,
    "dssim": dssim,
}


def pixel_loss(name: str) -> PixelLoss:
    """The function (sr, hr) -> scalar called `name` in `LOSSES`.

    Raises:
        UsageError: There is none; the message names the nearest.
    """
    return find(LOSSES, "loss", name)


def flicker(sr: Tensor, hr: Tensor, still: float = 2.0) -> Tensor:
    """How much sr changes between neighbouring frames where hr stands still.

    Args:
        sr, hr: Clips (N, T, C, H, W) in [0, 1] of one shape.
        still: hr stands still where no channel changes by more than this many 8-bit levels.

    Returns:
        Mean of the absolute change, zero where hr moves; 0 for a clip of one frame.
    """
    if sr.shape != hr.shape or sr.ndim != 5:
        raise ValueError(
            f"flicker compares clips (N, T, C, H, W) of one shape, got {tuple(sr.shape)} and "
            f"{tuple(hr.shape)}."
        )
    if sr.shape[1] < 2:
        return sr.new_zeros(())
    change = (hr[:, 1:] - hr[:, :-1]).abs().amax(dim=2, keepdim=True)
    static = (change <= (still + 0.5) / 255).to(sr.dtype)
    return ((sr[:, 1:] - sr[:, :-1]).abs() * static).mean()


def total_variation(sr: Tensor, form: Literal["squared", "absolute"] = "squared") -> Tensor:
    """How much neighbouring pixels differ, zero for a flat picture: iSeeBetter's fourth term.

    dv and dh are the differences to the pixel below and to the right, count_v = C * (H-1) * W and
    count_h = C * H * (W-1) how many a picture has of each.

    Args:
        sr: Clip or pictures, at least 2 x 2.
        form: "squared", the code's: 2 * (sum dv^2 / count_v + sum dh^2 / count_h) / pictures, a
            mean. "absolute", the figure's: (sum |dv| + sum |dh|) / pictures, a sum, which grows
            with the size of the picture.
    """
    pictures = pictures_of(sr)
    n, _, h, w = pictures.shape
    if min(h, w) < 2:
        raise ValueError(f"Total variation needs pictures of at least 2 x 2 pixels, got {h} x {w}.")
    dv = pictures[..., 1:, :] - pictures[..., :-1, :]
    dh = pictures[..., 1:] - pictures[..., :-1]
    if form == "squared":
        return 2 * (dv.square().mean() + dh.square().mean())  # means are over the pictures, too
    if form == "absolute":
        return (dv.abs().sum() + dh.abs().sum()) / n
    raise ValueError(f"form must be squared or absolute, got {form!r}.")


# --- Features of a VGG --------------------------------------------------------------------------


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
DISTANCES: dict[str, PixelLoss] = {"mse": F.mse_loss, "smooth_l1": F.smooth_l1_loss}


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


class Perceptual(nn.Module):
    """How far apart what a VGG sees in sr and in hr is (Johnson et al., 2016; Ledig et al., 2017).

    The network is frozen; gradients reach sr alone. As published:

        iSeeBetter             vgg16_pool5, mse
        RBPN-VSR-P             vgg19_43, mse
        Fast-SRGAN, TensorFlow vgg19_54, mse, divisor=12.75
        Fast-SRGAN, PyTorch    vgg19_53, smooth_l1, normalise=True

    The third was trained with Keras's weights, which take BGR in 0-255 less a mean. torchvision's
    take RGB normalised; its features are on another scale, so the value differs by a factor.

    Args:
        layer: One of `LAYERS`.
        weights: torchvision's state dict of that VGG, as .pth or .safetensors. `classifier.*` in
            it is not used and may be missing.
        normalise: Give the network what it was trained with, (picture - mean) / std of ImageNet.
        distance: One of `DISTANCES`, between the features; a mean.
        divisor: Features are divided by it first.

    Raises:
        UsageError: No such layer, or no file given; the message says which to get.
        WeightsError: The file is missing, unreadable, or not that VGG.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layer: str = "vgg16_pool5",
        weights: str | Path | None = None,
        *,
        normalise: bool = False,
        distance: Literal["mse", "smooth_l1"] = "mse",
        divisor: float = 1.0,
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance must be {' or '.join(DISTANCES)}, got {distance!r}.")
        if divisor <= 0:
            raise ValueError(f"divisor must be more than 0, got {divisor}.")
        network, end = find(LAYERS, "perceptual layer", layer)
        if weights is None:
            file = VGG_FILES[network]
            raise UsageError(
                f"The perceptual loss {layer} needs torchvision's {file}. "
                f"Get {VGG_URL}{file} and give its path as `weights`."
            )
        self.layer = layer
        self.normalise = normalise
        self.distance = DISTANCES[distance]
        self.divisor = divisor
        with torch.device("meta"):
            whole = vgg_features(network)
        self.features = nn.Sequential(*list(whole)[:end])
        self.features.load_state_dict(read_vgg(Path(weights), network, whole, end), assign=True)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)
        self.smallest = 2 ** sum(isinstance(step, nn.MaxPool2d) for step in self.features)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Nothing: the network stays as it is when the loss around it is set to training."""
        return super().train(False)

    def seen(self, pictures: Tensor) -> Tensor:
        """Features of pictures, (N, 3, H, W) -> (N, C, H', W')."""
        pictures = pictures.to(self.mean.dtype)
        if self.normalise:
            pictures = (pictures - self.mean) / self.std
        features: Tensor = self.features(pictures)
        return pictures_of(features) / self.divisor

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Clips or pictures of one shape, 3 channels, at least 16 x 16 or 32 x 32 -> a scalar."""
        sr, hr = pair(sr, hr)
        c, h, w = sr.shape[-3:]
        if c != 3 or min(h, w) < self.smallest:
            least = f"{self.smallest} x {self.smallest}"
            raise ValueError(
                f"{self.layer} needs RGB pictures of at least {least} pixels, "
                f"got {c} channels of {h} x {w}."
            )
        with torch.no_grad():
            wanted = self.seen(hr)
        return self.distance(self.seen(sr), wanted)


def read_vgg(path: Path, network: str, whole: nn.Sequential, end: int) -> dict[str, Tensor]:
    """The tensors of `whole[:end]`, by the names they have there, in float32.

    Raises:
        WeightsError: The file is missing, unreadable, or has other tensors than `whole`.
    """
    file = VGG_FILES[network]
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. It is to be torchvision's {VGG_URL}{file}.")
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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors or .pth file. Nothing in the file is run."""
    what = "a file of tensors (.pth, .safetensors)"
    content = read_content(path, what)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: not {what}. Nothing in it was run.")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


# --- Generator against discriminator ------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """What real and fake pictures are called: ranges that every score's label is drawn from.

    `generator` is what the generator wants its pictures called. The default is 1, 0 and 1, and
    draws nothing.
    """

    real: tuple[float, float] = (1.0, 1.0)
    fake: tuple[float, float] = (0.0, 0.0)
    generator: tuple[float, float] = (1.0, 1.0)


FAST_SRGAN_LABELS = Labels(real=(0.8, 1.1), fake=(0.0, 0.3), generator=(0.7, 1.0))


@dataclass(frozen=True)
class Adversarial:
    """What a generator and a discriminator each minimise against the other.

    D is what the discriminator says of a picture, or of each of its patches; means are over all.

        iseebetter    G: -mean D(sr)              D: 1 - mean D(hr) + mean D(sr), D a probability
        srgan         G: BCE(D(sr), 1)            D: BCE(D(hr), 1) + BCE(D(sr), 0)
        relativistic  G: the mean of BCE(D(hr) - mean D(sr), 0) and BCE(D(sr) - mean D(hr), 1)
                      D: the mean of BCE(D(hr) - mean D(sr), 1) and BCE(D(sr) - mean D(hr), 0)

    "srgan" is the one of Ledig et al. and both Fast-SRGANs, of which the one of 2024 halves D's and
    takes 0.05 of G's. "relativistic" (Jolicoeur-Martineau, 2019; ESRGAN) compares logits.

    For D's step give scores of `sr.detach()`. Score sr anew for G's step, after D's: the graph of
    the earlier scores holds weights that the step has changed.

    Args:
        name: One of `ADVERSARIAL`.
        logits: Does the discriminator say logits, as `FastDiscriminator` does? The others of
            `models/srgan.py` say probabilities.
        labels: For the two with BCE (`FAST_SRGAN_LABELS`).
        rng: Where labels are drawn from; None is torch's own.
    """

    name: str = "iseebetter"
    logits: bool = False
    labels: Labels = Labels()
    rng: torch.Generator | None = None

    def __post_init__(self) -> None:
        find(ADVERSARIAL, "adversarial loss", self.name)
        if self.name == "relativistic" and not self.logits:
            raise ValueError(
                "The relativistic loss compares logits: give it those, before any sigmoid, and "
                "logits=True."
            )

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The generator's loss, a scalar.

        Args:
            fake: Scores of sr, any shape.
            real: Scores of hr, which only "relativistic" needs; no gradient goes there.
        """
        return ADVERSARIAL[self.name].generator(self, fake, real)

    def discriminator(self, fake: Tensor, real: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from the scores of sr and hr."""
        return ADVERSARIAL[self.name].discriminator(self, fake, real)


def probabilities(how: Adversarial, scores: Tensor) -> Tensor:
    """Scores as probabilities, whichever they are, in float32 or better."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if how.logits:
        return torch.sigmoid(scores)
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        low, high = scores.detach().aminmax()
        raise ValueError(
            f"Scores must be probabilities, got {low:.3g} to {high:.3g}. "
            "A discriminator that says logits needs logits=True."
        )
    return scores


def cross_entropy(how: Adversarial, scores: Tensor, labels: tuple[float, float]) -> Tensor:
    """Mean binary cross-entropy of the scores, with labels drawn uniformly between the two."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    low, high = labels
    label = torch.full_like(scores, low)
    if low != high:
        where = scores.device if how.rng is None else how.rng.device
        drawn = torch.rand(scores.shape, generator=how.rng, device=where, dtype=scores.dtype)
        label = low + (high - low) * drawn.to(scores.device)
    if how.logits:
        return F.binary_cross_entropy_with_logits(scores, label)
    # torch refuses labels above 1, which Fast-SRGAN has. The loss is linear in the label.
    scores = probabilities(how, scores)
    with torch.autocast(scores.device.type, enabled=False):  # torch refuses this one in autocast
        if_real = F.binary_cross_entropy(scores, torch.ones_like(scores), reduction="none")
        if_fake = F.binary_cross_entropy(scores, torch.zeros_like(scores), reduction="none")
    return (label * if_real + (1 - label) * if_fake).mean()


def _iseebetter_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    return -probabilities(how, fake).mean()


def _iseebetter_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    return 1 - probabilities(how, real).mean() + probabilities(how, fake).mean()


def _srgan_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    return cross_entropy(how, fake, how.labels.generator)


def _srgan_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    told_real = cross_entropy(how, real, how.labels.real)
    return told_real + cross_entropy(how, fake, how.labels.fake)


def _relativistic_generator(how: Adversarial, fake: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        raise ValueError("The relativistic loss of the generator needs `real`, the scores of hr.")
    real = real.detach()
    told_real = cross_entropy(how, real - fake.mean(), how.labels.fake)
    told_fake = cross_entropy(how, fake - real.mean(), how.labels.generator)
    return (told_real + told_fake) / 2


def _relativistic_discriminator(how: Adversarial, fake: Tensor, real: Tensor) -> Tensor:
    told_real = cross_entropy(how, real - fake.mean(), how.labels.real)
    told_fake = cross_entropy(how, fake - real.mean(), how.labels.fake)
    return (told_real + told_fake) / 2


class Sides(NamedTuple):
    """The two losses of one game."""

    generator: Callable[[Adversarial, Tensor, Tensor | None], Tensor]
    discriminator: Callable[[Adversarial, Tensor, Tensor], Tensor]


ADVERSARIAL: dict[str, Sides] = {
    "iseebetter": Sides(_iseebetter_generator, _iseebetter_discriminator),
    "srgan": Sides(_srgan_generator, _srgan_discriminator),
    "relativistic": Sides(_relativistic_generator, _relativistic_discriminator),
}


# --- Features of a discriminator ----------------------------------------------------------------

ACTIVATIONS = (nn.LeakyReLU, nn.ReLU, nn.PReLU)


def score_and_features(discriminator: nn.Module, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a discriminator says of pictures, and what its layers hold meanwhile, in one pass.

    A feature is what an activation in one of its `nn.Sequential`s puts out, or a block there that
    is a layer with its activation. Scores and logits are none.

        Sequential(conv, LeakyReLU, conv, BatchNorm, LeakyReLU, FastDownBlock, conv)
                         ^                           ^          ^

    Args:
        discriminator: Called as it is; in training mode its batch statistics move.
        picture: Clip or pictures.

    Returns:
        The discriminator's output, and the features in the order they are made, (N*T, C', H', W')
        each.
    """
    steps = dict.fromkeys(
        step
        for sequence in discriminator.modules()
        if isinstance(sequence, nn.Sequential)
        for step in sequence
        if isinstance(step, ACTIVATIONS)
        or (not isinstance(step, nn.Sequential) and any(True for _ in step.children()))
    )
    if not steps:
        raise ValueError(
            f"{type(discriminator).__name__} has no activation or block in an nn.Sequential, "
            "so there are no features to match."
        )
    features: list[Tensor] = []

    def keep(step: nn.Module, inputs: Any, output: Tensor) -> None:
        features.append(output)

    handles = [step.register_forward_hook(keep) for step in steps]
    try:
        score = discriminator(pictures_of(picture, "picture"))
    finally:
        for handle in handles:
            handle.remove()
    return score, features


def features_of(discriminator: nn.Module, picture: Tensor) -> list[Tensor]:
    """What a discriminator's layers hold when it sees pictures; see `score_and_features`."""
    return score_and_features(discriminator, picture)[1]


def feature_matching(fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
    """Mean over layers of the L1 between a discriminator's features of sr and of hr.

    pix2pixHD (Wang et al., CVPR 2018; github.com/NVIDIA/pix2pixHD), which multiplies by 4. It
    takes the place of the perceptual term where no VGG may be used.

    Args:
        fake_features, real_features: Of sr and hr, from `features_of`; no gradient goes to the
            latter.
    """
    shapes = [[tuple(f.shape) for f in features] for features in (fake_features, real_features)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise ValueError(
            "Features must be those of one discriminator for two pictures of one size, "
            f"got {shapes[0]} and {shapes[1]}."
        )
    layers = zip(fake_features, real_features, strict=True)
    return torch.stack([F.l1_loss(fake, real.detach()) for fake, real in layers]).mean()


def matching(discriminator: nn.Module) -> PixelLoss:
    """`feature_matching` by this discriminator as a function (sr, hr) -> scalar, for `FourFold`."""

    def matched(sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = pair(sr, hr)
        with torch.no_grad():
            real = features_of(discriminator, hr)
        return feature_matching(features_of(discriminator, sr), real)

    return matched


# --- All together -------------------------------------------------------------------------------


@dataclass(frozen=True)
class FourWeights:
    """How much each term of `FourFold` counts: iSeeBetter's numbers. One of 0 is not computed."""

    image: float = 1.0
    perceptual: float = 6e-3
    adversarial: float = 1e-3
    total_variation: float = 2e-8


class FourFold(nn.Module):
    """iSeeBetter's loss of the generator, `--APITLoss` there.

    total = image * MSE + perceptual * features + adversarial * game + total_variation * TV

    Args:
        perceptual: (sr, hr) -> scalar: a `Perceptual`, or `matching(discriminator)`. None when its
            weight is 0.
        adversarial: The game.
        weights: Of the four.
        image: (sr, hr) -> scalar; the AFM fork of iSeeBetter takes `l1` with a game of 0.005 and
            nothing else.
        form: Of `total_variation`.
    """

    def __init__(
        self,
        perceptual: PixelLoss | None,
        adversarial: Adversarial | None = None,
        *,
        weights: FourWeights | None = None,
        image: PixelLoss = mse,
        form: Literal["squared", "absolute"] = "squared",
    ) -> None:
        super().__init__()
        self.weights = weights or FourWeights()
        if perceptual is None and self.weights.perceptual:
            raise ValueError(
                "perceptual must be a function of (sr, hr) when its weight is not 0: a Perceptual, "
                "or matching(discriminator)."
            )
        self.perceptual = perceptual
        self.adversarial = adversarial or Adversarial()
        self.image = image
        self.form = form

    def forward(
        self, sr: Tensor, hr: Tensor, fake: Tensor, real: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to minimise, and what it is made of.

        Args:
            sr, hr: Clips or pictures of one shape.
            fake, real: The discriminator's scores of them; `real` for the relativistic game only.

        Returns:
            A scalar, and the terms "image", "perceptual", "adversarial" and "total_variation"
            before weighting, without graph; 0 where the weight is 0.
        """
        sr, hr = pair(sr, hr)
        zero = sr.new_zeros(())
        weights = self.weights
        image = self.image(sr, hr) if weights.image else zero
        seen = zero
        if self.perceptual is not None and weights.perceptual:
            seen = self.perceptual(sr, hr)
        game = self.adversarial.generator(fake, real) if weights.adversarial else zero
        variation = total_variation(sr, self.form) if weights.total_variation else zero
        total = (
            weights.image * image
            + weights.perceptual * seen
            + weights.adversarial * game
            + weights.total_variation * variation
        )
        terms = {
            "image": image,
            "perceptual": seen,
            "adversarial": game,
            "total_variation": variation,
        }
        return total, {name: term.detach() for name, term in terms.items()}
