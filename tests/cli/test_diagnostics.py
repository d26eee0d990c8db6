"""`sharpreel doctor`: what this installation has."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from sharpreel import __version__
from sharpreel.cli.diagnostics import PARTS, facts
from tests.support.commands import run
from tests.support.terminal import events


def test_doctor_names_versions_devices_and_encoders() -> None:
    (facts,) = events(run("doctor", "--json").stdout)
    assert facts["sharpreel"] == __version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "h264" in facts["encoders"]
    assert facts["processors"] >= 1
    assert facts["cuda"] in ("yes", "no")
    text = run("doctor").stdout
    assert all(name in text for name in facts if name != "event")


def test_a_missing_package_is_reported_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = importlib.metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return honest(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = facts()
    assert found["torch"] == "not installed (optional)"
    assert {part: found[part] for part in PARTS if part != "torch"} == {
        part: honest(part) for part in PARTS if part != "torch"
    }
