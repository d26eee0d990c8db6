"""The SRGAN family: equations restated, and published files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models import srgan
from sharpreel.models.rrdb import RRDBNet
from sharpreel.models.srgan import (
    Discriminator,
    FastDiscriminator,
    FastSRGAN,
    MobileSRGAN,
    PatchDiscriminator,
    SRResNet,
)
from tests.support.image_networks import Layers, State, close, lively


def numbers(module: nn.Module) -> int:
    """Parameters and running statistics, as Keras counts."""
    state = module.state_dict().items()
    return sum(tensor.numel() for name, tensor in state if not name.endswith("num_batches_tracked"))


def instance_norm(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    var = x.var((2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (var + 1e-5).sqrt()


def test_a_keras_network_has_as_many_numbers_as_its_file() -> None:
    assert numbers(MobileSRGAN(2)) == 102_691
    assert numbers(MobileSRGAN(4)) == 167_459
    assert numbers(PatchDiscriminator()) == 159_393


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


def test_a_generator_refuses_scales_it_does_not_have() -> None:
    for build in (SRResNet, MobileSRGAN, RRDBNet):
        with pytest.raises(ValueError, match=r"scale must be .*, got 3"):
            build(3)
    with pytest.raises(ValueError, match="srresnet, fast, mobile"):
        srgan.build("slow")


DOWNS = [2, 1, 2, 1, 2, 1, 2]  # strides after the first convolution, in all three


def test_the_discriminator_of_iseebetter_is_its_equations() -> None:
    network = lively(Discriminator())
    net = Layers(network.state_dict())
    image = torch.rand(2, 3, 33, 40)
    x = F.leaky_relu(net.conv(image, "net.0"), 0.2)
    for index, stride in enumerate(DOWNS):
        x = net.norm(net.conv(x, f"net.{2 + 3 * index}", stride), f"net.{3 + 3 * index}")
        x = F.leaky_relu(x, 0.2)
    x = F.leaky_relu(net.conv(x.mean((2, 3), keepdim=True), "net.24"), 0.2)
    wanted = torch.sigmoid(net.conv(x, "net.26")).reshape(2)
    close(network(image), wanted)


def test_the_discriminator_of_fast_srgan_is_its_equations() -> None:
    network = lively(FastDiscriminator(16))
    net = Layers(network.state_dict())
    image = torch.rand(2, 3, 33, 40)
    x = F.leaky_relu(net.conv(2 * image - 1, "neck.0"), 0.2)
    for index, stride in enumerate(DOWNS):
        x = F.leaky_relu(instance_norm(net.conv(x, f"stem.{index}.conv", stride)), 0.01)
    wanted = net.conv(x, "stem.7")
    assert wanted.shape == (2, 1, 3, 3)
    close(network(image), wanted, atol=1e-4)


@pytest.mark.parametrize(("h", "w"), [(32, 48), (33, 45)])
def test_the_patch_discriminator_is_its_equations(h: int, w: int) -> None:
    network = lively(PatchDiscriminator())
    net = Layers(network.state_dict())

    def same(x: Tensor, name: str, stride: int) -> Tensor:
        if stride == 1:
            return net.conv(x, name)
        # TensorFlow pads an even side by 0 before and 1 after, an odd one by 1 and 1.
        odd_h, odd_w = x.shape[-2] % 2, x.shape[-1] % 2
        x = F.pad(x, (odd_w, 1, odd_h, 1))
        return F.conv2d(x, net.state[f"{name}.weight"], net.state[f"{name}.bias"], stride)

    image = torch.rand(2, 3, h, w)
    x = F.leaky_relu(same(2 * image - 1, "net.0", 1), 0.2)
    for index, stride in enumerate(DOWNS):
        x = same(x, f"net.{2 + 3 * index}", stride)
        x = F.leaky_relu(net.norm(x, f"net.{3 + 3 * index}", eps=1e-3), 0.2)
    close(network(image), torch.sigmoid(net.conv(x, "net.23")))


def test_the_patch_discriminator_has_the_published_map() -> None:
    with torch.no_grad():
        assert PatchDiscriminator()(torch.rand(1, 3, 180, 320)).shape == (1, 1, 12, 20)


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
