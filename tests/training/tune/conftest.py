"""Searches run with one thread, so that several workers do not slow each other down."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch

# Without Optuna there is nothing to test.
collect_ignore_glob = [] if find_spec("optuna") else ["test_*.py"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
