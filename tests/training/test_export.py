"""Model files, their cards and graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpreel.data.store import Clip
from sharpreel.errors import (
    DiskFullError,
)
from sharpreel.evaluation.validation import Score
from sharpreel.models import weights
from sharpreel.models.weights import load_model
from sharpreel.training import (
    trainer,
)
from sharpreel.training.export import Hardware, model_card, release_graph
from sharpreel.training.recipes import configure
from tests.support.training import (
    TINY,
)


def test_a_full_disk_under_a_model_file_is_reported(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(path: Path, *rest: Any) -> None:
        path.write_bytes(b"half")
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(weights, "save_weights", full)
    for val in (three[2:], []):  # best.safetensors, and the final model file
        run = tmp_path / f"run{len(val)}"
        with pytest.raises(DiskFullError, match="the disk is full"):
            trainer.train(TINY, three[:2], val, run)
        assert not list(run.glob("*.safetensors"))


def test_a_card_describes_how_the_weights_were_made() -> None:
    scores = [Score("a", 31.0, 30.0), Score("b", 32.0, 30.0)]
    card = model_card(TINY, 123, 4, Hardware("cuda", 2), scores)
    assert (card["model"], card["parameters"], card["steps"]) == ("reel-fast", 123, 4)
    assert card["hardware"].endswith(" cuda x2")
    assert card["val_psnr_y"]["gain_db"] == 1.5
    assert card["val_psnr_y"]["clips"] == {"a": [30.0, 31.0], "b": [30.0, 32.0]}
    assert "val_psnr_y" not in model_card(TINY, 123, 4, Hardware("cpu", 1))


def test_the_graph_is_built_and_scored_for_the_card(three: list[Clip], tmp_path: Path) -> None:
    path = trainer.train(TINY, three[:2], [], tmp_path / "run")
    assert "val_psnr_y" not in load_model(path).card
    graph = release_graph(path, three[2:])
    assert graph is not None
    assert graph.parent == path.parent
    assert list(load_model(path).card["val_psnr_y"]["clips"]) == ["clip2"]


def test_a_network_that_is_not_recurrent_has_no_graph(three: list[Clip], tmp_path: Path) -> None:
    config = configure("tsrcnn-small", {"patch": 16, "steps": 1, "stages": "[[1.0, 3, 1]]"})
    path = trainer.train(config, three[:2], [], tmp_path / "run")
    content = path.read_bytes()
    assert release_graph(path, three[2:]) is None
    assert path.read_bytes() == content
