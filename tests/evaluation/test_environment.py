"""Versions and memory that the numbers depend on."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np
import pytest

from sharpreel._version import __version__
from sharpreel.evaluation.environment import gpu_memory_mb, versions


def test_installed_packages_are_listed_with_their_versions() -> None:
    known = versions()
    assert known["sharpreel"] == __version__
    assert known["python"] == platform.python_version()
    assert known["numpy"] == np.__version__
    assert int(known["processors"]) >= 1


def test_missing_packages_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "torch":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert "torch" not in versions()
    assert versions()["av"] == "1.0"


def test_gpu_memory_is_unknown_without_an_engine_on_the_gpu() -> None:
    assert gpu_memory_mb(["openvino-int8", "torch-cpu-float32", "arrays"]) is None
