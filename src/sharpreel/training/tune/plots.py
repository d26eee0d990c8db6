"""Plots of a search: PNG files, and a page that needs no network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel.system.files import atomic_write
from sharpreel.training.setup import first_line

if TYPE_CHECKING:
    from optuna.study import Study


GAIN = "Gain over bicubic (dB)"
PLOTS = {
    "history": "plot_optimization_history",
    "importances": "plot_param_importances",
    "parallel": "plot_parallel_coordinate",
    "slice": "plot_slice",
}


def draw(study: Study, out: Path) -> list[Path]:
    """Draw a study to out/plots/*.png, and to out/plots.html, which needs no network.

    A plot that cannot be drawn causes a warning: a search must not fail for it.

    Returns:
        The files.
    """
    names = _drawable(study)
    files = []
    for draw_format in (_draw_png, _draw_html):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Matplotlib and Optuna, about their own plots
                files += draw_format(study, out, names)
        except Exception as e:
            warnings.warn(
                f"Not drawn: {type(e).__name__}: {first_line(e)}",
                RuntimeWarning,
                stacklevel=2,
            )
    return files


def _draw_png(study: Study, out: Path, names: Mapping[str, str]) -> list[Path]:
    import matplotlib

    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    files = []
    (out / "plots").mkdir(exist_ok=True)
    open_before = pyplot.get_fignums()
    try:
        for name, function in names.items():
            with pyplot.rc_context():  # Optuna sets a style for all later plots
                getattr(plots, function)(study, target_name=GAIN)
                path = out / "plots" / f"{name}.png"
                part = path.with_suffix(".part")
                pyplot.gcf().savefig(part, format="png", dpi=120, bbox_inches="tight")
                os.replace(part, path)
                files.append(path)
    finally:
        for number in pyplot.get_fignums():
            if number not in open_before:
                pyplot.close(number)
        matplotlib.use(backend)
    return files


def figures(study: Study, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return Optuna's plots of a study as Plotly figures, by the names of `PLOTS`.

    Args:
        names: Which plots; by default all that the finished trials allow.
    """
    from optuna import visualization

    chosen = _drawable(study) if names is None else names
    return {n: getattr(visualization, f)(study, target_name=GAIN) for n, f in chosen.items()}


def _drawable(study: Study) -> dict[str, str]:
    """Return the plots that can be drawn; importances need four trials whose values differ."""
    values = [t.value for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    informative = len(values) >= 4 and len(set(values)) > 1
    return {n: f for n, f in PLOTS.items() if n != "importances" or informative}


def _draw_html(study: Study, out: Path, names: Mapping[str, str]) -> list[Path]:
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=name == "history")
        for name, figure in figures(study, names).items()
    ]
    path = out / "plots.html"
    title = f"<title>{study.study_name}: trials</title>"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{title}</head><body>'
    atomic_write(path, "\n".join([head, *parts, "</body></html>"]))
    return [path]
