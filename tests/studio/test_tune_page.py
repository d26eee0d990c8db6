"""Searches that are started and watched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpreel.studio import (
    mlflow_runs,
)
from sharpreel.studio.folder import (
    SEARCHES,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    SMALL,
    ended,
    errors,
    labelled,
    opened,
)


def test_an_invalid_search_space_is_one_line_of_the_page(home: Path, videos: Path) -> None:
    at = opened("tune")
    labelled(at.text_area, "Search space").set_value("learning_rat = {choices = [1, 2]}")
    labelled(at.button, "Start search").click().run()
    (message,) = errors(at)
    assert "Did you mean learning_rate?" in message
    labelled(at.text_area, "Search space").set_value("learning_rate = ")
    labelled(at.button, "Start search").click().run()
    assert errors(at)[0].startswith("The search space is not TOML: ")
    assert not (home / "searches").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0123, "+0.012 dB over bicubic"),
        (-0.0004, "no better than bicubic"),
        (-0.5, "0.500 dB below bicubic"),
    ],
)
def test_the_best_trial_is_a_success_only_above_bicubic(
    value: float, said: str, home: Path
) -> None:
    search = home / SEARCHES / "found"
    (search / "studio").mkdir(parents=True)
    (search / "best.json").write_text(json.dumps({"recipe": "reel", "value": value, "trial": 3}))
    facts = {"words": [], "about": {"recipe": "reel", "trials": 4}, "began": 0}
    (search / "studio" / "job.json").write_text(json.dumps(facts))
    (search / "studio" / "events.jsonl").write_text('{"event": "tuned"}\n')
    at = opened("tune")
    labelled(at.selectbox, "Show").set_value("found").run()
    assert errors(at) == []
    good, neutral = ([one.value for one in kind] for kind in (at.success[1:], at.info))
    assert (good if value > 0.001 else neutral) == [f"Best: trial 3, {said}"]
    assert (neutral if value > 0.001 else good) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_is_watched_and_its_best_becomes_a_recipe(home: Path, videos: Path) -> None:
    at = opened("tune")
    labelled(at.text_input, "Path").set_value(str(videos))
    labelled(at.text_area, "Search space").set_value(
        'learning_rate = {type = "float", low = 1e-4, high = 1e-2, log = true}'
    )
    small = [w for w in SMALL if "=" in w and "--" not in w] + ["steps=4"]
    labelled(at.text_area, "Settings of all").set_value("\n".join(small))
    labelled(at.number_input, "Trials").set_value(4)
    labelled(at.button, "Start search").click().run()
    assert errors(at) == []
    job = Job(home / "searches" / "reel-fast-1")
    assert ended(job).state == "finished", job.log_tail()
    at.run()
    assert errors(at) == []
    assert [*at.success, *at.info][-1].value.startswith("Best: trial ")  # four steps gain little
    assert len(at.dataframe[0].value) == 4
    assert {"History", "Parallel coordinates"} <= {tab.label for tab in at.tabs}
    assert "best of reel-fast-1" in labelled(opened("train").selectbox, "Recipe").options
    titles = {run.name for run in mlflow_runs.read_runs()}
    assert {"tune reel-fast", "trial-00000", "trial-00003"} <= titles
