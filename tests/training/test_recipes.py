"""Recipes: how settings are read, and that each recipe trains."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import (
    UsageError,
)
from sharpreel.models.weights import load_model
from sharpreel.training import (
    recipes,
    trainer,
)
from sharpreel.training.config import Stage, config_text
from sharpreel.training.progress import TrainProgress
from tests.support.scans import scans
from tests.support.tiles import tile_clips


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": "1"}, "Did you mean learning_rate"),
        ({"gan.tota_variation": "1"}, r"Did you mean gan\.total_variation"),
        ({"steps": "many"}, "steps=many"),
        ({"steps": "0"}, "steps must be 1 or more"),
        ({"optimizer": "lion"}, "optimizer=lion"),
        ({"loss": "charbonier"}, "Did you mean charbonnier"),
        ({"stages": "[[0.5, 2, 4]]"}, "must add up to 1"),
        ({"ema": "1"}, "ema must be"),
        ({"scale": "4"}, "do not agree"),
        ({"seed": "-1"}, "seed must be 0 or more, got -1"),
        ({"learning_rate": "-1"}, "learning_rate must be 0 or more"),
        ({"learning_rate": "nan"}, "learning_rate must be a finite number"),
        ({"clip_gradient": "NaN"}, "clip_gradient must be a finite number"),
        ({"gan.image": "Infinity"}, r"gan\.image must be a finite number"),
        ({"arguments.channels": "NaN"}, r"arguments\.channels must be a finite number"),
        ({"gan.start": "-1"}, r"gan\.start must be 0 or more"),
        ({"warmup_steps": "-5"}, "warmup_steps must be 0 or more"),
        ({"validate_every": "-1"}, "validate_every must be 0 or more"),
        ({"validate_frames": "0"}, "validate_frames must be 1 or more"),
        ({"stages": "[[-1, 2, 2], [2, 2, 2]]"}, r"stages\.0\.share must be 0 or more, got -1"),
        ({"stages": "[[1, 2, 0]]"}, r"stages\.0\.batch must be 1 or more"),
        ({"betas": "[0.9, 2]"}, r"betas\.1 must be from 0 to below 1"),
        ({"name": "../evil"}, "name=../evil: must be a plain file name"),
        ({"name": "a/b"}, "name=a/b: must be a plain file name"),
        ({"name": ""}, "must be a plain file name"),
        ({"name": ".."}, "must be a plain file name"),
    ],
)
def test_an_invalid_setting_is_refused_in_one_line(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        recipes.configure("reel-fast", settings)
    assert "\n" not in str(refused.value)


def test_settings_are_parsed_to_the_types_of_their_fields() -> None:
    assert recipes.configure("reel-fast", {"precision": "32"}).precision == "32"
    config = recipes.configure(
        "iseebetter-4x",
        {"learning_rate": "3e-4", "stages": "[[1, 5, 3]]", "gan.image": "2", "arguments.feat": "8"},
    )
    assert (config.learning_rate, config.stages) == (3e-4, (Stage(1.0, 5, 3),))
    assert config.gan is not None
    assert (config.gan.image, config.gan.perceptual) == (2.0, 6e-3)
    assert config.arguments["feat"] == 8
    assert recipes.configure("iseebetter-4x", {"gan": "none"}).gan is None
    assert recipes.configure("reel", scale=4).arguments["scale"] == 4


def test_an_unknown_recipe_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean rbpn-4x"):
        recipes.configure("rbpn-4")
    with pytest.raises(UsageError, match="scale=2: rbpn-4x is for scale 4"):
        recipes.configure("rbpn-4x", scale=2)
    (tmp_path / "best.json").write_text('{"recipe": "reel", "scale": 4, "set": {"steps": 7}}')
    config = recipes.configure(str(tmp_path / "best.json"), {"patch": "32"})
    assert (config.name, config.scale, config.steps, config.patch) == ("reel", 4, 7, 32)


def test_a_config_survives_json() -> None:
    for name in recipes.RECIPES:
        config = recipes.configure(name)
        text = json.loads(config_text(config))
        assert recipes.config_from_fields(text) == config
        assert dataclasses.asdict(recipes.config_from_fields(text)) == dataclasses.asdict(config)


QUICK = {"save_every": 200, "validate_every": 200, "validate_frames": 2, "ema": 0.98}


SHORT: dict[str, dict[str, Any]] = {
    "reel-fast": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 24,
                  "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 16,
             "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel-live": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 24,
                  "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel-realistic": {
        "arguments.channels": 16,
        "arguments.blocks": 1,
        "patch": 16,
        "stages": [[1.0, 2, 4]],
        "learning_rate": 3e-3,
        "flicker": 0.05,  # at 0.5, 200 steps from bicubic lose PSNR
    },
    "reel-fast-realistic": {
        "arguments.channels": 16,
        "arguments.blocks": 1,
        "patch": 24,
        "stages": [[1.0, 2, 4]],
        "learning_rate": 3e-3,
        "flicker": 0.05,  # at 0.5, 200 steps from bicubic lose PSNR
    },
    "reel-gan": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 16,
                 "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "reel-quality": {"arguments.channels": 16, "arguments.blocks": 1, "patch": 16,
                     "stages": [[1.0, 2, 4]], "learning_rate": 3e-3},
    "tsrcnn-small": {"patch": 16, "stages": [[1.0, 3, 4]], "learning_rate": 1e-3,
                     "degradation": "bi"},
    "tsrcnn-large": {"patch": 12, "stages": [[1.0, 3, 2]], "learning_rate": 1e-3,
                     "degradation": "bi"},
    "fast-srgan-2x": {"patch": 16, "gan.features": "discriminator", "gan.start": 150,
                      "stages": [[1.0, 1, 4]]},
    "rbpn-4x": {"arguments.num_frames": 3, "arguments.base_filter": 16, "arguments.feat": 8,
                "arguments.resblocks": 1, "patch": 12, "stages": [[1.0, 3, 2]],
                "learning_rate": 1e-3, "validate_patch": 16},
    "iseebetter-4x": {"arguments.num_frames": 3, "arguments.base_filter": 16,
                      "arguments.feat": 8, "arguments.resblocks": 1, "patch": 12,
                      "stages": [[1.0, 3, 2]], "learning_rate": 1e-3, "validate_patch": 16,
                      "gan.features": "discriminator"},
    "basicvsr": {"arguments.channels": 8, "arguments.blocks": 1, "patch": 12,
                 "stages": [[1.0, 2, 1]], "learning_rate": 2e-3, "validate_patch": 16},
    "basicvsrpp": {"arguments.channels": 8, "arguments.blocks": 1, "patch": 12,
                   "stages": [[1.0, 2, 1]], "learning_rate": 2e-3, "validate_patch": 16},
    "afm-denoise": {"arguments.num_frames": 3, "arguments.base_filter": 16, "arguments.feat": 8,
                    "arguments.resblocks": 1, "patch": 24, "stages": [[1.0, 3, 2]],
                    "learning_rate": 1e-3},
}  # fmt: skip


def test_each_recipe_has_a_short_form_that_is_trained() -> None:
    assert SHORT.keys() == recipes.RECIPES.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_two_hundred_steps_of_each_recipe_beat_its_start(name: str, tmp_path: Path) -> None:
    steps = 300 if name == "afm-denoise" else 200
    config = recipes.configure(name, {**QUICK, **SHORT[name], "steps": steps})
    config = replace(config, save_every=50, validate_every=50, freeze_flow=0)
    pool: list[Any]
    if config.task == "bursts":
        pool = [scans(k) for k in range(3)]
    else:
        pool = tile_clips(3, config.scale, (192, 144))
    lines: list[TrainProgress] = []
    path = trainer.train(config, pool[:2], pool[2:], tmp_path / "run", on_progress=lines.append)
    psnr = [line.psnr for line in lines if line.psnr is not None]
    assert max(psnr[1:]) > psnr[0], psnr
    losses = [line.loss for line in lines[1:] if line.loss is not None]
    assert losses[-1] < losses[0] or config.gan is not None
    assert all(math.isfinite(x) for line in lines for x in (*losses, *line.terms.values()))
    if config.gan is not None:
        wanted = {"image", "perceptual", "adversarial", "total_variation", "discriminator"}
        assert wanted <= set(lines[-1].terms)
    assert load_model(path).card["recipe"]["name"] == name
