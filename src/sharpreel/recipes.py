"""Named trainings: plain functions that return a `TrainConfig`, and how a user changes fields.

A recipe says what its paper or repository did, where that is known, and what is different here.
`configure` takes a recipe's name, or a file that `sharpreel tune` wrote, and settings by name:

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
from sharpreel.train import Gan, Stage, TrainConfig


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

    It begins with the bundled reel-fast: `--from src/sharpreel/weights/reel-fast_x2.safetensors`.
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
    """A recipe for clean frames as a fine-tuning on video as people have it.

    Each clip is coded in several versions beforehand. The long clips of the second stage teach the
    state to average what a codec changes from frame to frame; the flicker term holds it to that.
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

    It begins with the first one: `--from src/sharpreel/weights/reel-clean_x2.safetensors`.
    """
    stages = (Stage(0.6, 5, 4), Stage(0.4, 10, 2))
    return replace(realistic(reel(scale)), steps=1500, stages=stages)


def reel_fast_realistic(scale: int = 2) -> TrainConfig:
    """reel-fast on realistic video, which begins with the bundled one.

    `--from src/sharpreel/weights/reel-fast_x2.safetensors`.
    """
    stages = (Stage(0.6, 5, 8), Stage(0.4, 10, 4))
    return replace(realistic(reel_fast(scale)), steps=4000, stages=stages)


def reel_gan() -> TrainConfig:
    """Texture instead of PSNR: reel at 4x with the four-fold loss of iSeeBetter.

    Charbonnier takes the place of MSE, and the discriminator's own features that of VGG's. Begin
    with the bundled reel: `--from src/sharpreel/weights/reel_x4.safetensors`. The bundled one
    is mixed with that afterwards: `python examples/interpolate.py`.
    """
    return replace(
        reel(4),
        name="reel-gan",
        model="reel-gan",
        steps=900,
        stages=(Stage(1.0, 3, 4),),
        learning_rate=2e-4,
        warmup_steps=50,
        gan=Gan(
            discriminator="patch",
            game="srgan",
            perceptual=6e-2,
            adversarial=1e-2,
            features="discriminator",
        ),
    )


def reel_quality() -> TrainConfig:
    """reel at 4x in both directions of time, grown out of it.

    Begin with the bundled reel: `--from src/sharpreel/weights/reel_x4.safetensors`. On a GPU give
    it more: `--set steps=100000 --set patch=64 --set stages=[[0.3,8,16],[0.7,15,16]]`; the bundled
    one is of one processor core, with `--set precision=bf16`.
    """
    return replace(
        reel(4),
        name="reel-quality",
        model="reel-quality",
        arguments={"scale": 4, "channels": 64, "blocks": 11},
        patch=32,
        steps=7000,
        stages=(Stage(0.6, 7, 4), Stage(0.4, 11, 3)),
        learning_rate=4e-4,  # loses a tenth of a decibel at first, and has it back after 3000 steps
        warmup_steps=300,
    )


def tsrcnn_small(scale: int = 2) -> TrainConfig:
    """TSRCNN as Dawid64/super-enhanced-resolution trained its best one: AdamW, 1/PSNR, area.

    There whole frames of 36 to 252 videos, batch 8, 3 to 10 epochs at a learning rate of 1e-4;
    here crops, which see more videos in the same time. Its 1/PSNR begins at a network of random
    output, so the first steps are guided by a warm-up.
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
    """TSRCNN with 222,723 parameters; as tsrcnn-small."""
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
        gan=Gan(
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
    are clipped. Flow is DIS, for training and use alike.
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
    """iSeeBetter (Chadha et al., 2020): RBPN against SRGAN's discriminator, the four-fold loss.

    MSE + 6e-3 VGG-16 + 1e-3 adversarial + 2e-8 TV. The original fine-tunes a trained RBPN for four
    epochs at batch 2: give yours with `--from`.
    """
    return replace(
        rbpn_4x(),
        name="iseebetter-4x",
        steps=129_224,
        stages=(Stage(1.0, 7, 2),),
        loss="mse",
        gan=Gan(),
    )


def afm_denoise() -> TrainConfig:
    """Bursts of atomic-force scans to one clean scan: RBPN with a strided last convolution.

    yasue32/afm-denoise: L1, patches of 64, batch 12, seven scans, no flow. There from RBPN_2x and
    in colour; here grey, and in residual mode, which starts from the reference itself.
    """
    return replace(
        rbpn_4x(),
        name="afm-denoise",
        arguments={"scale": 2, "num_frames": 7, "channels": 1, "denoise": True, "flow": "none",
                   "residual": True},
        scale=1,
        task="bursts",
        degradation="given",
        steps=20_000,
        stages=(Stage(1.0, 7, 12),),
    )  # fmt: skip


def basicvsr() -> TrainConfig:
    """BasicVSR (Chan et al., 2021) on REDS: 15 frames, batch 8, Charbonnier, cosine from 2e-4.

    SPyNet learns at an eighth of the learning rate, and not for the first 5000 steps.
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

    SPyNet learns at a quarter of the learning rate, and not for the first 5000 steps.
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
    """A recipe with some of its fields changed.

    Args:
        name: Of `RECIPES`, or a JSON file {"recipe": name, "scale": ..., "set": {...}}.
        settings: Dotted names and values: "gan.image", "arguments.channels"; words are read as JSON
            where they are it. None as the value of "gan" leaves the adversarial part out.
        scale: For recipes that exist at several factors.

    Raises:
        UsageError: No such recipe or setting (the nearest is named), or a value of the wrong kind.
    """
    given: dict[str, Any] = {}
    if name not in RECIPES and name.endswith(".json"):
        name, given, scale = _read(Path(name), scale)
    if name not in RECIPES:
        hint = did_you_mean(name, list(RECIPES))
        raise UsageError(f"No recipe is called {name}.{hint} There are: {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    if scale is None:
        config = recipe()
    elif has_factors(name):
        config = recipe(scale)
    else:
        config = recipe()
        if scale != config.scale:
            raise UsageError(f"{name} is for factor {config.scale}, not {scale}.")
    fields = dataclasses.asdict(config)
    for key, value in {**given, **(settings or {})}.items():
        _set(fields, TrainConfig, key, _value(value))
    made = _typed(fields)
    made.check()
    return made


def has_factors(name: str) -> bool:
    """Whether a recipe of RECIPES exists at several factors."""
    return "scale" in inspect.signature(RECIPES[name]).parameters


def _read(path: Path, scale: int | None) -> tuple[str, dict[str, Any], int | None]:
    try:
        content = json.loads(path.read_text())
        return str(content["recipe"]), dict(content["set"]), scale or content.get("scale")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise WeightsError(f"{path}: not a recipe file of sharpreel.") from e


def _value(value: Any) -> Any:
    """What a word means: JSON where it is it (3e-4, true, null, [..]), else the word itself."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None if value == "none" else value


def _set(fields: dict[str, Any], kind: Any, key: str, value: Any) -> None:
    """Change one field by its dotted name."""
    first, _, rest = key.partition(".")
    known = {f.name for f in dataclasses.fields(kind)}
    if first not in known or (rest and first not in ("gan", "arguments")):
        names = sorted({*known, *(f"gan.{f.name}" for f in dataclasses.fields(Gan))})
        raise UsageError(f"--set {key}: no such setting.{did_you_mean(key, names)}")
    if not rest:
        fields[first] = value
        return
    if first == "arguments":
        fields[first] = {**fields[first], rest: value}
        if rest == "scale" and fields.get("task") == "sr":
            fields["scale"] = value
        return
    inside = {f.name for f in dataclasses.fields(Gan)}
    if rest not in inside:
        names = [f"gan.{name}" for name in sorted(inside)]
        raise UsageError(f"--set {key}: no such setting.{did_you_mean(key, names)}")
    fields["gan"] = {**(fields["gan"] or dataclasses.asdict(Gan())), rest: value}


def _typed(fields: dict[str, Any]) -> TrainConfig:
    """Fields as a TrainConfig, each of its kind.

    Raises:
        UsageError: One is not.
    """
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as e:
        raise MissingExtra("Training", "train") from e
    fields = {**fields, "precision": str(fields["precision"])}  # 32 is a name there
    stages = fields["stages"]
    if isinstance(stages, list | tuple):
        names = [f.name for f in dataclasses.fields(Stage)]
        fields = {**fields, "stages": [
            dict(zip(names, s, strict=False)) if isinstance(s, list | tuple) else s for s in stages
        ]}  # fmt: skip
    try:
        return TypeAdapter(TrainConfig).validate_python(fields)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"--set {where}={first['input']}: {first['msg'].lower()}.") from e
