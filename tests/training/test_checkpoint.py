"""`last.pt`: what a run can be resumed with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharpreel.data.store import Clip
from sharpreel.errors import (
    DiskFullError,
    InputError,
    UsageError,
)
from sharpreel.models.weights import load_model
from sharpreel.training import (
    trainer,
)
from sharpreel.training.checkpoint import clips_digest
from tests.support.tiles import tile_clips
from tests.support.training import (
    TINY,
    FillsDisk,
    needs_dev_full,
)


def test_a_run_is_not_resumed_with_other_settings(three: list[Clip], tmp_path: Path) -> None:
    trainer.train(TINY, three, [], tmp_path / "run")
    with pytest.raises(UsageError, match=r"started with other settings \(learning_rate, steps\)"):
        trainer.train(replace(TINY, steps=9, learning_rate=1.0), three, [], tmp_path / "run")
    trainer.train(replace(TINY, save_every=2), three, [], tmp_path / "run")


def test_a_refused_run_leaves_the_folder_unchanged(three: list[Clip], tmp_path: Path) -> None:
    trainer.train(TINY, three, [], tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(UsageError, match="started with other settings"):
        trainer.train(replace(TINY, learning_rate=1.0), three, [], tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_a_run_is_not_resumed_with_other_clips_or_starting_weights(
    three: list[Clip], tmp_path: Path
) -> None:
    run, others = tmp_path / "run", tile_clips(3)
    others[0] = replace(others[0], hr=255 - others[0].hr)  # of the same name and size
    trainer.train(TINY, three[:2], three[2:], run)
    first = trainer.train(replace(TINY, seed=1), three, [], tmp_path / "first")
    with pytest.raises(UsageError, match=r"with other training clips\. Choose"):
        trainer.train(TINY, others[:2], three[2:], run)
    with pytest.raises(UsageError, match=r"with other validation clips\. Choose"):
        trainer.train(TINY, three[:2], three[1:], run)
    with pytest.raises(UsageError, match=r"with other starting weights\. Choose"):
        trainer.train(TINY, three[:2], three[2:], run, start_from=str(first))
    fewer = [replace(clip, hr=clip.hr[:3], lr=clip.lr[:3]) for clip in three[2:]]
    trainer.train(replace(TINY, validate_frames=3), three[:2], fewer, run)

    up = tmp_path / "up"
    trainer.train(TINY, three, [], up, start_from=str(first))
    trainer.train(TINY, three, [], up)  # the starting weights are recorded in last.pt
    begun = torch.load(up / "last.pt", weights_only=True)["begun"]
    assert begun["start (--from)"] == load_model(first).sha256


def test_an_old_checkpoint_without_digests_is_resumed(three: list[Clip], tmp_path: Path) -> None:
    trainer.train(TINY, three, [], tmp_path / "run")
    last = tmp_path / "run" / "last.pt"
    old = torch.load(last, weights_only=True)
    del old["begun"], old["start"]
    torch.save(old, last)
    trainer.train(TINY, tile_clips(2), [], tmp_path / "run")


def test_a_damaged_checkpoint_is_reported_in_one_line(three: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"last\.pt: damaged .* Delete it to start over"):
        trainer.train(TINY, three, [], tmp_path / "run")


@needs_dev_full
def test_a_full_disk_leaves_the_previous_checkpoint_intact(
    three: list[Clip], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(DiskFullError, match="the disk is full"):
        trainer.train(TINY, three, [], run, tracker=FillsDisk(run, "last.part"))
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 3
    assert not list(run.glob("*.part"))


def test_digests_of_clips_depend_on_name_size_and_content(three: list[Clip]) -> None:
    digest = clips_digest(three)
    assert clips_digest(tile_clips(3)) == digest
    for other in (
        three[:2],
        [replace(three[0], name="other"), *three[1:]],
        [replace(three[0], hr=three[0].hr[:3]), *three[1:]],
        [replace(three[0], lr=255 - three[0].lr), *three[1:]],
    ):
        assert clips_digest(other) != digest
    assert clips_digest([clip.hr for clip in three]) != digest  # bursts
