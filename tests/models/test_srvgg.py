"""SRVGG: its equations and published files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sharpreel.models import srvgg
from sharpreel.models.srvgg import SRVGG
from tests.support.image_networks import Layers, State, close, lively


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_srvgg_is_its_equations(scale: int) -> None:
    network = lively(SRVGG(scale, channels=12, convs=3))
    net = Layers(network.state_dict())
    lr = torch.rand(2, 3, 7, 9)
    x = lr
    for layer in range(0, 8, 2):
        x = net.prelu(net.conv(x, f"body.{layer}"), f"body.{layer + 1}")
    nearest = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    close(network(lr[None])[0], F.pixel_shuffle(net.conv(x, "body.8"), scale) + nearest)


@pytest.mark.parametrize("convs", [16, 32])
def test_a_published_srvgg_file_loads(convs: int) -> None:
    state: State = {}
    for index in range(convs + 2):
        into, out = 3 if index == 0 else 64, 48 if index == convs + 1 else 64
        state[f"body.{2 * index}.weight"] = torch.zeros(out, into, 3, 3)
        state[f"body.{2 * index}.bias"] = torch.zeros(out)
        if index <= convs:
            state[f"body.{2 * index + 1}.weight"] = torch.zeros(64)
    found = srvgg.recognise(state)
    assert found is not None
    assert found[0] == {"scale": 4, "channels": 64, "convs": convs}
    SRVGG(**found[0]).load_state_dict(found[1])
