"""Write an evaluation as a report: an HTML page for people, and all numbers for programs.

report.html   charts, tables, images to compare; no network is needed to view it
scores.json   all numbers with all digits, settings and versions
scores.csv    a row for each clip and model          frames.csv   a row for each frame and model
scores.md     the tables
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from sharpreel.errors import write_error
from sharpreel.evaluation import charts, tables
from sharpreel.evaluation.html_page import bullet_list, escape, figure, image_stack, page, section
from sharpreel.evaluation.results import BICUBIC, ClipResult, Crop, Evaluation
from sharpreel.ops import Pixels
from sharpreel.system.files import atomic_write

MAX_CHARTS = 40  # clips that are drawn; the tables list all
MAX_CROPS = 24  # frames that are shown
LOWER_IS_BETTER = ("LPIPS", "NIQE", "tOF", "flicker")
COMPARED = ("gain", "score", "PSNR", "SSIM", "QM", "VMAF", "frames per second", *LOWER_IS_BETTER)
REFERENCE = "reference"  # name of the version in the images


def write_report(evaluation: Evaluation, folder: Path, command: str = "") -> Path:
    """Write report.html, scores.json, scores.csv, frames.csv and scores.md.

    Files of an earlier report in the folder are replaced.

    Args:
        command: Command line that made the evaluation, to be shown in the report.

    Returns:
        The path of the page.

    Raises:
        MissingExtra: matplotlib is not installed.
        DiskFullError, UsageError: The folder cannot be written.
    """
    html = to_html(evaluation, command)
    content = {"command": command, **evaluation.as_dict()}
    texts = {
        "scores.json": json.dumps(content, indent=1, allow_nan=False),
        "scores.md": tables.to_markdown(evaluation),
        "report.html": html,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tables.write_csv(evaluation, folder / "scores.csv")
        tables.write_frames_csv(evaluation, folder / "frames.csv")
        for name, text in texts.items():
            atomic_write(folder / name, text)
    except OSError as e:
        raise write_error(folder, e) from e
    return folder / "report.html"


def to_html(evaluation: Evaluation, command: str = "") -> str:
    """The page, self-contained."""
    title = f"Evaluation: {', '.join(m.name for m in evaluation.models)}"
    shown, note = _drawn_clips(evaluation)
    parts = [
        f"<header><h1>{escape(title)}</h1>",
        f"<p>{escape(evaluation.title)}; {_count(len(evaluation.clips), 'clip')}.</p></header>",
        section("Summary", _table(*tables.summary(evaluation), evaluation, best=True)),
        bullet_list(tables.explained(evaluation)),
    ]
    if evaluation.notes:
        parts.append(section("What the means hide", bullet_list(evaluation.notes)))
    if len(evaluation.models) > 1:
        caption = "PSNR above bicubic's, dB; further right is better." + note
        parts.append(
            section("Gain over bicubic", figure(charts.gain_bars(evaluation, shown), caption))
        )
    if evaluation.crops:
        parts.append(section("Look", _crops(evaluation)))
    curves = [clip for clip in shown if clip.counted > 1]
    if curves:
        drawn = "".join(
            figure(charts.psnr_curves(evaluation, clip), _curve_caption(clip)) for clip in curves
        )
        parts.append(section("Frame by frame", f'<div class="charts">{drawn}</div>'))
    clips = _table(*tables.per_clip(evaluation), evaluation, "PSNR in dB / SSIM.")
    parts.append(section("Every clip", clips))
    parts.append(section("How it was measured", _provenance(evaluation, command)))
    return page(title, parts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _table(
    heads: list[str],
    rows: list[list[str]],
    evaluation: Evaluation,
    more: str = "",
    best: bool = False,
) -> str:
    """A table with its protocol as the caption; with `best`, the best of each column is bold."""
    bold = _best_cells(heads, rows) if best and len(rows) > 1 else set[tuple[int, int]]()
    lines = ["<tr>" + "".join(f'<th scope="col">{escape(h)}</th>' for h in heads) + "</tr>"]
    for k, (first, *rest) in enumerate(rows):
        cells = [f'<th scope="row">{escape(first)}</th>']
        for column, cell in enumerate(rest, 1):
            strong = f"<strong>{escape(cell)}</strong>" if (k, column) in bold else escape(cell)
            cells.append(f"<td>{strong}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    caption = f"{escape(evaluation.title)}. {escape(more)}"
    return (
        f'<div class="wide" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table></div>"
    )


def _best_cells(heads: list[str], rows: list[list[str]]) -> set[tuple[int, int]]:
    """(row, column) of the best value of each column that is compared and not equal everywhere."""
    cells: set[tuple[int, int]] = set()
    for column, head in enumerate(heads):
        values = {k: float(r[column]) for k, r in enumerate(rows) if _is_number(r[column])}
        if head.startswith(COMPARED) and len(set(values.values())) > 1:
            choose = min if head.startswith(LOWER_IS_BETTER) else max
            top = choose(values.values())
            cells |= {(k, column) for k, value in values.items() if value == top}
    return cells


def _is_number(cell: str) -> bool:
    try:
        return not math.isnan(float(cell))
    except ValueError:
        return False


def _provenance(evaluation: Evaluation, command: str) -> str:
    """The command line, and models, settings and versions as a list of definitions."""
    rows = [
        (model.name, f"{model.source}, {model.engine}, SHA-256 {model.sha256 or '-'}")
        for model in evaluation.models
    ]
    settings = {k: v for k, v in evaluation.settings.items() if k != "protocol"}
    rows += [(k.replace("_", " "), "-" if v is None else str(v)) for k, v in settings.items()]
    rule = evaluation.settings["protocol"]
    rows.append(("protocol", ", ".join(f"{k} {v}" for k, v in rule.items() if k != "summary")))
    rows += list(evaluation.versions.items())
    rows.append(("took", f"{evaluation.seconds:.1f} s"))
    cells = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows)
    shown = f'<pre tabindex="0"><code>{escape(command)}</code></pre>' if command else ""
    return f"{shown}<dl>{cells}</dl>"


def _drawn_clips(evaluation: Evaluation) -> tuple[list[ClipResult], str]:
    """The clips that are drawn, and a note if those are not all."""
    clips = list(evaluation.clips)
    if len(clips) <= MAX_CHARTS:
        return clips, ""
    first = evaluation.models[min(1, len(evaluation.models) - 1)].name
    order = sorted(clips, key=lambda c: c.of(first).psnr - c.of(BICUBIC).psnr)
    half = MAX_CHARTS // 2
    kept = {clip.clip for clip in (*order[:half], *order[-half:])}
    return [c for c in clips if c.clip in kept], (
        f" Drawn are the {half} clips with the least and the {half} with the most gain of {first}; "
        "the table below lists all."
    )


def _curve_caption(clip: ClipResult) -> str:
    step = charts.frames_per_point(clip.counted)
    means = f" Each point is the mean of {step} frames." if step > 1 else ""
    return f"{clip.clip}, {_count(clip.counted, 'frame')}.{means}"


def _crops(evaluation: Evaluation) -> str:
    """Pieces of frames in all versions, with a movable line."""
    crops = list(evaluation.crops)
    text = (
        "Left of the line one version, right of it another; move the line with the mouse or, when "
        "it has the focus, with the arrow keys."
    )
    if len(crops) > MAX_CROPS:
        order = sorted(crops, key=lambda c: c.gain)
        half = MAX_CROPS // 2
        kept = {id(crop) for crop in (*order[:half], *order[-half:])}
        crops = [crop for crop in crops if id(crop) in kept]
        text += f" Shown are the {MAX_CROPS} frames with the least and the most gain."
    return f"<p>{text}</p>" + '<div class="looks">' + "".join(map(_crop_figure, crops)) + "</div>"


def _crop_figure(crop: Crop) -> str:
    height, width = crop.hr.shape[:2]
    versions = {
        "low resolution": _enlarged(crop.lr, height, width),
        **crop.srs,
        REFERENCE: crop.hr,
    }
    kind = {"best": "best frame", "worst": "worst frame", "only": "frame"}[crop.kind]
    is_baseline = crop.model == BICUBIC
    measure = "PSNR of bicubic" if is_baseline else f"gain of {crop.model}"
    value = tables.number(crop.gain, 2, sign=not is_baseline)
    caption = f"{crop.clip}, {kind} {crop.frame}, {measure} {value} dB"
    about = f"{crop.clip}, frame {crop.frame}, part at {crop.left}, {crop.top}"
    right = REFERENCE if is_baseline else crop.model
    return image_stack(versions, BICUBIC, right, about, caption)


def _enlarged(lr: Pixels, height: int, width: int) -> Pixels:
    """The lr piece at the size of the reference, by repeating pixels."""
    rows = np.arange(height) * lr.shape[0] // height
    columns = np.arange(width) * lr.shape[1] // width
    pixels: Pixels = lr[rows][:, columns]
    return pixels
