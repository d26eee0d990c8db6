"""Searches: real Optuna, and trainings that are real and tiny or follow a script."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharpreel.data import degrade
from sharpreel.data.store import Clip
from sharpreel.errors import InputError, MissingExtra, TerminatedError, TrainingError, UsageError
from sharpreel.models.weights import load_model, read_card
from sharpreel.training import recipes, trainer
from sharpreel.training.config import TrainConfig, config_text
from sharpreel.training.trainer import TrainProgress
from sharpreel.training.tune import search as search_
from sharpreel.training.tune.plots import draw
from sharpreel.training.tune.search import DEATHS, SearchResult, SearchUpdate
from sharpreel.training.tune.space import Dimension, Space
from sharpreel.training.tune.study import open_study
from tests.support.videos import REPO, read_png

optuna = pytest.importorskip("optuna")

RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}
SPACE = Space.of({"learning_rate": RATE, "loss": {"choices": ["charbonnier", "l1"]}})
TINY: dict[str, Any] = {
    "arguments.channels": 8,
    "arguments.blocks": 1,
    "patch": 16,
    "steps": 4,
    "stages": "[[1.0, 2, 1]]",
    "save_every": 2,
    "validate_every": 2,
    "validate_frames": 1,
    "warmup_steps": 0,
}
TRIALS = 4


def clip(seed: int) -> Clip:
    """Coloured tiles that move by two pixels a frame."""
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    still = tiles.repeat(6, 0).repeat(6, 1)
    hr = np.stack([np.roll(still, 2 * t, axis=1) for t in range(3)])
    return Clip(f"clip{seed}", *degrade.degrade(hr, 2, "bi"))


CLIPS = [clip(k) for k in range(3)]


def search(
    out: Path,
    trials: int = TRIALS,
    space: Space | Path = SPACE,
    settings: Mapping[str, Any] | None = None,
    recipe: str = "reel-fast",
    **more: Any,
) -> SearchResult:
    chosen = TINY if settings is None else settings
    given = {"track": False, "plots": False, **more}
    return search_.tune(recipe, space, CLIPS[:2], CLIPS[2:], out, trials, settings=chosen, **given)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def tried(out: Path) -> list[tuple[float, str, float]]:
    """What the finished trials tried and found, in order."""
    return [
        (float(r["learning_rate"]), r["loss"], float(r["value"]))
        for r in rows(out)
        if r["state"] in ("complete", "pruned")
    ]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def python(code: str, *arguments: Path) -> subprocess.Popen[bytes]:
    """A process that may use what stands in this file."""
    setup = (
        f"import sys; sys.path.insert(0, {str(REPO)!r})\n"
        "from tests.training.tune.test_search import *"
    )
    return subprocess.Popen([sys.executable, "-c", f"{setup}\n{code}", *map(str, arguments)])


def scripted(curve: Callable[[TrainConfig], list[float]]) -> Callable[..., Path]:
    """A stand-in for `trainer.train` that scores by this curve, one point for each 10 steps."""

    def fake(config: TrainConfig, *clips: Any, tell: Any, **more: Any) -> Path:
        run: Path = clips[2]
        for k, gain in enumerate(curve(config)):
            tell(
                TrainProgress(
                    10 * (k + 1), config.steps, 0.1, 0.0, 0.0, psnr=30 + gain, gain_db=gain
                )
            )
        path = run / "reel-fast_x2.safetensors"
        path.write_text(f"{config.learning_rate}")
        return path

    return fake


def flat(config: TrainConfig) -> list[float]:
    """The lower the learning rate the better, from the first step to the last."""
    return [-config.learning_rate] * (config.steps // 10)


LONG = {**TINY, "steps": 40, "save_every": 10, "validate_every": 10}


def slow(config: TrainConfig) -> list[float]:
    time.sleep(0.3)
    return flat(config)


# The space -------------------------------------------------------------------------------------

JSON_SPACE = """{
 "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": true},
 "arguments.channels": {"type": "int", "low": 8, "high": 24, "step": 8},
 "stages": {"choices": [[[1.0, 2, 4]], "[[1.0, 3, 2]]"]},
 "gan": {"choices": [null, {"image": 0.5}]}
}"""
TOML_SPACE = """
learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}
stages.choices = [[[1.0, 2, 4]], "[[1.0, 3, 2]]"]
gan.choices = ["none", {image = 0.5}]
[arguments]
channels = {type = "int", low = 8, high = 24, step = 8}
"""


def test_json_and_toml_say_the_same_and_tables_may_nest(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(JSON_SPACE)
    (tmp_path / "b.toml").write_text(TOML_SPACE)
    one, two = (Space.read(tmp_path / name).dimensions for name in ("a.json", "b.toml"))
    assert one["learning_rate"] == Dimension("float", 1e-4, 1e-2, log=True)
    assert one["arguments.channels"] == Dimension("int", 8, 24, step=8)
    assert one["stages"].choices == ("[[1.0, 2, 4]]", "[[1.0, 3, 2]]")
    assert one["gan"].choices == (None, '{"image": 0.5}')
    assert {**two, "gan": one["gan"]} == dict(one)
    assert two["gan"].choices == ("none", '{"image": 0.5}')
    for name in ("a.json", "b.toml"):
        Space.read(tmp_path / name).check("reel-fast", {"arguments.unshuffle": 2})


EXPECTED = {
    "[1, 2]": 'expected {"type": "float" or "int", .*} or {"choices": .*}, got [1, 2].',
    '{"low": 1, "high": 2}': 'expected {"type": .*, got {"low": 1, "high": 2}.',
    '{"type": "real", "low": 1, "high": 2}': 'type: expected "float" or "int", got "real".',
    '{"type": "int", "low": 1}': "high: expected a whole number, and it is missing.",
    '{"type": "int", "low": 1.0, "high": 2}': "low: expected a whole number, got 1.0.",
    '{"type": "float", "low": "1e-4", "high": 2}': 'low: expected a number, got "1e-4".',
    '{"type": "float", "low": 1, "high": Infinity}': "high: expected a number, got Infinity.",
    '{"type": "float", "low": true, "high": 2}': "low: expected a number, got true.",
    '{"type": "float", "low": 2, "high": 2}': "low: expected less than high, got 2 and 2.",
    '{"type": "float", "low": 0, "high": 2, "log": true}': "low: expected more than 0 where log .*",
    '{"type": "float", "low": 1, "high": 2, "log": 1}': "log: expected true or false, got 1.",
    '{"type": "int", "low": 1, "high": 4, "step": 2}': "high: expected low plus some steps of 2.*",
    '{"type": "int", "low": 1, "high": 4, "step": 0}': "step: expected more than 0.*",
    '{"type": "int", "low": 1, "high": 4, "logs": true}': "logs: not known here; expected type.*",
    '{"choices": [1, 2], "type": "int"}': "type: not known here; expected choices.",
    '{"choices": [1]}': "choices: expected a list of two or more, got [1].",
    '{"choices": "ab"}': 'choices: expected a list of two or more, got "ab".',
    '{"choices": [1, true]}': "choices: expected different values, got true twice.",
}


@pytest.mark.parametrize("spec", EXPECTED)
def test_what_is_wrong_with_a_space_is_one_line_with_file_setting_and_expectation(
    spec: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.json"
    path.write_text(f'{{"learning_rate": {spec}}}')
    with pytest.raises(UsageError) as caught:
        Space.read(path)
    told = str(caught.value)
    expected = re.escape(EXPECTED[spec]).replace(r"\.\*", ".*")
    assert re.fullmatch(f"{re.escape(str(path))}: learning_rate: {expected}", told), told


@pytest.mark.parametrize(
    ("name", "text", "kind", "told"),
    [
        ("s.json", "{", InputError, "s.json: not JSON: Expecting property name"),
        ("s.toml", "a = ", InputError, "s.toml: not TOML: Invalid value"),
        ("s.json", '{"a": 1, "a": 2}', InputError, "s.json: not JSON: a is given twice."),
        ("s.yaml", "a: 1", UsageError, "s.yaml: a search space is a .json or a .toml file."),
        ("s.json", "[]", UsageError, "s.json: expected settings by name"),
        ("s.json", "{}", UsageError, "s.json: expected settings by name"),
        ("s.json", '{"scale": {"choices": [2, 4]}}', UsageError,
         "s.json: scale: cannot be searched; it decides what the clips are."),
        ("s.json", '{"gan": {"choices": [null, {}]}, "gan.image": {"choices": [1, 2]}}', UsageError,
         "s.json: gan.image: gan is searched as a whole already."),
    ],
)  # fmt: skip
def test_a_file_that_is_no_space_is_said_to_be_none(
    name: str, text: str, kind: type[Exception], told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(kind) as caught:
        Space.read(tmp_path / name)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_space_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json: cannot be read \(No such file"):
        Space.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"learning_rat": RATE}, "learning_rat: no such setting. Did you mean learning_rate?"),
        ({"gan.imag": RATE}, "gan.imag: no such setting. Did you mean gan.image?"),
        ({"arguments.chanels": {"choices": [8, 16]}}, "unexpected keyword argument 'chanels'"),
        ({"loss": {"choices": ["l1", "l3"]}}, 'loss: "l3": '),
        ({"patch": {"type": "float", "low": 16, "high": 32}}, "patch: 22.1"),
        ({"patch": {"choices": [16, 0]}}, "patch: 0: patch must be 1 or more"),
        ({"steps": {"choices": [10, 20]}}, "steps: is set to 6 and searched; choose one."),
    ],
)
def test_settings_that_the_recipe_does_not_have_are_refused_before_any_trial(
    content: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        search(tmp_path / "out", space=path, settings={"steps": 6})
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert told in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_a_value_that_needs_another_setting_of_the_space_is_no_error() -> None:
    words = ["iseebetter", "relativistic"]
    game = {"gan.game": {"choices": words}}
    with pytest.raises(UsageError, match=r'gan.game: "relativistic": .*discriminator=fast'):
        Space.of(game).check("iseebetter-4x")
    judge = {"gan.discriminator": {"choices": ["iseebetter", "fast"]}}
    Space.of(game | judge).check("iseebetter-4x")


# Real searches ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, SearchResult, list[SearchUpdate]]:
    """One search that nothing disturbed, and what it told."""
    out = tmp_path_factory.mktemp("tune") / "out"
    told: list[SearchUpdate] = []
    return out, search(out, tell=told.append, data={"store": "tiles"}), told


Found = tuple[Path, SearchResult, list[SearchUpdate]]


def test_the_best_settings_are_those_with_the_highest_value(found: Found) -> None:
    out, result, told = found
    trials = tried(out)
    assert len(trials) == TRIALS
    value = max(v for _, _, v in trials)
    best = next(t for t in trials if t[2] == value)
    assert (result.value, result.settings) == (
        value, {"learning_rate": best[0], "loss": best[1]},
    )  # fmt: skip
    assert rows(out)[result.trial]["value"] == str(value)
    assert sum(result.states.values()) == TRIALS
    assert told[-1].best == value
    assert [u.finished for u in told if u.state != "running"] == [1, 2, 3, 4]


def test_a_value_is_the_gain_of_the_model_file(found: Found) -> None:
    out, result, _ = found
    for row in rows(out):
        if row["state"] == "complete":
            card = read_card(out / row["run"] / "reel-fast_x2.safetensors")
            if "val_psnr_y" in card:
                assert card["val_psnr_y"]["gain_db"] == pytest.approx(float(row["value"]), abs=1e-4)
    best = out / f"trial-{result.trial:05d}" / "reel-fast_x2.safetensors"
    assert result.model.read_bytes() == best.read_bytes()
    card = read_card(result.model)
    assert (card["trial"], card["data"]) == (result.trial, {"store": "tiles"})
    assert load_model(str(result.model)).scale == 2


def test_best_json_is_a_recipe_that_gives_the_same_config(found: Found) -> None:
    out, result, _ = found
    config = recipes.configure(str(result.recipe))
    run = out / f"trial-{result.trial:05d}"
    assert json.loads(config_text(config)) == json.loads((run / "config.json").read_text())
    assert config == recipes.configure("reel-fast", {**TINY, **result.settings})
    content = json.loads(result.recipe.read_text())
    assert (content["recipe"], content["scale"], content["value"]) == ("reel-fast", 2, result.value)


def test_a_search_that_is_done_says_its_result_again(found: Found) -> None:
    out, result, _ = found
    told: list[SearchUpdate] = []
    assert search(out, tell=told.append) == result
    assert told == []


def test_a_killed_search_goes_on_to_the_very_trials_of_one_that_was_not(
    found: Found, tmp_path: Path
) -> None:
    code = """
import os
def die(update):
    if update.trial == 1 and update.progress and update.progress.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
torch.set_num_threads(1)
search(Path(sys.argv[1]), tell=die)
"""
    out = tmp_path / "out"
    assert python(code, out).wait(timeout=60) == -signal.SIGKILL
    assert (out / "trial-00001" / "last.pt").is_file()
    told: list[SearchUpdate] = []
    result = search(out, tell=told.append)
    assert tried(out) == tried(found[0])
    assert (result.settings, result.value) == (found[1].settings, found[1].value)
    # Trial 2 is trial 1 again, from its checkpoint at step 2.
    assert [r["state"] for r in rows(out)].count("interrupted") == 1
    assert (rows(out)[1]["state"], rows(out)[1]["note"]) == ("interrupted", "goes on as trial 2")
    assert [u.progress.step for u in told if u.trial == 2 and u.progress] == [4]
    assert rows(out)[2]["run"] == "trial-00001"
    assert not (out / "trial-00001" / "last.pt").exists()


def test_each_trial_is_a_nested_run_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "out"
    once = {**TINY, "steps": 2, "validate_frames": 1}
    with pytest.raises(KeyboardInterrupt):
        search(out, 2, settings=once, track=True, tell=interrupt_in(1))
    search(out, 2, settings=once, track=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{out}/mlflow.db")
        experiment = client.get_experiment_by_name("sharpreel")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        parent = client.get_run(json.loads((out / "mlflow.json").read_text())["run_id"])
        kept = [a.path for a in client.list_artifacts(parent.info.run_id)]
    children = [r for r in runs if r.info.run_id != parent.info.run_id]
    assert {r.data.tags["mlflow.runName"] for r in children} == {"trial-00000", "trial-00001"}
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert {r.info.status for r in runs} == {"FINISHED"}
    values = [float(r["value"]) for r in rows(out) if r["value"]]
    assert parent.data.metrics["best_gain_db"] == pytest.approx(max(values))
    assert sorted(kept) == ["best.json", "trials.csv"]


# Scripted searches -----------------------------------------------------------------------------


def interrupt_in(trial: int, error: type[BaseException] = KeyboardInterrupt) -> Any:
    """Raises at the first score of a trial."""

    def tell(update: SearchUpdate) -> None:
        if update.trial == trial and update.progress:
            raise error

    return tell


@pytest.mark.parametrize("error", [KeyboardInterrupt, TerminatedError, OSError])
def test_a_stopped_search_tries_the_same_settings_again_in_the_same_folder(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    whole, out = tmp_path / "whole", tmp_path / "out"
    search(whole, 6, settings=LONG)
    for number in (1, 2):  # and the second attempt as well
        with pytest.raises(error if error is not OSError else UsageError):
            search(out, 6, settings=LONG, tell=interrupt_in(number, error))
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

    def half(config: TrainConfig, *clips: Any, tell: Any, **more: Any) -> Path:
        run: Path = clips[2]
        (run / "best.safetensors").touch()
        for k, gain in enumerate(gains[attempt]):
            step = 10 * (k + 1) + (0 if attempt == "first" else 20)
            tell(TrainProgress(step, config.steps, 0.1, 0.0, 0.0, gain_db=gain))
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
    told: list[SearchUpdate] = []
    result = search(tmp_path / "out", 5, settings=LONG, tell=told.append)
    assert [u.state for u in told if u.state != "running"] == [
        "complete", "complete", "complete", "pruned", "complete",
    ]  # fmt: skip
    assert len([u for u in told if u.trial == 3 and u.progress]) == 1  # of four
    assert (result.trial, result.states) == (4, {"complete": 4, "pruned": 1, "failed": 0})

    gains = iter([3.0, 2.0, 1.0, 0.0])
    late = scripted(lambda config: [9.0, 9.0, 9.0, next(gains)])
    monkeypatch.setattr(trainer, "train", late)
    assert search(tmp_path / "late", 4, settings=LONG).states["complete"] == 4


@pytest.mark.parametrize(("gan", "value"), [({}, 3.0), ({"gan.start": 20}, 1.0)])
def test_a_gans_trial_is_worth_what_the_game_made(
    gan: dict[str, Any], value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = scripted(lambda config: [3.0, 2.0, 0.5, 1.0])

    def fake(config: TrainConfig, *clips: Any, **more: Any) -> Path:
        (clips[2] / "best.safetensors").write_text("")
        return follow(config, *clips, **more)

    monkeypatch.setattr(trainer, "train", fake)
    assert search(tmp_path / "out", 1, settings={**LONG, **gan}).value == value


def test_a_training_without_a_number_is_a_failed_trial_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([False, True, False, True, False])

    def sometimes(config: TrainConfig) -> list[float]:
        if next(calls):
            raise TrainingError("The loss is nan at step 3.")
        return flat(config)

    monkeypatch.setattr(trainer, "train", scripted(sometimes))
    told: list[SearchUpdate] = []
    result = search(tmp_path / "out", 3, settings=LONG, tell=told.append)
    assert result.states == {"complete": 3, "pruned": 0, "failed": 2}
    assert [u.note for u in told if u.state == "failed"] == ["The loss is nan at step 3."] * 2
    assert [r["state"] for r in rows(tmp_path / "out")][1] == "failed"
    assert rows(tmp_path / "out")[1]["note"] == "The loss is nan at step 3."


def test_five_failures_in_a_row_end_the_search_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(config: TrainConfig) -> list[float]:
        return [float("nan")]

    monkeypatch.setattr(trainer, "train", scripted(never))
    with pytest.raises(TrainingError, match=r"^5 trials in a row failed; .* Its gain is nan\.$"):
        search(tmp_path / "out", 20, settings=LONG)
    assert len(rows(tmp_path / "out")) == 5


def test_a_trial_that_kills_its_process_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    out = tmp_path / "out"
    search(out, 1, settings=LONG)
    for _ in range(DEATHS):  # what a killed process leaves: a running trial that nobody locks
        study = open_study(out, "reel-fast")
        study.ask({n: d.distribution() for n, d in SPACE.dimensions.items()})
        search(out, 1, settings=LONG)
    states = [r["state"] for r in rows(out)]
    assert states == ["complete", "interrupted", "interrupted", "failed"]
    assert rows(out)[3]["note"] == "its process was killed each time"


def test_two_workers_make_exactly_as_many_trials_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
train.train, train.make_fabric = scripted(slow), lambda *arguments: None
search(Path(sys.argv[1]), 8, settings=LONG)
"""
    out = tmp_path / "out"
    other = python(code, out)
    while not list(out.glob("trial-*")):  # it is under way
        assert other.poll() is None
        time.sleep(0.01)
    monkeypatch.setattr(trainer, "train", scripted(slow))
    told: list[SearchUpdate] = []
    result = search(out, 8, settings=LONG, tell=told.append)
    assert other.wait(timeout=60) == 0
    trials = rows(out)
    assert result.states["complete"] + result.states["pruned"] == len(trials) == 8
    assert 0 < len({update.trial for update in told}) < 8
    assert len({t["learning_rate"] for t in trials}) == 8
    assert {t["run"] for t in trials} == {f"trial-{k:05d}" for k in range(8)}


def test_a_search_goes_on_with_more_trials_but_not_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    out = tmp_path / "out"
    search(out, 2, settings=LONG)
    assert sum(search(out, 4, settings=LONG).states.values()) == 4
    with pytest.raises(UsageError, match=r"begun with other settings \(patch, steps\)"):
        search(out, 4, settings={**LONG, "patch": 8, "steps": 30})
    with pytest.raises(UsageError, match=r"begun with other settings \(space\)"):
        search(out, 4, settings=LONG, space=Space.of({"learning_rate": RATE}))
    with pytest.raises(UsageError, match=r"\(training clips, validation clips\)"):
        search_.tune("reel-fast", SPACE, CLIPS[1:], CLIPS[:1], out, 4, settings=LONG, track=False)


def test_a_folder_and_a_storage_belong_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    out, storage = tmp_path / "out", f"sqlite:///{tmp_path}/studies.db"
    search(out, 2, settings=LONG, storage=storage)
    assert not (out / "study.journal").exists()
    assert sum(search(out, 3, settings=LONG, storage=storage).states.values()) == 3
    with pytest.raises(UsageError, match=f"another folder, {re.escape(str(out))}. Choose that"):
        search(tmp_path / "other", 2, settings=LONG, storage=storage)
    with pytest.raises(UsageError, match=r"a search that is not in .*study.journal. Name its"):
        search(out, 2, settings=LONG)


def test_a_storage_that_cannot_be_used_is_one_line_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        search(tmp_path / "out", storage="nosql://me:secret@host/db")
    assert re.match(r"nosql://me:\*\*\*@host/db: no storage for a study \(", str(caught.value))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_a_line_that_a_power_cut_left_in_the_journal_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    search(tmp_path / "out", 2, settings=LONG)
    with (tmp_path / "out" / "study.journal").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"a')
    assert sum(search(tmp_path / "out", 4, settings=LONG).states.values()) == 4


def test_a_recipe_file_is_searched_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_trials_are_scored_often_enough_to_be_pruned_unless_the_user_says_how_often(
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


def study_of(trials: int) -> Any:
    study = optuna.create_study(direction="maximize")
    space = Space.of({"gan": {"choices": [None, "none", 1, 0.5]}, "learning_rate": RATE})
    for k in range(trials):
        trial = study.ask({n: d.distribution() for n, d in space.dimensions.items()})
        study.tell(trial, 1.0 + k % 2)
    return study


def test_plots_are_pictures_and_a_page_that_needs_no_network(tmp_path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot

    before = (matplotlib.get_backend(), matplotlib.rcParams["axes.facecolor"])
    made = draw(study_of(5), tmp_path)
    names = ["history", "importances", "parallel", "slice"]
    assert made == [*(tmp_path / "plots" / f"{n}.png" for n in names), tmp_path / "plots.html"]
    for path in made[:4]:
        pixels = read_png(path)
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 5
    page = made[4].read_text()
    assert len(page) > 1_000_000  # plotly.js itself
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="', page)
    assert page.count('class="plotly-graph-div"') == 4
    assert (matplotlib.get_backend(), matplotlib.rcParams["axes.facecolor"]) == before
    assert pyplot.get_fignums() == []


def test_a_search_is_drawn_in_the_end_without_importances_of_few_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    search(tmp_path / "out", 1, settings=LONG, plots=True)
    names = {path.stem for path in (tmp_path / "out" / "plots").iterdir()}
    assert names == {"history", "parallel", "slice"}
    assert (tmp_path / "out" / "plots.html").is_file()


def test_what_cannot_be_drawn_is_a_warning(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    (tmp_path / "plots").touch()
    (tmp_path / "plots.html").mkdir()
    with pytest.warns(RuntimeWarning, match="Not drawn: (FileExists|IsADirectory)Error"):
        assert draw(study, tmp_path) == []


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"Tuning .* pip install 'sharpreel\[train\]'"):
        search(tmp_path / "out")


def test_searches_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="trials must be 1 or more, got 0"):
        search(tmp_path, 0)
    with pytest.raises(UsageError, match="needs validation clips"):
        search_.tune("reel-fast", SPACE, CLIPS, [], tmp_path, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="in several processes"):
        search(tmp_path)
