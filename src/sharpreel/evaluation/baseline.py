"""Compare an evaluation with an earlier one, so that a script can fail when quality regresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation.results import ClipResult, Evaluation, plain


def read_scores(path: Path) -> dict[str, Any]:
    """Read the scores.json of a report.

    Raises:
        InputError: The file is not one.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: not the scores.json of a report.") from e
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the scores.json of a report.")
    return content


@dataclass(frozen=True)
class _Baseline:
    """The parts of an earlier evaluation that are compared.

    Attributes:
        kind: Protocol, degradation and scale.
        sizes: Width, height and counted frames of each clip.
        psnr: In dB, by clip and model.
    """

    kind: Mapping[str, object]
    protocol: Mapping[str, object]
    sizes: Mapping[str, tuple[int, int, int]]
    psnr: Mapping[tuple[str, str], float]


def regressions(
    evaluation: Evaluation, baseline: Mapping[str, Any], tolerance_db: float = 0.02
) -> list[str]:
    """List where PSNR is below an earlier run by more than the tolerance; empty if nowhere.

    Args:
        baseline: The result of `as_dict`, or the scores.json of a report (`read_scores`).

    Raises:
        UsageError: The two cannot be compared: another protocol, degradation or scale, other clips
            or numbers of frames, or a model that the baseline does not have.
    """
    earlier = _parsed(baseline)
    _check_comparable(evaluation, earlier)
    worse = []
    for clip in evaluation.clips:
        _check_size(clip, earlier)
        for result in clip.results:
            if (clip.clip, result.model) not in earlier.psnr:
                raise UsageError(f"The baseline has no model {result.model}.")
            before = earlier.psnr[clip.clip, result.model]
            if not result.psnr >= before - tolerance_db:  # NaN is worse than any number
                worse.append(
                    f"{clip.clip}, {result.model}: {result.psnr:.4f} dB, was {before:.4f} "
                    f"({result.psnr - before:+.4f}, tolerance {tolerance_db:g})"
                )
    return worse


def _parsed(baseline: Mapping[str, Any]) -> _Baseline:
    try:
        clips = {clip["clip"]: clip for clip in baseline["clips"]}
        return _Baseline(
            kind={key: baseline[key] for key in ("protocol", "degradation", "scale")},
            protocol=dict(baseline["settings"]["protocol"]),
            sizes={name: (c["width"], c["height"], c["counted"]) for name, c in clips.items()},
            psnr={
                (name, result["model"]): float(result["psnr"])
                for name, clip in clips.items()
                for result in clip["results"]
            },
        )
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(
            "The baseline is not the scores.json of an evaluation; create one with "
            "`sharpreel evaluate -o FOLDER`."
        ) from e


def _check_comparable(evaluation: Evaluation, baseline: _Baseline) -> None:
    for key, value in baseline.kind.items():
        now = getattr(evaluation, key)
        if value != now:
            raise UsageError(f"The baseline was measured with {key} {value}, this run with {now}.")
    if baseline.protocol != plain(evaluation.settings["protocol"]):
        raise UsageError(
            f"The baseline was measured with another variant of protocol {evaluation.protocol}."
        )
    names = [clip.clip for clip in evaluation.clips]
    if sorted(names) != sorted(baseline.sizes):
        odd = sorted(set(names) ^ set(baseline.sizes))
        raise UsageError(
            f"The baseline has other clips: {len(baseline.sizes)} against {len(names)}; only one "
            f"has {', '.join(odd[:3])}."
        )


def _check_size(clip: ClipResult, baseline: _Baseline) -> None:
    if baseline.sizes[clip.clip] != (clip.width, clip.height, clip.counted):
        width, height, frames = baseline.sizes[clip.clip]
        raise UsageError(
            f"{clip.clip}: the baseline has {frames} frames of {width}x{height}, this run "
            f"{clip.counted} of {clip.width}x{clip.height}."
        )
