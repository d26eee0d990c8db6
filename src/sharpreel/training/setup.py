"""Builds what a training run needs: network, optimiser, losses, Fabric."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sharpreel.errors import DeviceError, MissingExtra, UsageError, WeightsError
from sharpreel.models import MODELS
from sharpreel.models.weights import describe, load_model
from sharpreel.training.config import Stage, TrainConfig
from sharpreel.training.losses import CombinedLoss, LossWeights
from sharpreel.training.losses.adversarial import Adversarial, matching
from sharpreel.training.losses.perceptual import Perceptual
from sharpreel.training.losses.pixel import PixelLoss, pixel_loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def build_network(config: TrainConfig) -> Any:
    """The config's network as it is before any training.

    Raises:
        UsageError: It cannot be built of these arguments, or not learn from patches of this size.
    """
    cannot = f"no {config.model} can be built of arguments={dict(config.arguments)}"
    try:
        network: Any = MODELS[config.model].build(config.arguments)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, WeightsError) as e:
        raise UsageError(f"{cannot}: {first_line(e)}.") from e
    folds = getattr(network, "unshuffle", getattr(network, "fold", 1))  # pixels into channels
    if folds < 1 or any(tensor.numel() == 0 for tensor in network.parameters()):
        raise UsageError(f"{cannot}: a layer of it would be empty.")
    if config.patch % folds:
        raise UsageError(f"patch={config.patch}: must be a multiple of {folds} for this network.")
    return network


def first_line(error: BaseException) -> str:
    """Of its message, without the full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


class TrainModule(nn.Module):
    """A network as training calls it, whatever its contract: lr clip in, sr clip out.

    Causal and bidirectional networks and image networks make every frame of a clip; a network that
    looks at neighbours makes the middle of a window, (N, T, C, H, W) -> (N, 1, C, sH, sW).
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.network = build_network(config)
        self.causal = MODELS[config.model].recurrent == "causal"
        self.past = getattr(self.network, "past", 0)
        self.future = getattr(self.network, "future", 0)
        self.windowed = MODELS[config.model].recurrent is None and self.past + self.future > 0
        if config.task == "bursts" and not self.windowed:
            raise UsageError("task=bursts: needs a network that looks at neighbours, such as rbpn.")

    def forward(self, lr: Tensor) -> Tensor:
        if self.causal:
            sr: Tensor = self.network(lr)[0]
        elif self.windowed:
            sr = self.network.centre(lr)[:, None]
        else:
            sr = self.network(lr)
        return sr

    def clip_len(self, stage: Stage) -> int:
        """Frames that a sample of this stage has."""
        return self.past + 1 + self.future if self.windowed else stage.clip_len

    def wanted(self, hr: Tensor) -> Tensor:
        """The frames of hr that `forward` makes."""
        return hr[:, self.past, None] if self.windowed else hr


class DiscriminatorModule(nn.Module):
    """The discriminator on clips: frames are judged one by one."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        from sharpreel.models import srgan

        built = {
            "iseebetter": srgan.Discriminator,
            "fast": srgan.FastDiscriminator,
            "patch": srgan.PatchDiscriminator,
        }
        self.network = built[kind]()
        self.logits = kind == "fast"

    def forward(self, clip: Tensor) -> Tensor:
        judged: Tensor = self.network(clip.flatten(0, 1))
        return judged


def combined_loss(
    config: TrainConfig, judge: DiscriminatorModule, device: torch.device
) -> CombinedLoss:
    """The generator's loss against a judge."""
    gan = config.gan
    assert gan is not None
    perceptual: PixelLoss | None = None
    if gan.perceptual and gan.features == "discriminator":
        perceptual = matching(judge.network)
    elif gan.perceptual:
        try:
            perceptual = Perceptual(
                gan.features, gan.vgg_file or None, normalise=gan.normalise, divisor=gan.divisor
            ).to(device)
        except UsageError as e:
            raise UsageError(
                f"{e} In a recipe: --set gan.vgg_file=FILE, or --set gan.features=discriminator "
                "to compare the discriminator's own features instead."
            ) from e
    return CombinedLoss(
        perceptual,
        Adversarial(gan.game, logits=judge.logits),
        weights=LossWeights(gan.image, gan.perceptual, gan.adversarial, gan.total_variation),
        image=pixel_loss(config.loss),
    )


def unwrap(module: nn.Module) -> Any:
    """The module inside what Fabric wraps around it."""
    return getattr(module, "module", module)


def build_optimizer(config: TrainConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser of the config over parameter groups that carry their own `lr`."""
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=config.betas, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=config.betas, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, weight_decay=decay)


def validate_device(name: str) -> None:
    """Raise unless there is such a device: UsageError or DeviceError."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {name} is not known; choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: torch finds no CUDA GPU. Use --device cpu.")


def make_fabric(precision: str = "auto", accelerator: str = "auto") -> Fabric:
    """Fabric for this machine: all processes that `torchrun` started, else one.

    Args:
        precision: See `TrainConfig`.
        accelerator: "auto", "cpu" or "cuda".

    Raises:
        MissingExtra: Lightning Fabric is not installed.
        DeviceError: CUDA is asked for and not there.
    """
    validate_device(accelerator)
    try:
        from lightning_fabric import Fabric
    except ImportError as e:
        raise MissingExtra("Training", "train") from e
    world = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        precision = "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "32"
    device = "cuda" if on_gpu else "cpu"
    plugins = [] if precision == "32" else [_mixed_precision(precision, device)]
    if world == 1:
        return Fabric(accelerator=device, devices=1, plugins=plugins)
    from lightning_fabric.strategies.ddp import DDPStrategy

    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return Fabric(
        accelerator=device,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(broadcast_buffers=False),
        plugins=plugins,
    )


def _mixed_precision(precision: str, device: str) -> Any:
    """Fabric's autocast, but that frames go in as they are: bf16 has fewer steps than a byte."""
    from lightning_fabric.plugins import MixedPrecision

    class Mixed(MixedPrecision):
        def convert_input(self, data: Any) -> Any:
            return data

    return Mixed("bf16-mixed" if precision == "bf16" else "16-mixed", device)


def load_start(network: Any, config: TrainConfig, path: str) -> str:
    """Begin with the weights of a checkpoint (up-training).

    Tensors whose shape another form of the network does not have (RBPN's last convolution in the
    denoise form) are left as they are, if they are few. A network may know how to begin with a
    smaller one (`ReelQuality.begin_with`).

    Returns:
        The checkpoint's SHA-256.

    Raises:
        WeightsError: It is of another network.
    """
    model = load_model(path)
    given = model.module().state_dict()
    own = network.state_dict()
    grown = network.begin_with(given) if hasattr(network, "begin_with") else {}
    if grown:
        network.load_state_dict(grown)
        return model.sha256
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    if not MODELS[config.model].same_architecture(model.spec) or len(fitting) < 0.9 * len(own):
        raise WeightsError(
            f"{path}: holds {describe(model)}, which does not begin a {config.model} with "
            f"{dict(config.arguments)}: {len(fitting)} of {len(own)} tensors fit."
        )
    network.load_state_dict(own | fitting)
    return model.sha256


def for_epochs(config: TrainConfig, clips: Sequence[Any], epochs: int) -> TrainConfig:
    """The config with the steps of so many epochs, each of which ends with a save and a score.

    Crops are drawn by chance, so an epoch is the steps in which as many frames are learnt from as
    the clips have; for bursts, as many windows as there are bursts.

    Args:
        clips: As `train` takes them.
    """
    with torch.random.fork_rng(devices=[]):
        task = TrainModule(config)
    one = task.windowed or config.task == "bursts"  # frame that a sample learns from
    learnt = sum(s.share * s.batch * (1 if one else s.clip_len) for s in config.stages)
    there = len(clips) if config.task == "bursts" else sum(len(clip.hr) for clip in clips)
    steps = math.ceil(there / (learnt * config.accumulate))
    return dataclasses.replace(config, steps=steps * epochs, save_every=steps, validate_every=steps)
