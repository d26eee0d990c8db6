"""BasicVSR: its recurrence and its checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.models import basicvsr, basicvsrpp, spynet
from sharpreel.models.basicvsr import BasicVSR
from sharpreel.models.basicvsrpp import BasicVSRPlusPlus
from sharpreel.models.spynet import SPyNet
from tests.support.networks import (
    State,
    conv,
    fast_warp,
    lrelu,
    moving_clip,
    numbered,
    published_spynet,
    shuffled,
    tensors_of,
    trunk,
    up,
)

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("scale", [2, 4])
def test_basicvsr_is_its_recurrence(scale: int) -> None:
    net, clip = shuffled(BasicVSR(6, 2, scale)), moving_clip(t=3, n=2)
    state, x = net.state_dict(), clip.unbind(1)
    flow: Callable[[Tensor, Tensor], Tensor] = net.spynet  # type: ignore[assignment]
    nothing = torch.zeros(2, 6, 24, 32)

    def back(i: int) -> Tensor:
        after = fast_warp(back(i + 1), flow(x[i], x[i + 1])) if i + 1 < len(x) else nothing
        return trunk(state, "backward_trunk", x[i], after)

    def forth(i: int) -> Tensor:
        before = fast_warp(forth(i - 1), flow(x[i], x[i - 1])) if i else nothing
        return trunk(state, "forward_trunk", x[i], before)

    assert flow(x[0], x[1]).abs().mean() > 0.3
    out = net(clip)
    for i in range(3):
        fused = lrelu(conv(state, "fusion", torch.cat([back(i), forth(i)], 1)))
        base = F.interpolate(x[i], scale_factor=scale, mode="bilinear")
        torch.testing.assert_close(out[:, i], base + up(state, fused), atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("small_frames")
def test_swapping_basicvsrs_branches_is_turning_time_round() -> None:
    """True for BasicVSR, whose branches differ in direction alone; not for BasicVSR++."""
    net, clip = shuffled(BasicVSR(6, 1, 2)), moving_clip(t=4)
    state = net.state_dict()
    swapped = {
        name.replace("backward", "tmp").replace("forward", "backward").replace("tmp", "forward"): t
        for name, t in state.items()
    }
    swapped["fusion.weight"] = state["fusion.weight"].roll(6, dims=1)
    turned = BasicVSR(6, 1, 2).eval()
    turned.load_state_dict(swapped)
    torch.testing.assert_close(turned(clip.flip(1)).flip(1), net(clip), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(net(clip.flip(1)).flip(1), net(clip), atol=1e-3)


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("build", [lambda: BasicVSR(8, 1, 2), lambda: BasicVSRPlusPlus(8, 1, 2)])
def test_every_frame_sees_the_whole_clip(build: Callable[[], nn.Module]) -> None:
    net, clip = shuffled(build()), moving_clip(t=3)
    out = net(clip)
    for changed in (0, 2):
        other = clip.clone()
        other[:, changed] = 1 - other[:, changed]
        assert ((net(other) - out).abs().amax(dim=(0, 2, 3, 4)) > 1e-5).all()


@pytest.mark.usefixtures("small_frames")
@pytest.mark.parametrize("build", [lambda: BasicVSR(8, 1, 2), lambda: BasicVSRPlusPlus(8, 1, 2)])
def test_a_mirrored_clip_is_no_special_case(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, clip = shuffled(build()), moving_clip(t=2)
    mirrored = torch.cat([clip, clip.flip(1)], dim=1)
    short_cut = net(mirrored)
    monkeypatch.setattr(torch, "equal", lambda *_: False)
    torch.testing.assert_close(net(mirrored), short_cut, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(short_cut, short_cut.flip(1), atol=1e-4)


NETWORKS: list[Callable[[], nn.Module]] = [
    lambda: BasicVSR(8, 1, 2),
    lambda: BasicVSR(8, 1, 4),
    lambda: BasicVSRPlusPlus(8, 1, 2),
    lambda: BasicVSRPlusPlus(8, 1, 4),
    lambda: BasicVSRPlusPlus(8, 1, 1, 4),
    lambda: BasicVSRPlusPlus(8, 1, 1, 2),
]


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize(("t", "h", "w"), [(1, 64, 64), (2, 13, 71)])
def test_the_output_is_exactly_scale_times_the_input(
    build: Callable[[], nn.Module], t: int, h: int, w: int
) -> None:
    net = build()
    sr = net(torch.rand(1, t, 3, h, w))
    scale = net.scale
    assert isinstance(scale, int)
    assert sr.shape == (1, t, 3, h * scale, w * scale)
    assert torch.isfinite(sr).all()


def test_a_form_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be 2 or 4, got 3"):
        BasicVSR(scale=3)
    with pytest.raises(ValueError, match="no form with scale 4 and shrink 4"):
        BasicVSRPlusPlus(scale=4, shrink=4)
    with pytest.raises(ValueError, match="multiple of 8"):
        BasicVSRPlusPlus(channels=12)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (SPyNet, 1_440_300),
        (BasicVSR, 6_291_311),
        (lambda: BasicVSR(blocks=15), 4_075_631),
        (BasicVSRPlusPlus, 7_322_927),
        (lambda: BasicVSRPlusPlus(scale=1, shrink=4), 7_396_783),
        (lambda: BasicVSRPlusPlus(blocks=15, scale=1, shrink=4), 9_760_175),
        (lambda: BasicVSRPlusPlus(128, 25), 43_780_463),
    ],
)
def test_networks_have_the_published_number_of_parameters(
    build: Callable[[], nn.Module], count: int
) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == count


def published_trunk(name: str, wide_in: int, blocks: int) -> State:
    state = tensors_of(f"{name}.main.0", wide_in, 64)
    for block, layer in itertools.product(range(blocks), ("conv1", "conv2")):
        state |= tensors_of(f"{name}.main.2.{block}.{layer}", 64, 64)
    return state


def published_tail(mm: bool, shuffles: int = 2) -> State:
    names = ("upsample1.upsample_conv", "upsample2.upsample_conv") if mm else ("upconv1", "upconv2")
    state: State = {}
    for name in names[:shuffles]:
        state |= tensors_of(name, 64, 256)
    return state | tensors_of("conv_hr", 64, 64) | tensors_of("conv_last", 64, 3)


def published(family: str, mm: bool, shuffles: int = 2, strided: int = 0) -> State:
    """A checkpoint's tensors by the names and shapes in which the two code bases write them."""
    state = published_spynet("spynet.", mm) | published_tail(mm, shuffles)
    state |= {f"spynet.{name}": torch.zeros(1, 3, 1, 1) for name in ("mean", "std")}
    if family == "basicvsr":
        kind = "resblocks" if mm else "trunk"
        for direction in ("backward", "forward"):
            state |= published_trunk(f"{direction}_{kind}", 67, 30)
        state |= tensors_of("fusion", 128, 64, kernel=1)
    else:
        for layer in range(strided):
            state |= tensors_of(f"feat_extract.{2 * layer}", 64 if layer else 3, 64)
        extract = f"feat_extract.{2 * strided}" if strided else "feat_extract"
        state |= published_trunk(extract, 64 if strided else 3, 5)
        for earlier, branch in enumerate(("backward_1", "forward_1", "backward_2", "forward_2")):
            state |= tensors_of(f"deform_align.{branch}", 128, 64)
            for layer in (0, 2, 4, 6):
                name = f"deform_align.{branch}.conv_offset.{layer}"
                state |= tensors_of(name, 64 if layer else 196, 432 if layer == 6 else 64)
            state |= published_trunk(f"backbone.{branch}", 64 * (2 + earlier), 7)
        state |= published_trunk("reconstruction", 320, 5)
    if mm:
        state = {f"generator.{name}": tensor for name, tensor in state.items()}
        state |= {
            name.replace("generator.", "generator_ema."): t
            for name, t in state.items()
            if "conv_last" in name
        }
        state["step_counter"] = torch.zeros(1)
        state["discriminator.conv0.weight"] = torch.zeros(4)
    return state


@pytest.mark.parametrize("mm", [False, True])
@pytest.mark.parametrize(
    ("family", "shuffles", "strided", "arguments"),
    [
        ("basicvsr", 2, 0, {"channels": 64, "blocks": 30, "scale": 4}),
        ("basicvsr", 1, 0, {"channels": 64, "blocks": 30, "scale": 2}),
        ("basicvsrpp", 2, 0, {"channels": 64, "blocks": 7, "scale": 4, "shrink": 1}),
        ("basicvsrpp", 1, 0, {"channels": 64, "blocks": 7, "scale": 2, "shrink": 1}),
        ("basicvsrpp", 2, 2, {"channels": 64, "blocks": 7, "scale": 1, "shrink": 4}),
        ("basicvsrpp", 1, 1, {"channels": 64, "blocks": 7, "scale": 1, "shrink": 2}),
    ],
)
def test_published_names_load_in_both_styles(
    mm: bool, family: str, shuffles: int, strided: int, arguments: dict[str, int]
) -> None:
    rooms = {"basicvsr": basicvsr, "basicvsrpp": basicvsrpp}
    state = numbered(published(family, mm, shuffles, strided))
    found = rooms.pop(family).recognise(state)
    assert found is not None
    assert found[0] == arguments
    with torch.device("meta"):
        net = (BasicVSR if family == "basicvsr" else BasicVSRPlusPlus)(**found[0])
    net.load_state_dict(found[1], assign=True)
    prefix = "generator." if mm else ""
    upconv = "generator.upsample1.upsample_conv" if mm else "upconv1"
    convs = "1.conv" if mm else "2"
    for name, tensor in (
        (f"{prefix}conv_last.bias", net.conv_last.bias),
        (f"{upconv}.weight", net.upconv1.weight),
        (f"{prefix}spynet.basic_module.3.basic_module.{convs}.bias", second_conv(net.spynet, 3)),
    ):
        assert tensor is not None
        assert torch.equal(tensor, state[name])
    (other,) = rooms.values()
    assert other.recognise(state) is None
    assert spynet.recognise(state) is None


def second_conv(net: SPyNet, level: int) -> Tensor:
    bias: Tensor = net.state_dict()[f"basic_module.{level}.basic_module.2.bias"]
    return bias


def test_basicsr_style_has_the_published_number_of_tensors() -> None:
    assert len(published("basicvsrpp", mm=False)) == 274


def tiny(family: str) -> State:
    net = BasicVSR(8, 1, 4) if family == "basicvsr" else BasicVSRPlusPlus(8, 1, 4)
    return net.state_dict()


@pytest.mark.parametrize("family", ["basicvsr", "basicvsrpp"])
def test_checkpoints_with_missing_extra_or_misshapen_tensors_are_not_recognised(
    family: str,
) -> None:
    recognise = {"basicvsr": basicvsr.recognise, "basicvsrpp": basicvsrpp.recognise}[family]
    whole = tiny(family)
    assert recognise(whole) is not None
    assert recognise({f"module.{name}": tensor for name, tensor in whole.items()}) is not None
    for name in list(whole)[:: len(whole) // 12]:
        without = {other: tensor for other, tensor in whole.items() if other != name}
        assert recognise(without) is None, f"without {name}"
        assert recognise(whole | {name: whole[name][None]}) is None, f"{name} has another shape"
    assert recognise(whole | {"upconv3.bias": torch.zeros(8)}) is None
    # The same tensor under both of its names.
    assert recognise(whole | {"generator.conv_last.bias": torch.zeros(3)}) is None
    assert recognise({}) is None
    assert recognise({"fusion.bias": torch.zeros(0)}) is None
    assert recognise({"deform_align.backward_1.bias": torch.tensor(3.0)}) is None


def test_iconvsr_and_other_relatives_are_not_taken_for_basicvsr() -> None:
    relative = tiny("basicvsr") | tensors_of("backward_fusion", 16, 8)
    assert basicvsr.recognise(relative) is None


def test_half_precision_checkpoints_are_recognised() -> None:
    halves = {name: tensor.half() for name, tensor in tiny("basicvsrpp").items()}
    found = basicvsrpp.recognise(halves)
    assert found is not None
    assert found[1]["conv_last.bias"].dtype == torch.float16
