"""RRDBNet: its equations, and published files in three styles."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.models import rrdb
from sharpreel.models.rrdb import RRDBNet
from tests.support.image_networks import Layers, State, close, lively


def fold(x: Tensor, by: int) -> Tensor:
    """Pixels into channels: channel c, row offset, column offset, in this order."""
    folded = [x[:, c, y::by, z::by] for c in range(3) for y in range(by) for z in range(by)]
    return torch.stack(folded, dim=1)


@pytest.mark.parametrize(("scale", "by"), [(4, 1), (2, 2), (1, 4)])
def test_rrdbnet_is_its_equations(scale: int, by: int) -> None:
    network = lively(RRDBNet(scale, channels=12, blocks=2, growth=6))
    net = Layers(network.state_dict())
    lr = torch.rand(2, 3, 8, 12)
    x = first = net.conv(fold(lr, by), "conv_first")
    for block in range(2):
        inside = x
        for dense in (1, 2, 3):
            seen = [inside]
            for conv in (1, 2, 3, 4):
                y = net.conv(torch.cat(seen, 1), f"body.{block}.rdb{dense}.conv{conv}")
                seen.append(F.leaky_relu(y, 0.2))
            y = net.conv(torch.cat(seen, 1), f"body.{block}.rdb{dense}.conv5")
            inside = inside + 0.2 * y
        x = x + 0.2 * inside
    x = first + net.conv(x, "conv_body")
    for up in ("conv_up1", "conv_up2"):
        x = F.leaky_relu(net.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), up), 0.2)
    wanted = net.conv(F.leaky_relu(net.conv(x, "conv_hr"), 0.2), "conv_last")
    close(network(lr[None])[0], wanted)
    assert wanted.shape[-2:] == (8 * scale, 12 * scale)


def published_rrdb(style: str, into: int, blocks: int) -> State:
    """Names and shapes of RRDBNet files in the three styles, with a different value each."""
    last = blocks
    layers = {
        "basicsr": "conv_first conv_body conv_up1 conv_up2 conv_hr conv_last",
        "trunk": "conv_first trunk_conv upconv1 upconv2 HRconv conv_last",
        "old": f"model.0 model.1.sub.{last} model.3 model.6 model.8 model.10",
    }[style].split()
    dense = {
        "basicsr": "body.{}.rdb{}.conv{}",
        "trunk": "RRDB_trunk.{}.RDB{}.conv{}",
        "old": "model.1.sub.{}.RDB{}.conv{}.0",
    }[style]
    shapes = dict.fromkeys(layers, (64, 64))
    shapes[layers[0]], shapes[layers[-1]] = (64, into), (3, 64)
    for block in range(blocks):
        for rdb in (1, 2, 3):
            for conv in range(1, 6):
                out = 64 if conv == 5 else 32
                shapes[dense.format(block, rdb, conv)] = (out, 64 + 32 * (conv - 1))
    state: State = {}
    for value, (layer, shape) in enumerate(shapes.items()):
        state[f"{layer}.weight"] = torch.full((*shape, 3, 3), float(value))
        state[f"{layer}.bias"] = torch.full(shape[:1], float(value))
    return state


@pytest.mark.parametrize("style", ["basicsr", "trunk", "old"])
@pytest.mark.parametrize("blocks", [2, 11])
def test_a_published_rrdbnet_file_loads_in_each_style(style: str, blocks: int) -> None:
    found = rrdb.recognise(published_rrdb(style, 3, blocks))
    assert found is not None
    assert found[0] == {"scale": 4, "channels": 64, "blocks": blocks, "growth": 32}
    modern = published_rrdb("basicsr", 3, blocks)
    assert found[1].keys() == modern.keys()
    assert all(torch.equal(found[1][name], modern[name]) for name in modern)
    RRDBNet(**found[0]).load_state_dict(found[1])


@pytest.mark.parametrize(("into", "scale"), [(3, 4), (12, 2), (48, 1)])
def test_the_first_convolution_gives_the_scale_of_rrdbnet(into: int, scale: int) -> None:
    found = rrdb.recognise(published_rrdb("basicsr", into, 1))
    assert found is not None
    assert found[0]["scale"] == scale
    assert rrdb.recognise(published_rrdb("basicsr", 7, 1)) is None


def test_old_rrdbnet_files_of_other_scales_are_not_taken() -> None:
    state = published_rrdb("old", 3, 2)
    renamed = {"model.6": "model.5", "model.8": "model.7"}  # one up-step: 2x
    two = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if layer != "model.10":
            two[f"{renamed.get(layer, layer)}.{kind}"] = tensor
    assert rrdb.recognise(two) is None


def test_two_styles_in_one_file_are_not_taken() -> None:
    state = published_rrdb("basicsr", 3, 1)
    assert rrdb.recognise(state | {"HRconv.bias": state["conv_hr.bias"]}) is None
