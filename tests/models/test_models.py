"""Every row of the table of networks keeps its promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sharpreel.models import MODELS
from sharpreel.models.rrdb import RRDBNet
from sharpreel.models.srgan import (
    Discriminator,
    FastDiscriminator,
    FastSRGAN,
    MobileSRGAN,
    SRResNet,
)
from sharpreel.models.srvgg import SRVGG
from sharpreel.models.tsrcnn import TSRCNN
from sharpreel.models.weights import load_model
from tests.support.image_networks import close

ROWS = [(name, scale) for name, spec in MODELS.items() if spec.bundled for scale in spec.scales]


@pytest.mark.parametrize(("name", "scale"), ROWS)
def test_every_row_enlarges_a_tiny_clip_by_exactly_its_scale(name: str, scale: int) -> None:
    module = load_model(name, scale).module()
    clip = torch.rand(2, 3, 3, 12, 16)
    out = module(clip)
    sr = out[0] if isinstance(out, tuple) else out
    assert sr.shape == (2, 3, 3, 12 * scale, 16 * scale)
    assert torch.isfinite(sr).all()


def parameters(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


@pytest.mark.parametrize(
    ("build", "arguments", "count"),
    [
        (TSRCNN, {"size": "small"}, 51_203),
        (TSRCNN, {"size": "large"}, 222_723),
        (SRResNet, {"scale": 2}, 586_379),
        (SRResNet, {"scale": 4}, 734_092),
        (SRResNet, {"scale": 8}, 881_805),
        (FastSRGAN, {}, 925_646),
        (MobileSRGAN, {"scale": 2}, 98_275),
        (MobileSRGAN, {"scale": 4}, 163_043),
        (Discriminator, {}, 5_215_425),
        (FastDiscriminator, {}, 4_684_033),
        (SRVGG, {"convs": 16}, 621_424),
        (SRVGG, {"convs": 32}, 1_213_296),
        (RRDBNet, {"scale": 4}, 16_697_987),
        (RRDBNet, {"scale": 2}, 16_703_171),
    ],
)
def test_a_network_has_as_many_parameters_as_published(
    build: Callable[..., nn.Module], arguments: dict[str, Any], count: int
) -> None:
    assert parameters(build(**arguments)) == count


GENERATORS: list[tuple[str, Callable[[], nn.Module], float]] = [
    ("tsrcnn small 1.5x", lambda: TSRCNN("small", scale=1.5), 1.5),
    ("tsrcnn large 2x", lambda: TSRCNN("large", past=2, future=0), 2),
    ("srresnet 2x", lambda: SRResNet(2), 2),
    ("srresnet 4x", lambda: SRResNet(4), 4),
    ("srresnet 8x", lambda: SRResNet(8), 8),
    ("fast 4x", FastSRGAN, 4),
    ("mobile 2x", lambda: MobileSRGAN(2), 2),
    ("mobile 4x", lambda: MobileSRGAN(4), 4),
    ("srvgg 4x", lambda: SRVGG(channels=16, convs=3), 4),
    ("srvgg 2x", lambda: SRVGG(2, channels=16, convs=3), 2),
    ("rrdb 4x", lambda: RRDBNet(4, channels=16, blocks=1, growth=8), 4),
    ("rrdb 2x", lambda: RRDBNet(2, channels=16, blocks=1, growth=8), 2),
    ("rrdb 1x", lambda: RRDBNet(1, channels=16, blocks=1, growth=8), 1),
]
IMAGE_NETWORKS = [row for row in GENERATORS if not row[0].startswith("tsrcnn")]


@pytest.mark.parametrize(("name", "build", "scale"), GENERATORS, ids=[g[0] for g in GENERATORS])
@pytest.mark.parametrize(("h", "w"), [(8, 12), (9, 13), (7, 10)])
def test_the_output_is_exactly_scale_times_the_input(
    name: str, build: Callable[[], nn.Module], scale: float, h: int, w: int
) -> None:
    with torch.no_grad():
        sr = build().eval()(torch.rand(2, 2, 3, h, w))
    assert sr.shape == (2, 2, 3, round(scale * h), round(scale * w))
    assert torch.isfinite(sr).all()


@pytest.mark.parametrize(
    ("name", "build", "scale"), IMAGE_NETWORKS, ids=[g[0] for g in IMAGE_NETWORKS]
)
def test_an_image_network_processes_every_frame_on_its_own(
    name: str, build: Callable[[], nn.Module], scale: float
) -> None:
    network = build().eval()
    clip = torch.rand(2, 3, 3, 8, 8)
    with torch.no_grad():
        close(network(clip)[1, 2], network(clip[1:, 2:])[0, 0])


@pytest.mark.parametrize(("name", "build", "scale"), GENERATORS, ids=[g[0] for g in GENERATORS])
def test_gradients_reach_every_parameter(
    name: str, build: Callable[[], nn.Module], scale: float
) -> None:
    network = build()
    network(torch.rand(1, 2, 3, 8, 8)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_rows_of_one_architecture_share_it_and_others_do_not() -> None:
    assert MODELS["reel"].same_architecture(MODELS["reel-fast"])
    assert not MODELS["reel"].same_architecture(MODELS["reel-quality"])
    assert not MODELS["bicubic"].same_architecture(MODELS["reel"])


def test_only_bundled_networks_have_no_recogniser() -> None:
    assert all((spec.recognise is None) == spec.bundled for spec in MODELS.values())


def test_graphs_without_torch_and_int8_are_for_networks_with_such_a_graph() -> None:
    assert {name for name, spec in MODELS.items() if spec.graph is None and spec.int8} == set()
    assert {name for name, spec in MODELS.items() if not spec.trained} == {"bicubic"}
    assert {name for name, spec in MODELS.items() if spec.any_scale} == {"tsrcnn"}
