"""The settings of a training run: `TrainConfig`, its stages and its adversarial part.

`recipes.py` has named configs, and reads settings from text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sharpreel.errors import UsageError
from sharpreel.models import MODELS
from sharpreel.training.losses.pixel import pixel_loss

FILE_NAME = re.compile(r"(?!\.+$)[^/\\<>:\"|?*\x00-\x1f]{1,80}")
POSITIVE = frozenset(  # settings that must be 1 or more, by the last part of their names
    (
        "steps",
        "patch",
        "accumulate",
        "save_every",
        "validate_frames",
        "clip_len",
        "batch",
        "versions",
    )
)
NOT_NEGATIVE = frozenset(  # settings that must be 0 or more
    (
        *("seed", "learning_rate", "weight_decay", "momentum", "warmup_steps", "flow_rate"),
        *("gamma", "freeze_flow", "clip_gradient", "validate_every", "validate_patch"),
        *("share", "start", "flicker"),
    )
)
BELOW_ONE = ("ema", "betas.0", "betas.1")
HARMLESS = frozenset(  # settings that a resumed run may change
    ("save_every", "validate_every", "validate_frames", "validate_patch")
)


@dataclass(frozen=True)
class Stage:
    """A share of the steps with clips of one length and one batch size.

    Short clips come first, since most of what a network learns is spatial; long clips come last,
    so that its recurrent state becomes stable.
    """

    share: float
    clip_len: int
    batch: int


@dataclass(frozen=True)
class GanConfig:
    """The adversarial part: the discriminator, and the weights of the four terms.

    Attributes:
        discriminator: "iseebetter", "fast" or "patch", of `models/srgan.py`.
        game: A name of `adversarial.ADVERSARIAL`; "relativistic" needs "fast", which returns
            logits.
        image, perceptual, adversarial, total_variation: Weights of the terms; the image term is
            the config's `loss`.
        features: What the perceptual term compares: "discriminator" for the discriminator's
            features, or a layer of `vgg.LAYERS`, such as "vgg16_pool5", from `vgg_file`.
        vgg_file: torchvision's vgg16 or vgg19 state dict.
        normalise: Normalise the VGG's input by ImageNet's mean and deviation.
        divisor: The VGG's features are divided by this.
        start: Steps with the image term alone before the adversarial part; see
            `TrainConfig.gan_start`.
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
    """All settings of a training run.

    Attributes:
        name: Of the model file.
        model, arguments: A row of MODELS and the arguments of its network.
        scale: hr is this many times larger than lr; 1 restores at the same size.
        degradation: A name of `degrade.DEGRADATIONS`, or "given" for the LR versions in the store.
        task: "sr", or "bursts": several noisy scans of one place, the best one the target.
        patch: Side of the crops in lr pixels.
        versions: LR versions of each clip, each degraded with its own seed.
        steps: Optimisation steps of the whole run.
        stages: Shares of the steps with their clip lengths and batch sizes.
        loss: A name of `pixel.LOSSES`.
        flicker: Weight of the flicker loss added to it; 0: none.
        warmup_steps: Steps of linear warm-up before the schedule.
        milestones, gamma: Of the "step" schedule: shares of the steps at which the learning rate
            is multiplied by gamma.
        flow_rate, freeze_flow: Share of the learning rate at which the flow network (SPyNet) is
            trained, and the number of first steps during which it is frozen.
        clip_gradient: Largest norm of the gradients; 0: not clipped.
        accumulate: Batches whose gradients are accumulated for one step.
        ema: Share of the old average that each step keeps; 0: no average.
        precision: "auto" (bf16 on a GPU that has it and on a CPU that a trial finds faster in it,
            else float32), "32", "bf16" or "16". Weights,
            averages and frames are float32 in every case.
        save_every: Steps between saves.
        validate_every: Steps between validations, a multiple of `save_every`; 0: only at the end.
        validate_frames, validate_patch: For slow networks: at most this many frames of each
            validation clip, and the central square of this many lr pixels (0: whole frames).
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
    gan: GanConfig | None = None
    seed: int = 123
    save_every: int = 250
    validate_every: int = 1000
    validate_frames: int = 8
    validate_patch: int = 0

    def stage(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        end = 0.0
        for stage in self.stages:
            end += stage.share * self.steps
            if step < end:
                return stage
        return self.stages[-1]

    @property
    def gan_start(self) -> int:
        """The step at which the adversarial part begins; -1 when there is none.

        Only weights after it may be the best: those before it have a higher PSNR.
        """
        start = -1 if self.gan is None else self.gan.start
        return start if start < self.steps else -1

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear warm-up, then the schedule."""
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
            case "onecycle":
                return self._onecycle(done)

    def _onecycle(self, done: float) -> float:
        """Smith and Topin, 2018: up for 30 % of the steps, then down to nearly nothing."""
        peak = self.learning_rate
        if done < 0.3:
            low = peak / 25
            return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * done / 0.3))
        return peak * 0.5 * (1 + math.cos(math.pi * (done - 0.3) / 0.7)) + 1e-9

    def validate(self) -> None:
        """Raise UsageError for values that are out of range or do not fit together.

        `setup.build_network` checks the arguments of the network.
        """
        if self.model not in MODELS:
            raise UsageError(f"model={self.model}: there is no network of that name.")
        if not FILE_NAME.fullmatch(self.name):
            raise UsageError(
                f"name={self.name}: must be a plain file name; the model file gets it."
            )
        pixel_loss(self.loss)
        self._validate_numbers()
        shares = sum(stage.share for stage in self.stages)
        if abs(shares - 1) > 1e-6:
            raise UsageError(f"stages: their shares must add up to 1, got {shares:g}.")
        network_scale = self.arguments.get("scale", self.scale)
        gan = self.gan
        if gan is not None and gan.game == "relativistic" and gan.discriminator != "fast":
            raise UsageError("gan.game=relativistic needs gan.discriminator=fast (logits).")
        if self.task == "sr" and network_scale != self.scale:
            raise UsageError(
                f"scale={self.scale} and arguments.scale={network_scale} do not agree."
            )

    def _validate_numbers(self) -> None:
        for name, number in _numbers(dataclasses.asdict(self)):
            _validate_number(name, number)
        if self.seed >= 2**63:
            raise UsageError(f"seed must be below 2**63, got {self.seed}.")
        if self.gan is not None and self.gan.divisor == 0:
            raise UsageError("gan.divisor must not be 0.")


def _validate_number(name: str, number: float) -> None:
    if not math.isfinite(number):
        raise UsageError(f"{name} must be a finite number, got {number}.")
    if name.startswith("arguments."):
        return  # the network checks its own
    last = name.rpartition(".")[2]
    least = 1 if last in POSITIVE else 0 if last in NOT_NEGATIVE else -math.inf
    if number < least:
        raise UsageError(f"{name} must be {least} or more, got {number:g}.")
    if name in BELOW_ONE and not 0 <= number < 1:
        raise UsageError(f"{name} must be from 0 to below 1, got {number:g}.")


def _numbers(settings: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested settings by their dotted names, such as "stages.0.share"."""
    if isinstance(settings, Mapping):
        inner: Iterable[tuple[Any, Any]] = settings.items()
    elif isinstance(settings, list | tuple):
        inner = enumerate(settings)
    else:
        if isinstance(settings, int | float) and not isinstance(settings, bool):
            yield name, settings
        return
    for key, value in inner:
        yield from _numbers(value, f"{name}.{key}" if name else str(key))


def config_text(config: TrainConfig) -> str:
    """Return all settings as JSON."""
    return json.dumps(dataclasses.asdict(config), indent=1, sort_keys=True, default=dict)


def what_differs(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of settings that differ, but for how often a run saves and validates."""
    keys = {*before, *now} - HARMLESS
    return sorted(key for key in keys if before.get(key) != now.get(key))
