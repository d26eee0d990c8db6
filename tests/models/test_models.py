"""models/: every row of the table, and what Reel promises."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sharpreel import ops
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.models import DEFAULT_MODEL, MODELS
from sharpreel.models.reel import Bicubic, Reel
from sharpreel.models.reel_quality import ReelQuality
from sharpreel.models.weights import load_model

ROWS = [(name, scale) for name, spec in MODELS.items() if spec.bundled for scale in spec.scales]


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_every_row_enlarges_a_tiny_clip_by_exactly_its_scale(name: str, scale: int) -> None:
    module = load_model(name, scale).module()
    clip = torch.rand(2, 3, 3, 12, 16)
    out = module(clip)
    sr = out[0] if isinstance(out, tuple) else out
    assert sr.shape == (2, 3, 3, 12 * scale, 16 * scale)
    assert torch.isfinite(sr).all()


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_is_the_imresize_of_ops(scale: int) -> None:
    frame = torch.rand(1, 1, 3, 9, 11)
    sr = Bicubic(scale)(frame)[0, 0]
    rows = torch.from_numpy(ops.resize_matrix(9, 9 * scale))
    columns = torch.from_numpy(ops.resize_matrix(11, 11 * scale))
    wanted = torch.einsum("yh,chw,xw->cyx", rows, frame[0, 0], columns)
    torch.testing.assert_close(sr, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 2), (4, 1)])
def test_an_untrained_reel_is_bicubic(scale: int, unshuffle: int) -> None:
    clip = torch.rand(1, 4, 3, 8, 12)
    sr, _ = Reel(scale, unshuffle=unshuffle)(clip)
    torch.testing.assert_close(sr, Bicubic(scale)(clip), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("scale", "unshuffle", "count"), [(2, 2, 99_344), (4, 1, 94_160)])
def test_a_reel_has_the_parameters_its_card_says(scale: int, unshuffle: int, count: int) -> None:
    assert sum(p.numel() for p in Reel(scale, unshuffle=unshuffle).parameters()) == count
    assert load_model("reel-fast", scale).card["parameters"] == count


@pytest.mark.parametrize("scale", [2, 4])
def test_clip_borders_do_not_exist_for_a_causal_network(scale: int) -> None:
    reel = load_model("reel-fast", scale).module()
    clip = torch.rand(1, 7, 3, 16, 16)
    with torch.no_grad():
        whole, last = reel(clip)
        first, state = reel(clip[:, :3])
        second, state = reel(clip[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, last)


def test_the_past_matters_and_the_future_does_not() -> None:
    reel = load_model(DEFAULT_MODEL).module()
    clip, other = torch.rand(2, 1, 6, 3, 16, 16)
    with torch.no_grad():
        sr, _ = reel(clip)
        changed, _ = reel(torch.cat([clip[:, :3], other[:, 3:]], 1))
        fresh, _ = reel(clip[:, 2:])
    torch.testing.assert_close(changed[:, :3], sr[:, :3])
    assert not torch.allclose(fresh[:, 0], sr[:, 2])


def test_the_graph_agrees_to_the_edge_from_the_first_frame() -> None:
    """What lies outside of a frame is the same grey in both, and the frame before it is itself."""
    model = load_model(DEFAULT_MODEL)
    noise = np.random.default_rng(3).integers(0, 256, (2, 24, 32, 3), np.uint8)
    graph, reel = OpenVinoEngine(model, precision="float32"), model.module()
    with torch.no_grad():
        clip = torch.from_numpy(noise).permute(0, 3, 1, 2)[None].float() / 255
        sr, _ = reel(clip)
    for frame, wanted in zip(noise, sr[0], strict=True):
        levels = wanted.clamp(0, 1).permute(1, 2, 0).numpy() * 255
        assert np.abs(graph.run(frame) - levels).max() < 0.5 + 5e-3  # rounding, and no more


def test_the_state_stays_bounded_whatever_comes() -> None:
    reel = load_model(DEFAULT_MODEL).module()
    assert isinstance(reel, Reel)
    with torch.no_grad():
        state = reel.zero_state(torch.rand(1, 3, 16, 16))
        for _ in range(40):
            noise = (torch.rand(1, 3, 16, 16) > 0.5).float()
            _, state = reel.step(noise, state)
    assert state.abs().max() <= 1


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    reel = Reel(2)
    torch.nn.init.normal_(reel.tail.weight, std=0.01)
    sr, _ = reel(torch.rand(1, 3, 3, 16, 16))
    F.mse_loss(sr, torch.rand_like(sr)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in reel.parameters())


def lively(network: ReelQuality) -> ReelQuality:
    """One whose output depends on its weights, as a new one's does not."""
    torch.manual_seed(0)
    torch.nn.init.normal_(network.forth.tail.weight, std=0.05)
    return network


def test_reel_quality_begins_as_the_reel_it_grows_out_of() -> None:
    reel = load_model("reel", 4).module()
    for blocks in (6, 9):
        network = ReelQuality(4, 64, blocks)
        network.load_state_dict(network.begin_with(reel.state_dict()))
        clip = torch.rand(1, 4, 3, 10, 12)
        with torch.no_grad():
            torch.testing.assert_close(network(clip), reel(clip)[0])


@pytest.mark.parametrize(("scale", "channels", "blocks"), [(2, 64, 9), (4, 32, 9), (4, 64, 5)])
def test_reel_quality_does_not_begin_with_what_does_not_fit(
    scale: int, channels: int, blocks: int
) -> None:
    reel = load_model("reel", 4).module()
    assert ReelQuality(scale, channels, blocks).begin_with(reel.state_dict()) == {}


def test_reel_quality_looks_in_both_directions_of_time() -> None:
    network = lively(ReelQuality(4, 8, 1))
    clip = torch.rand(1, 5, 3, 8, 8)
    with torch.no_grad():
        sr = network(clip)
        for changed in (0, 4):
            other = clip.clone()
            other[:, changed] = 0
            assert ((network(other) - sr).abs().amax((0, 2, 3, 4)) > 0).all()


def test_reel_quality_makes_a_clip_of_one_frame_and_teaches_every_weight() -> None:
    network = lively(ReelQuality(4, 8, 2))
    clip = torch.rand(1, 1, 3, 8, 8)
    network(clip).mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    network.zero_grad()
    network(torch.rand(2, 3, 3, 8, 8)).square().mean().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in network.parameters() if p.grad is not None)
