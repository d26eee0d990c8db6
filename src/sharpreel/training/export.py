"""Model files: the trained weights with a card, and the OpenVINO graph that users run."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sharpreel._version import __version__
from sharpreel.data.store import Clip
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import write_error
from sharpreel.evaluation import validation as clip_validation
from sharpreel.evaluation.validation import PROTOCOL, Score, mean_gain
from sharpreel.models import weights
from sharpreel.models.export import export_graph
from sharpreel.models.weights import load_model
from sharpreel.training.config import TrainConfig, config_text


@dataclass(frozen=True)
class Hardware:
    """What a run is trained on, for the card: device type and number of processes."""

    device: str
    processes: int


def model_card(
    config: TrainConfig,
    parameters: int,
    step: int,
    hardware: Hardware,
    scores: Sequence[Score] = (),
) -> dict[str, Any]:
    """Return the header of a model file: how its weights were made.

    Args:
        parameters: Number of trainable parameters.
        scores: Of the last validation, if there was one.
    """
    card: dict[str, Any] = {
        "model": config.model,
        "arguments": dict(config.arguments),
        "parameters": parameters,
        "recipe": json.loads(config_text(config)),
        "steps": step,
        "hardware": f"{platform.machine()} {hardware.device} x{hardware.processes}",
        "made_by": f"sharpreel {__version__}",
    }
    if scores:
        card["val_psnr_y"] = card_scores(list(scores))
    return card


def card_scores(scores: list[Score]) -> dict[str, Any]:
    """Return validation scores in the form that a card has."""
    return {
        "protocol": PROTOCOL,
        "gain_db": round(mean_gain(scores), 4),
        "clips": {s.clip: [round(s.bicubic, 4), round(s.psnr, 4)] for s in scores},
    }


def save_model(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write a model file; an error leaves no partial file."""
    from safetensors import SafetensorError

    part = path.with_name("part-" + path.name)
    try:
        weights.save_weights(part, tensors, card)
        os.replace(part, path)
    except (OSError, SafetensorError) as e:
        part.unlink(missing_ok=True)
        raise write_error(path, e if isinstance(e, OSError) else _os_error(e)) from e


def _os_error(error: Exception) -> OSError:
    """Convert an error of Rust, "... (os error 28)", to Python's."""
    match = re.search(r"os error (\d+)", str(error))
    return OSError(int(match[1]), os.strerror(int(match[1]))) if match else OSError(str(error))


def release_graph(path: Path, val_clips: Sequence[Any]) -> Path | None:
    """Build the OpenVINO graph next to a model file, and put the graph's scores into the card.

    Returns:
        The graph; None for a network without one, whose file is left unchanged.
    """
    model = load_model(path)
    if model.spec.recurrent != "causal":
        return None
    graph = export_graph(model, path.parent)
    clips = [clip for clip in val_clips if isinstance(clip, Clip)]
    if clips:
        import safetensors.torch

        scores = clip_validation.evaluate(OpenVinoEngine(load_model(path)), clips)
        card = {**model.card, "val_psnr_y": card_scores(scores)}
        save_model(path, safetensors.torch.load_file(path), card)
    return graph
