"""The import contract of pyproject.toml fails when a module imports from above."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.videos import REPO

LINTER = Path(sys.executable).with_name("lint-imports")
pytestmark = pytest.mark.skipif(not LINTER.exists(), reason="import-linter is not installed")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The Python files of the package and the contract, in another folder."""
    ignored = shutil.ignore_patterns("bundled", "static", "templates", "__pycache__")
    shutil.copytree(REPO / "src", tmp_path / "src", ignore=ignored)
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(
        [str(LINTER), "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_package_keeps_its_contract(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("system/files.py", "sharpreel.cli.main"),
        ("ops.py", "sharpreel.media.frame"),
        ("pipeline/options.py", "sharpreel.upscale"),
    ],
)
def test_an_import_from_above_breaks_the_contract(module: str, imported: str, copy: Path) -> None:
    path = copy / "src" / "sharpreel" / module
    path.write_text(path.read_text() + f"\nimport {imported}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    importer = "sharpreel." + module.removesuffix(".py").replace("/", ".")
    assert f"{importer} -> {imported}" in done.stdout


def test_a_circle_inside_a_package_breaks_the_contract(copy: Path) -> None:
    path = copy / "src" / "sharpreel" / "media" / "color.py"
    path.write_text(path.read_text() + "\nimport sharpreel.media.reader\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    assert "No circles inside a package BROKEN" in done.stdout
