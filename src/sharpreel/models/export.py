"""OpenVINO graphs of networks: built, saved, and named so that `load_model` finds them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sharpreel.errors import MissingExtra, UsageError
from sharpreel.models.weights import Model

if TYPE_CHECKING:
    import openvino as ov


def export_graph(model: Model, folder: Path) -> Path:
    """Build the OpenVINO graph of a network and save it in a folder, as `.xml` and `.bin`.

    Inputs and outputs are those of `openvino_graph.reel_graph`; a network without state has only
    `frame`, and `sr` (1, 3, sH, sW). H and W are free.

    Returns:
        The `.xml`, named as the weights, so that it is found next to them; `<name>_x<scale>` for a
        bundled network.

    Raises:
        UsageError: The network cannot be run by OpenVINO.
        MissingExtra: PyTorch is required and not installed.
    """
    return save_graph(build_graph(model), graph_path(model, folder))


def build_graph(model: Model) -> ov.Model:
    """The OpenVINO graph of a network, in float32; see `export_graph`."""
    if model.builds_graph:
        import safetensors.numpy

        assert model.spec.graph is not None
        tensors = {} if model.tensors is None else safetensors.numpy.load_file(model.tensors)
        return model.spec.graph(tensors, int(model.scale), model.arguments)
    if model.spec.recurrent is not None:
        raise UsageError(f"{model.name} has no form that OpenVINO can run; use engine='torch'.")
    return _convert(model)


def save_graph(graph: ov.Model, path: Path) -> Path:
    """Write `.xml` and `.bin`; the folder is created."""
    import openvino as ov

    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(graph, path, compress_to_fp16=False)
    return path


def graph_path(model: Model, folder: Path) -> Path:
    """Where `export_graph` saves the graph of a network."""
    stem = f"{model.name}_x{model.scale}" if model.tensors is None else model.tensors.stem
    return folder / f"{stem}.xml"


def _convert(model: Model) -> ov.Model:
    """The graph of an image network, by OpenVINO's own converter."""
    import openvino as ov

    try:
        import torch
    except ImportError as e:
        raise MissingExtra("Building a graph", "torch") from e
    module = model.module()

    class SingleFrame(torch.nn.Module):
        """A clip network that takes a single frame (1, H, W, 3)."""

        def __init__(self) -> None:
            super().__init__()
            self.clip = module

        def forward(self, frame: torch.Tensor) -> torch.Tensor:
            sr: torch.Tensor = self.clip(frame.permute(0, 3, 1, 2)[:, None])
            return sr[:, 0]

    with warnings.catch_warnings():
        # OpenVINO's converter still traces with torch.jit, which PyTorch deprecates.
        warnings.simplefilter("ignore")
        graph = ov.convert_model(SingleFrame().eval(), example_input=torch.zeros(1, 32, 48, 3))
    graph.inputs[0].set_names({"frame"})
    graph.outputs[0].set_names({"sr"})
    graph.reshape({"frame": ov.PartialShape([1, -1, -1, 3])})
    return graph
