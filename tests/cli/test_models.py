"""`sharpreel models`, `fetch` and `export`: what is listed, downloaded and built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpreel.cli.console import Console
from sharpreel.cli.models import fetch_model
from sharpreel.models import MODELS
from sharpreel.models.pretrained import PUBLISHED
from sharpreel.system import download
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


def test_models_lists_every_download_with_its_address() -> None:
    rows = events(run("models", "--json").stdout)
    listed = {m["name"]: m["source"] for m in rows if m["where"] == "download"}
    assert listed == {name: row.url for name, row in PUBLISHED.items()}


def test_fetch_refuses_a_model_that_is_not_published() -> None:
    result = run("fetch", "reel")
    assert result.exit_code == 2
    assert "not downloadable" in one_line(result)


def test_only_published_models_are_downloaded_before_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []

    def cached(file: str, url: str, sha256: str, on_bytes: Any, offline: bool) -> Path:
        asked.append((file, url, sha256, offline))
        on_bytes(1_000_000, 2_000_000)
        on_bytes(2_000_000, 2_000_000)
        return Path("cache") / file

    monkeypatch.setattr(download, "cached", cached)
    name, row = next(iter(PUBLISHED.items()))
    for model in ("reel", "mine.safetensors", name):
        fetch_model(model, True, Console(as_json=True, quiet=False))
    assert asked == [(row.file, row.url, row.sha256, True)]
    shown = events(capsys.readouterr().out)
    assert [(one["event"], one["model"]) for one in shown] == 2 * [("download", name)]
    assert shown[-1]["bytes"] == shown[-1]["total"] == 2_000_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "--precision int8 needs videos to calibrate on: --data FOLDER"),
        (["--precision", "int4"], "--precision int4 is not known"),
    ],
)
def test_export_refuses_a_precision_that_it_cannot_build(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = run("export", "reel-fast", "-s", "2", "-o", tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in one_line(result)
