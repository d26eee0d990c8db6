"""Searches with training runs that follow a script."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import MissingExtra, TerminatedError, TrainingError, UsageError
from sharpreel.training import recipes, trainer
from sharpreel.training.config import TrainConfig
from sharpreel.training.progress import TrainProgress
from sharpreel.training.tune import search as search_
from sharpreel.training.tune.results import SearchUpdate
from sharpreel.training.tune.search import MAX_CRASHES, SearchOptions
from sharpreel.training.tune.space import Space
from sharpreel.training.tune.study import open_study
from tests.support.tuning import (
    CLIPS,
    LONG,
    RATE,
    SPACE,
    flat,
    interrupt_in,
    python,
    rows,
    scripted,
    search,
    slow,
    tried,
)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TerminatedError, OSError])
def test_a_stopped_search_tries_the_same_settings_again_in_the_same_folder(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    whole, out = tmp_path / "whole", tmp_path / "out"
    search(whole, 6, settings=LONG)
    for number in (1, 2):  # the second attempt is interrupted, too
        with pytest.raises(error if error is not OSError else UsageError):
            search(out, 6, settings=LONG, on_update=interrupt_in(number, error))
    assert [r["run"] for r in rows(out)] == ["trial-00000"]  # written when a trial ends
    search(out, 6, settings=LONG)
    assert tried(out) == tried(whole)
    again = rows(out)
    assert [r["state"] for r in again[1:3]] == ["interrupted"] * 2
    assert {r["run"] for r in again[1:4]} == {"trial-00001"}
    assert {r["learning_rate"] for r in again[1:4]} == {again[1]["learning_rate"]}


def test_scores_of_an_interrupted_attempt_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = {"first": [0.5, 0.4], "second": [0.3, 0.2]}
    attempt = "first"

    def half(config: TrainConfig, *clips: Any, on_progress: Any, **more: Any) -> Path:
        run: Path = clips[2]
        (run / "best.safetensors").touch()
        for k, gain in enumerate(gains[attempt]):
            step = 10 * (k + 1) + (0 if attempt == "first" else 20)
            on_progress(TrainProgress(step, config.steps, 0.1, 0.0, 0.0, gain_db=gain))
        if attempt == "first":
            raise TerminatedError("terminated at step 20; saved.")
        (run / "m.safetensors").touch()
        return run / "m.safetensors"

    monkeypatch.setattr(trainer, "train", half)
    with pytest.raises(TerminatedError):
        search(tmp_path / "out", 1, settings=LONG)
    attempt = "second"
    assert search(tmp_path / "out", 1, settings=LONG).value == 0.5
    study = open_study(tmp_path / "out", "reel-fast")
    assert study.trials[1].intermediate_values == {10: 0.5, 20: 0.4, 30: 0.3, 40: 0.2}


def test_a_trial_below_the_median_is_pruned_and_never_at_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gains = iter([3.0, 2.0, 1.0, 0.0, 5.0])
    monkeypatch.setattr(trainer, "train", scripted(lambda config: [next(gains)] * 4))
    updates: list[SearchUpdate] = []
    result = search(tmp_path / "out", 5, settings=LONG, on_update=updates.append)
    states = [u.state for u in updates if u.state != "running"]
    assert states == ["complete", "complete", "complete", "pruned", "complete"]
    assert len([u for u in updates if u.trial == 3 and u.progress]) == 1  # of four
    assert (result.trial, result.states) == (4, {"complete": 4, "pruned": 1, "failed": 0})

    gains = iter([3.0, 2.0, 1.0, 0.0])
    late = scripted(lambda config: [9.0, 9.0, 9.0, next(gains)])
    monkeypatch.setattr(trainer, "train", late)
    assert search(tmp_path / "late", 4, settings=LONG).states["complete"] == 4


@pytest.mark.parametrize(("gan", "value"), [({}, 3.0), ({"gan.start": 20}, 1.0)])
def test_a_gan_trial_is_valued_by_weights_of_the_adversarial_part(
    gan: dict[str, Any], value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = scripted(lambda config: [3.0, 2.0, 0.5, 1.0])

    def fake(config: TrainConfig, *clips: Any, **more: Any) -> Path:
        (clips[2] / "best.safetensors").write_text("")
        return follow(config, *clips, **more)

    monkeypatch.setattr(trainer, "train", fake)
    assert search(tmp_path / "out", 1, settings={**LONG, **gan}).value == value


def test_a_nan_loss_fails_the_trial_but_not_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([False, True, False, True, False])

    def sometimes(config: TrainConfig) -> list[float]:
        if next(calls):
            raise TrainingError("The loss is nan at step 3.")
        return flat(config)

    monkeypatch.setattr(trainer, "train", scripted(sometimes))
    updates: list[SearchUpdate] = []
    result = search(tmp_path / "out", 3, settings=LONG, on_update=updates.append)
    assert result.states == {"complete": 3, "pruned": 0, "failed": 2}
    assert [u.note for u in updates if u.state == "failed"] == ["The loss is nan at step 3."] * 2
    assert [r["state"] for r in rows(tmp_path / "out")][1] == "failed"
    assert rows(tmp_path / "out")[1]["note"] == "The loss is nan at step 3."


def test_five_failures_in_a_row_end_the_search_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(config: TrainConfig) -> list[float]:
        return [float("nan")]

    monkeypatch.setattr(trainer, "train", scripted(never))
    with pytest.raises(TrainingError, match=r"^5 trials in a row failed; .* Its gain is nan\.$"):
        search(tmp_path / "out", 20, settings=LONG)
    assert len(rows(tmp_path / "out")) == 5


def test_a_trial_that_crashes_its_process_repeatedly_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    out = tmp_path / "out"
    search(out, 1, settings=LONG)
    for _ in range(MAX_CRASHES):  # what a killed process leaves: a running trial that nobody locks
        study = open_study(out, "reel-fast")
        study.ask({n: d.distribution() for n, d in SPACE.dimensions.items()})
        search(out, 1, settings=LONG)
    states = [r["state"] for r in rows(out)]
    assert states == ["complete", "interrupted", "interrupted", "failed"]
    assert rows(out)[3]["note"] == "its process was killed each time"


def test_two_workers_run_exactly_the_requested_number_of_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
search_.trainer.train, search_.make_fabric = scripted(slow), lambda *arguments: None
search(Path(sys.argv[1]), 8, settings=LONG)
"""
    out = tmp_path / "out"
    other = python(code, out)
    while not list(out.glob("trial-*")):  # until it has started
        assert other.poll() is None
        time.sleep(0.01)
    monkeypatch.setattr(trainer, "train", scripted(slow))
    updates: list[SearchUpdate] = []
    result = search(out, 8, settings=LONG, on_update=updates.append)
    assert other.wait(timeout=60) == 0
    trials = rows(out)
    assert result.states["complete"] + result.states["pruned"] == len(trials) == 8
    assert 0 < len({update.trial for update in updates}) < 8
    assert len({t["learning_rate"] for t in trials}) == 8
    assert {t["run"] for t in trials} == {f"trial-{k:05d}" for k in range(8)}


def test_a_search_is_resumed_with_more_trials_but_not_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    out = tmp_path / "out"
    search(out, 2, settings=LONG)
    assert sum(search(out, 4, settings=LONG).states.values()) == 4
    with pytest.raises(UsageError, match=r"started with other settings \(patch, steps\)"):
        search(out, 4, settings={**LONG, "patch": 8, "steps": 30})
    with pytest.raises(UsageError, match=r"started with other settings \(space\)"):
        search(out, 4, settings=LONG, space=Space.of({"learning_rate": RATE}))
    with pytest.raises(UsageError, match=r"\(training clips, validation clips\)"):
        search_.tune(
            "reel-fast",
            SPACE,
            CLIPS[1:],
            CLIPS[:1],
            out,
            4,
            settings=LONG,
            options=SearchOptions(mlflow=False),
        )


def test_a_search_can_start_from_a_recipe_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    first = search(tmp_path / "a", 2, settings=LONG, scale=4)
    clips = Space.of({"clip_gradient": {"choices": [0.0, 0.5]}})
    second = search(tmp_path / "b", 2, clips, {}, recipe=str(first.recipe))
    content = json.loads(second.recipe.read_text())
    assert (content["recipe"], content["scale"]) == ("reel-fast", 4)
    assert content["set"] == {**LONG, **first.settings, **second.settings}
    made = recipes.configure(str(second.recipe))
    assert made == dataclasses.replace(
        recipes.configure(str(first.recipe)), clip_gradient=second.settings["clip_gradient"]
    )


def test_trials_are_validated_often_enough_to_be_pruned_unless_set_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainConfig] = []

    def noted(config: TrainConfig) -> list[float]:
        seen.append(config)
        return flat(config)

    monkeypatch.setattr(trainer, "train", scripted(noted))
    plain = {k: v for k, v in LONG.items() if not k.endswith("_every")}
    search(tmp_path / "a", 1, settings=plain)
    search(tmp_path / "b", 1, settings={**plain, "save_every": 20})
    assert [(c.save_every, c.validate_every) for c in seen] == [(8, 8), (20, 1000)]


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"Tuning .* pip install 'sharpreel\[train\]'"):
        search(tmp_path / "out")


def test_invalid_searches_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="trials must be 1 or more, got 0"):
        search(tmp_path, 0)
    with pytest.raises(UsageError, match="needs validation clips"):
        search_.tune("reel-fast", SPACE, CLIPS, [], tmp_path, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="in several processes"):
        search(tmp_path)
