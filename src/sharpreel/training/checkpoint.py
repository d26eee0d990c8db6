"""`last.pt`: the state that a run resumes from, and what it must be resumed with."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sharpreel.data.sampling import middle
from sharpreel.data.store import Clip
from sharpreel.errors import InputError, UsageError, write_error
from sharpreel.system.files import fsync
from sharpreel.training.config import TrainConfig, config_text, what_differs

INPUTS = {  # of a run, by their names in `last.pt`
    "training clips (--data)": "training clips",
    "validation clips (--val)": "validation clips",
    "start (--from)": "starting weights",
}
TRAIN, VAL, START = INPUTS
DIGESTED_CLIPS = 1000  # at most, to tell one set of clips from another


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a crash or a full disk leaves the previous one intact."""
    part = path.with_suffix(".part")
    content = io.BytesIO()  # torch hides the reason when it cannot write to the disk itself
    torch.save(state, content)
    try:
        part.write_bytes(content.getbuffer())
        fsync(part)
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise write_error(path, e) from e


def read_checkpoint(path: Path, config: TrainConfig, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        InputError: The file is damaged.
        UsageError: The run was started with other settings.
    """
    try:
        saved: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
        changed = what_differs(json.loads(saved["config"]), json.loads(config_text(config)))
    except Exception as e:
        raise InputError(f"{path}: damaged ({type(e).__name__}). Delete it to start over.") from e
    if changed:
        raise UsageError(
            f"{path.parent}: started with other settings ({', '.join(changed)}). Choose another "
            "run folder, or the settings of its config.json."
        )
    return saved


def input_digests(
    config: TrainConfig,
    train_clips: Sequence[Any],
    val_clips: Sequence[Any],
    start_from: str | None,
) -> dict[str, str | None]:
    """Return what identifies the inputs of a run, by their names in `last.pt`.

    Args:
        start_from: SHA-256 of the checkpoint that the run starts from.
    """
    # The number of validated frames may change.
    first = [middle(v, config.scale, 1, 0) if isinstance(v, Clip) else v for v in val_clips]
    return {TRAIN: clips_digest(train_clips), VAL: clips_digest(first), START: start_from}


def validate_inputs(
    run: Path, before: Mapping[str, str | None] | None, now: Mapping[str, str | None]
) -> None:
    """Raise UsageError when a run is resumed with other inputs than it was started with.

    Args:
        before: Of the checkpoint; None in old checkpoints, which did not record them.
        now: An input that is None was not given and is not compared.
    """
    if before is None:
        return
    changed = [INPUTS[k] for k, v in now.items() if v is not None and before.get(k) != v]
    if changed:
        raise UsageError(
            f"{run}: started with other {', other '.join(changed)}. "
            "Choose another run folder, or the inputs that it was started with."
        )


def clips_digest(clips: Sequence[Any]) -> str:
    """Return a digest of the names and sizes of clips, and of some rows of up to 1000 of them."""
    total, every = hashlib.sha256(), math.ceil(len(clips) / DIGESTED_CLIPS)
    for number, clip in enumerate(clips):
        is_pair = isinstance(clip, Clip)
        name, parts = (clip.name, (clip.hr, clip.lr)) if is_pair else ("", (np.asarray(clip),))
        total.update(repr((name, [part.shape for part in parts])).encode())
        if number % every == 0:
            for part in parts:
                frame = part[len(part) // 2]
                total.update(frame[:: max(len(frame) // 8, 1)].tobytes())
    return total.hexdigest()
