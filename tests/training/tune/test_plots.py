"""Plots of a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest

from sharpreel.training import trainer
from sharpreel.training.tune.plots import draw
from sharpreel.training.tune.space import Space
from tests.support.tuning import (
    LONG,
    RATE,
    flat,
    scripted,
    search,
)
from tests.support.videos import read_png


def study_of(trials: int) -> Any:
    study = optuna.create_study(direction="maximize")
    space = Space.of({"gan": {"choices": [None, "none", 1, 0.5]}, "learning_rate": RATE})
    for k in range(trials):
        trial = study.ask({n: d.distribution() for n, d in space.dimensions.items()})
        study.tell(trial, 1.0 + k % 2)
    return study


def test_plots_are_images_and_a_page_that_needs_no_network(tmp_path: Path) -> None:
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


def test_a_search_is_drawn_at_its_end_without_importances_of_few_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    search(tmp_path / "out", 1, settings=LONG, plots=True)
    names = {path.stem for path in (tmp_path / "out" / "plots").iterdir()}
    assert names == {"history", "parallel", "slice"}
    assert (tmp_path / "out" / "plots.html").is_file()


def test_a_plot_that_cannot_be_drawn_causes_a_warning(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    (tmp_path / "plots").touch()
    (tmp_path / "plots.html").mkdir()
    with pytest.warns(RuntimeWarning, match="Not drawn: (FileExists|IsADirectory)Error"):
        assert draw(study, tmp_path) == []
