"""Third-party checkpoints are recognised by their tensors, and upscale videos."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.errors import UsageError, WeightsError
from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from sharpreel.models import MODELS, checkpoints, rrdb, srgan, srvgg, tsrcnn
from sharpreel.models.rrdb import RRDBNet
from sharpreel.models.srgan import (
    Discriminator,
    FastDiscriminator,
    PatchDiscriminator,
    SRResNet,
)
from sharpreel.models.srvgg import SRVGG
from sharpreel.models.tsrcnn import TSRCNN
from sharpreel.models.weights import load_model
from sharpreel.pipeline.stages import Progress
from sharpreel.upscale import upscale_video
from tests.support.checkpoints import FILES, NAMES, State, save
from tests.support.videos import count_frames, make_clip


@pytest.mark.parametrize("which", FILES, ids=NAMES)
def test_a_checkpoint_is_known_by_its_tensors(which: Any, tmp_path: Path) -> None:
    name, arguments, _, _ = which
    model = load_model(save(tmp_path, which))
    assert model.spec is MODELS[name]
    assert {k: model.arguments[k] for k in arguments} == arguments
    torch.manual_seed(1)
    wanted = MODELS[name].build(arguments).state_dict()
    for key, tensor in model.module().state_dict().items():
        torch.testing.assert_close(tensor, wanted[key], rtol=0, atol=0)


@pytest.mark.parametrize("which", FILES, ids=NAMES)
def test_each_network_upscales_a_video_from_the_command_line(which: Any, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=12, size=(64, 48))
    path = save(tmp_path, which)
    out = tmp_path / "out.mp4"
    words = ["upscale", clip, "-o", out, "-m", path, "--preset", "ultrafast"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    scale = load_model(path).scale
    assert probe(out).shown_size == (64 * scale, 48 * scale)
    assert count_frames(out) == 12
    assert verify(clip, out) == []


@pytest.mark.parametrize(
    "which", [FILES[0], FILES[6], FILES[7]], ids=["tsrcnn", "rbpn", "basicvsr"]
)
def test_a_resumed_run_with_neighbours_writes_the_same_bytes(which: Any, tmp_path: Path) -> None:
    path = save(tmp_path, which)
    clip = make_clip(tmp_path / "in.mp4", frames=30, size=(64, 64), audio=False)

    def stop(progress: Progress) -> None:
        if progress.event == "segment":
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"model": path, "segment_seconds": 0.2, "preset": "ultrafast"}
    whole = upscale_video(clip, tmp_path / "whole.mp4", **settings)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            upscale_video(clip, tmp_path / "cut.mp4", on_progress=stop, **settings)
    result = upscale_video(clip, tmp_path / "cut.mp4", **settings)
    assert result.resumed_frames > 0
    first, second = (
        hashlib.sha256(f.read_bytes()).hexdigest() for f in (whole.output, result.output)
    )
    assert first == second


def test_a_tsrcnn_upscales_by_any_scale(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    clip = make_clip(tmp_path / "in.mp4", frames=4, size=(64, 48))
    words = ["upscale", clip, "-m", path, "-s", "1.5", "--preset", "ultrafast"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    out = tmp_path / "in_mine_x1.5.mp4"
    assert probe(out).shown_size == (96, 72)
    assert verify(clip, out) == []


def test_a_scale_that_gives_an_odd_size_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    clip = make_clip(tmp_path / "in.mp4", frames=2, size=(50, 48))
    with pytest.raises(UsageError, match="75x72 is odd"):
        upscale_video(clip, model=path, scale=1.5)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
@pytest.mark.parametrize("which", FILES, ids=NAMES)
def test_a_file_that_is_not_all_of_one_network_is_refused(
    which: Any, change: str, tmp_path: Path
) -> None:
    name, arguments, _, _ = which
    state = dict(MODELS[name].build(arguments).state_dict())
    key = next(k for k, v in reversed(state.items()) if v.ndim > 0)
    if change == "missing":
        del state[key]
    elif change == "extra":
        state["surplus.weight"] = torch.zeros(3)
    else:
        state[key] = torch.zeros(*state[key].shape, 2)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="not those of a network that sharpreel knows"):
        load_model(tmp_path / "x.pth")


Found = tuple[dict[str, Any], State] | None
Row = tuple[Callable[..., nn.Module], dict[str, Any], Callable[[State], Found]]
FAMILIES: dict[str, Row] = {
    "tsrcnn small": (TSRCNN, {"size": "small", "past": 1, "future": 1}, tsrcnn.recognise),
    "tsrcnn large": (TSRCNN, {"size": "large", "past": 2, "future": 2}, tsrcnn.recognise),
    "srresnet 2x": (srgan.build, {"network": "srresnet", "scale": 2}, srgan.recognise),
    "srresnet 8x": (srgan.build, {"network": "srresnet", "scale": 8}, srgan.recognise),
    "fast": (srgan.build, {"network": "fast", "channels": 64, "blocks": 8}, srgan.recognise),
    "mobile 2x": (srgan.build, {"network": "mobile", "scale": 2}, srgan.recognise),
    "mobile 4x": (srgan.build, {"network": "mobile", "scale": 4}, srgan.recognise),
    "srvgg": (SRVGG, {"scale": 4, "channels": 64, "convs": 16}, srvgg.recognise),
    "rrdb 4x": (
        RRDBNet,
        {"scale": 4, "channels": 64, "blocks": 3, "growth": 32},
        rrdb.recognise,
    ),
    "rrdb 2x": (
        RRDBNet,
        {"scale": 2, "channels": 16, "blocks": 2, "growth": 8},
        rrdb.recognise,
    ),
}
RECOGNISERS = (tsrcnn.recognise, srgan.recognise, srvgg.recognise, rrdb.recognise)


def state_of(family: str) -> State:
    build, arguments, _ = FAMILIES[family]
    return dict(build(**arguments).state_dict())


def some(state: State) -> list[str]:
    """Names of the state from its beginning to its end, a dozen or so."""
    names = list(state)
    return [*names[:: 1 + len(names) // 12], names[-1]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "generator.", "module._orig_mod."])
def test_a_checkpoint_is_recognised_under_its_wrappers(family: str, prefix: str) -> None:
    build, arguments, recognise = FAMILIES[family]
    state = state_of(family)
    found = recognise({prefix + name: tensor for name, tensor in state.items()})
    assert found is not None
    assert found[0] == arguments
    assert found[1].keys() == state.keys()
    assert all(found[1][name] is state[name] for name in state)
    build(**found[0]).load_state_dict(found[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_recognised_by_one_network_only(family: str) -> None:
    state = state_of(family)
    others = [recognise for recognise in RECOGNISERS if recognise is not FAMILIES[family][2]]
    assert all(recognise(state) is None for recognise in others)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_with_a_tensor_too_few_or_too_many_is_not_taken(family: str) -> None:
    recognise, state = FAMILIES[family][2], state_of(family)
    for name in some(state):
        assert recognise({n: t for n, t in state.items() if n != name}) is None, name
    assert recognise(state | {"extra.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_with_another_shape_is_not_taken(family: str) -> None:
    recognise, state = FAMILIES[family][2], state_of(family)
    for name in some(state):
        tensor = state[name]
        others = [torch.zeros(*tensor.shape, 2), torch.zeros(2, *tensor.shape)]
        if tensor.ndim > 0:
            others += [tensor[:-1], tensor[:0], torch.tensor(0.0)]
        for other in others:
            assert recognise(state | {name: other}) is None, name


def test_nothing_and_strangers_are_not_recognised() -> None:
    strangers: list[State] = [
        {},
        {"feat0.conv.weight": torch.zeros(1)},
        dict(Discriminator().state_dict()),
        dict(FastDiscriminator().state_dict()),
        dict(PatchDiscriminator().state_dict()),
        {"body.0.weight": torch.zeros(1), "body.99999999999.bias": torch.zeros(1)},
        {"body.0.bias": torch.zeros(64), "body.2.bias": torch.zeros(10**6, 1)},
    ]
    for state in strangers:
        assert [recognise(state) for recognise in RECOGNISERS] == [None] * len(RECOGNISERS)


def test_files_older_than_the_counters_of_batch_normalisation_load() -> None:
    state = SRResNet(4).state_dict()
    old = {n: t for n, t in state.items() if not n.endswith(checkpoints.COUNTER)}
    assert len(state) - len(old) == 10
    found = srgan.recognise(old)
    assert found is not None
    srgan.build(**found[0]).load_state_dict(found[1])
