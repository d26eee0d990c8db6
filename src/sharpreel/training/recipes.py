"""Recipes: functions that return a `TrainConfig`, and `configure`, which changes its fields.

A recipe's docstring states what its paper or repository did, where known, and what differs here.
`configure` takes a recipe's name, or a file written by `sharpreel tune`, and settings by name:

    configure("tsrcnn-small", {"loss": "dssim", "learning_rate": "3e-4"})
    configure("iseebetter-4x", {"gan.vgg_file": "vgg16-397923af.pth"})
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sharpreel.errors import MissingExtra, UsageError, WeightsError, did_you_mean
from sharpreel.training.config import GanConfig, Stage, TrainConfig


def reel_fast(scale: int = 2) -> TrainConfig:
    """The bundled reel-fast: pixel-unshuffled at 2x, for speed; at full resolution at 4x."""
    unshuffle, patch = (2, 96) if scale == 2 else (1, 48)
    return TrainConfig(
        name="reel-fast",
        model="reel-fast",
        arguments={"scale": scale, "channels": 32, "blocks": 5, "unshuffle": unshuffle},
        scale=scale,
        patch=patch,
        steps=8000,
        stages=(Stage(0.25, 2, 12), Stage(0.55, 5, 8), Stage(0.2, 10, 4)),
        warmup_steps=200,
        clip_gradient=0.5,
    )


def reel(scale: int = 2) -> TrainConfig:
    """The bundled reel: the cell of reel-fast, wider and at full resolution."""
    blocks, patch = (7, 48) if scale == 2 else (6, 40)
    return replace(
        reel_fast(scale),
        name="reel",
        model="reel",
        arguments={"scale": scale, "channels": 64, "blocks": blocks, "unshuffle": 1},
        patch=patch,
        stages=(Stage(0.3, 2, 12), Stage(0.5, 5, 8), Stage(0.2, 10, 4)),
    )


def reel_live() -> TrainConfig:
    """The bundled reel-live: reel-fast at 2x, on video that was noisy and then compressed.

    Start from the bundled reel-fast:
    `--from src/sharpreel/models/bundled/reel-fast_x2.safetensors`.
    """
    return replace(
        reel_fast(2),
        name="reel-live",
        model="reel-live",
        degradation="call",
        steps=1500,
        stages=(Stage(0.8, 5, 10), Stage(0.2, 10, 6)),
        learning_rate=8e-4,
    )


def realistic(config: TrainConfig) -> TrainConfig:
    """A recipe for clean frames as a fine-tuning on realistic video.

    Each clip is coded in several versions beforehand. The long clips of the second stage teach the
    state to average what a codec changes from frame to frame; the flicker loss enforces it.
    """
    return replace(
        config,
        name=f"{config.name}-realistic",
        degradation="realistic",
        versions=4,
        learning_rate=4e-4,
        warmup_steps=100,
        flicker=0.5,
    )


def reel_realistic(scale: int = 2) -> TrainConfig:
    """The bundled reel at 2x: trained by the recipe reel, then on realistic video.

    Begin with the former: `--from src/sharpreel/models/bundled/reel-clean_x2.safetensors`.
    """
    stages = (Stage(0.6, 5, 4), Stage(0.4, 10, 2))
    return replace(realistic(reel(scale)), steps=1500, stages=stages)


def reel_fast_realistic(scale: int = 2) -> TrainConfig:
    """reel-fast on realistic video.

    Begin with the bundled one: `--from src/sharpreel/models/bundled/reel-fast_x2.safetensors`.
    """
    stages = (Stage(0.6, 5, 8), Stage(0.4, 10, 4))
    return replace(realistic(reel_fast(scale)), steps=4000, stages=stages)


def reel_gan() -> TrainConfig:
    """Texture instead of PSNR: reel at 4x with the combined loss of iSeeBetter.

    Charbonnier replaces MSE, and the discriminator's own features replace VGG's. Start from the
    bundled reel: `--from src/sharpreel/models/bundled/reel_x4.safetensors`. The bundled reel-gan is
    a mixture of the result and reel: `python examples/interpolate.py`.
    """
    return replace(
        reel(4),
        name="reel-gan",
        model="reel-gan",
        steps=900,
        stages=(Stage(1.0, 3, 4),),
        learning_rate=2e-4,
        warmup_steps=50,
        gan=GanConfig(
            discriminator="patch",
            game="srgan",
            perceptual=6e-2,
            adversarial=1e-2,
            features="discriminator",
        ),
    )


def reel_quality() -> TrainConfig:
    """reel at 4x in both directions of time, grown out of reel.

    Start from the bundled reel: `--from src/sharpreel/models/bundled/reel_x4.safetensors`. On a
    GPU train longer: `--set steps=100000 --set patch=64 --set stages=[[0.3,8,16],[0.7,15,16]]`. The
    bundled one was trained on one CPU core, with `--set precision=bf16`.
    """
    return replace(
        reel(4),
        name="reel-quality",
        model="reel-quality",
        arguments={"scale": 4, "channels": 64, "blocks": 11},
        patch=32,
        steps=7000,
        stages=(Stage(0.6, 7, 4), Stage(0.4, 11, 3)),
        learning_rate=4e-4,  # costs a tenth of a decibel at first, regained after 3000 steps
        warmup_steps=300,
    )


def tsrcnn_small(scale: int = 2) -> TrainConfig:
    """TSRCNN as Dawid64/super-enhanced-resolution trained its best one: AdamW, 1/PSNR, area.

    The original trains on whole frames of 36 to 252 videos, batch 8, 3 to 10 epochs at a learning
    rate of 1e-4; here crops cover more videos in the same time. 1/PSNR starts from a network with
    random output, so the first steps are a warm-up.
    """
    return TrainConfig(
        name="tsrcnn-small",
        model="tsrcnn",
        arguments={"size": "small", "past": 1, "future": 1, "scale": scale},
        scale=scale,
        degradation="area",
        patch=48,
        steps=20_000,
        stages=(Stage(1.0, 3, 8),),
        loss="inverse_psnr",
        optimizer="adamw",
        betas=(0.9, 0.999),
        weight_decay=1e-2,
        learning_rate=1e-4,
        schedule="constant",
        warmup_steps=200,
    )


def tsrcnn_large(scale: int = 2) -> TrainConfig:
    """TSRCNN with 222,723 parameters; otherwise as tsrcnn-small."""
    small = tsrcnn_small(scale)
    arguments = {**small.arguments, "size": "large"}
    return replace(small, name="tsrcnn-large", arguments=arguments, steps=10_000)


def fast_srgan_2x() -> TrainConfig:
    """The 2x generator of the SRGAN video app: MSE first, then against a patch discriminator.

    duongtruongtrong/super_resolution_video_srvgan: VGG19's block5_conv4, 1e-3 BCE, 1e-1 MSE,
    Adam at 1e-3 with a decay of 0.95 each 100,000 steps, and a random small kernel for each clip.
    """
    return TrainConfig(
        name="fast-srgan-2x",
        model="srgan",
        arguments={"network": "mobile", "scale": 2},
        scale=2,
        degradation="random-kernel",
        patch=64,
        steps=60_000,
        stages=(Stage(1.0, 1, 9),),
        loss="mse",
        learning_rate=1e-3,
        betas=(0.9, 0.999),
        gan=GanConfig(
            discriminator="patch",
            game="srgan",
            image=1e-1,
            perceptual=1.0,
            adversarial=1e-3,
            total_variation=0.0,
            features="vgg19_54",
            normalise=True,
            divisor=12.75,
            learning_rate=1e-3,
            start=1500,
        ),
    )


def rbpn_4x() -> TrainConfig:
    """RBPN (Haris et al., 2019; alterzero/RBPN-PyTorch): L1, Adam at 1e-4, a tenth after half.

    Patches of 64, batch 8. The original's initialisation explodes; ours does not, and gradients
    are clipped. Flow is DIS, for training and inference.
    """
    return TrainConfig(
        name="rbpn-4x",
        model="rbpn",
        arguments={"scale": 4, "num_frames": 7},
        scale=4,
        patch=64,
        steps=1_200_000,
        stages=(Stage(1.0, 7, 8),),
        loss="l1",
        learning_rate=1e-4,
        betas=(0.9, 0.999),
        schedule="step",
        milestones=(0.5,),
        clip_gradient=1.0,
        ema=0.0,
        validate_patch=64,
        validate_frames=2,
    )


def iseebetter_4x() -> TrainConfig:
    """iSeeBetter (Chadha et al., 2020): RBPN against SRGAN's discriminator, four loss terms.

    MSE + 6e-3 VGG-16 + 1e-3 adversarial + 2e-8 TV. The original fine-tunes a trained RBPN for four
    epochs at batch 2: pass yours with `--from`.
    """
    return replace(
        rbpn_4x(),
        name="iseebetter-4x",
        steps=129_224,
        stages=(Stage(1.0, 7, 2),),
        loss="mse",
        gan=GanConfig(),
    )


def afm_denoise() -> TrainConfig:
    """Bursts of atomic-force scans to one clean scan: RBPN with a strided last convolution.

    yasue32/afm-denoise: L1, patches of 64, batch 12, seven scans, no flow. The original starts from
    RBPN_2x and is in colour; here it is grey and residual, so it starts from the reference itself.
    """
    return replace(
        rbpn_4x(),
        name="afm-denoise",
        arguments={
            "scale": 2,
            "num_frames": 7,
            "channels": 1,
            "denoise": True,
            "flow": "none",
            "residual": True,
        },
        scale=1,
        task="bursts",
        degradation="given",
        steps=20_000,
        stages=(Stage(1.0, 7, 12),),
    )


def basicvsr() -> TrainConfig:
    """BasicVSR (Chan et al., 2021) on REDS: 15 frames, batch 8, Charbonnier, cosine from 2e-4.

    SPyNet is trained at an eighth of the learning rate, and frozen for the first 5000 steps.
    """
    return TrainConfig(
        name="basicvsr",
        model="basicvsr",
        arguments={"channels": 64, "blocks": 30, "scale": 4},
        scale=4,
        patch=64,
        steps=300_000,
        stages=(Stage(1.0, 15, 8),),
        learning_rate=2e-4,
        flow_rate=0.125,
        freeze_flow=5000,
        clip_gradient=1.0,
        validate_patch=64,
    )


def basicvsrpp() -> TrainConfig:
    """BasicVSR++ (Chan et al., 2022) on REDS: 30 frames, batch 8, cosine from 1e-4, 600,000 steps.

    SPyNet is trained at a quarter of the learning rate, and frozen for the first 5000 steps.
    """
    return replace(
        basicvsr(),
        name="basicvsrpp",
        model="basicvsrpp",
        arguments={"channels": 64, "blocks": 7, "scale": 4},
        steps=600_000,
        stages=(Stage(1.0, 30, 8),),
        learning_rate=1e-4,
        flow_rate=0.25,
    )


RECIPES: dict[str, Callable[..., TrainConfig]] = {
    "reel-fast": reel_fast,
    "reel": reel,
    "reel-live": reel_live,
    "reel-realistic": reel_realistic,
    "reel-fast-realistic": reel_fast_realistic,
    "reel-gan": reel_gan,
    "reel-quality": reel_quality,
    "tsrcnn-small": tsrcnn_small,
    "tsrcnn-large": tsrcnn_large,
    "fast-srgan-2x": fast_srgan_2x,
    "rbpn-4x": rbpn_4x,
    "iseebetter-4x": iseebetter_4x,
    "afm-denoise": afm_denoise,
    "basicvsr": basicvsr,
    "basicvsrpp": basicvsrpp,
}


def configure(
    name: str, settings: Mapping[str, Any] | None = None, scale: int | None = None
) -> TrainConfig:
    """Return a recipe's config with some settings changed.

    Args:
        name: Of `RECIPES`, or a JSON file {"recipe": name, "scale": ..., "set": {...}}.
        settings: Values by dotted names such as "gan.image" or "arguments.channels". Text is read
            as JSON where it is JSON. "gan": None removes the adversarial part.
        scale: For recipes that support several scales.

    Raises:
        UsageError: No such recipe or setting (the message suggests the nearest), or a value of the
            wrong type.
    """
    from_file: dict[str, Any] = {}
    if name not in RECIPES and name.endswith(".json"):
        name, from_file, scale = _read_recipe_file(Path(name), scale)
    fields = dataclasses.asdict(_recipe(name, scale))
    for key, value in {**from_file, **(settings or {})}.items():
        _set_field(fields, key, _parsed(value))
    config = config_from_fields(fields)
    config.validate()
    return config


def _recipe(name: str, scale: int | None) -> TrainConfig:
    if name not in RECIPES:
        hint = did_you_mean(name, list(RECIPES))
        raise UsageError(f"No recipe is called {name}.{hint} There are: {', '.join(RECIPES)}.")
    if scale is not None and has_scales(name):
        return RECIPES[name](scale)
    config = RECIPES[name]()
    if scale not in (None, config.scale):
        raise UsageError(f"scale={scale}: {name} is for scale {config.scale}.")
    return config


def has_scales(name: str) -> bool:
    """Return whether a recipe of `RECIPES` supports several scales."""
    return "scale" in inspect.signature(RECIPES[name]).parameters


def _read_recipe_file(path: Path, scale: int | None) -> tuple[str, dict[str, Any], int | None]:
    try:
        content = json.loads(path.read_text())
        return str(content["recipe"]), dict(content["set"]), scale or content.get("scale")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise WeightsError(f"{path}: not a recipe file of sharpreel.") from e


def _parsed(value: Any) -> Any:
    """Parse text as JSON (3e-4, true, null, [..]); text that is not JSON stays text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None if value == "none" else value


def _set_field(fields: dict[str, Any], key: str, value: Any) -> None:
    """Change one field by its dotted name; UsageError when there is no such setting."""
    first, _, rest = key.partition(".")
    top = [f.name for f in dataclasses.fields(TrainConfig)]
    gan = [f"gan.{f.name}" for f in dataclasses.fields(GanConfig)]
    if first == "arguments" and rest:
        fields[first] = {**fields[first], rest: value}
        if rest == "scale" and fields.get("task") == "sr":
            fields["scale"] = value
    elif key in gan:
        fields["gan"] = {**(fields["gan"] or dataclasses.asdict(GanConfig())), rest: value}
    elif key in top:
        fields[key] = value
    else:
        names = sorted(gan) if first == "gan" else sorted([*top, *gan])
        raise UsageError(f"{key}: no such setting.{did_you_mean(key, names)}")


def config_from_fields(fields: dict[str, Any]) -> TrainConfig:
    """Convert nested fields, such as those read from JSON, to a `TrainConfig`.

    Raises:
        UsageError: A value has the wrong type.
    """
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as e:
        raise MissingExtra("Training", "train") from e
    fields = {
        **fields,
        "precision": str(fields["precision"]),  # 32 is a name there
        "stages": _named_stages(fields["stages"]),
    }
    try:
        return TypeAdapter(TrainConfig).validate_python(fields)
    except ValidationError as e:
        first = e.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{name}={first['input']}: {first['msg'].lower()}.") from e


def _named_stages(stages: Any) -> Any:
    """Name the fields of stages that are lists: [[0.5, 7, 8]] -> [{"share": 0.5, ...}]."""
    if not isinstance(stages, list | tuple):
        return stages
    names = [f.name for f in dataclasses.fields(Stage)]
    return [
        dict(zip(names, stage, strict=False)) if isinstance(stage, list | tuple) else stage
        for stage in stages
    ]
