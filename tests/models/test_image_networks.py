"""TSRCNN, the SRGAN family, SRVGG and RRDBNet: counts, equations, sizes and published names.

Equations are stated once more here, with functions on tensors taken from the state dict by name:
a name or a layer that is wrong in the module cannot be wrong in the same way twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models import checkpoints, rrdb, srgan, srvgg, tsrcnn
from sharpreel.models.rrdb import RRDBNet
from sharpreel.models.srgan import (
    Discriminator,
    FastDiscriminator,
    FastSRGAN,
    MobileSRGAN,
    PatchDiscriminator,
    SRResNet,
)
from sharpreel.models.srvgg import SRVGG
from sharpreel.models.tsrcnn import TSRCNN

State = dict[str, Tensor]
Found = tuple[dict[str, Any], State] | None


def parameters(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def numbers(module: nn.Module) -> int:
    """Parameters and running statistics, as Keras counts."""
    state = module.state_dict().items()
    return sum(tensor.numel() for name, tensor in state if not name.endswith("num_batches_tracked"))


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in inference mode with random slopes, biases and batch statistics.

    Fresh ones are zeros and ones, with which half of the equations could be missing.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if not tensor.dtype.is_floating_point or tensor.ndim != 1:
            continue
        low = 0.01 if name.endswith("running_var") else -0.2
        tensor.copy_(low + 0.4 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


def close(got: Tensor, wanted: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(got, wanted, atol=atol, rtol=1e-4)


class Layers:
    """Plain functions over a state dict: layers by name."""

    def __init__(self, state: State) -> None:
        self.state = state

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)

    def prelu(self, x: Tensor, name: str) -> Tensor:
        slope = self.state[f"{name}.weight"].reshape(1, -1, 1, 1)
        return torch.where(x > 0, x, slope * x)

    def norm(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{kind}"].reshape(1, -1, 1, 1)
            for kind in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + eps).sqrt() * weight + bias


def instance_norm(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    var = x.var((2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


# --- Parameters ---------------------------------------------------------------------------------


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


def test_a_keras_network_has_as_many_numbers_as_its_file() -> None:
    assert numbers(MobileSRGAN(2)) == 102_691
    assert numbers(MobileSRGAN(4)) == 167_459
    assert numbers(PatchDiscriminator()) == 159_393


# --- What every generator promises --------------------------------------------------------------

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
def test_an_image_network_makes_every_frame_by_itself(
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


# --- TSRCNN -------------------------------------------------------------------------------------


def original_tsrcnn(state: State, window: Tensor, scale: float) -> Tensor:
    """The published network: no padding anywhere, frames in a list on channels."""
    frames = torch.cat(list(window.unbind(1)), dim=1)
    x = F.interpolate(frames, scale_factor=scale, mode="bicubic", align_corners=False)
    x = F.relu(F.conv2d(x, state["layers.1.weight"], state["layers.1.bias"]))
    x = F.relu(F.conv2d(x, state["layers.3.weight"], state["layers.3.bias"]))
    return F.conv2d(x, state["layers.5.weight"], state["layers.5.bias"])


@pytest.mark.parametrize(("size", "border"), [("small", 6), ("large", 9)])
@pytest.mark.parametrize("scale", [1.5, 2, 3, 853 / 480])
@pytest.mark.parametrize(("past", "future"), [(1, 1), (2, 0), (0, 0)])
def test_inside_the_border_tsrcnn_is_the_original(
    size: tsrcnn.Size, border: int, scale: float, past: int, future: int
) -> None:
    network = TSRCNN(size, past, future, scale)
    window = torch.rand(2, past + 1 + future, 3, 19, 22)
    with torch.no_grad():
        wanted = original_tsrcnn(network.state_dict(), window, scale)
        got = network.centre(window)
    assert got.shape[-2:] == (round(19 * scale), round(22 * scale))
    # Where the original cuts a row off the enlargement, `wanted` is a row shorter.
    h, w = wanted.shape[-2:]
    close(got[..., border : border + h, border : border + w], wanted)


def test_tsrcnn_repeats_edge_pixels_around_the_enlargement() -> None:
    network = TSRCNN("small", 0, 0, scale=1)
    with torch.no_grad():
        flat = network(torch.full((1, 1, 3, 5, 5), 0.3))[0, 0]
    close(flat, flat[:, 2:3, 2:3].expand_as(flat))  # a border of zeros would show


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, which OpenVINO uses
@pytest.mark.parametrize("scale", [1.5, 2])
def test_a_traced_tsrcnn_is_right_at_another_size(scale: float) -> None:
    network = TSRCNN("small", scale=scale)
    example = torch.rand(1, 9, 8, 8)
    layers = torch.jit.trace(network.layers, example)  # type: ignore[no-untyped-call]
    window = torch.rand(1, 9, 13, 11)
    with torch.no_grad():
        close(layers(window), network.layers(window))


def test_tsrcnn_stacks_frames_oldest_first_with_rgb_within_each() -> None:
    network = TSRCNN("small", past=2, future=1, scale=2)
    state = network.state_dict()
    for tensor in state.values():
        tensor.zero_()
    # A network that copies one channel of the enlarged stack to green.
    middle, last = state["layers.3.weight"], state["layers.5.weight"]
    middle[0, 0], last[1, 0, 2, 2] = 1, 1
    clip = torch.rand(1, 5, 3, 6, 6)
    for time in range(4):  # two before, one before, the frame, one after
        for colour in range(3):
            state["layers.1.weight"].zero_()[0, 3 * time + colour, 4, 4] = 1
            with torch.no_grad():
                green = network(clip)[0, 2, 1]
            wanted = F.interpolate(clip[:, time, colour, None], scale_factor=2, mode="bicubic")
            close(green, wanted[0, 0].clamp(min=0))


def test_a_missing_neighbour_is_the_target_frame() -> None:
    network = TSRCNN("small", past=2, future=1)
    clip = torch.rand(1, 3, 3, 6, 6)
    a, b, c = clip.unbind(1)
    windows = [[a, a, a, b], [b, a, b, c], [a, b, c, c]]
    with torch.no_grad():
        wanted = [network.centre(torch.stack(window, dim=1)) for window in windows]
        close(network(clip), torch.stack(wanted, dim=1))


def test_windows_that_share_a_frame_enlarge_it_once() -> None:
    network = TSRCNN("small", past=1, future=1)
    seen: list[int] = []
    network.layers[0].register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    clip = torch.rand(1, 6, 3, 6, 6)
    with torch.no_grad():
        part = network.along(clip, 1, 4)
        assert seen == [6]
        close(part, network(clip)[:, 1:5])


@pytest.mark.parametrize(("size", "past", "future"), [("small", 1, 1), ("large", 2, 2)])
def test_a_published_tsrcnn_file_loads(size: tsrcnn.Size, past: int, future: int) -> None:
    kernels, (first, second) = tsrcnn.WIDTHS[size]
    shapes = {
        "layers.1.weight": (first, 3 * (past + 1 + future), kernels[0], kernels[0]),
        "layers.1.bias": (first,),
        "layers.3.weight": (second, first, kernels[1], kernels[1]),
        "layers.3.bias": (second,),
        "layers.5.weight": (3, second, kernels[2], kernels[2]),
        "layers.5.bias": (3,),
    }
    state = {name: torch.rand(shape) for name, shape in shapes.items()}
    found = tsrcnn.recognise(state)
    assert found is not None
    assert found[0] == {"size": size, "past": past, "future": future}
    TSRCNN(**found[0], scale=1.5).load_state_dict(found[1])


def test_an_odd_number_of_neighbours_leaves_one_more_in_the_past() -> None:
    found = tsrcnn.recognise(TSRCNN("small", past=0, future=1).state_dict())
    assert found is not None
    assert found[0] == {"size": "small", "past": 1, "future": 0}


def test_the_arguments_of_tsrcnn_stand_in_its_file_name() -> None:
    name = "small_360_720_144videos_AdamWopt_DSSIMloss_1fb_1ff_10ep_final.pt"
    assert tsrcnn.read_name(name) == {"size": "small", "past": 1, "future": 1, "scale": 2.0}
    name = "large_720_1080_36videos_SGDopt_MSELossloss_2fb_0ff_3ep_7.pt"
    assert tsrcnn.read_name(name) == {"size": "large", "past": 2, "future": 0, "scale": 1.5}
    for other in ("small.pt", "RBPN_4x.pth", "small_0_720_1videos_1fb_1ff.pt"):
        assert tsrcnn.read_name(other) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "small, large"),
        ({"past": -1}, "0 or more"),
        ({"scale": 0.5}, "1 or more"),
    ],
)
def test_tsrcnn_says_what_it_takes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TSRCNN(**arguments)


# --- The SRGAN family ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_srresnet_is_its_equations(scale: int) -> None:
    network = lively(SRResNet(scale))
    net = Layers(network.state_dict())
    lr = torch.rand(2, 3, 7, 9)
    first = net.prelu(net.conv(lr, "block1.0"), "block1.1")
    x = first
    for block in range(2, 7):
        y = net.norm(net.conv(x, f"block{block}.conv1"), f"block{block}.bn1")
        y = net.conv(net.prelu(y, f"block{block}.prelu"), f"block{block}.conv2")
        x = x + net.norm(y, f"block{block}.bn2")
    x = first + net.prelu(net.conv(x, "block7.0"), "block7.1")
    ups = {2: 1, 4: 2, 8: 3}[scale]
    for up in range(ups):
        x = F.pixel_shuffle(net.conv(x, f"block8.{up}.conv"), 2)
        x = net.prelu(x, f"block8.{up}.prelu")
    wanted = (torch.tanh(net.conv(x, f"block8.{ups}")) + 1) / 2
    close(network(lr[None])[0], wanted)


def test_fast_srgan_is_its_equations() -> None:
    network = lively(FastSRGAN())
    net = Layers(network.state_dict())
    lr = torch.rand(2, 3, 7, 9)
    first = net.prelu(net.conv(lr / 0.5 - 1, "neck.0"), "neck.1")
    x = first
    for block in range(8):
        y = net.prelu(instance_norm(net.conv(x, f"stem.{block}.conv1")), f"stem.{block}.relu1")
        x = x + instance_norm(net.conv(y, f"stem.{block}.conv2"))
    x = first + instance_norm(net.conv(x, "bottleneck.0"))
    for up in range(2):
        x = F.pixel_shuffle(net.conv(x, f"upsampling.{up}.conv"), 2)
        x = net.prelu(x, f"upsampling.{up}.relu")
    wanted = (torch.tanh(net.conv(x, "head.0")) + 1) / 2
    close(network(lr[None])[0], wanted, atol=1e-4)


def keras_transposed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """TensorFlow's SAME 3x3, stride 2: every pixel spreads over the 3x3 below and right of it."""
    n, _, h, w = x.shape
    out = torch.zeros(n, weight.shape[1], 2 * h + 1, 2 * w + 1)
    for row in range(3):
        for column in range(3):
            spread = torch.einsum("ncyx,co->noyx", x, weight[:, :, row, column])
            out[:, :, row : row + 2 * h : 2, column : column + 2 * w : 2] += spread
    return out[:, :, : 2 * h, : 2 * w] + bias.reshape(1, -1, 1, 1)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_mobile_generator_is_its_equations(scale: int) -> None:
    network = lively(MobileSRGAN(scale))
    net = Layers(network.state_dict())
    lr = torch.rand(2, 3, 7, 9)

    def normed(x: Tensor, name: str, groups: int = 1) -> Tensor:
        return net.norm(net.conv(x, f"{name}.0", groups=groups), f"{name}.1", eps=1e-3)

    first = net.prelu(normed(lr, "first"), "first.2")
    x = first
    for block in range(6):
        y = x if block == 0 else F.relu(normed(x, f"blocks.{block}.expand"))
        y = F.relu(normed(y, f"blocks.{block}.depthwise", groups=y.shape[1]))
        x = x + normed(y, f"blocks.{block}.project")
    x = first + normed(x, "last")
    if scale == 2:
        x = keras_transposed(x, net.state["up.0.conv.weight"], net.state["up.0.conv.bias"])
        x = net.prelu(x, "up.0.prelu")
    else:
        for up in range(2):
            x = net.prelu(F.pixel_shuffle(net.conv(x, f"up.{up}.conv"), 2), f"up.{up}.prelu")
    wanted = (torch.tanh(net.conv(x, "out")) + 1) / 2
    close(network(lr[None])[0], wanted)


def test_a_generator_says_which_scales_it_has() -> None:
    for build in (SRResNet, MobileSRGAN, RRDBNet):
        with pytest.raises(ValueError, match=r"scale must be .*, got 3"):
            build(3)
    with pytest.raises(ValueError, match="srresnet, fast, mobile"):
        srgan.build("slow")


DOWNS = [2, 1, 2, 1, 2, 1, 2]  # strides after the first convolution, in all three


def test_the_discriminator_of_iseebetter_is_its_equations() -> None:
    network = lively(Discriminator())
    net = Layers(network.state_dict())
    picture = torch.rand(2, 3, 33, 40)
    x = F.leaky_relu(net.conv(picture, "net.0"), 0.2)
    for index, stride in enumerate(DOWNS):
        x = net.norm(net.conv(x, f"net.{2 + 3 * index}", stride), f"net.{3 + 3 * index}")
        x = F.leaky_relu(x, 0.2)
    x = F.leaky_relu(net.conv(x.mean((2, 3), keepdim=True), "net.24"), 0.2)
    wanted = torch.sigmoid(net.conv(x, "net.26")).reshape(2)
    close(network(picture), wanted)


def test_the_discriminator_of_fast_srgan_is_its_equations() -> None:
    network = lively(FastDiscriminator(16))
    net = Layers(network.state_dict())
    picture = torch.rand(2, 3, 33, 40)
    x = F.leaky_relu(net.conv(2 * picture - 1, "neck.0"), 0.2)
    for index, stride in enumerate(DOWNS):
        x = F.leaky_relu(instance_norm(net.conv(x, f"stem.{index}.conv", stride)), 0.01)
    wanted = net.conv(x, "stem.7")
    assert wanted.shape == (2, 1, 3, 3)
    close(network(picture), wanted, atol=1e-4)


@pytest.mark.parametrize(("h", "w"), [(32, 48), (33, 45)])
def test_the_patch_discriminator_is_its_equations(h: int, w: int) -> None:
    network = lively(PatchDiscriminator())
    net = Layers(network.state_dict())

    def same(x: Tensor, name: str, stride: int) -> Tensor:
        if stride == 1:
            return net.conv(x, name)
        # TensorFlow pads an even side by 0 before and 1 behind, an odd one by 1 and 1.
        odd_h, odd_w = x.shape[-2] % 2, x.shape[-1] % 2
        x = F.pad(x, (odd_w, 1, odd_h, 1))
        return F.conv2d(x, net.state[f"{name}.weight"], net.state[f"{name}.bias"], stride)

    picture = torch.rand(2, 3, h, w)
    x = F.leaky_relu(same(2 * picture - 1, "net.0", 1), 0.2)
    for index, stride in enumerate(DOWNS):
        x = same(x, f"net.{2 + 3 * index}", stride)
        x = F.leaky_relu(net.norm(x, f"net.{3 + 3 * index}", eps=1e-3), 0.2)
    close(network(picture), torch.sigmoid(net.conv(x, "net.23")))


def test_the_patch_discriminator_has_the_published_map() -> None:
    with torch.no_grad():
        assert PatchDiscriminator()(torch.rand(1, 3, 180, 320)).shape == (1, 1, 12, 20)


# --- SRVGG and RRDBNet --------------------------------------------------------------------------


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


# --- Recognising checkpoints --------------------------------------------------------------------

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
def test_only_one_file_knows_a_checkpoint(family: str) -> None:
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


def published_srresnet(scale: int) -> State:
    """Names and shapes of netG_epoch_{scale}_100.pth, written out."""
    shapes: dict[str, tuple[int, ...]] = {
        "block1.0.weight": (64, 3, 9, 9),
        "block1.0.bias": (64,),
        "block1.1.weight": (1,),
        "block7.0.weight": (64, 64, 3, 3),
        "block7.0.bias": (64,),
        "block7.1.weight": (1,),
    }
    for block in range(2, 7):
        shapes[f"block{block}.prelu.weight"] = (1,)
        for layer in (1, 2):
            shapes[f"block{block}.conv{layer}.weight"] = (64, 64, 3, 3)
            shapes[f"block{block}.conv{layer}.bias"] = (64,)
            for kind in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"block{block}.bn{layer}.{kind}"] = (64,)
            shapes[f"block{block}.bn{layer}.num_batches_tracked"] = ()
    ups = {2: 1, 4: 2, 8: 3}[scale]
    for up in range(ups):
        shapes[f"block8.{up}.conv.weight"] = (256, 64, 3, 3)
        shapes[f"block8.{up}.conv.bias"] = (256,)
        shapes[f"block8.{up}.prelu.weight"] = (1,)
    shapes[f"block8.{ups}.weight"] = (3, 64, 9, 9)
    shapes[f"block8.{ups}.bias"] = (3,)
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_published_srresnet_file_loads(scale: int) -> None:
    found = srgan.recognise(published_srresnet(scale))
    assert found is not None
    assert found[0] == {"network": "srresnet", "scale": scale}
    srgan.build(**found[0]).load_state_dict(found[1])


def test_the_published_fast_srgan_file_loads() -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "neck.0.weight": (64, 3, 3, 3),
        "neck.0.bias": (64,),
        "neck.1.weight": (1,),
        "bottleneck.0.weight": (64, 64, 3, 3),
        "head.0.weight": (3, 64, 3, 3),
        "head.0.bias": (3,),
    }
    for block in range(8):
        shapes[f"stem.{block}.conv1.weight"] = (64, 64, 3, 3)
        shapes[f"stem.{block}.relu1.weight"] = (1,)
        shapes[f"stem.{block}.conv2.weight"] = (64, 64, 3, 3)
    for up in range(2):
        shapes[f"upsampling.{up}.conv.weight"] = (256, 64, 3, 3)
        shapes[f"upsampling.{up}.conv.bias"] = (256,)
        shapes[f"upsampling.{up}.relu.weight"] = (1,)
    found = srgan.recognise({f"_orig_mod.{n}": torch.zeros(s) for n, s in shapes.items()})
    assert found is not None
    assert found[0] == {"network": "fast", "channels": 64, "blocks": 8}
    srgan.build(**found[0]).load_state_dict(found[1])


def test_the_published_netd_of_iseebetter_loads() -> None:
    convs = {0: (64, 3), 2: (64, 64), 5: (128, 64), 8: (128, 128), 11: (256, 128)}
    convs |= {14: (256, 256), 17: (512, 256), 20: (512, 512), 24: (1024, 512), 26: (1, 1024)}
    state: State = {}
    for layer, (out, into) in convs.items():
        kernel = 1 if layer >= 24 else 3
        state[f"net.{layer}.weight"] = torch.zeros(out, into, kernel, kernel)
        state[f"net.{layer}.bias"] = torch.zeros(out)
        if 2 <= layer <= 20:
            for kind in ("weight", "bias", "running_mean", "running_var"):
                state[f"net.{layer + 1}.{kind}"] = torch.zeros(out)
            state[f"net.{layer + 1}.num_batches_tracked"] = torch.tensor(0)
    Discriminator().load_state_dict(state)


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
def test_the_first_convolution_tells_the_scale_of_rrdbnet(into: int, scale: int) -> None:
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
