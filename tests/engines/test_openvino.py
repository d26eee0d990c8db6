"""OpenVINO runs graphs reproducibly, saved or built from weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sharpreel import ops
from sharpreel.engines.choose import choose_engine
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.models.weights import load_model
from tests.support.engines import make_all, moving_frames


def test_the_same_frames_give_the_same_bytes_again() -> None:
    model = load_model("reel-fast", 2)
    frames = moving_frames(5, 40, 60, np.uint8)
    one, two = OpenVinoEngine(model), OpenVinoEngine(model)
    for frame in frames:
        np.testing.assert_array_equal(one.run(frame), two.run(frame))


def test_a_new_frame_size_resets_the_state() -> None:
    runner = OpenVinoEngine(load_model("reel-fast", 2))
    small, large = moving_frames(1, 16, 16, np.uint8)[0], moving_frames(1, 24, 32, np.uint8)[0]
    wanted = runner.run(small)
    assert runner.run(large).shape == (48, 64, 3)
    np.testing.assert_array_equal(runner.run(small), wanted)


@pytest.mark.parametrize("scale", [2, 4])
def test_openvino_bicubic_is_the_resize_of_ops(scale: int) -> None:
    runner = OpenVinoEngine(load_model("bicubic", scale))
    frame = moving_frames(1, 31, 45, np.uint8)[0]
    wanted = ops.resize(frame, 31 * scale, 45 * scale)
    # The order of float sums differs, so halves may round the other way.
    assert np.abs(runner.run(frame).astype(int) - wanted).max() <= 1
    assert (runner.run(frame) != wanted).mean() < 0.01


def test_the_outputs_of_two_frames_do_not_share_memory() -> None:
    runner = OpenVinoEngine(load_model("bicubic", 2))
    a, b = moving_frames(2, 16, 16, np.uint8)
    first = runner.run(a)
    kept = first.copy()
    runner.run(b)
    np.testing.assert_array_equal(first, kept)


def test_a_network_without_saved_graph_is_built_from_its_weights(tmp_path: Path) -> None:
    bundled = load_model("reel-fast", 2)
    assert bundled.tensors is not None
    alone = load_model(shutil.copy(bundled.tensors, tmp_path / "alone.safetensors"))
    assert (alone.graph, choose_engine(alone, "cpu").name) == (None, "openvino")
    frames = moving_frames(3, 24, 32, np.uint8)
    one, two = (make_all(OpenVinoEngine(model), frames) for model in (alone, bundled))
    np.testing.assert_array_equal(one, two)


AFTER_ENGINES = """
import gc, os, signal
import numpy as np
from sharpreel.engines.cuda_graph import CudaGraphStep
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.models.weights import load_model
one, two = (OpenVinoEngine(load_model("bicubic", scale)) for scale in (2, 4))
for runner in (one, two):
    runner.run(np.zeros((8, 8, 3), np.uint8))
del one
gc.collect()
del two, runner
gc.collect()
signal.signal(signal.SIGTERM, lambda number, frame: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_engines_have_gone_is_no_crash() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_ENGINES], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "handled\n")
