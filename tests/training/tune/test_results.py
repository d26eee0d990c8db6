"""What a real search writes, and that an interrupted one writes the same."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from sharpreel.models.weights import load_model, read_card
from sharpreel.training import recipes
from sharpreel.training.config import config_text
from sharpreel.training.tune.results import SearchResult, SearchUpdate
from tests.support.tuning import (
    TINY,
    TRIALS,
    python,
    rows,
    search,
    tried,
)


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, SearchResult, list[SearchUpdate]]:
    """An uninterrupted search, and its updates."""
    out = tmp_path_factory.mktemp("tune") / "out"
    updates: list[SearchUpdate] = []
    return out, search(out, on_update=updates.append, facts={"store": "tiles"}), updates


Found = tuple[Path, SearchResult, list[SearchUpdate]]


def test_the_best_settings_are_those_with_the_highest_value(found: Found) -> None:
    out, result, updates = found
    trials = tried(out)
    assert len(trials) == TRIALS
    value = max(v for _, _, v in trials)
    best = next(t for t in trials if t[2] == value)
    assert result.value == value
    assert result.settings == {"learning_rate": best[0], "loss": best[1]}
    assert rows(out)[result.trial]["value"] == str(value)
    assert sum(result.states.values()) == TRIALS
    assert updates[-1].best == value
    assert [u.finished for u in updates if u.state != "running"] == [1, 2, 3, 4]


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


def test_a_finished_search_returns_its_result_again(found: Found) -> None:
    out, result, _ = found
    updates: list[SearchUpdate] = []
    assert search(out, on_update=updates.append) == result
    assert updates == []


def test_a_killed_search_resumes_to_the_trials_of_an_uninterrupted_one(
    found: Found, tmp_path: Path
) -> None:
    code = """
import os
def die(update):
    if update.trial == 1 and update.progress and update.progress.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
torch.set_num_threads(1)
search(Path(sys.argv[1]), on_update=die)
"""
    out = tmp_path / "out"
    assert python(code, out).wait(timeout=60) == -signal.SIGKILL
    assert (out / "trial-00001" / "last.pt").is_file()
    updates: list[SearchUpdate] = []
    result = search(out, on_update=updates.append)
    assert tried(out) == tried(found[0])
    assert (result.settings, result.value) == (found[1].settings, found[1].value)
    # Trial 2 is trial 1 again, from its checkpoint at step 2.
    assert [r["state"] for r in rows(out)].count("interrupted") == 1
    assert (rows(out)[1]["state"], rows(out)[1]["note"]) == ("interrupted", "resumed as trial 2")
    assert [u.progress.step for u in updates if u.trial == 2 and u.progress] == [4]
    assert rows(out)[2]["run"] == "trial-00001"
    assert not (out / "trial-00001" / "last.pt").exists()
