"""Batches: their size, their processes, their reproducibility."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.errors import UsageError
from sharpreel.training.batches import BatchLoader
from sharpreel.training.config import Stage
from sharpreel.training.recipes import configure
from sharpreel.training.setup import TrainModule
from tests.support.scans import scans
from tests.support.training import TINY, launch


def loader(clips: list[Clip], rank: int = 0, processes: int = 1) -> BatchLoader:
    config = replace(TINY, stages=(Stage(1.0, 3, 4),), accumulate=2)
    return BatchLoader(config, clips, TrainModule(config), rank, processes)


def test_a_batch_depends_on_its_number_alone(three: list[Clip]) -> None:
    one, two = loader(three), loader(three)
    one.load_batch(0)
    for (lr, hr), (other_lr, other_hr) in zip(one.load_batch(5), two.load_batch(5), strict=True):
        assert (lr.shape, hr.shape) == ((4, 3, 3, 16, 16), (4, 3, 3, 32, 32))
        np.testing.assert_array_equal(lr, other_lr)
        np.testing.assert_array_equal(hr, other_hr)
    assert (one.load_batch(5)[0][0] != one.load_batch(6)[0][0]).any()


def test_processes_share_a_batch_without_overlap(three: list[Clip]) -> None:
    ((whole, _), _) = loader(three).load_batch(1)
    ((first, _), _) = loader(three, 0, 2).load_batch(1)
    ((second, _), _) = loader(three, 1, 2).load_batch(1)
    assert sorted(x.tobytes() for x in whole) == sorted(x.tobytes() for x in (*first, *second))


def test_batches_continue_from_any_step(three: list[Clip]) -> None:
    batches = loader(three).batches(TINY.steps - 2)
    rest = list(batches)
    assert len(rest) == 2
    torch.testing.assert_close(rest[1][0][0], loader(three).batch(TINY.steps - 1)[0][0])


def test_bursts_need_two_scans_of_the_size_of_a_patch() -> None:
    config = configure("afm-denoise", {"patch": 24, "arguments.num_frames": 3, "steps": 1})
    config = replace(config, stages=(Stage(1.0, 3, 2),))
    module = TrainModule(config)
    small = scans(0)[:, :20]
    ((lr, hr),) = BatchLoader(config, [small, scans(1)], module).load_batch(0)
    assert (lr.shape, hr.shape) == ((2, 3, 1, 24, 24), (2, 1, 1, 24, 24))
    with pytest.raises(UsageError, match="two scans or more as large as a patch of 24"):
        BatchLoader(config, [small, scans(1)[:1]], module)


UNEVEN = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import os, signal
from dataclasses import replace
from sharpreel.errors import TerminatedError, UsageError
from sharpreel.training import setup, trackers, trainer
from sharpreel.training.config import Stage
from tests.support.tiles import tile_clips
from tests.support.training import TINY
run = Path(sys.argv[1])
fabric = setup.make_fabric("32", "cpu")
try:
    trainer.train(TINY, tile_clips(2), [], run / "odd", fabric=fabric)  # a stage of batch 1
except UsageError as e:
    assert "a batch of 1 cannot be shared evenly by 2 processes" in str(e), e

class SendsSigterm(trackers.NullTracker):
    def step(self, step, terms):
        if step == 2 and fabric.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

config = replace(TINY, stages=(Stage(1.0, 2, 2),), save_every=100)
try:
    trainer.train(config, tile_clips(2), [], run / "even", fabric=fabric, tracker=SendsSigterm())
except TerminatedError as e:
    (run / str(fabric.global_rank)).write_text(str(e))
"""


def test_processes_need_even_shares_and_stop_at_the_same_step(tmp_path: Path) -> None:
    done = launch(UNEVEN, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    messages = [(tmp_path / rank).read_text() for rank in "01"]
    assert messages == ["terminated at step 2; saved. Run the same command again to resume."] * 2
