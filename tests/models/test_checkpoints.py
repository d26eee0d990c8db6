"""Checkpoints of others: recognised by their tensors, run through the product."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.engines.pytorch import TorchEngine
from sharpreel.errors import MissingExtra, UsageError, WeightsError
from sharpreel.media import images
from sharpreel.media.probe import probe
from sharpreel.media.reader import read_frames
from sharpreel.media.verify import verify
from sharpreel.models import MODELS
from sharpreel.models.weights import load_model
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.segments import lookback
from sharpreel.pipeline.stages import Progress
from sharpreel.upscale import plan_for, upscale_frames, upscale_video
from tests.support.videos import count_frames, make_clip, moving

State = dict[str, torch.Tensor]


def behind(prefix: str) -> Callable[[State], Any]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def under(*keys: str) -> Callable[[State], Any]:
    def wrapped(state: State) -> Any:
        content: Any = state
        for key in reversed(keys):
            content = {key: content, "iter": 5}
        return content

    return wrapped


# Small networks of each family, as their training programs save them.
FILES: list[tuple[str, dict[str, Any], str, Callable[[State], Any]]] = [
    ("tsrcnn", {"size": "small", "past": 1, "future": 1, "scale": 2}, "mine.pt", dict),
    ("srgan", {"network": "srresnet", "scale": 2}, "netG_epoch_2_100.pth", behind("module.")),
    ("srgan", {"network": "fast", "channels": 8, "blocks": 1}, "model.pt", behind("_orig_mod.")),
    ("srgan", {"network": "mobile", "scale": 2}, "d.pth", under("model")),
    ("srvgg", {"scale": 2, "channels": 8, "convs": 2}, "anime.pth", under("params_ema")),
    ("rrdb", {"scale": 4, "channels": 8, "blocks": 1, "growth": 4}, "esrgan.pth", under("params")),
    (
        "rbpn",
        {"scale": 2, "num_frames": 3, "channels": 3, "base_filter": 8, "feat": 4, "resblocks": 1},
        "RBPN_2x.pth",
        behind("module."),
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


def scene(frames: int) -> list[Any]:
    return list(moving((64, 64), frames))


@pytest.mark.parametrize("which", FILES, ids=NAMES)
def test_the_product_makes_what_the_network_makes_of_the_whole_clip(
    which: Any, tmp_path: Path
) -> None:
    path = save(tmp_path, which)
    frames = scene(7)
    made = list(upscale_frames(frames, path, engine="torch"))
    module = load_model(path).module()
    clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255
    with torch.no_grad():
        whole = module(clip)[0].clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    for ours, theirs in zip(made, whole, strict=True):
        # The order of float sums may differ: a half may round the other way.
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        assert (ours != theirs).mean() < 0.001


@pytest.mark.parametrize(
    "which", [FILES[0], FILES[6], FILES[7]], ids=["tsrcnn", "rbpn", "basicvsr"]
)
def test_a_run_with_neighbours_goes_on_to_the_same_bytes(which: Any, tmp_path: Path) -> None:
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


def test_neighbours_stay_in_their_scene(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    one = scene(4)
    two = [255 - f for f in scene(4)]
    together = list(upscale_frames([*one, *two], path, engine="torch"))
    apart = [*upscale_frames(one, path, engine="torch"), *upscale_frames(two, path, engine="torch")]
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_file_name_of_a_tsrcnn_tells_its_factor(tmp_path: Path) -> None:
    name = "small_240_720_36videos_AdamWopt_PNSRloss_1fb_1ff_3ep_final.pt"
    path = save(tmp_path, ("tsrcnn", {"size": "small", "scale": 3}, name, dict))
    assert load_model(path).scale == 3
    plain = save(tmp_path, FILES[0])
    assert load_model(plain).scale == 2
    assert load_model(plain, 4).scale == 4


def test_a_tsrcnn_enlarges_by_any_factor(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    clip = make_clip(tmp_path / "in.mp4", frames=4, size=(64, 48))
    words = ["upscale", clip, "-m", path, "-s", "1.5", "--preset", "ultrafast"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    out = tmp_path / "in_mine_x1.5.mp4"
    assert probe(out).shown_size == (96, 72)
    assert verify(clip, out) == []


def test_a_factor_that_makes_an_odd_size_says_what_to_choose(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    clip = make_clip(tmp_path / "in.mp4", frames=2, size=(50, 48))
    with pytest.raises(UsageError, match="75x72 is odd"):
        upscale_video(clip, model=path, scale=1.5)


def test_a_scale_the_weights_do_not_have_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[4])
    with pytest.raises(UsageError, match="is a 2x srvgg, not 4x"):
        load_model(path, 4)


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


def test_a_network_without_weights_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="give a checkpoint file of it as `model` instead"):
        load_model("rbpn")


def test_without_torch_one_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, FILES[4])
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sharpreel\[torch\]'"):
        load_model(path)


def test_an_engine_says_how_far_its_network_looks(tmp_path: Path) -> None:
    seen = {}
    for which in FILES:
        engine = TorchEngine(load_model(save(tmp_path, which)))
        seen[which[0]] = (engine.past, engine.future, engine.clip_len)
    assert seen["tsrcnn"] == (1, 1, 4)
    assert seen["srgan"] == (0, 0, 0)
    assert seen["rbpn"] == (1, 1, 1)
    assert seen["basicvsr"] == (5, 5, 15)
    assert lookback(engine) == 7


# What leaves no trace in a checkpoint.


def run_cli(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


RBPN = {"scale": 2, "num_frames": 3, "base_filter": 8, "feat": 4, "resblocks": 1}


def rbpn(folder: Path, **arguments: Any) -> Path:
    torch.manual_seed(1)
    path = folder / "rbpn.pth"
    torch.save(MODELS["rbpn"].build(RBPN | arguments).state_dict(), path)
    return path


def test_choices_reach_the_network_and_change_its_picture(tmp_path: Path) -> None:
    path = rbpn(tmp_path)
    clip = make_clip(tmp_path / "in.mp4", frames=4, size=(64, 48), audio=False)
    means = {}
    for name, words in {
        "plain": [],
        "residual": ["--set", "residual=true"],
        "past": ["--set", "residual=yes", "--set", "past_only=true", "--set", "flow=none"],
    }.items():
        out = tmp_path / f"{name}.mp4"
        done = run_cli("upscale", clip, "-o", out, "-m", path, *words)
        assert done.exit_code == 0, done.output
        means[name] = read_frames(out).astype(float).mean()
    truth = read_frames(clip).astype(float).mean()
    # A network of random weights is black; in residual mode the picture lies under it.
    assert abs(means["residual"] - truth) < abs(means["plain"] - truth) / 4
    assert means["past"] != means["residual"]
    module: Any = load_model(path, choices={"past_only": True, "flow": "coarse2fine"}).module()
    assert (module.past, module.future, module.flow) == (2, 0, "coarse2fine")


def test_the_split_of_a_tsrcnn_can_be_told(tmp_path: Path) -> None:
    path = save(tmp_path, FILES[0])
    module: Any = load_model(path, choices={"past": "2", "future": "0"}).module()
    assert (module.past, module.future) == (2, 0)
    done = run_cli("plan", make_clip(tmp_path / "in.mp4"), "-m", path, "--set", "past=3")
    assert done.exit_code == 2
    assert "its tensors do not fit --set past=3" in done.output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("residual", "write NAME=VALUE"),
        ("residual=perhaps", "--set residual=perhaps: must be true or false"),
        ("flow=farneback", "must be dis or coarse2fine or none"),
        ("colour=true", "not a choice of rbpn.pth, a rbpn; its choices are past_only, residual, flow"),
    ],
)
def test_a_choice_that_cannot_be_made_is_one_line(word: str, message: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    done = run_cli("upscale", clip, "-m", rbpn(tmp_path), "--set", word)
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1


def test_a_bundled_network_has_nothing_to_set(clip: Path) -> None:
    done = run_cli("upscale", clip, "--set", "residual=true")
    assert done.exit_code == 2
    assert "reel has no configurable arguments" in done.output


def test_a_run_with_other_choices_is_another_run(tmp_path: Path) -> None:
    clip, path = make_clip(tmp_path / "in.mp4", frames=2), str(rbpn(tmp_path))
    plans = [
        plan_for(clip, None, UpscaleOptions(model=path, choices=choices))
        for choices in ({}, {"residual": "true"})
    ]
    one, two = (plan.journal_settings("torch-cpu") for plan in plans)
    assert one != two


# Grey networks, and a burst of scans made one clean one.


@pytest.mark.parametrize("denoise", [False, True])
def test_a_grey_network_makes_luma_and_leaves_colour(denoise: bool, tmp_path: Path) -> None:
    path = rbpn(tmp_path, channels=1, denoise=denoise)
    model = load_model(path, choices={"residual": True})
    scale = int(model.scale)
    assert scale == (1 if denoise else 2)
    frames = scene(3)
    grey = [np.repeat(f[..., :1], 3, axis=2) for f in frames]
    for made in upscale_frames(grey, model, engine="torch"):
        assert made.shape == (64 * scale, 64 * scale, 3)
        assert (made.min(axis=2) == made.max(axis=2)).all()
    module: Any = model.module()
    clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255
    luma = (clip * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(2, keepdim=True)
    with torch.no_grad():
        wanted = module(luma)[0, :, 0].clamp(0, 1).numpy() * 255
    for made, y in zip(upscale_frames(frames, model, engine="torch"), wanted, strict=True):
        inside = (made.min(axis=2) > 0) & (made.max(axis=2) < 255)  # not clipped
        ours = made @ np.array([0.299, 0.587, 0.114])
        assert inside.mean() > 0.3
        assert np.abs(ours - y)[inside].max() <= 1.0


def test_a_burst_of_grey_scans_is_denoised_at_its_own_size(tmp_path: Path) -> None:
    path = rbpn(tmp_path, channels=1, denoise=True)
    burst = tmp_path / "burst"
    burst.mkdir()
    rng = np.random.default_rng(0)
    for k in range(5):
        scan = rng.integers(0, 65535, (40, 48, 1), np.uint16).repeat(3, axis=2)
        (burst / f"{k:04d}.png").write_bytes(images.encode_png(scan))
    done = run_cli("upscale", burst, "-o", tmp_path / "clean", "-m", path, "--set", "residual=true")
    assert done.exit_code == 0, done.output
    made = sorted((tmp_path / "clean").iterdir())
    assert [p.name for p in made] == [f"{k:04d}.png" for k in range(5)]
    assert {images.read_image(p).format.name for p in made} == {"rgb48be"}
    assert {(f.width, f.height) for f in map(images.read_image, made)} == {(48, 40)}
