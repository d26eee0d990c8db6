"""models/rbpn.py: counts, names, equations, the order of neighbours, and a calm start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.models import rbpn
from sharpreel.models.rbpn import RBPN, recognise
from sharpreel.models.reel import Bicubic

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def tiny(**arguments: Any) -> RBPN:
    chosen = {"scale": 2, "num_frames": 5, "base_filter": 8, "feat": 4, "resblocks": 2}
    return RBPN(**{**chosen, "flow": "none", **arguments})


def on_paper(**arguments: Any) -> RBPN:
    """The network without its memory."""
    with torch.device("meta"):
        return RBPN(**arguments)


def published_names() -> set[str]:
    names = {"output.conv", "DBPN.output.conv"}
    prelus = {"feat0.", "feat1.", "DBPN.feat1.", "res_feat2.5.", "res_feat3.5."}
    names |= {f"{block}conv" for block in prelus} | {"res_feat1.5.deconv"}
    prelus |= {"res_feat1.5."}
    for unit in ("up1", "down1", "up2", "down2", "up3"):
        direction = unit[:-1]
        for i in (1, 2, 3):
            kind = "deconv" if (direction == "up") == (i != 2) else "conv"
            names.add(f"DBPN.{unit}.{direction}_conv{i}.{kind}")
            prelus.add(f"DBPN.{unit}.{direction}_conv{i}.")
    for stack in (1, 2, 3):
        for i in range(5):
            names |= {f"res_feat{stack}.{i}.conv1", f"res_feat{stack}.{i}.conv2"}
            prelus.add(f"res_feat{stack}.{i}.")
    both = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    return both | {f"{block}act.weight" for block in prelus}


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"scale": 2}, 10_134_119),
        ({"scale": 4}, 12_771_943),
        ({"scale": 8}, 20_308_583),
        ({"scale": 1}, 7_590_503),
        ({"scale": 4, "num_frames": 11}, 12_778_855),
        ({"scale": 2, "denoise": True}, 10_165_223),
        ({"scale": 2, "denoise": True, "channels": 1}, 10_123_749),
        ({"scale": 4, "num_frames": 6, "channels": 1}, 12_750_629),
    ],
)
def test_parameters_and_names_are_the_published_ones(
    arguments: dict[str, Any], parameters: int
) -> None:
    network = on_paper(**arguments)
    assert sum(p.numel() for p in network.parameters()) == parameters
    state = network.state_dict()
    assert len(state) == 142
    assert set(state) == published_names()
    assert all(state[name].shape == (1,) for name in state if name.endswith("act.weight"))
    found = recognise({f"module.{name}": tensor for name, tensor in state.items()})
    assert found is not None
    assert found[0] | arguments == found[0]
    assert set(found[1]) == published_names()


def test_a_recognised_state_loads_and_gives_the_same_output() -> None:
    network = tiny(denoise=True, channels=1, num_frames=4)
    found = recognise({f"module.{name}": t for name, t in network.state_dict().items()})
    assert found is not None
    copy = RBPN(**found[0], flow="none")
    copy.load_state_dict(found[1])
    clip = torch.rand(1, 2, 1, 6, 8)
    assert torch.equal(copy(clip), network(clip))


def test_what_is_not_exactly_an_rbpn_is_not_recognised() -> None:
    state = tiny(resblocks=1).state_dict()
    assert recognise(state) is not None
    assert recognise({}) is None
    assert recognise({"feat0.conv.weight": torch.zeros(3)}) is None
    assert recognise({**state, "more": torch.zeros(1)}) is None
    assert recognise({**state, "module.feat0.conv.bias": torch.zeros(8)}) is None
    for name, tensor in state.items():
        assert recognise({k: v for k, v in state.items() if k != name}) is None
        assert recognise({**state, name: torch.cat([tensor, tensor])}) is None
        assert recognise({**state, name: torch.zeros(0)}) is None


def restated(
    state: dict[str, Tensor], scale: int, target: Tensor, others: list[Tensor], flows: list[Tensor]
) -> Tensor:
    """RBPN's equations, plainly: neighbours in the order they are visited."""
    stride, padding = (scale, 2) if scale > 1 else (1, 1)

    def act(x: Tensor, name: str) -> Tensor:
        return torch.where(x > 0, x, state[f"{name}.act.weight"] * x)

    def plain(x: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        return act(plain(x, f"{name}.conv", stride, padding), name)

    def down(x: Tensor, name: str) -> Tensor:
        return conv(x, name, stride, padding)

    def up(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{name}.deconv.weight"], state[f"{name}.deconv.bias"]
        return act(F.conv_transpose2d(x, weight, bias, stride, padding), name)

    def stack(x: Tensor, name: str) -> Tensor:
        for i in range(2):
            inner = act(plain(x, f"{name}.{i}.conv1"), f"{name}.{i}")
            x = act(plain(inner, f"{name}.{i}.conv2") + x, f"{name}.{i}")
        return x

    def up_unit(x: Tensor, name: str) -> Tensor:
        h0 = up(x, f"{name}.up_conv1")
        return up(down(h0, f"{name}.up_conv2") - x, f"{name}.up_conv3") + h0

    def down_unit(x: Tensor, name: str) -> Tensor:
        l0 = down(x, f"{name}.down_conv1")
        return down(up(l0, f"{name}.down_conv2") - x, f"{name}.down_conv3") + l0

    def dbpn(x: Tensor) -> Tensor:
        h1 = up_unit(conv(x, "DBPN.feat1", padding=0), "DBPN.up1")
        h2 = up_unit(down_unit(h1, "DBPN.down1"), "DBPN.up2")
        h3 = up_unit(down_unit(h2, "DBPN.down2"), "DBPN.up3")
        return plain(torch.cat((h3, h2, h1), 1), "DBPN.output.conv", padding=0)

    features, parts = conv(target, "feat0"), []
    for other, flow in zip(others, flows, strict=True):
        motion = conv(torch.cat((target, other, flow), 1), "feat1")
        h0 = dbpn(features)
        h1 = up(stack(motion, "res_feat1"), "res_feat1.2")
        error = conv(stack(h0 - h1, "res_feat2"), "res_feat2.2")
        parts.append(h0 + error)
        features = down(stack(h0 + error, "res_feat3"), "res_feat3.2")
    last_strided = state["output.conv.weight"].shape[2] != 3
    step, pad = (stride, padding) if last_strided else (1, 1)
    return plain(torch.cat(parts, 1), "output.conv", step, pad)


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ({"num_frames": 5}, [-2, -1, 1, 2]),
        ({"num_frames": 6}, [-3, -2, -1, 1, 2]),
        ({"num_frames": 2}, [-1]),
        ({"num_frames": 4, "past_only": True}, [-1, -2, -3]),
        ({"num_frames": 5, "past_only": True, "scale": 4}, [-1, -2, -3, -4]),
        ({"num_frames": 3, "scale": 8}, [-1, 1]),
        ({"num_frames": 3, "scale": 3}, [-1, 1]),
        ({"num_frames": 3, "scale": 1}, [-1, 1]),
        ({"num_frames": 4, "channels": 1}, [-2, -1, 1]),
        ({"num_frames": 4, "denoise": True}, [-2, -1, 1]),
    ],
)
def test_the_equations_restated_give_the_same_output(
    arguments: dict[str, Any], order: list[int]
) -> None:
    network = tiny(**arguments)
    state = network.state_dict()
    for name, tensor in state.items():  # biases and slopes must matter
        if name.endswith("bias"):
            tensor.uniform_(-0.2, 0.2)
        elif name.endswith("act.weight"):
            tensor.uniform_(0.1, 0.4)
    assert network.past == -min(order)
    assert network.future == max(0, *order)
    window = torch.rand(2, len(order) + 1, network.channels, 5, 7)
    flows = torch.randn(2, len(order), 2, 5, 7)
    steps = sorted(order)
    others = [window[:, network.past + step] for step in order]
    ordered = [flows[:, steps.index(step)] for step in order]
    scale = arguments.get("scale", 2)
    with torch.no_grad():
        sr = network.centre(window, flows)
        wanted = restated(state, scale, window[:, network.past], others, ordered)
    assert sr.shape == (2, network.channels, 5 * network.scale, 7 * network.scale)
    torch.testing.assert_close(sr, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("past_only", [False, True])
def test_a_clip_is_its_windows_with_the_target_for_missing_neighbours(past_only: bool) -> None:
    network = tiny(num_frames=4, past_only=past_only, flow="dis")
    clip = torch.rand(1, 3, 3, 16, 18)
    with torch.no_grad():
        sr = network(clip)
        assert sr.shape == (1, 3, 3, 32, 36)
        for t in range(3):
            steps = range(-network.past, network.future + 1)
            times = [t + s if 0 <= t + s < 3 else t for s in steps]
            torch.testing.assert_close(sr[:, t], network.centre(clip[:, times]))


def test_flow_of_a_pair_is_estimated_once_from_target_to_neighbour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimated: list[tuple[float, float]] = []

    def note(a: Tensor, b: Tensor, method: str) -> Tensor:
        assert method == "coarse2fine"
        assert a.shape[1] == b.shape[1] == 3
        estimated.extend((x[0, 0, 0].item(), y[0, 0, 0].item()) for x, y in zip(a, b, strict=True))
        return a.new_zeros(a.shape[0], 2, *a.shape[2:])

    monkeypatch.setattr(rbpn, "estimate_flow", note)
    clip = torch.arange(4.0).reshape(1, 4, 1, 1, 1).expand(1, 4, 1, 3, 3)
    tiny(num_frames=4, channels=1, flow="coarse2fine")(clip)  # t-2 t-1 t+1
    wanted = [(t, t + s) for t in range(4) for s in (-2, -1, 1) if 0 <= t + s < 4]
    assert estimated == wanted


@pytest.mark.parametrize("denoise", [False, True])
def test_residual_is_plain_plus_bicubic(denoise: bool) -> None:
    plain, residual = tiny(denoise=denoise), tiny(denoise=denoise, residual=True)
    residual.load_state_dict(plain.state_dict())
    clip = torch.rand(1, 3, 3, 6, 9)
    base = clip if denoise else Bicubic(2)(clip)
    torch.testing.assert_close(residual(clip), plain(clip) + base, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_new_network_is_calm(scale: int) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        network = RBPN(scale, resblocks=5, base_filter=64, feat=32, flow="none")
        with torch.no_grad():
            assert network.centre(torch.rand(1, 7, 3, 6, 6)).abs().mean() < 1


def test_a_new_network_of_full_size_is_calm_where_the_published_start_explodes() -> None:
    window = torch.rand(1, 7, 3, 5, 5)
    flows = torch.zeros(1, 6, 2, 5, 5)
    with torch.no_grad():
        assert RBPN(2).centre(window, flows).abs().mean() < 1
        assert RBPN(2, init="published").centre(window, flows).abs().mean() > 1e3


def test_fifty_steps_from_a_new_network_lower_the_loss_and_do_not_end_in_black() -> None:
    noise = F.interpolate(torch.rand(1, 3, 6, 6), size=(24, 24), mode="bicubic").clamp(0, 1)
    hr = torch.stack([noise[:, :, t : t + 16, 2 * t : 2 * t + 16] for t in range(3)], dim=1)
    lr = F.avg_pool2d(hr.flatten(0, 1), 2).reshape(1, 3, 3, 8, 8)
    network = tiny(num_frames=3, base_filter=16, feat=8)
    flows = torch.tensor([2.0, 1.0, -2.0, -1.0]).reshape(1, 2, 2, 1, 1).expand(1, 2, 2, 8, 8) / 2
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(50):
        loss = (network.centre(lr, flows) - hr[:, 1]).abs().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        sr = network.centre(lr, flows)
    assert losses[-1] < 0.5 * losses[0]
    assert sr.std() > 0.3 * hr.std()
    assert (sr.mean() - hr.mean()).abs() < 0.1


def test_wrong_arguments_say_what_is_expected() -> None:
    with pytest.raises(ValueError, match="2 frames or more, got scale 4 and 1 frames"):
        RBPN(num_frames=1)
    with pytest.raises(ValueError, match="'calm' or 'published', got 'zero'"):
        RBPN(init="zero")  # type: ignore[arg-type]
    network = tiny()
    with pytest.raises(ValueError, match=r"windows of 5 frames with 3 channels, got \(1, 4, 3"):
        network.centre(torch.rand(1, 4, 3, 6, 6))
    with pytest.raises(ValueError, match=r"flows must be \(1, 4, 2, 6, 6\).*got \(1, 5, 2, 6, 6\)"):
        network.centre(torch.rand(1, 5, 3, 6, 6), torch.zeros(1, 5, 2, 6, 6))
