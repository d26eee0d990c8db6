"""Validation: scores of the weights under training on clips that they are not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sharpreel import ops
from sharpreel.data.sampling import choose_target, middle
from sharpreel.data.store import Clip
from sharpreel.engines.pytorch import TorchEngine
from sharpreel.evaluation.validation import Measure, Score, scores
from sharpreel.models import MODELS
from sharpreel.models.weights import Model
from sharpreel.ops import Pixels
from sharpreel.training.config import TrainConfig
from sharpreel.training.losses.pixel import SSIM_TAPS, pixel_loss, ssim7
from sharpreel.upscale import upscale_frames

IMAGE_SIZE = 160  # lr pixels, for networks that are validated on whole frames
WORSE_DB = 0.0005  # a smaller difference is rounding


class Validator:
    """Scores a network on the validation clips, as `sharpreel evaluate` does.

    Args:
        clips: Pairs, or bursts (T, H, W, 3) for the task "bursts".
        device: "cpu" or "cuda", where the network runs.
    """

    def __init__(self, config: TrainConfig, clips: Sequence[Any], device: str) -> None:
        self.clips = clips
        self._config = config
        self._device = device
        self._loss = pixel_loss(config.loss)

    def score(
        self, module: nn.Module, on_clip: Callable[[int, Score], None] | None = None
    ) -> list[Score]:
        """Return the PSNR, SSIM and pixel loss of each clip, and those of bicubic.

        Args:
            on_clip: Called with the number of each clip, from 1, and its score.
        """
        scored = []
        for score in self._scores(module):
            scored.append(score)
            if on_clip is not None:
                on_clip(len(scored), score)
        return scored

    def _scores(self, module: nn.Module) -> Iterator[Score]:
        c = self._config
        if c.task == "bursts":
            return score_bursts(module, self.clips, self._measures())
        clips = (middle(v, c.scale, c.validate_frames, c.validate_patch) for v in self.clips)
        return scores(self._engine(module, self._device), clips, self._measures())

    def _engine(self, module: nn.Module, device: str) -> TorchEngine:
        """Return an engine with as many threads as training uses.

        An engine sets torch's number of threads; another number would change how later steps round.
        """
        c = self._config
        card = {"arguments": dict(c.arguments)}
        model = Model(c.name, MODELS[c.model], c.scale, card, None, None, "")
        return TorchEngine(model, device, module, tile=0, threads=torch.get_num_threads())

    def _measures(self) -> dict[str, Measure]:
        """SSIM and the pixel loss of two frames (H, W, C)."""

        def ssim(sr: Pixels, hr: Pixels) -> float:
            small = min(hr.shape[:2]) < SSIM_TAPS
            return math.nan if small else float(ssim7(_as_clip(sr), _as_clip(hr)))

        def loss(sr: Pixels, hr: Pixels) -> float:
            return float(self._loss(_as_clip(sr), _as_clip(hr)))

        return {"ssim": ssim, "loss": loss}

    def image(self, module: nn.Module) -> Pixels | None:
        """Return bicubic, network and ground truth side by side, (H, 3 W, 3), uint8.

        Shows a part of the first clip's third frame; None for tasks without low-resolution input.
        """
        c = self._config
        if not self.clips or not isinstance(self.clips[0], Clip):
            return None
        clip = middle(self.clips[0], c.scale, 3, c.validate_patch or IMAGE_SIZE)
        *_, sr = upscale_frames(list(clip.lr), engine=self._engine(module, "cpu"))
        hr = clip.hr[-1]
        return np.concatenate([ops.resize(clip.lr[-1], *hr.shape[:2]), sr, hr], axis=1)


def shortfall(
    config: TrainConfig, best: float, start: float | None, scores: Sequence[Score]
) -> str:
    """Return a warning when the best weights score less than a baseline, else "".

    Args:
        best, start: PSNR in dB of the best weights, and of those that the run started from.
        scores: Of the last validation, for bicubic's.
    """
    simple = "bicubic" if config.task == "sr" else "the scan as it is"
    bicubic = float(np.mean([s.bicubic for s in scores]))
    baselines = {"the weights it started from": start, simple: bicubic}
    below = [
        f"{psnr - best:.3f} dB worse than {name}"
        for name, psnr in baselines.items()
        if psnr is not None and psnr - best >= WORSE_DB
    ]
    if not below:
        return ""
    hint = " (expected: a GAN trades PSNR for texture)." if config.gan else ". Lower learning_rate?"
    return f"The model is {' and '.join(below)}{hint}"


def _as_clip(frame: Pixels) -> Tensor:
    """(H, W, C), levels of 8 bits -> a clip of one frame, (1, 1, C, H, W) in [0, 1]."""
    pixels = np.ascontiguousarray(frame.transpose(2, 0, 1))
    return torch.from_numpy(pixels)[None, None].float() / 255


def score_bursts(
    module: nn.Module, bursts: Sequence[Any], more: Mapping[str, Measure] | None = None
) -> Iterator[Score]:
    """Yield the PSNR of each burst's denoised reference to its best scan, beside the reference's.

    Args:
        more: Additional measures of levels of 8 bits; see `validation.scores`.
    """
    network: Any = module
    neighbours = network.past + network.future
    for number, burst in enumerate(bursts):
        grey = np.asarray(burst).mean(axis=3) / 255
        best, reference, *others = choose_target(np.asarray(burst))
        window = ((others or [reference]) * neighbours)[:neighbours]
        window.insert(network.past, reference)
        lr = torch.from_numpy(grey[window].astype(np.float32))[None, :, None]  # (1, T, 1, H, W)
        with torch.inference_mode():
            sr = network.centre(lr)[0, 0].clamp(0, 1).numpy()
        hr, noisy = grey[best], grey[reference]
        truth, after, before = ((255 * x)[..., None].astype(np.float32) for x in (hr, sr, noisy))
        extra = {
            name: (measure(after, truth), measure(before, truth))
            for name, measure in (more or {}).items()
        }
        yield Score(f"burst {number}", _psnr(sr, hr), _psnr(noisy, hr), extra)


def _psnr(x: Pixels, hr: Pixels) -> float:
    """PSNR of floats in [0, 1], dB."""
    return 10 * math.log10(1 / max(float(np.mean((hr - x) ** 2)), 1e-12))
