"""lpips.py: by its definition, with random trunks and with the published heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sharpreel.errors import WeightsError
from sharpreel.evaluation.metrics.lpips import Lpips
from sharpreel.ops import Pixels

# Width, taps, stride and padding of convolutions; M for a pooling, of window and stride.
VGG: list[Any] = [
    *(64, 64, "M", 128, 128, "M", 256, 256, 256, "M"),
    *(512, 512, 512, "M", 512, 512, 512),
]
ALEX: list[Any] = [(64, 11, 4, 2), "M", (192, 5, 1, 2), "M", 384, 256, 256]
# After which of the convolutions features are taken.
TAKEN = {"vgg16": (1, 3, 6, 9, 12), "alexnet": (0, 1, 2, 3, 4)}
HEADS = {"vgg16": (64, 128, 256, 512, 512), "alexnet": (64, 192, 384, 256, 256)}


def files(folder: Path, name: str) -> tuple[Path, Path]:
    """A trunk and heads of random weights, under the published names."""
    generator = torch.Generator().manual_seed(1)
    state, number, into = {}, 0, 3
    for row in VGG if name == "vgg16" else ALEX:
        if row == "M":
            number += 1
            continue
        width, taps = row[:2] if isinstance(row, tuple) else (row, 3)
        weight = torch.randn(width, into, taps, taps, generator=generator)
        state[f"features.{number}.weight"] = weight * (2 / (into * taps**2)) ** 0.5
        state[f"features.{number}.bias"] = torch.randn(width, generator=generator) / 10
        number, into = number + 2, width
    state["classifier.6.bias"] = torch.zeros(1000)
    heads = {
        f"lin{k}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for k, width in enumerate(HEADS[name])
    }
    torch.save(state, folder / f"{name}.pth")
    torch.save(heads, folder / f"{name}_heads.pth")
    return folder / f"{name}.pth", folder / f"{name}_heads.pth"


@pytest.fixture(scope="module", params=["vgg16", "alexnet"])
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return request.param, *files(tmp_path_factory.mktemp("lpips"), request.param)


def pair(seed: int = 0, size: tuple[int, int] = (48, 64)) -> tuple[Pixels, Pixels]:
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    noise = rng.normal(0, 12, hr.shape)
    return np.clip(hr + noise, 0, 255).astype(np.uint8), hr


def plain(given: tuple[str, Path, Path], sr: Pixels, hr: Pixels) -> float:
    """The equation of the paper, in double precision, convolution by convolution."""
    name, trunk, heads = given
    state = {k: v.double() for k, v in torch.load(trunk, weights_only=True).items()}
    weights = list(torch.load(heads, weights_only=True).values())
    seen = []
    for frame in (sr, hr):
        x = torch.from_numpy(frame / 127.5 - 1).permute(2, 0, 1)[None]
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).double()[:, None, None]) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).double()[:, None, None]
        number, found = 0, []
        for row in VGG if name == "vgg16" else ALEX:
            if row == "M":
                x = F.max_pool2d(x, 2 if name == "vgg16" else 3, 2)
                number += 1
                continue
            stride, padding = row[2:] if isinstance(row, tuple) else (1, 1)
            weight, bias = (state[f"features.{number}.{part}"] for part in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, stride, padding).relu()
            found.append(x)
            number += 2
        seen.append([found[k] for k in TAKEN[name]])
    total = 0.0
    for weight, a, b in zip(weights, *seen, strict=True):
        a, b = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in (a, b))  # noqa: PLW2901
        total += F.conv2d((a - b) ** 2, weight.double()).mean().item()
    return total


def test_lpips_is_the_equation_of_the_paper(given: Any) -> None:
    lpips = Lpips(*given[1:])
    assert lpips.name == given[0]
    for seed in range(2):
        sr, hr = pair(seed)
        assert lpips(sr, hr) == pytest.approx(plain(given, sr, hr), rel=1e-4)


def test_distance_is_zero_for_equal_frames_and_grows_with_noise(given: Any) -> None:
    lpips = Lpips(*given[1:])
    sr, hr = pair()
    assert lpips(hr, hr) == 0
    near = ((sr.astype(int) + hr) // 2).astype(np.uint8)
    assert 0 < lpips(near, hr) < lpips(sr, hr)
    deep = [frame.astype(np.uint16) * 257 for frame in (sr, hr)]
    assert lpips(*deep) == pytest.approx(lpips(sr, hr), rel=1e-4)


def test_lpips_is_torchmetrics_with_the_published_heads(
    given: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    oracle = pytest.importorskip("torchmetrics.functional.image.lpips")
    name, trunk, _ = given
    layers: list[nn.Module] = []
    into = 3
    for row in VGG if name == "vgg16" else ALEX:
        if row == "M":
            layers.append(nn.MaxPool2d(2 if name == "vgg16" else 3, 2))
            continue
        width, taps, stride, padding = row if isinstance(row, tuple) else (row, 3, 1, 1)
        layers += [nn.Conv2d(into, width, taps, stride, padding), nn.ReLU()]
        into = width
    features = nn.Sequential(*layers)
    state = torch.load(trunk, weights_only=True)
    features.load_state_dict(
        {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    )
    monkeypatch.setattr(oracle, "_get_tv_model_features", lambda net, pretrained: features)
    short = {"vgg16": "vgg", "alexnet": "alex"}[name]
    heads = Path(oracle.__file__).parent / "lpips_models" / f"{short}.pth"
    theirs = oracle._LPIPS(net=short)
    ours = Lpips(trunk, heads)
    sr, hr = pair(3)
    x, y = (torch.from_numpy(f / 255).float().permute(2, 0, 1)[None] for f in (sr, hr))
    with torch.no_grad():
        expected = theirs(x, y, normalize=True).item()
    # It adds 1e-8 under the root of a length, the authors' code 1e-10 to the length itself.
    assert ours(sr, hr) == pytest.approx(expected, rel=1e-3)


def test_wrong_files_are_one_line_that_names_the_right_ones(given: Any, tmp_path: Path) -> None:
    name, trunk, heads = given
    file = {"vgg16": "v0.1/vgg.pth", "alexnet": "v0.1/alex.pth"}[name]
    with pytest.raises(WeightsError, match=r"gone.pth: no such file. LPIPS needs .*vgg16-397923af"):
        Lpips(tmp_path / "gone.pth", heads)
    with pytest.raises(WeightsError, match=r"no such file. .*alexnet-owt-7be5be79.pth with .*alex"):
        Lpips(trunk, tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="neither VGG-16 nor AlexNet"):
        Lpips(heads, heads)
    with pytest.raises(WeightsError, match=f"lin0.model.1.weight is missing.*{file}"):
        Lpips(trunk, trunk)
    other = {"vgg16": "alexnet", "alexnet": "vgg16"}[name]
    _, others = files(tmp_path, other)
    with pytest.raises(WeightsError, match=r"lin1.model.1.weight is \(1, \d+, 1, 1\), not"):
        Lpips(trunk, others)


def test_frames_too_small_or_of_two_sizes_are_rejected(given: Any) -> None:
    lpips = Lpips(*given[1:])
    small, _ = pair(size=(12, 40))
    with pytest.raises(ValueError, match=r"needs sides of (16|31) pixels or more, got 40x12"):
        lpips(small, small)
    with pytest.raises(ValueError, match="one shape"):
        lpips(*pair()[:1], small)
