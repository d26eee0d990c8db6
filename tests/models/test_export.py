"""Graphs are exported next to their weights, and found there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import WeightsError
from sharpreel.models.export import export_graph
from sharpreel.models.weights import load_model
from tests.support.weights import saved_reel

BUNDLED = [("reel-fast", 2), ("reel-fast", 4)]


@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_the_bundled_graph_is_built_from_the_bundled_weights(
    name: str, scale: int, tmp_path: Path
) -> None:
    model = load_model(name, scale)
    built = export_graph(model, tmp_path)
    assert model.graph is not None
    assert built.with_suffix(".bin").read_bytes() == model.graph.with_suffix(".bin").read_bytes()


def test_an_exported_graph_next_to_its_file_is_used(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    graph = export_graph(load_model(path), tmp_path)
    (tmp_path / "mine.xml").write_bytes(graph.read_bytes())
    (tmp_path / "mine.bin").write_bytes(graph.with_suffix(".bin").read_bytes())
    runner = OpenVinoEngine(load_model(path))
    assert runner.run(np.zeros((8, 8, 3), np.uint8)).shape == (16, 16, 3)


def test_a_graph_of_an_earlier_format_is_refused(tmp_path: Path) -> None:
    path = saved_reel(tmp_path)
    frame = op.parameter([1, 3, -1, -1], np.float32, "frame")
    frame.output(0).set_names({"frame"})
    ov.save_model(ov.Model([op.result(frame)], [frame]), tmp_path / "mine.xml")
    with pytest.raises(WeightsError, match="built by an earlier sharpreel"):
        OpenVinoEngine(load_model(path)).run(np.zeros((8, 8, 3), np.uint8))
