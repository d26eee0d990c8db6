"""What is declared about the package holds: metadata, pinned versions, images, release steps."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sharpreel

REPO = Path(__file__).resolve().parent.parent
CORE, DEV = REPO / "requirements.txt", REPO / "requirements-dev.txt"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def pins(path: Path) -> dict[str, Requirement]:
    """Pinned packages of a requirements file by name, without those of files that it includes."""
    lines = [x for x in path.read_text().splitlines() if x and not x.startswith(("#", "-r"))]
    found = [Requirement(line) for line in lines]
    assert all(str(r.specifier).startswith("==") for r in found)
    return {canonicalize_name(r.name): r for r in found}


def test_each_version_is_pinned_in_one_file() -> None:
    assert "-r requirements.txt" in DEV.read_text().splitlines()
    assert not pins(CORE).keys() & pins(DEV).keys()


def test_every_dependency_has_a_pin_within_its_range() -> None:
    extras = [x for group in PROJECT["optional-dependencies"].values() for x in group]
    for group, files in ((PROJECT["dependencies"], (CORE,)), (extras, (CORE, DEV))):
        pinned = {name: pin for file in files for name, pin in pins(file).items()}
        for wanted in map(Requirement, group):
            if wanted.name != PROJECT["name"]:
                version = str(pinned[canonicalize_name(wanted.name)].specifier).lstrip("=")
                assert version in wanted.specifier, wanted


def test_the_core_needs_no_torch() -> None:
    code = "import sys, sharpreel.cli; sys.exit('torch' in sys.modules)"
    assert "torch" not in pins(CORE)
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_version_has_a_section_in_the_changelog() -> None:
    headings = re.findall(r"^## (\S+)", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == sharpreel.__version__


@pytest.mark.parametrize("name", ["Dockerfile", "examples/cluster/Dockerfile"])
def test_an_image_copies_files_that_exist_and_are_sent_to_the_builder(name: str) -> None:
    ignored = (REPO / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", (REPO / name).read_text(), re.MULTILINE)
    assert copied
    for source in " ".join(copied).split():
        assert (REPO / source).exists()
        assert f"!{source}" in ignored


def test_the_demo_imports_the_core_only() -> None:
    core = {*pins(CORE), PROJECT["name"]}
    local = {path.stem for path in (REPO / "examples").glob("*.py")}
    for name in ("demo", "make_clip", "panels"):
        text = (REPO / "examples" / f"{name}.py").read_text()
        modules = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
        assert modules - sys.stdlib_module_names - local <= core
