"""Saves and exports what a training run has learned."""

from __future__ import annotations

import io
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sharpreel._version import __version__
from sharpreel.data.store import Clip
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.errors import write_error
from sharpreel.evaluation import validation
from sharpreel.evaluation.validation import PROTOCOL, Score, mean_gain
from sharpreel.models import weights
from sharpreel.models.weights import export_graph, load_model
from sharpreel.system.files import fsync
from sharpreel.training.config import config_text
from sharpreel.training.setup import unwrap

if TYPE_CHECKING:
    from sharpreel.training.trainer import Trainer


def card_of(training: Trainer, scores: list[Score]) -> dict[str, Any]:
    """The header of a model file: everything about how it came to be."""
    config = training.config
    card: dict[str, Any] = {
        "model": config.model,
        "arguments": dict(config.arguments),
        "parameters": sum(p.numel() for p in unwrap(training.task).network.parameters()),
        "recipe": json.loads(config_text(config)),
        "steps": training.step,
        "hardware": f"{platform.machine()} {training.fabric.device.type}"
        f" x{training.fabric.world_size}",
        "made_by": f"sharpreel {__version__}",
    }
    if scores:
        card["val_psnr_y"] = scores_of(scores)
    return card


def scores_of(scores: list[Score]) -> dict[str, Any]:
    """Scores as a card has them."""
    return {
        "protocol": PROTOCOL,
        "gain_db": round(mean_gain(scores), 4),
        "clips": {s.clip: [round(s.bicubic, 4), round(s.psnr, 4)] for s in scores},
    }


def write_model(path: Path, training: Trainer, scores: list[Score]) -> None:
    """The averaged weights as a model file."""
    tensors = {k: v.cpu() for k, v in training.average.items()}
    save_model(path, tensors, card_of(training, scores))


def save_model(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write a model file, whole or not at all."""
    from safetensors import SafetensorError

    part = path.with_name("part-" + path.name)
    try:
        weights.save_weights(part, tensors, card)
        os.replace(part, path)
    except (OSError, SafetensorError) as e:
        part.unlink(missing_ok=True)
        raise write_error(path, e if isinstance(e, OSError) else _os_error(e)) from e


def _os_error(error: Exception) -> OSError:
    """What Rust's words, "... (os error 28)", are in Python."""
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: a crash or a full disk leaves the last whole checkpoint."""
    part = path.with_suffix(".part")
    content = io.BytesIO()  # torch, writing to the disk itself, hides why it cannot
    torch.save(state, content)
    try:
        part.write_bytes(content.getbuffer())
        fsync(part)
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise write_error(path, e) from e


def release(path: Path, val_clips: Sequence[Any]) -> Path | None:
    """Build the OpenVINO graph beside a model file, and score that for its card: what users run.

    Returns:
        The graph; None for a network that has no such form, whose file stays as it is.
    """
    model = load_model(path)
    if model.spec.recurrent != "causal":
        return None
    graph = export_graph(model, path.parent)
    clips = [clip for clip in val_clips if isinstance(clip, Clip)]
    if clips:
        import safetensors.torch

        scores = validation.evaluate(OpenVinoEngine(load_model(path)), clips)
        card = {**model.card, "val_psnr_y": scores_of(scores)}
        save_model(path, safetensors.torch.load_file(path), card)
    return graph
