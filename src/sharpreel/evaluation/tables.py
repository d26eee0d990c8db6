"""An evaluation as tables: CSV with all digits, Markdown, and text cells for the report."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from sharpreel.data.degrade import DEGRADATIONS
from sharpreel.errors import write_error
from sharpreel.evaluation.pairs import GIVEN
from sharpreel.evaluation.results import BICUBIC, Evaluation, mean

COLUMNS = (
    *("psnr", "ssim", "qm", "lpips", "niqe", "tof", "warping_error", "flicker"),
    *("seam_time", "seam_space", "vmaf", "vmaf_neg", "fps"),
)


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """Write one row for each clip and model, with all digits."""
    rows = [
        [
            *(clip.clip, result.model, evaluation.protocol, evaluation.degradation),
            *(f"{evaluation.scale:g}", clip.width, clip.height, clip.frames, clip.counted),
            *(_full(getattr(result, name)) for name in COLUMNS),
            _full(result.psnr - clip.of(BICUBIC).psnr),
            _full(clip.truth_warping_error),
            _full(clip.truth_niqe),
        ]
        for clip in evaluation.clips
        for result in clip.results
    ]
    head = ["clip", "model", "protocol", "degradation", "scale", "width", "height", "frames"]
    _write_rows(
        path, [[*head, "counted", *COLUMNS, "gain_db", "truth_warping_error", "truth_niqe"], *rows]
    )


def write_frames_csv(evaluation: Evaluation, path: Path) -> None:
    """Write one row for each counted frame and model, with all digits."""
    rows = (
        [
            *(clip.clip, result.model, evaluation.protocol, score.frame),
            *(_full(value) for value in (score.psnr, score.ssim, score.qm)),
            int(score.constant),
            *(_full(value) for value in (score.lpips, score.niqe)),
        ]
        for clip in evaluation.clips
        for result in clip.results
        for score in result.frames
    )
    head = ["clip", "model", "protocol", "frame", "psnr", "ssim", "qm", "constant", "lpips", "niqe"]
    _write_rows(path, itertools.chain([head], rows))


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)


def _write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as e:
        raise write_error(path, e) from e


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number as text for a table; "-" where nothing was measured."""
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def summary(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The means over clips, a row for each model: heads and cells.

    A metric that was not measured has no column.
    """
    kinds: list[tuple[str, str, int, float]] = [
        ("PSNR, dB", "psnr", 2, 1),
        ("SSIM", "ssim", 4, 1),
        ("QM", "qm", 3, 1),
        ("LPIPS", "lpips", 4, 1),
        ("NIQE", "niqe", 3, 1),
        ("tOF, px", "tof", 3, 1),
        ("warping error, 1e-3", "warping_error", 3, 1e3),
        ("flicker, levels", "flicker", 2, 1),
        ("seam in time", "seam_time", 2, 1),
        ("seam in space", "seam_space", 2, 1),
        ("VMAF", "vmaf", 2, 1),
        ("VMAF-NEG", "vmaf_neg", 2, 1),
        ("frames per second", "fps", 1, 1),
    ]
    names = [model.name for model in evaluation.models]
    kinds = [k for k in kinds if any(evaluation.mean(name, k[1]) is not None for name in names)]
    heads = ["model", "gain, dB", "score", *(title for title, *_ in kinds), "peak memory, MiB"]
    rows = []
    for name in names:
        means = [(evaluation.mean(name, key), digits, by) for _, key, digits, by in kinds]
        is_baseline = name == BICUBIC
        rows.append(
            [
                name,
                "" if is_baseline else number(evaluation.gain(name), 2, sign=True),
                "" if is_baseline else number(evaluation.score(name)),
                *(number(None if m is None else m * by, digits) for m, digits, by in means),
                number(evaluation.peak_memory_mb, 0),
            ]
        )
    return heads, rows


def per_clip(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """PSNR and SSIM of each clip and model, and the gain over bicubic: heads and cells."""
    names = [model.name for model in evaluation.models]
    heads = ["clip", "size", "frames"]
    for name in names:
        heads += [name] if name == BICUBIC else [name, f"gain of {name}"]
    rows = []
    for clip in evaluation.clips:
        frames = str(clip.frames)
        if clip.counted != clip.frames:
            frames = f"{clip.counted} of {clip.frames}"
        row = [clip.clip, f"{clip.width}x{clip.height}", frames]
        for result in clip.results:
            row.append(f"{number(result.psnr)} / {number(result.ssim, 4)}")
            if result.model != BICUBIC:
                row.append(number(result.psnr - clip.of(BICUBIC).psnr, 2, sign=True))
        rows.append(row)
    return heads, rows


def explained(evaluation: Evaluation) -> list[str]:
    """How the numbers were measured: sentences to print with the tables."""
    made = (
        "The low-resolution frames were given"
        if evaluation.degradation == GIVEN
        else f"Frames were downscaled by {evaluation.degradation} "
        f"({DEGRADATIONS[evaluation.degradation].summary})"
    )
    lines = [
        f"Protocol {evaluation.protocol}: {evaluation.protocol_text}",
        f"{made} and upscaled {evaluation.scale:g}x.",
        "Means over a clip's frames, then over clips. Gain is PSNR above bicubic's; score is the "
        "share of clips whose QM is above bicubic's. Frames count from 0.",
        "Frames per second are those of the network alone; peak memory is that of the process, "
        "including all models and metrics.",
    ]
    own = mean([clip.truth_warping_error for clip in evaluation.clips])
    if own is not None:
        lines.append(
            f"The reference itself has a warping error of {number(own * 1e3, 3)}e-3: less is "
            "softer, not better."
        )
    settings = evaluation.settings
    if settings.get("lpips"):
        lines.append(f"LPIPS 0.1 by {settings['lpips']}.")
    if settings.get("niqe"):
        own = mean([clip.truth_niqe for clip in evaluation.clips])
        lines.append(
            f"NIQE by the model of {settings['niqe']}: it cannot be compared with tables of "
            f"another model. The reference itself has {number(own, 3)}."
        )
    if settings.get("seams"):
        lines.append(
            f"Seams were measured in the error at {settings['seams']}: 1 is not visible, 2 is "
            "twice the values around it."
        )
    if evaluation.gpu_memory_mb is not None:
        lines.append(f"torch allocated at most {evaluation.gpu_memory_mb} MiB on the GPU.")
    return lines


def to_markdown(evaluation: Evaluation) -> str:
    """The means and the clips as Markdown tables, each with its protocol."""
    parts = []
    for heads, rows in (summary(evaluation), per_clip(evaluation)):
        lines = [heads, ["---"] * len(heads), *rows]
        table = ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines]
        parts.append("\n".join(table))
        parts.append(f"{evaluation.title}.")
    parts[-1] = f"{evaluation.title}. PSNR in dB / SSIM."
    parts.append("\n".join(f"- {line}" for line in explained(evaluation)))
    if evaluation.notes:
        parts.append("\n".join(["Notes:", "", *(f"- {note}" for note in evaluation.notes)]))
    return "\n\n".join(parts) + "\n"
