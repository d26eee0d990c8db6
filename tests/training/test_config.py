"""Schedules, stages and ranges of settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sharpreel.errors import UsageError
from sharpreel.training.config import GanConfig, Stage, TrainConfig, what_differs
from tests.support.training import (
    TINY,
)


def test_each_schedule_warms_up_and_ends_at_its_final_rate() -> None:
    base = TrainConfig(name="x", model="reel-fast", steps=1000, warmup_steps=100, learning_rate=1.0)
    for schedule in ("constant", "step", "cosine"):
        assert replace(base, schedule=schedule).learning_rate_at(0) == pytest.approx(0.01)
        assert replace(base, schedule=schedule).learning_rate_at(100) == pytest.approx(1.0)
    assert base.learning_rate_at(999) < 1e-5
    assert replace(base, schedule="constant").learning_rate_at(999) == 1
    step = replace(base, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    assert [step.learning_rate_at(k) for k in (540, 560, 800)] == pytest.approx([1, 0.1, 0.01])
    cycle = replace(base, schedule="onecycle", warmup_steps=0)
    rates = [cycle.learning_rate_at(k) for k in range(1000)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(1) == rates[300]
    assert rates[-1] < 1e-4


def test_stages_share_the_steps() -> None:
    config = replace(TINY, steps=10, stages=(Stage(0.3, 2, 8), Stage(0.7, 5, 4)))
    assert [config.stage(k).clip_len for k in (0, 2, 3, 9)] == [2, 2, 5, 5]


def test_the_adversarial_part_begins_within_the_run_or_never() -> None:
    assert TINY.gan_start == -1
    assert replace(TINY, gan=GanConfig(start=2)).gan_start == 2
    assert replace(TINY, gan=GanConfig(start=TINY.steps)).gan_start == -1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(TINY, model="real"), "model=real: there is no network of that name"),
        (replace(TINY, seed=2**63), "seed must be below"),
        (replace(TINY, gan=GanConfig(divisor=0)), "gan.divisor must not be 0"),
        (replace(TINY, gan=GanConfig(game="relativistic")), "needs gan.discriminator=fast"),
        (replace(TINY, betas=(0.9, 1.0)), "betas.1 must be from 0 to below 1, got 1"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(config: TrainConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config.validate()


def test_how_often_a_run_saves_may_change() -> None:
    before = {"steps": 1, "save_every": 1, "patch": 8}
    assert what_differs(before, {"steps": 1, "save_every": 2, "patch": 8}) == []
    assert what_differs(before, {"steps": 2, "save_every": 2, "loss": "l1"}) == [
        "loss",
        "patch",
        "steps",
    ]
