"""flow.py: known shifts, the direction convention, sizes and messages."""

from __future__ import annotations

import importlib
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpreel.errors import MissingExtra
from sharpreel.models.flow import Method, estimate_flow

pytestmark = pytest.mark.usefixtures("one_thread")


def moved(height: int, width: int, right: int = 0, down: int = 0) -> tuple[Tensor, Tensor]:
    """Two views of a smooth texture, whose content moves from the first to the second."""
    margin = 8
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, height // 4 + 8, width // 4 + 8, generator=generator)
    large = F.interpolate(noise, scale_factor=4.0, mode="bicubic").clamp(0, 1)

    def view(y: int, x: int) -> Tensor:
        return large[:, :, y : y + height, x : x + width]

    return view(margin, margin), view(margin - down, margin - right)


def inside(flow: Tensor) -> Tensor:
    h, w = flow.shape[2:]
    return flow[:, :, h // 4 : h - h // 4, w // 4 : w - w // 4]


@pytest.mark.parametrize("method", ["dis", "coarse2fine"])
@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 3), (-2, 1)])
@pytest.mark.parametrize("size", [(32, 48), (27, 35)])
def test_content_that_moves_right_and_down_has_positive_flow(
    method: Method, right: int, down: int, size: tuple[int, int]
) -> None:
    flow = estimate_flow(*moved(*size, right, down), method)
    wanted = torch.tensor([right, down], dtype=torch.float32)[:, None, None]
    assert flow.shape == (1, 2, *size)
    torch.testing.assert_close(
        inside(flow), wanted.expand_as(inside(flow)[0])[None], atol=0.2, rtol=0
    )


@pytest.mark.parametrize("method", ["dis", "coarse2fine"])
def test_sampling_the_second_frame_where_the_flow_points_gives_the_first(method: Method) -> None:
    a, b = moved(32, 40, right=2, down=-1)
    flow = estimate_flow(a, b, method).round().long()
    y = (torch.arange(32)[:, None] + flow[0, 1]).clamp(0, 31)
    x = (torch.arange(40) + flow[0, 0]).clamp(0, 39)
    torch.testing.assert_close(inside(b[:, :, y, x]), inside(a))


@pytest.mark.parametrize("method", ["dis", "coarse2fine", "none"])
@pytest.mark.parametrize("size", [(16, 16), (17, 33), (9, 7), (1, 1), (3, 40)])
def test_identical_frames_have_flow_zero_at_any_size(method: Method, size: tuple[int, int]) -> None:
    frame, _ = moved(*size)
    assert torch.equal(estimate_flow(frame, frame.clone(), method), torch.zeros(1, 2, *size))


@pytest.mark.parametrize("method", ["dis", "coarse2fine"])
def test_small_frames_have_finite_flow_near_the_true_motion(method: Method) -> None:
    flow = estimate_flow(*moved(16, 16, right=1), method)
    assert (inside(flow)[:, 0].mean() - 1).abs() < 0.2
    assert (inside(flow)[:, 1].mean()).abs() < 0.2
    assert torch.isfinite(estimate_flow(*moved(5, 21, right=1), method)).all()


@pytest.mark.parametrize("method", ["dis", "coarse2fine"])
def test_a_batch_is_its_pairs_one_by_one(method: Method) -> None:
    pairs = [moved(20, 28, right=2), moved(20, 28, down=1), moved(20, 28)]
    a, b = (torch.cat(side) for side in zip(*pairs, strict=True))
    one_by_one = torch.cat([estimate_flow(*pair, method) for pair in pairs])
    torch.testing.assert_close(estimate_flow(a, b, method), one_by_one)


def test_flow_has_the_type_of_the_frames_and_no_gradient() -> None:
    a, b = (frame.double().requires_grad_() for frame in moved(16, 20, right=1))
    for method in ("dis", "coarse2fine", "none"):
        flow = estimate_flow(a, b, method)
        assert flow.dtype == torch.float64
        assert not flow.requires_grad


def test_a_constant_pair_is_finite() -> None:
    a, b = torch.zeros(1, 3, 24, 32), torch.ones(1, 3, 24, 32)
    for method in ("dis", "coarse2fine"):
        assert torch.isfinite(estimate_flow(a, b, method)).all()


def test_spynet_is_the_network_that_the_caller_passes() -> None:
    class Stub(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (a - b)[:, :2]

    a, b = moved(8, 8, right=1)
    assert torch.equal(estimate_flow(a, b, "spynet", Stub()), (a - b)[:, :2])
    with pytest.raises(ValueError, match="pass network="):
        estimate_flow(a, b, "spynet")


def test_wrong_arguments_say_what_is_expected() -> None:
    assert get_args(Method) == ("dis", "coarse2fine", "spynet", "none")
    a, b = moved(8, 8)
    with pytest.raises(ValueError, match="choose dis, coarse2fine, spynet or none"):
        estimate_flow(a, b, "farneback")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got \(1, 3, 8, 8\) and \(1, 3, 8, 7\)"):
        estimate_flow(a, b[..., 1:])
    with pytest.raises(ValueError, match="grey frame three times"):
        estimate_flow(a[:, :1], b[:, :1])


def test_without_opencv_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *rest: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtra, match=r"sharpreel\[torch\]"):
        estimate_flow(*moved(16, 16))
