"""TSRCNN: the original inside its border, for windows of a clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpreel.models import tsrcnn
from sharpreel.models.tsrcnn import TSRCNN
from tests.support.image_networks import State, close


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
def test_tsrcnn_refuses_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TSRCNN(**arguments)
