"""The memory and CPUs that this process may use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sharpreel.system.resources import free_bytes


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
