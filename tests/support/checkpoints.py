"""Small third-party checkpoints for tests, as training programs save them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.models import MODELS
from tests.support.videos import moving

State = dict[str, torch.Tensor]


def prefixed(prefix: str) -> Callable[[State], Any]:
    """A wrapper that adds a prefix to every name."""
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def under(*keys: str) -> Callable[[State], Any]:
    """A wrapper that nests the state under these keys."""

    def wrapped(state: State) -> Any:
        content: Any = state
        for key in reversed(keys):
            content = {key: content, "iter": 5}
        return content

    return wrapped


# Small networks of each family, as their training programs save them.
FILES: list[tuple[str, dict[str, Any], str, Callable[[State], Any]]] = [
    ("tsrcnn", {"size": "small", "past": 1, "future": 1, "scale": 2}, "mine.pt", dict),
    ("srgan", {"network": "srresnet", "scale": 2}, "netG_epoch_2_100.pth", prefixed("module.")),
    ("srgan", {"network": "fast", "channels": 8, "blocks": 1}, "model.pt", prefixed("_orig_mod.")),
    ("srgan", {"network": "mobile", "scale": 2}, "d.pth", under("model")),
    ("srvgg", {"scale": 2, "channels": 8, "convs": 2}, "anime.pth", under("params_ema")),
    ("rrdb", {"scale": 4, "channels": 8, "blocks": 1, "growth": 4}, "esrgan.pth", under("params")),
    (
        "rbpn",
        {"scale": 2, "num_frames": 3, "channels": 3, "base_filter": 8, "feat": 4, "resblocks": 1},
        "RBPN_2x.pth",
        prefixed("module."),
    ),
    ("basicvsr", {"channels": 8, "blocks": 1, "scale": 4}, "b.pth", under("state_dict")),
    ("basicvsrpp", {"channels": 8, "blocks": 1, "scale": 2}, "bpp.pth", under("params")),
]
NAMES = [f"{name}-{file}" for name, _, file, _ in FILES]


def save(folder: Path, which: tuple[str, dict[str, Any], str, Callable[[State], Any]]) -> Path:
    name, arguments, file, wrap = which
    torch.manual_seed(1)
    state = MODELS[name].build(arguments).state_dict()
    torch.save(wrap(state), folder / file)
    return folder / file


def scene(frames: int) -> list[Any]:
    return list(moving((64, 64), frames))


def run_cli(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


RBPN = {"scale": 2, "num_frames": 3, "base_filter": 8, "feat": 4, "resblocks": 1}


def rbpn(folder: Path, **arguments: Any) -> Path:
    torch.manual_seed(1)
    path = folder / "rbpn.pth"
    torch.save(MODELS["rbpn"].build(RBPN | arguments).state_dict(), path)
    return path
