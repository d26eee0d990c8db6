"""Losses: each against its equation stated once more in NumPy or by another library."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from skimage.filters import gaussian
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from sharpreel.errors import UsageError, WeightsError
from sharpreel.models.srgan import Discriminator, FastDiscriminator, PatchDiscriminator
from sharpreel.models.vgg import LAYERS
from sharpreel.training.losses import CombinedLoss, LossWeights, pixel
from sharpreel.training.losses.adversarial import (
    FAST_SRGAN_LABELS,
    Adversarial,
    Labels,
    feature_matching,
    features_of,
    matching,
    score_and_features,
)
from sharpreel.training.losses.perceptual import Perceptual
from sharpreel.training.losses.pixel import (
    LOSSES,
    charbonnier,
    dssim,
    inverse_psnr,
    l1,
    pixel_loss,
    ssim7,
    total_variation,
)

Array = npt.NDArray[np.float64]


def rand(*shape: int, seed: int = 0) -> Tensor:
    """float64, so that a reference in NumPy agrees to the last digits."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def two(*shape: int) -> tuple[Tensor, Tensor]:
    """An sr near its hr, outside [0, 1] in places, and that hr."""
    hr = rand(*shape)
    return hr + 0.3 * (rand(*shape, seed=1) - 0.5), hr


def gradient(loss: Callable[[Tensor], Tensor], sr: Tensor) -> Tensor:
    leaf = sr.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    return found


# --- Pixels -------------------------------------------------------------------------------------


def numpy_ssim(x: Array, y: Array) -> float:
    """One channel, with skimage's Gaussian filter; only windows inside the picture."""

    def blur(image: Array) -> Array:
        blurred: Array = gaussian(image, sigma=1.0, truncate=3.0, mode="reflect")
        return blurred[3:-3, 3:-3]

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    ratio = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(ratio.mean())


def numpy_dssim(sr: Array, hr: Array) -> float:
    channels = zip(sr.reshape(-1, *sr.shape[-2:]), hr.reshape(-1, *hr.shape[-2:]), strict=True)
    return 1 - float(np.mean([numpy_ssim(x, y) for x, y in channels]))


REFERENCES: dict[str, Callable[[Array, Array], float]] = {
    "l1": lambda sr, hr: float(np.abs(sr - hr).mean()),
    "charbonnier": lambda sr, hr: float(np.hypot(sr - hr, 1e-3).mean()),
    "mse": lambda sr, hr: float(np.mean((sr - hr) ** 2)),
    "inverse_psnr": lambda sr, hr: 1 / (-10 * math.log10(np.mean((sr - hr) ** 2) + 1e-8)),
    "dssim": numpy_dssim,
}
SHAPES = [(2, 3, 12, 9), (2, 2, 3, 8, 11), (1, 1, 7, 7)]


def test_every_pixel_loss_has_a_reference() -> None:
    assert REFERENCES.keys() == LOSSES.keys()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_a_pixel_loss_is_its_equation_for_pictures_and_clips(
    name: str, shape: tuple[int, ...]
) -> None:
    sr, hr = two(*shape)
    loss = pixel_loss(name)(sr, hr)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(REFERENCES[name](sr.numpy(), hr.numpy()), rel=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_pixel_loss_falls_along_its_gradient_which_is_finite_even_for_equal_pictures(
    name: str,
) -> None:
    sr, hr = two(2, 3, 10, 12)
    loss = pixel_loss(name)
    slope = gradient(lambda x: loss(x, hr), sr)
    assert slope.isfinite().all()
    assert loss(sr - 1e-3 * slope / slope.norm(), hr) < loss(sr, hr)
    assert gradient(lambda x: loss(x, hr), hr).isfinite().all()


@pytest.mark.parametrize("name", REFERENCES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    sr, hr = (picture.to(torch.bfloat16) for picture in two(2, 3, 10, 12))
    loss = pixel_loss(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(sr, hr).dtype == torch.float32
        assert loss(sr, hr).item() == pytest.approx(loss(sr.double(), hr.double()).item(), rel=1e-4)


def test_equal_pictures_have_no_loss_but_that_of_the_epsilons() -> None:
    picture = rand(1, 3, 9, 9)
    values = {name: loss(picture, picture).item() for name, loss in LOSSES.items()}
    assert values.pop("dssim") == pytest.approx(0, abs=1e-12)
    assert values == pytest.approx({"l1": 0, "charbonnier": 1e-3, "mse": 0, "inverse_psnr": 1 / 80})


def test_the_psnr_of_a_loss_is_that_of_the_whole_batch() -> None:
    hr = torch.zeros(2, 3, 8, 8)
    sr = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.3)])
    decibels = -10 * math.log10((0.01 + 0.09) / 2)  # not the mean of 20 and 10.5 dB
    assert inverse_psnr(sr, hr).item() == pytest.approx(1 / decibels, rel=1e-5)


def test_ssim_is_that_of_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    # It cuts a Gaussian at 3.5 sigma: 7 taps below sigma 1, 9 taps at 1.
    monkeypatch.setattr(pixel, "SSIM_SIGMA", 0.99)
    sr, hr = two(2, 3, 20, 17)
    options: dict[str, Any] = {"gaussian_weights": True, "use_sample_covariance": False}
    wanted = [
        structural_similarity(
            x.numpy(), y.numpy(), sigma=0.99, data_range=1.0, channel_axis=0, **options
        )
        for x, y in zip(sr, hr, strict=True)
    ]
    assert ssim7(sr, hr).item() == pytest.approx(np.mean(wanted), rel=1e-9)


def test_charbonnier_with_a_wide_epsilon_is_flat_and_with_a_narrow_one_is_l1() -> None:
    sr, hr = two(1, 3, 8, 8)
    assert charbonnier(sr, hr, epsilon=100.0).item() == pytest.approx(100, rel=1e-4)
    assert charbonnier(sr, hr, epsilon=1e-9).item() == pytest.approx(F.l1_loss(sr, hr).item())


@pytest.mark.parametrize("name", REFERENCES)
def test_pictures_of_two_shapes_are_refused_not_spread_out(name: str) -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(1, 3, 8, 8\) and \(2, 3, 8, 8\)"):
        pixel_loss(name)(rand(1, 3, 8, 8), rand(2, 3, 8, 8))


@pytest.mark.parametrize("name", REFERENCES)
def test_a_frame_without_its_batch_or_in_integers_is_refused(name: str) -> None:
    loss = pixel_loss(name)
    with pytest.raises(ValueError, match=r"sr must be floats .* got torch.float64 of shape \(3, 8"):
        loss(rand(3, 8, 8), rand(3, 8, 8))
    integers = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"sr must be floats .* got torch.uint8"):
        loss(integers, integers)


def test_ssim_refuses_a_picture_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="at least 7 x 7 pixels, got 6 x 9"):
        dssim(rand(1, 3, 6, 9), rand(1, 3, 6, 9))


def test_an_unknown_loss_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"called charbonier\. Did you mean charbonnier\? There a"):
        pixel_loss("charbonier")
    with pytest.raises(UsageError, match=r"called zzz\. There are: l1, charbonnier, mse, inverse"):
        pixel_loss("zzz")


# --- Total variation ----------------------------------------------------------------------------


def published_tv(x: Array) -> float:
    """iSeeBetter's, value by value."""
    n, c, h, w = x.shape
    vertical = sum(
        (x[i, j, k + 1, m] - x[i, j, k, m]) ** 2
        for i in range(n)
        for j in range(c)
        for k in range(h - 1)
        for m in range(w)
    )
    horizontal = sum(
        (x[i, j, k, m + 1] - x[i, j, k, m]) ** 2
        for i in range(n)
        for j in range(c)
        for k in range(h)
        for m in range(w - 1)
    )
    return float(2 * (vertical / (c * (h - 1) * w) + horizontal / (c * h * (w - 1))) / n)


def test_squared_total_variation_is_that_of_the_published_code() -> None:
    sr = rand(2, 3, 4, 6)
    assert total_variation(sr).item() == pytest.approx(published_tv(sr.numpy()), rel=1e-9)


def test_absolute_total_variation_is_a_sum_per_picture() -> None:
    sr = rand(2, 3, 4, 6)
    down, right = np.diff(sr.numpy(), axis=2), np.diff(sr.numpy(), axis=3)
    wanted = (np.abs(down).sum() + np.abs(right).sum()) / 2
    assert total_variation(sr, "absolute").item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("form", ["squared", "absolute"])
def test_total_variation_of_a_clip_is_that_of_its_pictures(
    form: Literal["squared", "absolute"],
) -> None:
    clip = rand(2, 3, 3, 5, 4)
    assert total_variation(clip, form) == total_variation(clip.flatten(0, 1), form)
    assert total_variation(torch.full((1, 3, 5, 5), 0.4), form) == 0
    assert gradient(lambda x: total_variation(x, form), clip).isfinite().all()


def test_total_variation_refuses_a_line_of_pixels_and_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="at least 2 x 2 pixels, got 1 x 5"):
        total_variation(rand(1, 3, 1, 5))
    with pytest.raises(ValueError, match="form must be squared or absolute, got 'cubed'"):
        total_variation(rand(1, 3, 5, 5), "cubed")  # type: ignore[arg-type]


# --- Features of a VGG --------------------------------------------------------------------------

# torchvision's configurations D and E: widths of convolutions, M for a pooling.
VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"
VGG19 = "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"


def plain_vgg(configuration: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    into = 3
    for word in configuration.split():
        if word == "M":
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            layers += [nn.Conv2d(into, int(word), kernel_size=3, padding=1), nn.ReLU()]
            into = int(word)
    return nn.Sequential(*layers)


def make(folder: Path, name: str, configuration: str) -> tuple[Path, nn.Sequential]:
    """A file of random weights with torchvision's names, and the network that has them."""
    torch.manual_seed(0)
    network = plain_vgg(configuration)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # so that differences survive to the end
    state = {f"features.{key}": tensor for key, tensor in network.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    torch.save(state, folder / name)
    return folder / name, network.eval()


Vgg = tuple[Path, nn.Sequential]


@pytest.fixture(scope="session")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Vgg:
    return make(tmp_path_factory.mktemp("vgg16"), "vgg16-397923af.pth", VGG16)


@pytest.fixture(scope="session")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Vgg:
    return make(tmp_path_factory.mktemp("vgg19"), "vgg19-dcbb9e9d.pth", VGG19)


@pytest.fixture(scope="session")
def perceptual(vgg16: Vgg) -> Perceptual:
    return Perceptual(weights=vgg16[0])


def expected(
    network: nn.Sequential, sr: Tensor, hr: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> float:
    with torch.no_grad():
        return loss(network(sr), network(hr)).item()


def test_features_are_those_of_a_plain_vgg16_after_its_last_pooling(
    vgg16: Vgg, perceptual: Perceptual
) -> None:
    sr, hr = (picture.float() for picture in two(2, 3, 40, 33))
    wanted = expected(vgg16[1], sr, hr, F.mse_loss)
    assert wanted > 1e-4
    assert perceptual(sr, hr).item() == pytest.approx(wanted, rel=1e-4)
    assert perceptual(sr[None], hr[None]).item() == pytest.approx(wanted, rel=1e-4)
    assert perceptual(hr, hr) == 0
    double = perceptual(sr.double(), hr.double())  # the network's precision decides
    assert double.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("layer", "last"),
    [
        ("vgg19_43", "conv4_3"),
        ("vgg19_53", "conv5_3"),
        ("vgg19_54", "conv5_4"),
    ],
)
def test_a_layer_of_vgg19_ends_where_its_name_says(vgg19: Vgg, layer: str, last: str) -> None:
    names: list[str] = []
    stage, convs = 1, 0
    for word in VGG19.split():
        if word == "M":
            names.append(f"pool{stage}")
            stage, convs = stage + 1, 0
        else:
            convs += 1
            names += [f"conv{stage}_{convs}", f"relu{stage}_{convs}"]
    network = nn.Sequential(*list(vgg19[1])[: names.index(last.replace("conv", "relu")) + 1])
    sr, hr = (picture.float() for picture in two(1, 3, 16, 18))
    module = Perceptual(layer, vgg19[0])
    assert len(module.features) == LAYERS[layer].end
    assert module(sr, hr).item() == pytest.approx(expected(network, sr, hr, F.mse_loss), rel=1e-4)


def test_normalising_smooth_l1_and_a_divisor_are_settings(vgg16: Vgg) -> None:
    path, network = vgg16
    sr, hr = (picture.float() for picture in two(1, 3, 32, 32))
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    with torch.no_grad():
        f_sr, f_hr = network((sr - mean) / std) / 12.75, network((hr - mean) / std) / 12.75
    module = Perceptual(weights=path, normalise=True, distance="smooth_l1", divisor=12.75)
    difference = (f_sr - f_hr).abs()
    smooth = torch.where(difference < 1, 0.5 * difference**2, difference - 0.5).mean()
    assert module(sr, hr).item() == pytest.approx(smooth.item(), rel=1e-4)


def test_gradients_reach_sr_and_nothing_else(perceptual: Perceptual) -> None:
    sr, hr = (picture.float().requires_grad_() for picture in two(1, 3, 32, 32))
    perceptual(sr, hr).backward()
    assert sr.grad is not None
    assert sr.grad.isfinite().all()
    assert sr.grad.abs().sum() > 0
    assert hr.grad is None
    assert all(p.grad is None and not p.requires_grad for p in perceptual.parameters())


def test_the_network_stays_in_inference_mode_and_its_tensors_keep_torchvisions_names(
    vgg16: Vgg, perceptual: Perceptual
) -> None:
    assert not any(module.training for module in nn.Sequential(perceptual).train()[0].modules())
    saved = torch.load(vgg16[0], weights_only=True)
    assert set(perceptual.state_dict()) == {n for n in saved if n.startswith("features.")}


def test_a_safetensors_file_gives_the_same(
    vgg16: Vgg, perceptual: Perceptual, tmp_path: Path
) -> None:
    path = tmp_path / "vgg16.safetensors"
    safetensors.torch.save_file(torch.load(vgg16[0], weights_only=True), path)
    sr, hr = (picture.float() for picture in two(1, 3, 32, 32))
    assert Perceptual(weights=path)(sr, hr) == perceptual(sr, hr)


@pytest.mark.parametrize(
    ("layer", "file"),
    [("vgg16_pool5", "vgg16-397923af.pth"), ("vgg19_54", "vgg19-dcbb9e9d.pth")],
)
def test_without_a_file_the_message_says_which_to_get_and_how_to_give_it(
    layer: str, file: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=rf"Get https://\S+/{file} and give its path as `weights`"):
        Perceptual(layer, None)
    with pytest.raises(WeightsError, match=rf"no\.pth: no such file\. .*/{file}"):
        Perceptual(layer, tmp_path / "no.pth")


def test_the_file_of_the_other_vgg_is_refused_in_one_line(vgg16: Vgg, vgg19: Vgg) -> None:
    with pytest.raises(WeightsError, match=r"not torchvision's vgg19-dcbb9e9d.pth: features\.16"):
        Perceptual("vgg19_54", vgg16[0])
    with pytest.raises(WeightsError, match=r"not torchvision's vgg16-397923af.pth: features\.17"):
        Perceptual(weights=vgg19[0])


Change = Callable[[dict[str, Tensor]], Any]


def with_norm(state: dict[str, Tensor]) -> Any:
    return state | {"features.1.running_mean": torch.zeros(64)}


def with_thin(state: dict[str, Tensor]) -> Any:
    return state | {"features.0.weight": torch.zeros(64, 1, 3, 3)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: {n: t for n, t in s.items() if "28" not in n}, r"features\.28\.weight is missi"),
        (with_norm, r"features\.1\.running_mean is none of its tensors"),
        (with_thin, r"features\.0\.weight is \(64, 1, 3, 3\), not \(64, 3, 3, 3\)"),
        (lambda s: {"state_dict": s}, r"features\.0\.weight is missing"),
        (list, "not a file of tensors"),
    ],
)
def test_a_file_with_other_tensors_is_refused_in_one_line(
    vgg16: Vgg, tmp_path: Path, change: Change, reason: str
) -> None:
    empty = {n: torch.zeros(()).expand(t.shape) for n, t in vgg16[1].state_dict().items()}
    torch.save(change({f"features.{n}": t for n, t in empty.items()}), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=reason) as caught:
        Perceptual(weights=tmp_path / "other.pth")
    assert "\n" not in str(caught.value)


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize("name", ["trap.pth", "trap.safetensors"])
def test_nothing_in_a_file_is_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(
        WeightsError, match=rf"{name}: not a file of tensors .* No code in the file was"
    ):
        Perceptual(weights=tmp_path / name)


def test_pictures_a_vgg_cannot_see_are_refused(perceptual: Perceptual) -> None:
    with pytest.raises(ValueError, match=r"RGB pictures of at least 32 x 32 .* 3 channels of 31 x"):
        perceptual(rand(1, 3, 31, 40), rand(1, 3, 31, 40))
    with pytest.raises(ValueError, match="got 1 channels of 32 x 32"):
        perceptual(rand(1, 1, 32, 32), rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="must have one shape"):
        perceptual(rand(1, 3, 32, 32), rand(1, 3, 32, 34))


def test_settings_of_the_perceptual_loss_that_do_not_exist_are_refused(vgg16: Vgg) -> None:
    with pytest.raises(UsageError, match=r"vgg19_5\. Did you mean vgg19_54\?"):
        Perceptual("vgg19_5", vgg16[0])
    with pytest.raises(ValueError, match="distance must be mse or smooth_l1, got 'l3'"):
        Perceptual(weights=vgg16[0], distance="l3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="divisor must be more than 0"):
        Perceptual(weights=vgg16[0], divisor=0)


# --- Generator against discriminator ------------------------------------------------------------

FAKE = torch.tensor([[-1.5, 0.2], [0.7, -0.4]], dtype=torch.float64)  # logits
REAL = torch.tensor([[1.1, -0.3], [2.5, 0.6]], dtype=torch.float64)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def bce(logits: Array, label: float) -> float:
    p = sigmoid(logits)
    return float(-(label * np.log(p) + (1 - label) * np.log(1 - p)).mean())


def sides(how: Adversarial) -> tuple[float, float]:
    """(generator's loss, discriminator's loss) for the scores above, as `how` wants them."""
    fake, real = (FAKE, REAL) if how.logits else (FAKE.sigmoid(), REAL.sigmoid())
    return how.generator(fake, real).item(), how.discriminator(fake, real).item()


@pytest.mark.parametrize("logits", [False, True])
def test_iseebetter_compares_probabilities(logits: bool) -> None:
    fake, real = sigmoid(FAKE.numpy()).mean(), sigmoid(REAL.numpy()).mean()
    assert sides(Adversarial("iseebetter", logits)) == pytest.approx((-fake, 1 - real + fake))


@pytest.mark.parametrize("logits", [False, True])
def test_srgan_is_binary_cross_entropy_on_both_sides(logits: bool) -> None:
    fake, real = FAKE.numpy(), REAL.numpy()
    wanted = (bce(fake, 1), bce(real, 1) + bce(fake, 0))
    assert sides(Adversarial("srgan", logits)) == pytest.approx(wanted)


def test_the_relativistic_loss_asks_which_is_more_real() -> None:
    fake, real = FAKE.numpy(), REAL.numpy()
    r, f = real - fake.mean(), fake - real.mean()
    wanted = ((bce(r, 0) + bce(f, 1)) / 2, (bce(r, 1) + bce(f, 0)) / 2)
    assert sides(Adversarial("relativistic", logits=True)) == pytest.approx(wanted)


def test_the_relativistic_loss_takes_labels_too() -> None:
    how = Adversarial("relativistic", True, Labels((0.9, 0.9), (0.2, 0.2), (0.8, 0.8)))
    fake, real = FAKE.numpy(), REAL.numpy()
    r, f = real - fake.mean(), fake - real.mean()
    wanted = ((bce(r, 0.2) + bce(f, 0.8)) / 2, (bce(r, 0.9) + bce(f, 0.2)) / 2)
    assert sides(how) == pytest.approx(wanted)


@pytest.mark.parametrize("logits", [False, True])
def test_labels_are_drawn_from_their_ranges_by_the_given_generator(logits: bool) -> None:
    def how() -> Adversarial:
        rng = torch.Generator().manual_seed(5)
        return Adversarial("srgan", logits, FAST_SRGAN_LABELS, rng)

    rng = torch.Generator().manual_seed(5)
    draws = [torch.rand(2, 2, generator=rng, dtype=torch.float64) for _ in range(3)]
    told = F.binary_cross_entropy_with_logits
    generator = told(FAKE, 0.7 + 0.3 * draws[0])
    discriminator = told(REAL, 0.8 + 0.3 * draws[1]) + told(FAKE, 0.3 * draws[2])
    assert sides(how()) == pytest.approx((generator.item(), discriminator.item()))
    assert sides(how()) == sides(how())


def test_labels_that_are_not_smoothed_draw_nothing() -> None:
    rng = torch.Generator().manual_seed(5)
    before = rng.get_state()
    sides(Adversarial("srgan", logits=True, labels=Labels(real=(0.9, 0.9)), rng=rng))
    assert torch.equal(rng.get_state(), before)


def game_id(how: Adversarial) -> str:
    labels = "hard" if how.labels == Labels() else "smooth"
    return f"{how.name}-{'logits' if how.logits else 'probabilities'}-{labels}"


GAMES = [
    Adversarial("iseebetter"),
    Adversarial("iseebetter", logits=True),
    Adversarial("srgan"),
    Adversarial("srgan", logits=True),
    Adversarial("srgan", labels=FAST_SRGAN_LABELS),
    Adversarial("relativistic", logits=True),
]


@pytest.mark.parametrize("how", [game for game in GAMES if game.labels == Labels()], ids=game_id)
def test_each_side_of_a_game_pulls_the_scores_its_way(how: Adversarial) -> None:
    fake, real = (FAKE, REAL) if how.logits else (FAKE.sigmoid(), REAL.sigmoid())
    assert (gradient(lambda x: how.generator(x, real), fake) < 0).all()  # sr looks more real
    assert (gradient(lambda x: how.discriminator(x, real), fake) > 0).all()
    assert (gradient(lambda x: how.discriminator(fake, x), real) < 0).all()


@pytest.mark.parametrize("how", GAMES, ids=game_id)
def test_gradients_are_finite_when_a_discriminator_is_certain(how: Adversarial) -> None:
    wrong, right = (torch.tensor([-200.0]), torch.tensor([200.0]))
    if not how.logits:
        wrong, right = torch.tensor([0.0]), torch.tensor([1.0])
    for scores in (wrong, right):
        assert gradient(lambda x: how.generator(x, right), scores).isfinite().all()
        assert gradient(lambda x: how.discriminator(x, right), scores).isfinite().all()
        assert gradient(lambda x: how.discriminator(wrong, x), scores).isfinite().all()


@pytest.mark.parametrize("how", GAMES, ids=game_id)
def test_a_game_in_half_precision_is_played_in_float32(how: Adversarial) -> None:
    fake, real = (FAKE, REAL) if how.logits else (FAKE.sigmoid(), REAL.sigmoid())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = how.discriminator(fake.to(torch.bfloat16), real.to(torch.bfloat16))
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_the_generator_sends_no_gradient_to_the_scores_of_hr() -> None:
    real = REAL.clone().requires_grad_()
    fake = FAKE.clone().requires_grad_()
    Adversarial("relativistic", logits=True).generator(fake, real).backward()  # type: ignore[no-untyped-call]
    assert real.grad is None
    assert fake.grad is not None


def test_a_game_with_the_wrong_scores_is_refused() -> None:
    for name in ("iseebetter", "srgan"):
        with pytest.raises(ValueError, match=r"probabilities, got -1\.5 to 0\.7\. .* logits=True"):
            Adversarial(name).generator(FAKE)
    with pytest.raises(ValueError, match="before any sigmoid, and logits=True"):
        Adversarial("relativistic")
    with pytest.raises(ValueError, match="needs `real`"):
        Adversarial("relativistic", logits=True).generator(FAKE)
    with pytest.raises(UsageError, match=r"called relativist\. Did you mean relativistic\?"):
        Adversarial("relativist")


# --- Features of a discriminator ----------------------------------------------------------------


def walked(discriminator: nn.Module, picture: Tensor) -> list[Tensor]:
    """Features by going through the layers by hand."""
    if isinstance(discriminator, FastDiscriminator):
        x = discriminator.neck(2 * picture - 1)
        found = [x]
        for step in list(discriminator.stem)[:-1]:
            x = step(x)
            found.append(x)
        return found
    found = []
    assert isinstance(discriminator.net, nn.Sequential)
    x = picture if isinstance(discriminator, Discriminator) else 2 * picture - 1
    for step in discriminator.net:
        x = step(x)
        if isinstance(step, nn.LeakyReLU):
            found.append(x)
    return found


DISCRIMINATORS: list[tuple[Callable[[], nn.Module], int]] = [
    (Discriminator, 9),
    (lambda: FastDiscriminator(8), 8),
    (PatchDiscriminator, 8),
]


@pytest.mark.parametrize(("build", "count"), DISCRIMINATORS, ids=["iseebetter", "fast", "patch"])
def test_the_features_of_a_discriminator_are_what_its_activations_put_out(
    build: Callable[[], nn.Module], count: int
) -> None:
    torch.manual_seed(0)
    discriminator = build().eval()
    picture = rand(2, 3, 32, 24).float()
    with torch.no_grad():
        score, features = score_and_features(discriminator, picture)
        wanted = walked(discriminator, picture)
        assert torch.equal(score, discriminator(picture))
        assert len(features) == len(wanted) == count
        for got, one in zip(features, wanted, strict=True):
            torch.testing.assert_close(got, one)
        clip = features_of(discriminator, picture[None])
        assert all(torch.equal(a, b) for a, b in zip(clip, features, strict=True))
    assert not any(module._forward_hooks for module in discriminator.modules())


def test_an_activation_that_stands_in_two_places_is_seen_once_in_each() -> None:
    act = nn.ReLU()
    discriminator = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 5, 1), act)
    features = features_of(discriminator, rand(1, 3, 2, 2).float())
    assert [f.shape[1] for f in features] == [4, 5]


def test_a_discriminator_that_fails_is_left_without_hooks() -> None:
    discriminator = FastDiscriminator(8)
    with pytest.raises(RuntimeError, match="channels"):
        features_of(discriminator, rand(1, 4, 16, 16).float())
    assert not any(module._forward_hooks for module in discriminator.modules())


def test_a_discriminator_without_layers_to_look_into_is_refused() -> None:
    with pytest.raises(ValueError, match="Conv2d has no activation or block"):
        features_of(nn.Conv2d(3, 1, 3), rand(1, 3, 8, 8).float())


def test_feature_matching_is_the_mean_over_layers_of_l1() -> None:
    fake = [rand(2, 4, 5, 5), rand(2, 8, 3, 3, seed=1)]
    real = [rand(2, 4, 5, 5, seed=2).requires_grad_(), rand(2, 8, 3, 3, seed=3)]
    wanted = [
        np.abs(f.numpy() - r.detach().numpy()).mean() for f, r in zip(fake, real, strict=True)
    ]
    loss = feature_matching([fake[0].requires_grad_(), fake[1]], real)
    assert loss.item() == pytest.approx(np.mean(wanted))
    loss.backward()  # type: ignore[no-untyped-call]
    assert real[0].grad is None
    assert fake[0].grad is not None


def test_features_of_pictures_of_two_sizes_are_refused() -> None:
    for one, other in (
        ([rand(1, 2, 4, 4)], [rand(1, 2, 4, 5)]),
        ([rand(1, 2, 4, 4)], []),
        ([], []),
    ):
        with pytest.raises(ValueError, match="one discriminator for two pictures of one size"):
            feature_matching(one, other)


def test_matching_is_a_perceptual_loss_without_a_file() -> None:
    torch.manual_seed(0)
    discriminator = FastDiscriminator(8)
    sr, hr = (clip.float() for clip in two(1, 2, 3, 32, 32))
    loss = matching(discriminator)
    wanted = feature_matching(features_of(discriminator, sr), features_of(discriminator, hr))
    assert loss(sr, hr) == wanted
    assert loss(hr, hr) == 0
    slope = gradient(lambda x: loss(x, hr), sr)
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0


# --- All together -------------------------------------------------------------------------------


def test_the_fourfold_loss_is_the_published_sum(vgg16: Vgg, perceptual: Perceptual) -> None:
    sr, hr = (picture.float() for picture in two(2, 3, 32, 32))
    scores = torch.tensor([0.2, 0.7])
    total, terms = CombinedLoss(perceptual)(sr, hr, scores)
    wanted = {
        "image": F.mse_loss(sr, hr).item(),
        "perceptual": expected(vgg16[1], sr, hr, F.mse_loss),
        "adversarial": -0.45,
        "total_variation": published_tv(sr.double().numpy()),
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, rel=1e-4)
    weights = {"image": 1, "perceptual": 6e-3, "adversarial": 1e-3, "total_variation": 2e-8}
    assert total.item() == pytest.approx(sum(weights[n] * wanted[n] for n in wanted), rel=1e-4)
    assert not any(term.requires_grad for term in terms.values())


def test_the_fourfold_loss_trains_a_generator_against_a_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    loss = CombinedLoss(
        matching(discriminator),
        Adversarial("srgan"),
        weights=LossWeights(perceptual=0.1, adversarial=0.01, total_variation=1e-6),
        image=charbonnier,
        form="absolute",
    )
    sr, hr = (clip.float() for clip in two(1, 2, 3, 16, 16))
    generator = nn.Conv2d(3, 3, 3, padding=1)
    made = generator(sr[0])[None]
    total, terms = loss(made, hr, discriminator(made[0]))
    total.backward()
    assert generator.weight.grad is not None
    assert generator.weight.grad.isfinite().all()
    assert all(term.isfinite() for term in terms.values())
    assert list(loss.parameters()) == []  # an optimiser of the loss would not train D


def test_a_term_of_weight_zero_is_not_computed() -> None:
    def never(sr: Tensor, hr: Tensor) -> Tensor:
        raise AssertionError

    weights = LossWeights(perceptual=0, adversarial=0.005, total_variation=0)
    sr, hr = two(1, 3, 8, 8)
    scores = torch.tensor([0.5], dtype=torch.float64)
    for perceptual in (None, never):
        loss = CombinedLoss(perceptual, weights=weights, image=l1)
        total, terms = loss(sr, hr, scores)
        assert total.item() == pytest.approx(F.l1_loss(sr, hr).item() - 0.005 * 0.5)
        assert terms["perceptual"] == terms["total_variation"] == 0


def test_the_fourfold_loss_needs_a_perceptual_term_unless_its_weight_is_zero() -> None:
    with pytest.raises(ValueError, match="a Perceptual, or matching"):
        CombinedLoss(None)


def test_the_fourfold_loss_takes_the_relativistic_game() -> None:
    game = Adversarial("relativistic", logits=True)
    loss = CombinedLoss(None, game, weights=LossWeights(perceptual=0))
    sr, hr = two(1, 3, 8, 8)
    _, terms = loss(sr, hr, FAKE, REAL)
    assert terms["adversarial"] == game.generator(FAKE, REAL)
