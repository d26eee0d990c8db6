"""The settings of a training run."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sharpreel.errors import UsageError
from sharpreel.models import MODELS
from sharpreel.training.losses.pixel import pixel_loss

FILE_NAME = re.compile(r"(?!\.+$)[^/\\<>:\"|?*\x00-\x1f]{1,80}")
AT_LEAST = {  # what numbers of a config may be, by the last part of their names
    1: ("steps", "patch", "accumulate", "save_every", "validate_frames", "clip_len", "batch"),
    0: ("seed", "learning_rate", "weight_decay", "momentum", "warmup_steps", "flow_rate", "gamma",
        "freeze_flow", "clip_gradient", "validate_every", "validate_patch", "share", "start"),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """A share of the steps with clips of one length: short ones first, long ones last, since most
    of what a network learns is spatial, and its state must become stable."""

    share: float
    clip_len: int
    batch: int


@dataclass(frozen=True)
class GanConfig:
    """The adversarial part: who judges, and how much each of the four terms counts.

    Attributes:
        discriminator: "iseebetter", "fast" or "patch", of `models/srgan.py`.
        game: Of `adversarial.ADVERSARIAL`; "relativistic" needs "fast", which says logits.
        image, perceptual, adversarial, total_variation: Weights of the terms; the image term is
            the config's `loss`.
        features: What the perceptual term compares: "discriminator", its own features; or a layer
            of `vgg.LAYERS`, such as "vgg16_pool5", from `vgg_file`.
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
        loss: A name of `pixel.LOSSES`.
        milestones, gamma: Of the "step" schedule: shares of the steps at which the learning rate
            is multiplied by gamma.
        flow_rate, freeze_flow: The flow network (SPyNet) learns at this share of the learning
            rate, and not at all for the first steps.
        accumulate: Batches whose gradients make one step.
        ema: Share of the old average that each step keeps; 0: no average.
        precision: "auto" (bf16 on a GPU that has it, else float32), "32", "bf16" or "16"; weights,
            averages and the frames themselves are float32 all the same.
        validate_every: Steps; 0: only in the end.
        validate_frames, validate_patch: Of each validation clip: so many frames, and the middle
            so many lr pixels a side (0: the whole frame), for slow networks.
    """

    name: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    scale: int = 4
    degradation: str = "bi"
    task: Literal["sr", "bursts"] = "sr"
    patch: int = 64
    steps: int = 8000
    stages: tuple[Stage, ...] = (Stage(1.0, 7, 8),)
    loss: str = "charbonnier"
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
    gan: GanConfig | None = None
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
        pixel_loss(self.loss)
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


def config_text(config: TrainConfig) -> str:
    """The whole config as JSON."""
    return json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True, default=dict)


def what_differs(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of settings that differ; how often it saves or scores is no difference."""
    harmless = {"save_every", "validate_every", "validate_frames", "validate_patch"}
    keys = {*before, *now} - harmless
    return sorted(key for key in keys if before.get(key) != now.get(key))
