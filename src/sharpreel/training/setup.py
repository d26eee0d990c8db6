"""Build what a training run needs: network, optimiser, Fabric, and the weights it starts from.

Devices, precision and several processes are Lightning Fabric's (`torchrun` starts the processes).
"""

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
from sharpreel.system.resources import usable_cpus
from sharpreel.training.config import Stage, TrainConfig
from sharpreel.training.precision import fastest_on_cpu

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def build_network(config: TrainConfig) -> Any:
    """Build the config's network with untrained weights.

    Raises:
        UsageError: The network cannot be built from these arguments, or cannot be trained on
            patches of this size.
    """
    cannot = f"no {config.model} can be built from arguments={dict(config.arguments)}"
    try:
        network: Any = MODELS[config.model].build(config.arguments)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, WeightsError) as e:
        raise UsageError(f"{cannot}: {first_line(e)}.") from e
    fold = getattr(network, "unshuffle", getattr(network, "fold", 1))  # pixels into channels
    if fold < 1 or any(tensor.numel() == 0 for tensor in network.parameters()):
        raise UsageError(f"{cannot}: one of its layers would be empty.")
    if config.patch % fold:
        raise UsageError(f"patch={config.patch}: must be a multiple of {fold} for this network.")
    return network


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


class TrainModule(nn.Module):
    """Wraps any network for training: lr clip in, sr clip out.

    Causal, bidirectional and image networks return every frame of a clip. A network that looks at
    neighbouring frames returns the middle of a window, (N, T, C, H, W) -> (N, 1, C, sH, sW).
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
        """Return the number of frames of a sample in this stage."""
        return self.past + 1 + self.future if self.windowed else stage.clip_len

    def target(self, hr: Tensor) -> Tensor:
        """Return the frames of hr that `forward` estimates."""
        return hr[:, self.past, None] if self.windowed else hr


def unwrap(module: nn.Module) -> Any:
    """Return the module that Fabric has wrapped."""
    return getattr(module, "module", module)


def build_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Build the config's optimiser.

    The flow network (SPyNet) is a parameter group of its own: "share" is its share of the learning
    rate, "flow" marks it. `update_learning_rate` reads both.
    """
    named = list(network.named_parameters())
    flow = [p for name, p in named if name.startswith("spynet.")]
    others = [p for name, p in named if not name.startswith("spynet.")]
    groups: list[dict[str, Any]] = [{"params": others, "share": 1.0, "flow": False}]
    if flow:
        groups.append({"params": flow, "share": config.flow_rate, "flow": True})
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


def update_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Set the learning rate of each parameter group for a step."""
    rate = config.learning_rate_at(step)
    for group in optimizer.param_groups:
        frozen = group["flow"] and step < config.freeze_flow
        group["lr"] = 0.0 if frozen else rate * group["share"]


def set_threads(threads: int | None) -> None:
    """Let torch use this many CPU threads; None: all CPUs of this process."""
    torch.set_num_threads(threads or usable_cpus())


def validate_device(device: str) -> None:
    """Raise UsageError for an unknown device name, DeviceError for a missing device."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device={device!r} is not known; choose auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device='cuda': torch finds no CUDA GPU. Use device='cpu'.")


def make_fabric(precision: str = "auto", device: str = "auto") -> Fabric:
    """Set up Lightning Fabric for all processes that `torchrun` started, or for one.

    Args:
        precision: See `TrainConfig`.
        device: "auto", "cpu" or "cuda".

    Raises:
        MissingExtra: Lightning Fabric is not installed.
        DeviceError: CUDA is requested but not available.
    """
    validate_device(device)
    try:
        from lightning_fabric import Fabric
    except ImportError as e:
        raise MissingExtra("Training", "train") from e
    world = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if precision == "auto" and on_gpu:
        precision = "bf16" if torch.cuda.is_bf16_supported() else "32"
    elif precision == "auto":
        precision = fastest_on_cpu()
    accelerator = "cuda" if on_gpu else "cpu"
    plugins = [] if precision == "32" else [_mixed_precision(precision, accelerator)]
    if world == 1:
        return Fabric(accelerator=accelerator, devices=1, plugins=plugins)
    from lightning_fabric.strategies.ddp import DDPStrategy

    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(broadcast_buffers=False),
        plugins=plugins,
    )


def _mixed_precision(precision: str, device: str) -> Any:
    """Return autocast that leaves input frames in float32: bf16 has fewer steps than a byte."""
    from lightning_fabric.plugins import MixedPrecision

    class Mixed(MixedPrecision):
        def convert_input(self, data: Any) -> Any:
            return data

    return Mixed("bf16-mixed" if precision == "bf16" else "16-mixed", device)


def load_start(network: Any, config: TrainConfig, path: str) -> str:
    """Load the weights of a checkpoint to start from (up-training).

    A few tensors may keep their initial values because their shape differs (RBPN's last
    convolution in the denoise form). A network may also grow out of a smaller one
    (`ReelQuality.begin_with`).

    Returns:
        The checkpoint's SHA-256.

    Raises:
        WeightsError: The checkpoint is of another network.
    """
    model = load_model(path)
    loaded = model.module().state_dict()
    own = network.state_dict()
    grown = network.begin_with(loaded) if hasattr(network, "begin_with") else {}
    if grown:
        network.load_state_dict(grown)
        return model.sha256
    fitting = {k: v for k, v in loaded.items() if k in own and own[k].shape == v.shape}
    if not MODELS[config.model].same_architecture(model.spec) or len(fitting) < 0.9 * len(own):
        raise WeightsError(
            f"{path}: holds {describe(model)}, which cannot start a {config.model} with "
            f"{dict(config.arguments)}: {len(fitting)} of {len(own)} tensors fit."
        )
    network.load_state_dict(own | fitting)
    return model.sha256


def for_epochs(config: TrainConfig, clips: Sequence[Any], epochs: int) -> TrainConfig:
    """Return the config with the steps of N epochs; each epoch ends with a save and a validation.

    Crops are drawn at random, so an epoch is the number of steps that train on as many frames as
    the clips have; for bursts, on as many windows as there are bursts.

    Args:
        clips: As for `trainer.train`.
    """
    with torch.random.fork_rng(devices=[]):
        module = TrainModule(config)
    one = module.windowed or config.task == "bursts"  # target frame per sample
    per_step = sum(s.share * s.batch * (1 if one else s.clip_len) for s in config.stages)
    frames = len(clips) if config.task == "bursts" else sum(len(clip.hr) for clip in clips)
    steps = math.ceil(frames / (per_step * config.accumulate))
    return dataclasses.replace(config, steps=steps * epochs, save_every=steps, validate_every=steps)
