"""An evaluation as tables: CSV with all digits, Markdown, and the gate against an earlier run."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpreel.data.degrade import DEGRADATIONS
from sharpreel.errors import UsageError, write_error
from sharpreel.evaluation.pairs import GIVEN
from sharpreel.evaluation.results import BICUBIC, Evaluation
from sharpreel.evaluation.scores import mean, plain

COLUMNS = (
    *("psnr", "ssim", "qm", "lpips", "niqe", "tof", "warping_error", "flicker"),
    *("seam_time", "seam_space", "vmaf", "vmaf_neg", "fps"),
)


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """One row for each clip and model, with all digits."""
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
    """One row for each frame that counts and model, with all digits."""
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
    """For a table: "-" where nothing was measured."""
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def summary(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The means over clips, a row for each model: heads and cells. What was not measured has no
    column."""
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
        ("frames a second", "fps", 1, 1),
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
    """How the numbers were taken: sentences that belong beside the tables."""
    made = (
        "The low-resolution frames were given"
        if evaluation.degradation == GIVEN
        else f"Frames were reduced by {evaluation.degradation} "
        f"({DEGRADATIONS[evaluation.degradation].summary})"
    )
    lines = [
        f"Protocol {evaluation.protocol}: {evaluation.protocol_text}",
        f"{made} and enlarged {evaluation.scale:g} times.",
        "Means over a clip's frames, then over clips. Gain is PSNR above bicubic's; score the "
        "share of clips whose QM is above bicubic's. Frames count from 0.",
        "Frames a second are the network's alone; peak memory is the whole process's, with every "
        "model and measure in it.",
    ]
    own = mean([clip.truth_warping_error for clip in evaluation.clips])
    if own is not None:
        lines.append(
            f"The truth itself has a warping error of {number(own * 1e3, 3)}e-3: less is softer, "
            "not better."
        )
    chosen = evaluation.settings
    if chosen.get("lpips"):
        lines.append(f"LPIPS 0.1 by {chosen['lpips']}.")
    if chosen.get("niqe"):
        own = mean([clip.truth_niqe for clip in evaluation.clips])
        lines.append(
            f"NIQE by the model of {chosen['niqe']}: it compares with no table of another model. "
            f"The truth itself has {number(own, 3)}."
        )
    if chosen.get("seams"):
        lines.append(
            f"Seams were looked for in the error at {chosen['seams']}: 1 does not stand out, 2 is "
            "twice what is around it."
        )
    if evaluation.gpu_memory_mb is not None:
        lines.append(f"torch held at most {evaluation.gpu_memory_mb} MiB on the GPU.")
    return lines


def to_markdown(evaluation: Evaluation) -> str:
    """The means and the clips as Markdown tables, the protocol named under each."""
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


# Against an earlier run ----------------------------------------------------------------------


def against(
    evaluation: Evaluation, baseline: Mapping[str, Any], tolerance_db: float = 0.02
) -> list[str]:
    """Where PSNR fell below an earlier run by more than the tolerance; empty when nowhere.

    Args:
        baseline: What `as_dict` gave, or the scores.json of a report.

    Raises:
        UsageError: The two cannot be compared: another protocol, degradation, factor, other clips
            or frames of them, or a model that the baseline does not have.
    """
    try:
        kind = {k: baseline[k] for k in ("protocol", "degradation", "scale")}
        settings = dict(baseline["settings"]["protocol"])
        before = {clip["clip"]: clip for clip in baseline["clips"]}
        counts = {name: (c["width"], c["height"], c["counted"]) for name, c in before.items()}
        levels = {
            (name, result["model"]): float(result["psnr"])
            for name, clip in before.items()
            for result in clip["results"]
        }
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(
            "The baseline is not the scores.json of an evaluation; make it with "
            "`sharpreel evaluate -o FOLDER`."
        ) from e
    for key, value in kind.items():
        now = getattr(evaluation, key)
        if value != now:
            raise UsageError(f"The baseline was taken with {key} {value}, this run with {now}.")
    if settings != plain(evaluation.settings["protocol"]):
        raise UsageError(
            f"The baseline was taken with another variant of protocol {evaluation.protocol}."
        )
    names = [clip.clip for clip in evaluation.clips]
    if sorted(names) != sorted(before):
        odd = sorted(set(names) ^ set(before))
        raise UsageError(
            f"The baseline has other clips: {len(before)} against {len(names)}; only one has "
            f"{', '.join(odd[:3])}."
        )
    worse = []
    for clip in evaluation.clips:
        if counts[clip.clip] != (clip.width, clip.height, clip.counted):
            wide, high, frames = counts[clip.clip]
            raise UsageError(
                f"{clip.clip}: the baseline has {frames} frames of {wide}x{high}, this run "
                f"{clip.counted} of {clip.width}x{clip.height}."
            )
        for result in clip.results:
            if (clip.clip, result.model) not in levels:
                raise UsageError(f"The baseline has no model {result.model}.")
            was = levels[clip.clip, result.model]
            if not result.psnr >= was - tolerance_db:  # NaN is worse than any number
                worse.append(
                    f"{clip.clip}, {result.model}: {result.psnr:.4f} dB, was {was:.4f} "
                    f"({result.psnr - was:+.4f}, tolerance {tolerance_db:g})"
                )
    return worse
