from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.models import MODELS
from tests.support.commands import one_line, run
from tests.support.terminal import events


def test_models_lists_every_network_at_every_scale() -> None:
    rows = events(run("models", "--json").stdout)
    listed = {(m["name"], m["scale"]) for m in rows if m["where"] != "download"}
    assert listed == {(name, scale) for name, spec in MODELS.items() for scale in spec.scales}
    table = run("models").stdout
    assert all(name in table for name in MODELS)
    assert "(default)" in table


def test_export_builds_a_graph_that_runs_without_torch(clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    result = run("export", "reel-fast", "-s", "2", "-o", tmp_path)
    assert result.exit_code == 0, result.stderr
    graph = Path(result.stdout.splitlines()[-1])
    assert graph == tmp_path / "reel-fast_x2.xml"
    assert graph.with_suffix(".bin").stat().st_size > 10_000


def test_export_refuses_an_unknown_model(tmp_path: Path) -> None:
    result = run("export", "reel-fats", "-o", tmp_path)
    assert result.exit_code == 2
    assert "Did you mean reel-fast?" in one_line(result)
