"""Train any network of the table: a `TrainConfig` and a store of clips in, a model file out.

    store --sample_batch--> (lr, hr) --network--> sr --losses--> step --evaluate--> best
              threads ahead                                        every N steps

The run folder holds `config.json`, `last.pt` (all that is needed to go on), `best.safetensors` (the
best weights so far, a model file), `log.jsonl`, and in the end `<name>_x<scale>.safetensors`,
which `sharpreel upscale -m` runs at once. Giving the same command again goes on where it stopped,
to the same weights bit for bit on a CPU: what a batch is depends on its number alone, and
everything else that has a state is in `last.pt`. SIGTERM saves before it ends the process.

Devices, precision and several processes are Lightning Fabric's (`torchrun` starts them). On a CPU
everything is in channels_last, and in bf16 where a short trial at the start finds it faster.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import platform
import re
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

import sharpreel
from sharpreel import data, evaluate, journal, losses, weights
from sharpreel.engine import OpenVinoEngine, TorchEngine
from sharpreel.errors import (
    DeviceError,
    InputError,
    MissingExtra,
    SharpreelError,
    Terminated,
    UsageError,
    WeightsError,
    write_error,
)
from sharpreel.models import MODELS
from sharpreel.models.reel import Bicubic
from sharpreel.ops import Frame
from sharpreel.precision import fastest_on_cpu
from sharpreel.tracking import Silent, Tracker
from sharpreel.upscale import ahead

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SSIM_EVERY = 10  # steps
LOOKED_INTO = 1000  # clips at most, to tell one set of them from another
FILE_NAME = re.compile(r"(?!\.+$)[^/\\<>:\"|?*\x00-\x1f]{1,80}")
AT_LEAST = {  # what numbers of a config may be, by the last part of their names
    1: ("steps", "patch", "accumulate", "save_every", "validate_frames", "clip_len", "batch",
        "versions"),
    0: ("seed", "learning_rate", "weight_decay", "momentum", "warmup_steps", "flow_rate", "gamma",
        "freeze_flow", "clip_gradient", "validate_every", "validate_patch", "share", "start",
        "flicker"),
}  # fmt: skip


class TrainingError(SharpreelError):
    """A training that cannot go on: its loss is no number any more."""


@dataclass(frozen=True)
class Stage:
    """A share of the steps with clips of one length: short ones first, long ones last, since most
    of what a network learns is spatial, and its state must become stable."""

    share: float
    clip_len: int
    batch: int


@dataclass(frozen=True)
class Gan:
    """The adversarial part: who judges, and how much each of the four terms counts.

    Attributes:
        discriminator: "iseebetter", "fast" or "patch", of `models/srgan.py`.
        game: Of `losses.ADVERSARIAL`; "relativistic" needs "fast", which says logits.
        image, perceptual, adversarial, total_variation: Weights of the terms; the image term is
            the config's `loss`.
        features: What the perceptual term compares: "discriminator", its own features; or a layer
            of `losses.LAYERS`, such as "vgg16_pool5", from `vgg_file`.
        vgg_file: torchvision's vgg16 or vgg19 state dict.
        normalise: The VGG's input by ImageNet's mean and deviation.
        divisor: Of the VGG's features.
        start: Steps of the image term alone before it; see `TrainConfig.judged_from`.
    """

    discriminator: Literal["iseebetter", "fast", "patch"] = "iseebetter"
    game: Literal["iseebetter", "srgan", "relativistic"] = "iseebetter"
    image: float = 1.0
    perceptual: float = 6e-3
    adversarial: float = 1e-3
    total_variation: float = 2e-8
    features: str = "vgg16_pool5"
    vgg_file: str = ""
    normalise: bool = False
    divisor: float = 1.0
    learning_rate: float = 1e-4
    start: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """One training, from an empty network or a checkpoint to the last step.

    Attributes:
        model, arguments: A row of MODELS and what its network is built with.
        scale: Factor between hr and lr; 1 restores at the same size.
        degradation: A name of `degrade.DEGRADATIONS`, or "given" for the store's own twins.
        task: "sr", or "bursts": several noisy scans, the best one the target.
        patch: Side of the crops in lr pixels.
        versions: LR versions of each clip, each degraded with a seed of its own.
        loss: A name of `losses.LOSSES`.
        flicker: Weight of `losses.flicker` beside it; 0: none.
        milestones, gamma: Of the "step" schedule: shares of the steps at which the learning rate
            is multiplied by gamma.
        flow_rate, freeze_flow: The flow network (SPyNet) learns at this share of the learning
            rate, and not at all for the first steps.
        accumulate: Batches whose gradients make one step.
        ema: Share of the old average that each step keeps; 0: no average.
        precision: "auto" (bf16 on a GPU that has it and on a CPU that a trial finds faster in it,
            else float32), "32", "bf16" or "16"; weights, averages and the frames themselves are
            float32 all the same.
        validate_every: Steps; 0: only in the end.
        validate_frames, validate_patch: Of each validation clip: so many frames, and the middle
            so many lr pixels a side (0: the whole frame), for slow networks.
    """

    name: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 4
    degradation: str = "bi"
    versions: int = 1
    task: Literal["sr", "bursts"] = "sr"
    patch: int = 64
    steps: int = 8000
    stages: tuple[Stage, ...] = (Stage(1.0, 7, 8),)
    loss: str = "charbonnier"
    flicker: float = 0.0
    optimizer: Literal["adam", "adamw", "adagrad", "sgd"] = "adam"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Literal["constant", "step", "cosine", "onecycle"] = "cosine"
    warmup_steps: int = 0
    milestones: tuple[float, ...] = (0.5,)
    gamma: float = 0.1
    flow_rate: float = 1.0
    freeze_flow: int = 0
    clip_gradient: float = 0.0
    accumulate: int = 1
    ema: float = 0.999
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    gan: Gan | None = None
    seed: int = 123
    save_every: int = 250
    validate_every: int = 1000
    validate_frames: int = 8
    validate_patch: int = 0

    def stage(self, step: int) -> Stage:
        end = 0.0
        for stage in self.stages:
            end += stage.share * self.steps
            if step < end:
                return stage
        return self.stages[-1]

    @property
    def judged_from(self) -> int:
        """The step at which the adversarial part begins, -1 where none does: later weights alone
        may be the best, as those before have the higher PSNR."""
        start = -1 if self.gan is None else self.gan.start
        return start if start < self.steps else -1

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        match self.schedule:
            case "constant":
                return self.learning_rate
            case "step":
                return self.learning_rate * self.gamma ** sum(done >= m for m in self.milestones)
            case "cosine":
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            case "onecycle":  # Smith and Topin, 2018: up for 30 %, then down to nearly nothing
                if done < 0.3:
                    low = self.learning_rate / 25
                    return low + (self.learning_rate - low) * 0.5 * (
                        1 - math.cos(math.pi * done / 0.3)
                    )
                return (
                    self.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - 0.3) / 0.7)) + 1e-9
                )

    def check(self) -> None:
        """Raise UsageError for settings that do not go together."""
        if self.model not in MODELS:
            raise UsageError(f"model={self.model}: no network of that name in the table.")
        if not FILE_NAME.fullmatch(self.name):
            raise UsageError(f"name={self.name}: must be a plain file name; the model file has it.")
        losses.pixel_loss(self.loss)
        self._check_numbers()
        shares = sum(stage.share for stage in self.stages)
        if abs(shares - 1) > 1e-6:
            raise UsageError(f"stages: their shares must add up to 1, got {shares:g}.")
        built = self.arguments.get("scale", self.scale)
        gan = self.gan
        if gan is not None and gan.game == "relativistic" and gan.discriminator != "fast":
            raise UsageError("gan.game=relativistic needs gan.discriminator=fast (logits).")
        if self.task == "sr" and built != self.scale:
            raise UsageError(f"scale={self.scale} and arguments.scale={built} do not agree.")

    def _check_numbers(self) -> None:
        for name, number in _flat(dataclasses.asdict(self)).items():
            if isinstance(number, float) and not math.isfinite(number):
                raise UsageError(f"{name} must be a finite number, got {number}.")
            if name.startswith("arguments."):
                continue  # the network's own
            least = next((k for k, those in AT_LEAST.items() if name.split(".")[-1] in those), None)
            if least is not None and number < least:
                raise UsageError(f"{name} must be {least} or more, got {number:g}.")
            if name in ("ema", "betas.0", "betas.1") and not 0 <= number < 1:
                raise UsageError(f"{name} must be from 0 to below 1, got {number:g}.")
        if self.seed >= 2**63:
            raise UsageError(f"seed must be below 2**63, got {self.seed}.")
        if self.gan is not None and self.gan.divisor == 0:
            raise UsageError("gan.divisor must not be 0.")


def _flat(settings: Any, before: str = "") -> dict[str, Any]:
    """Nested settings with dotted names, of lists and tuples their numbers."""
    if isinstance(settings, Mapping):
        inside: Any = settings.items()
    elif isinstance(settings, list | tuple):
        inside = enumerate(settings)
    else:
        return {before.removesuffix("."): settings}
    made: dict[str, Any] = {}
    for name, value in inside:
        made |= _flat(value, f"{before}{name}.")
    return made


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


class Task(nn.Module):
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


class Judge(nn.Module):
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


def four_fold(config: TrainConfig, judge: Judge, device: torch.device) -> losses.FourFold:
    """The generator's loss against a judge."""
    gan = config.gan
    assert gan is not None
    perceptual: losses.PixelLoss | None = None
    if gan.perceptual and gan.features == "discriminator":
        perceptual = losses.matching(judge.network)
    elif gan.perceptual:
        try:
            perceptual = losses.Perceptual(
                gan.features, gan.vgg_file or None, normalise=gan.normalise, divisor=gan.divisor
            ).to(device)
        except UsageError as e:
            raise UsageError(
                f"{e} In a recipe: --set gan.vgg_file=FILE, or --set gan.features=discriminator "
                "to compare the discriminator's own features instead."
            ) from e
    return losses.FourFold(
        perceptual,
        losses.Adversarial(gan.game, logits=judge.logits),
        weights=losses.FourWeights(gan.image, gan.perceptual, gan.adversarial, gan.total_variation),
        image=losses.pixel_loss(config.loss),
    )


def _bare(module: nn.Module) -> Any:
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


def check_device(name: str) -> None:
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
    check_device(accelerator)
    try:
        from lightning_fabric import Fabric
    except ImportError as e:
        raise MissingExtra("Training", "train") from e
    world = int(os.environ.get("WORLD_SIZE", "1"))
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        if on_gpu:
            precision = "bf16" if torch.cuda.is_bf16_supported() else "32"
        else:
            precision = fastest_on_cpu()
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


@dataclass
class Progress:
    """One line of a training's progress; handed to `tell`."""

    step: int
    steps: int
    loss: float | None  # None before the first step
    seconds_per_step: float
    waited: float  # share of the time that the network waited for data
    terms: dict[str, float] = field(default_factory=dict)
    psnr: float | None = None
    gain_db: float | None = None
    note: str = ""


class Training:
    """A training under way: all that has a state, what one step is, and how it is kept.

    Args:
        train_clips: Pairs to learn from; bursts (T, H, W, 3) for the task "bursts".
        val_clips: Pairs to score on, not among them.
        start_from: A checkpoint to begin with (up-training): one of ours or of others.
    """

    def __init__(
        self,
        config: TrainConfig,
        train_clips: Sequence[Any],
        val_clips: Sequence[Any],
        run: Path,
        fabric: Fabric | None = None,
        tracker: Tracker | None = None,
        start_from: str | None = None,
    ) -> None:
        config.check()
        self.config, self.run = config, run
        self.fabric = fabric or make_fabric(config.precision)
        self.fabric.launch()
        torch.manual_seed(config.seed)
        task = Task(config)
        self._check_shares()
        start = None if start_from is None else load_start(task.network, config, start_from)
        self.begun = {
            "training clips (--data)": digest_of(train_clips),
            # How many frames are scored may change.
            "validation clips (--val)": digest_of(
                [data.middle(v, config.scale, 1, 0) if isinstance(v, data.Clip) else v
                 for v in val_clips]
            ),
            "start (--from)": start,
        }  # fmt: skip
        task = task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {k: v.detach().clone() for k, v in task.network.state_dict().items()}
        flow = [p for n, p in task.network.named_parameters() if n.startswith("spynet.")]
        others = [p for n, p in task.network.named_parameters() if not n.startswith("spynet.")]
        groups: list[dict[str, Any]] = [{"params": others, "share": 1.0, "flow": False}]
        if flow:
            groups.append({"params": flow, "share": config.flow_rate, "flow": True})
        self.task, self.optimizer = self.fabric.setup(task, build_optimizer(config, groups))
        self.judge: Any = None
        self.pixel_loss = losses.pixel_loss(config.loss)
        if config.gan is not None:
            judge = Judge(config.gan.discriminator).to(self.fabric.device)
            self.four_fold = four_fold(config, judge, self.fabric.device)
            steps = torch.optim.Adam(judge.parameters(), lr=config.gan.learning_rate)
            self.judge, self.judge_optimizer = self.fabric.setup(judge, steps)
        self.average = {k: v.to(self.fabric.device) for k, v in self.average.items()}
        self.train_clips, self.val_clips = self._fitting(train_clips), val_clips
        self._part = (self.fabric.global_rank, self.fabric.world_size)
        self._clip_lens = {stage: task.clip_len(stage) for stage in config.stages}
        self.tracker = tracker or Silent()
        self.bicubic: nn.Module | None = None
        if config.task == "sr":
            self.bicubic = Bicubic(config.scale).to(self.fabric.device)
        self.step, self.best = 0, -math.inf
        self.start: float | None = None  # PSNR of what it begins with
        self.pictured = -1  # step of the picture in the run folder
        self._stop = False

    def _check_shares(self) -> None:
        """Each process must learn from as many samples, since their gradients count alike."""
        processes = self.fabric.world_size
        for stage in self.config.stages:
            if stage.batch % processes:
                raise UsageError(
                    f"stages: a batch of {stage.batch} cannot be shared evenly by {processes} "
                    "processes. Choose a multiple, or fewer processes."
                )

    def _fitting(self, clips: Sequence[Any]) -> Sequence[Any]:
        if self.config.task == "bursts":
            kept = [b for b in clips if min(b.shape[1:3]) >= self.config.patch and len(b) > 1]
            if not kept:
                raise UsageError(
                    f"No burst has two scans or more as large as a patch of {self.config.patch}."
                )
            return kept
        return data.check_clips(clips, self.config.patch)

    # One step ------------------------------------------------------------------------------

    def cut(self, step: int) -> list[tuple[data.Frames, data.Frames]]:
        """The (lr, hr) of one step for this process, one pair for each accumulated batch: bytes.

        It is called in a thread of its own, so nothing of torch is touched here.
        """
        c, stage = self.config, self.config.stage(step)
        clip_len = self._clip_lens[stage]
        pairs = []
        for k in range(c.accumulate):
            number = step * c.accumulate + k
            if c.task == "bursts":
                pair = data.sample_bursts(
                    self.train_clips, stage.batch, clip_len, c.patch, c.seed, number, self._part
                )
            else:
                pair = data.sample_batch(
                    self.train_clips, c.scale, stage.batch, clip_len, c.patch, c.seed, number,
                    self._part,
                )  # fmt: skip
            pairs.append(pair)
        return pairs

    def batch(self, step: int) -> list[tuple[Tensor, Tensor]]:
        """`cut` as tensors."""
        return as_tensors(self.cut(step))

    def learn(self, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """One step of the generator, and then one of the judge, who has seen the same pictures.

        Returns:
            Each term of the generator's loss by name, "loss" their sum, "judge", and "psnr" and
        "ssim" of the batch.

        Raises:
            TrainingError: The loss is no number; the batch is kept in the run folder.
        """
        c = self.config
        self._set_rates()
        judged = c.gan is not None and self.step >= c.gan.start
        if judged:
            self.judge.requires_grad_(False)
        terms: dict[str, float] = {}
        made = []
        for k, (lr8, hr8) in enumerate(pairs):
            lr, hr = (x.to(self.fabric.device).float() / 255 for x in (lr8, hr8))
            hr = hr if c.task == "bursts" else _bare(self.task).wanted(hr)
            with self._together(k + 1 == len(pairs)):
                sr = self.task(lr)
                loss, told = self._objective(sr, hr, judged)
                if not math.isfinite(float(loss.detach())):
                    self._keep_batch(lr8, hr8)
                    raise TrainingError(
                        f"The loss is {float(loss.detach())} at step {self.step}; the batch is "
                        f"{self._nan_path()}, and {self.run / 'last.pt'} is the state before. "
                        "Lower learning_rate, or set clip_gradient."
                    )
                self.fabric.backward(loss / len(pairs))
            told |= {"loss": float(loss.detach()), **self._likeness(sr.detach(), hr)}
            for name, value in told.items():
                terms[name] = terms.get(name, 0.0) + value / len(pairs)
            made.append((sr.detach(), hr))
        if c.clip_gradient:
            self.fabric.clip_gradients(self.task, self.optimizer, max_norm=c.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if judged:
            self.judge.requires_grad_(True)
            terms["judge"] = self._judge_learns(made)
        self.step += 1
        self._average()
        return terms

    def _likeness(self, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """PSNR of the batch in dB (RGB) and, at every tenth step, its SSIM."""
        sr = sr.float().clamp(0, 1)
        found = {"psnr": _psnr(sr, hr)}
        if self.step % SSIM_EVERY == 0 and min(sr.shape[-2:]) >= losses.SSIM_TAPS:
            found["ssim"] = float(losses.ssim7(sr, hr))
        return found

    @torch.no_grad()
    def compare(self, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """What bicubic (for bursts, the scan as it is) makes of a batch: the line to cross.

        Returns:
            "bicubic_psnr", "bicubic_ssim" and, where the network's loss is that of the image alone,
            "bicubic_loss"; see `learn`.
        """
        found: list[dict[str, float]] = []
        for lr8, hr8 in pairs:
            lr, hr = (x.to(self.fabric.device).float() / 255 for x in (lr8, hr8))
            task = _bare(self.task)
            if self.bicubic is None:
                sr = lr[:, task.past, None]
            else:
                sr, hr = self.bicubic(task.wanted(lr)), task.wanted(hr)
            told = {"psnr": _psnr(sr.clamp(0, 1), hr)}
            if min(sr.shape[-2:]) >= losses.SSIM_TAPS:
                told["ssim"] = float(losses.ssim7(sr.clamp(0, 1), hr))
            if self.config.gan is None:
                told["loss"] = float(self.pixel_loss(sr, hr))
            found.append(told)
        return {f"bicubic_{name}": float(np.mean([t[name] for t in found])) for name in found[0]}

    def _objective(self, sr: Tensor, hr: Tensor, judged: bool) -> tuple[Tensor, dict[str, float]]:
        """The generator's loss, and its terms by name."""
        if not judged:
            if not self.config.flicker or sr.shape[1] < 2:
                return self.pixel_loss(sr, hr), {}
            image, flicker = self.pixel_loss(sr, hr), losses.flicker(sr, hr)
            terms = {"image": float(image.detach()), "flicker": float(flicker.detach())}
            return image + self.config.flicker * flicker, terms
        judge = _bare(self.judge)  # nothing of its own to share: it does not learn here
        fake = judge(sr)
        loss, terms = self.four_fold(sr, hr, fake, judge(hr) if judge.logits else None)
        return loss, {name: float(term) for name, term in terms.items()}

    def _judge_learns(self, made: list[tuple[Tensor, Tensor]]) -> float:
        total = 0.0
        for sr, hr in made:
            loss = self.four_fold.adversarial.discriminator(self.judge(sr), self.judge(hr))
            self.fabric.backward(loss / len(made))
            total += float(loss.detach()) / len(made)
        self.judge_optimizer.step()
        self.judge_optimizer.zero_grad(set_to_none=True)
        return total

    def _together(self, last: bool) -> AbstractContextManager[Any]:
        """Processes share gradients once, with the last of the accumulated batches."""
        if last or self.fabric.world_size == 1:
            return nullcontext()
        quiet: AbstractContextManager[Any] = self.fabric.no_backward_sync(self.task)
        return quiet

    def _set_rates(self) -> None:
        rate = self.config.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            frozen = group["flow"] and self.step < self.config.freeze_flow
            group["lr"] = 0.0 if frozen else rate * group["share"]

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 10)) if self.config.ema else 0.0
        for name, value in _bare(self.task).network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    # Keeping -------------------------------------------------------------------------------

    def _nan_path(self) -> Path:
        return self.run / f"nan-step-{self.step}.npz"

    def _keep_batch(self, lr: Tensor, hr: Tensor) -> None:
        try:
            np.savez_compressed(self._nan_path(), lr=lr.numpy(), hr=hr.numpy())
        except OSError as e:
            raise write_error(self._nan_path(), e) from e

    def state(self) -> dict[str, Any]:
        """All that a training which goes on must know."""
        state: dict[str, Any] = {
            "config": config_text(self.config),
            "begun": self.begun,
            "step": self.step,
            "best": self.best,
            "start": self.start,
            "model": _bare(self.task).network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["rng_cuda"] = torch.cuda.get_rng_state_all()
        if self.judge is not None:
            state["judge"] = _bare(self.judge).state_dict()
            state["judge_optimizer"] = self.judge_optimizer.state_dict()
        if self._scaler is not None:
            state["scaler"] = self._scaler.state_dict()
        return state

    @property
    def _scaler(self) -> Any:
        """What keeps gradients in fp16 from vanishing, None in other precisions."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def save(self) -> None:
        """Write `last.pt` whole, or leave the one before."""
        if self.fabric.global_rank == 0:
            save_checkpoint(self.run / "last.pt", self.state())

    def load(self) -> bool:
        """Go on from `last.pt`; False when there is none.

        Raises:
            UsageError: It was made with other settings, of other clips or from another start.
            InputError: It is damaged.
        """
        last = self.run / "last.pt"
        if not last.is_file():
            return False
        try:
            saved = torch.load(last, weights_only=True, map_location=self.fabric.device)
            changed = what_differs(
                json.loads(saved["config"]), json.loads(config_text(self.config))
            )
        except Exception as e:
            raise InputError(
                f"{last}: damaged ({type(e).__name__}). Delete it to start over."
            ) from e
        if changed:
            raise UsageError(
                f"{self.run}: begun with other settings ({', '.join(changed)}). Choose another "
                "--out, or the settings of its config.json."
            )
        self._same_as(saved.get("begun"))
        _bare(self.task).network.load_state_dict(saved["model"])
        self.average, self.step, self.best = saved["average"], saved["step"], saved["best"]
        self.start = saved.get("start")
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.judge is not None:
            _bare(self.judge).load_state_dict(saved["judge"])
            self.judge_optimizer.load_state_dict(saved["judge_optimizer"])
        if self._scaler is not None and "scaler" in saved:
            self._scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"].cpu())
        if "rng_cuda" in saved and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["rng_cuda"]])
        return True

    def _same_as(self, begun: dict[str, str | None] | None) -> None:
        """Go on with what a run was begun with; UsageError when this is something else.

        Args:
            begun: None in checkpoints of before it was kept.
        """
        if begun is None:
            return
        now = {k: v for k, v in self.begun.items() if v is not None}  # without --from it goes on
        changed = [name for name, digest in now.items() if begun.get(name) != digest]
        if changed:
            raise UsageError(
                f"{self.run}: begun with other {', other '.join(changed)}. "
                "Choose another --out, or give what it was begun with."
            )
        self.begun = begun

    # Validation ----------------------------------------------------------------------------

    def module(self) -> nn.Module:
        """The network with the averaged weights, for use."""
        module = MODELS[self.config.model].build(self.config.arguments)
        module.load_state_dict({k: v.cpu() for k, v in self.average.items()})
        return module.eval()

    def as_model(self) -> weights.Model:
        """What an engine must know of the network."""
        c = self.config
        card = {"arguments": dict(c.arguments)}
        return weights.Model(c.name, MODELS[c.model], c.scale, card, None, None, "")

    def engine(self, device: str = "cpu") -> TorchEngine:
        """What runs the averaged weights, with the threads that training has: another number would
        round the steps after it otherwise."""
        threads = torch.get_num_threads()
        return TorchEngine(self.as_model(), device, self.module(), tile=0, threads=threads)

    def score(self) -> list[evaluate.Score]:
        """Scores of the averaged weights on the validation clips, as `evaluate.py` takes them, with
        SSIM and loss as batches have them; the tracker hears each."""
        made = []
        for score in self._scores():
            made.append(score)
            self.tracker.scored(self.step, len(made), len(self.val_clips), score)
        return made

    def _scores(self) -> Iterator[evaluate.Score]:
        if self.config.task == "bursts":
            return score_bursts(self.module(), self.val_clips, self._measures())
        c, engine = self.config, self.engine(self.fabric.device.type)
        clips = (
            data.middle(v, c.scale, c.validate_frames, c.validate_patch) for v in self.val_clips
        )
        return evaluate.scores(engine, clips, self._measures())

    def _measures(self) -> dict[str, evaluate.Measure]:
        """SSIM and the loss of the image term, of frames (H, W, C)."""

        def ssim(sr: Frame, hr: Frame) -> float:
            small = min(hr.shape[:2]) < losses.SSIM_TAPS
            return math.nan if small else float(losses.ssim7(_picture(sr), _picture(hr)))

        def loss(sr: Frame, hr: Frame) -> float:
            return float(self.pixel_loss(_picture(sr), _picture(hr)))

        return {"ssim": ssim, "loss": loss}

    # The loop ------------------------------------------------------------------------------

    def fit(self, tell: Callable[[Progress], None] | None = None) -> None:
        """Train to the last step, from wherever the run is.

        Raises:
            Terminated: SIGTERM came; the state is saved.
            TrainingError: See `learn`.
        """
        tell = tell or (lambda progress: None)
        try:
            self.run.mkdir(parents=True, exist_ok=True)
            goes_on = self.load()  # refuses before anything is written
            if self.fabric.global_rank == 0:
                journal.write_atomically(self.run / "config.json", config_text(self.config))
                if not goes_on:
                    (self.run / "best.safetensors").unlink(missing_ok=True)
        except OSError as e:
            raise write_error(self.run / "config.json", e) from e
        self.tracker.begin(self.config, self.step)
        if self.val_clips and self.step == 0 and self.fabric.global_rank == 0:
            self._validated(tell, self._line([], 0.0, 0.0, 0))
        with _asked_to_stop() as stopped, closing(self.batches()) as batches:
            began, waited, since, seen = time.monotonic(), 0.0, self.step, []
            while self.step < self.config.steps:
                asked = time.monotonic()
                pairs = next(batches)
                waited += time.monotonic() - asked
                if self.step == self.config.judged_from:
                    self.best = -math.inf
                terms = self.learn(pairs)
                if (self.step - 1) % SSIM_EVERY == 0:
                    terms |= self.compare(pairs)
                seen.append(terms)
                self.tracker.step(self.step, terms)
                ended, told = self.step == self.config.steps, self._any(stopped())
                if self.step % self.config.save_every == 0 or ended or told:
                    spent = time.monotonic() - began
                    line = self._line(seen, spent, waited, self.step - since)
                    every = self.config.validate_every
                    if self.val_clips and (ended or (every and self.step % every == 0)):
                        if self.fabric.global_rank == 0:
                            self._validated(tell, line)
                    else:
                        tell(line)
                        self.tracker.line(line)
                    self.save()
                    self.fabric.barrier()
                    began, waited, since, seen = time.monotonic(), 0.0, self.step, []
                if told and not ended:
                    raise Terminated(
                        f"terminated at step {self.step}; saved. The same command goes on."
                    )

    def _any(self, said: bool) -> bool:
        """Does any process say so? All must stop at one step, or they wait for each other."""
        if self.fabric.world_size == 1:
            return said
        flag = torch.tensor(float(said), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="max"))

    def batches(self) -> Generator[list[tuple[Tensor, Tensor]]]:
        """The batches that are left, cut in a thread of their own a few steps ahead."""
        steps = range(self.step, self.config.steps)
        with closing(ahead((self.cut(step) for step in steps), 3)) as pairs:
            for pair in pairs:
                yield as_tensors(pair)

    def _line(
        self, seen: list[dict[str, float]], spent: float, waited: float, steps: int
    ) -> Progress:
        names = dict.fromkeys(name for terms in seen for name in terms)
        mean = {n: float(np.mean([t[n] for t in seen if n in t])) for n in names}
        return Progress(
            self.step, self.config.steps, mean.pop("loss", None),
            spent / max(steps, 1), waited / spent if spent else 0.0, mean,
        )  # fmt: skip

    def _validated(self, tell: Callable[[Progress], None], line: Progress) -> None:
        scores = self.score()
        line.psnr = float(np.mean([s.psnr for s in scores]))
        line.gain_db = evaluate.mean_gain(scores)
        candidate = True
        if self.step == 0:
            self.start = line.psnr
            # An untrained network is none, and a GAN's start scores more than what it becomes.
            up_training = self.begun["start (--from)"] is not None
            candidate = up_training and self.config.judged_from != 0
        if candidate and line.psnr > self.best:
            self.best = line.psnr
            write_model(self.run / "best.safetensors", self, scores)
        if self.step == self.config.steps:
            line.note = self._worse(scores)
        tell(line)
        self.tracker.line(line)
        self.tracker.validated(self, self.step)

    def _worse(self, scores: list[evaluate.Score]) -> str:
        """A warning when the best weights score less than what needed no training, else ""."""
        simple = "bicubic" if self.config.task == "sr" else "the scan as it is"
        lines = {"what it began with": self.start, simple: np.mean([s.bicubic for s in scores])}
        below = [
            f"{psnr - self.best:.3f} dB worse than {name}"
            for name, psnr in lines.items()
            if psnr is not None and psnr - self.best >= 0.0005
        ]
        if not below:
            return ""
        excuse = " A GAN gives PSNR for texture." if self.config.gan else " Lower learning_rate?"
        return f"The model is {' and '.join(below)}.{excuse}"

    def finish(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Write the model file that `sharpreel upscale -m` runs: the best weights validated, or the
        last average. Of several processes the first one writes, and the others wait.

        Args:
            extra: More fields for its card.
        """
        path = self.run / f"{self.config.name}_x{self.config.scale}.safetensors"
        if self.fabric.global_rank == 0:
            self._write_final(path, extra or {})
        self.fabric.barrier()
        return path

    def _write_final(self, path: Path, extra: Mapping[str, Any]) -> None:
        best = self.run / "best.safetensors"
        if best.is_file():
            import safetensors.torch

            card = weights.read_card(best)
            tensors = safetensors.torch.load_file(best)
        else:
            card = card_of(self, [])
            tensors = {k: v.cpu() for k, v in self.average.items()}
        save_model(path, tensors, card | dict(extra))
        self.tracker.finished(path, card)


def _psnr(sr: Tensor, hr: Tensor) -> float:
    """Of a batch in [0, 1], dB."""
    return 10 * math.log10(1 / (float(losses.mse(sr, hr)) + 1e-8))


def _picture(frame: Frame) -> Tensor:
    """(H, W, C) levels of 8 bits as a clip of one frame, (1, 1, C, H, W) in [0, 1]."""
    pixels = np.ascontiguousarray(frame.transpose(2, 0, 1))
    return torch.from_numpy(pixels)[None, None].float() / 255


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """While inside, SIGTERM only asks to stop; the function says whether it has."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True

    try:
        before = signal.signal(signal.SIGTERM, ask)
    except ValueError:  # not the main thread: whoever started it must stop it otherwise
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)


def as_tensors(
    pairs: list[tuple[data.Frames, data.Frames]],
) -> list[tuple[Tensor, Tensor]]:
    """The same bytes for torch."""
    return [(torch.from_numpy(lr), torch.from_numpy(hr)) for lr, hr in pairs]


def digest_of(clips: Sequence[Any]) -> str:
    """What tells these clips from others: their names and sizes, and of a thousand some rows."""
    total, every = hashlib.sha256(), math.ceil(len(clips) / LOOKED_INTO)
    for number, clip in enumerate(clips):
        named = isinstance(clip, data.Clip)
        name, parts = (clip.name, (clip.hr, clip.lr)) if named else ("", (np.asarray(clip),))
        total.update(repr((name, [part.shape for part in parts])).encode())
        if number % every == 0:
            for part in parts:
                middle = part[len(part) // 2]
                total.update(middle[:: max(len(middle) // 8, 1)].tobytes())
    return total.hexdigest()


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
    model = weights.load_model(path)
    given = model.module().state_dict()
    own = network.state_dict()
    grown = network.begin_with(given) if hasattr(network, "begin_with") else {}
    if grown:
        network.load_state_dict(grown)
        return model.sha256
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    if MODELS[config.model].build is not model.spec.build or len(fitting) < 0.9 * len(own):
        raise WeightsError(
            f"{path}: holds {weights.describe(model)}, which does not begin a {config.model} with "
            f"{dict(config.arguments)}: {len(fitting)} of {len(own)} tensors fit."
        )
    network.load_state_dict(own | fitting)
    return model.sha256


def score_bursts(
    module: nn.Module, bursts: Sequence[Any], more: Mapping[str, evaluate.Measure] | None = None
) -> Iterator[evaluate.Score]:
    """PSNR of the denoised reference to the best scan of its burst, and of the reference itself.

    Args:
        more: Measures besides, of levels of 8 bits; see `evaluate.scores`.
    """
    network: Any = module
    for number, burst in enumerate(bursts):
        grey = np.asarray(burst).mean(axis=3) / 255
        order = data.choose_target(np.asarray(burst))
        window = (order[2:] or order[1:2]) * (network.past + network.future)
        window = window[: network.past + network.future]
        window.insert(network.past, order[1])
        lr = torch.from_numpy(grey[window].astype(np.float32))[None, :, None]
        with torch.inference_mode():
            sr = network.centre(lr)[0, 0].clamp(0, 1).numpy()
        wanted = grey[order[0]]
        both = sr, grey[order[1]]
        psnr, before = (
            10 * math.log10(1 / max(float(np.mean((wanted - x) ** 2)), 1e-12)) for x in both
        )
        truth, *made = ((255 * x)[..., None].astype(np.float32) for x in (wanted, *both))
        found = {
            n: (take(made[0], truth), take(made[1], truth)) for n, take in (more or {}).items()
        }
        yield evaluate.Score(f"burst {number}", psnr, before, found)


def for_epochs(config: TrainConfig, clips: Sequence[Any], epochs: int) -> TrainConfig:
    """The config with the steps of so many epochs, each of which ends with a save and a score.

    Crops are drawn by chance, so an epoch is the steps in which as many frames are learnt from as
    the clips have; for bursts, as many windows as there are bursts.

    Args:
        clips: As `train` takes them.
    """
    with torch.random.fork_rng(devices=[]):
        task = Task(config)
    one = task.windowed or config.task == "bursts"  # frame that a sample learns from
    learnt = sum(s.share * s.batch * (1 if one else s.clip_len) for s in config.stages)
    there = len(clips) if config.task == "bursts" else sum(len(clip.hr) for clip in clips)
    steps = math.ceil(there / (learnt * config.accumulate))
    return dataclasses.replace(config, steps=steps * epochs, save_every=steps, validate_every=steps)


def config_text(config: TrainConfig) -> str:
    """The whole config as JSON."""
    return json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True, default=dict)


def what_differs(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of settings that differ; how often it saves or scores is no difference."""
    harmless = {"save_every", "validate_every", "validate_frames", "validate_patch"}
    keys = {*before, *now} - harmless
    return sorted(key for key in keys if before.get(key) != now.get(key))


def card_of(training: Training, scores: list[evaluate.Score]) -> dict[str, Any]:
    """The header of a model file: everything about how it came to be."""
    config = training.config
    card: dict[str, Any] = {
        "model": config.model,
        "arguments": dict(config.arguments),
        "parameters": sum(p.numel() for p in _bare(training.task).network.parameters()),
        "recipe": json.loads(config_text(config)),
        "steps": training.step,
        "hardware": f"{platform.machine()} {training.fabric.device.type}"
        f" x{training.fabric.world_size}",
        "made_by": f"sharpreel {sharpreel.__version__}",
    }
    if scores:
        card["val_psnr_y"] = scores_of(scores)
    return card


def scores_of(scores: list[evaluate.Score]) -> dict[str, Any]:
    """Scores as a card has them."""
    return {
        "protocol": evaluate.PROTOCOL,
        "gain_db": round(evaluate.mean_gain(scores), 4),
        "clips": {s.clip: [round(s.bicubic, 4), round(s.psnr, 4)] for s in scores},
    }


def write_model(path: Path, training: Training, scores: list[evaluate.Score]) -> None:
    """The averaged weights as a model file."""
    tensors = {k: v.cpu() for k, v in training.average.items()}
    save_model(path, tensors, card_of(training, scores))


def save_model(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write a model file, whole or not at all."""
    from safetensors import SafetensorError

    part = path.with_name("part-" + path.name)
    try:
        weights.save_weights(part, tensors, card)
        os.replace(part, path)
    except (OSError, SafetensorError) as e:
        part.unlink(missing_ok=True)
        raise write_error(path, e if isinstance(e, OSError) else _os_error(e)) from e


def _os_error(error: Exception) -> OSError:
    """What Rust's words, "... (os error 28)", are in Python."""
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: a crash or a full disk leaves the last whole checkpoint."""
    part = path.with_suffix(".part")
    content = io.BytesIO()  # torch, writing to the disk itself, hides why it cannot
    torch.save(state, content)
    try:
        part.write_bytes(content.getbuffer())
        journal.sync(part)
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise write_error(path, e) from e


def train(
    config: TrainConfig,
    train_clips: Sequence[Any],
    val_clips: Sequence[Any],
    run: Path,
    *,
    fabric: Fabric | None = None,
    tracker: Tracker | None = None,
    start_from: str | None = None,
    tell: Callable[[Progress], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Train to the end of `config.steps`, going on where `run` stopped.

    Args:
        train_clips, val_clips: Of `data.Store.pairs` or `data.load_clips`; bursts (T, H, W, 3)
            for the task "bursts".
        extra: More fields for the card of the model file, such as what the data was.

    Returns:
        The model file.
    """
    training = Training(config, train_clips, val_clips, run, fabric, tracker, start_from)
    training.fit(tell)
    return training.finish(extra)


def release(path: Path, val_clips: Sequence[Any]) -> Path | None:
    """Build the OpenVINO graph beside a model file, and score that for its card: what users run.

    Returns:
        The graph; None for a network that has no such form, whose file stays as it is.
    """
    model = weights.load_model(path)
    if model.spec.recurrent != "causal":
        return None
    graph = weights.export_graph(model, path.parent)
    clips = [clip for clip in val_clips if isinstance(clip, data.Clip)]
    if clips:
        import safetensors.torch

        scores = evaluate.evaluate(OpenVinoEngine(weights.load_model(path)), clips)
        card = {**model.card, "val_psnr_y": scores_of(scores)}
        save_model(path, safetensors.torch.load_file(path), card)
    return graph
