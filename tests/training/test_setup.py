"""Networks, optimisers, precision, starting weights and epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.errors import (
    DeviceError,
    UsageError,
    WeightsError,
)
from sharpreel.models.reel import Bicubic, Reel
from sharpreel.system.resources import usable_cpus
from sharpreel.training import (
    recipes,
    trainer,
)
from sharpreel.training.setup import for_epochs, make_fabric, set_threads, validate_device
from sharpreel.training.trainer import Trainer
from tests.support.tiles import tile_clips
from tests.support.training import (
    TINY,
    weights_of,
)


def test_bf16_applies_to_convolutions_but_not_to_frames() -> None:
    fabric = make_fabric("bf16", "cpu")
    network = Reel()
    body: list[torch.dtype] = []
    for conv in (network.head, network.tail):
        conv.register_forward_hook(lambda _, inputs, output: body.append(output.dtype))
    frames = torch.rand(1, 2, 3, 16, 24)
    sr = fabric.setup(network)(frames)[0]
    assert set(body) == {torch.bfloat16}
    # An untrained network is bicubic; a frame in bf16 would differ by half a step of a byte.
    torch.testing.assert_close(sr, Bicubic(2)(frames), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arguments.foo": "1"}, "no reel-fast can be built from .*'foo'"),
        ({"arguments.channels": "-3"}, "no reel-fast can be built"),
        ({"arguments.channels": "foo"}, "no reel-fast can be built"),
        ({"model": "rbpn"}, "no rbpn can be built from .* argument 'blocks'"),
        ({"patch": "15"}, "patch=15: must be a multiple of 2"),
        ({"arguments.unshuffle": "0"}, "one of its layers would be empty"),
        ({"task": "bursts"}, "needs a network that looks at neighbours"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_in_one_line(
    settings: dict[str, str], message: str, three: list[Clip], tmp_path: Path
) -> None:
    config = recipes.configure("reel-fast", {"stages": "[[1.0, 2, 1]]", "patch": "16", **settings})
    with pytest.raises(UsageError, match=message) as refused:
        trainer.train(config, three, [], tmp_path / "run")
    assert "\n" not in str(refused.value)


def test_up_training_starts_from_the_weights_of_the_checkpoint(
    three: list[Clip], tmp_path: Path
) -> None:
    first = trainer.train(TINY, three, [], tmp_path / "one")
    training = Trainer(TINY, three, [], tmp_path / "two", start_from=str(first))
    for name, value in weights_of(first).items():
        torch.testing.assert_close(training.average[name], value, rtol=0, atol=0)
    wide = replace(TINY, arguments={**TINY.arguments, "channels": 12})
    with pytest.raises(WeightsError, match="of 6 tensors fit"):
        Trainer(wide, three, [], tmp_path / "three", start_from=str(first))


def test_the_flow_network_is_frozen_first_and_has_a_lower_learning_rate(tmp_path: Path) -> None:
    config = recipes.configure(
        "basicvsr",
        {
            "arguments.channels": 8,
            "arguments.blocks": 1,
            "arguments.scale": 2,
            "patch": 32,
            "stages": [[1.0, 2, 1]],
            "freeze_flow": 1,
            "steps": 4,
            "schedule": "constant",
        },
    )
    training = Trainer(config, tile_clips(1, size=(96, 96)), [], tmp_path)
    flow = [p for n, p in training.module.named_parameters() if "spynet" in n]
    before = [p.detach().clone() for p in flow]
    training.training_step(training.loader.batch(0))
    assert all((a == b).all() for a, b in zip(before, flow, strict=True))
    training.training_step(training.loader.batch(1))
    assert any((a != b).any() for a, b in zip(before, flow, strict=True))
    rates = [group["lr"] for group in training.optimizer.param_groups]
    assert rates == pytest.approx([2e-4, 2.5e-5])


def test_an_epoch_trains_on_as_many_frames_as_the_clips_have(three: list[Clip]) -> None:
    config = for_epochs(TINY, three, 4)  # 18 frames; 4 and 3 a step, in equal shares
    assert (config.steps, config.validate_every, config.save_every) == (24, 6, 6)
    small = recipes.configure("tsrcnn-small", {"stages": "[[1.0, 3, 4]]", "accumulate": "2"})
    assert for_epochs(small, three, 1).steps == 3  # of 8 windows each
    bursts = recipes.configure("afm-denoise", {"stages": "[[1.0, 7, 2]]"})
    assert for_epochs(bursts, [None] * 5, 2).steps == 6


def test_a_device_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    validate_device("auto")
    with pytest.raises(UsageError, match="device='tpu' is not known; choose auto, cpu or cuda"):
        validate_device("tpu")
    with pytest.raises(DeviceError, match=r"no CUDA GPU\. Use device='cpu'"):
        validate_device("cuda")


def test_threads_are_set_and_by_default_all_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    set_threads(3)
    set_threads(None)
    assert chosen == [3, usable_cpus()]
