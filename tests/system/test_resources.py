"""The memory and CPUs that this process may use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sharpreel.system import cgroups, resources
from sharpreel.system.resources import (
    free_bytes,
    instruction_sets,
    peak_memory_mb,
    usable_cpus,
)


def test_free_memory_is_known_and_no_more_than_a_limit_leaves() -> None:
    free = free_bytes()
    if free is None:
        pytest.skip("this system does not tell")
    assert free > 1 << 20
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "from sharpreel.system import resources; print(resources.free_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert int(done.stdout) < 1 << 30


def test_this_process_has_a_cpu_and_a_peak_of_memory() -> None:
    assert usable_cpus() >= 1
    assert instruction_sets()
    peak = peak_memory_mb()
    assert peak is None or peak > 10


def test_a_quota_below_one_cpu_still_leaves_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "cpu_quota", lambda: 0.5)
    assert usable_cpus() == 1
    monkeypatch.setattr(cgroups, "cpu_quota", lambda: 10_000.0)
    assert usable_cpus() < 10_000


def test_a_machine_without_the_files_of_a_gpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name == "nt":
        pytest.skip("Windows has no such files")
    monkeypatch.setattr(resources, "GPU_FILES", ("/dev/none",))
    assert not resources.cuda_available()
