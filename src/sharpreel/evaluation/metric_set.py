"""Which metrics an evaluation measures, and the models that LPIPS and NIQE need for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpreel.errors import MissingExtra, UsageError
from sharpreel.evaluation.metrics.niqe import Niqe
from sharpreel.evaluation.metrics.seams import Seams
from sharpreel.evaluation.protocols import Protocol
from sharpreel.media import images
from sharpreel.media.probe import IMAGE_SUFFIXES
from sharpreel.system import download

if TYPE_CHECKING:
    from sharpreel.evaluation.metrics.lpips import Lpips


@dataclass(frozen=True)
class MetricSet:
    """The metrics to measure on every frame: PSNR and SSIM by a protocol, and optional others.

    LPIPS and NIQE use the pixels that the protocol counts; seams and motion use full frames.

    Attributes:
        temporal: tOF, warping error and flicker, which need OpenCV.
        seams: Possible positions of seams between segments and tiles.
    """

    protocol: Protocol
    temporal: bool = True
    lpips: Lpips | None = None
    niqe: Niqe | None = None
    seams: Seams | None = None


def open_lpips(trunk: Path, heads: Path, device: str) -> Lpips:
    """Load LPIPS onto the GPU if there is one and `device` is not "cpu".

    Raises:
        MissingExtra: torch is not installed.
        WeightsError: See `lpips.Lpips`.
    """
    try:
        import torch

        from sharpreel.evaluation.metrics.lpips import Lpips
    except ImportError as e:
        raise MissingExtra("LPIPS", "torch") from e
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return Lpips(trunk, heads, "cuda" if on_gpu else "cpu")


def open_niqe(path: Path) -> tuple[Niqe, str]:
    """Load a NIQE model, or fit one on the images of a folder; the model and its name for tables.

    Raises:
        InputError: The file is not a NIQE model, or an image cannot be read.
        UsageError: The images of the folder are too few or too blurred.
    """
    if not path.is_dir():
        return Niqe.load(path), f"{path}, SHA-256 {download.sha256_of(path)[:8]}"
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    try:
        return Niqe.fit(map(images.read_rgb, files)), f"{path}, fitted on its {len(files)} images"
    except ValueError as e:
        raise UsageError(f"niqe={path}: {e}") from e
