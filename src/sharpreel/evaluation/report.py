"""An evaluation as files that people look at: one HTML page with everything in it, and the numbers.

    report.html   charts, tables, pictures to compare; no network is needed to view it
    scores.json   all numbers with all digits, settings and versions
    scores.csv    a row for each clip and model          frames.csv   a row for each frame and model
    scores.md     the tables

Charts are drawn by matplotlib as SVG whose ink is the page's own colour, so that they are readable
on a light page and on a dark one. What can be operated is a plain input or select of HTML.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharpreel.errors import MissingExtra, write_error
from sharpreel.evaluation import tables
from sharpreel.evaluation.results import BICUBIC, ClipResult, Crop, Evaluation
from sharpreel.media import images
from sharpreel.ops import Pixels
from sharpreel.system.files import atomic_write

INK = "#010203"  # what charts are drawn with, replaced by the page's own colour
COLOURS = ("#8a8f98", "#2f7ed8", "#e0742c", "#2a9d6f", "#b452c4", "#c9a227")  # bicubic's first
MOST_CHARTS = 40  # clips that are drawn; the tables hold all
MOST_CROPS = 24  # frames that are shown
MOST_POINTS = 600  # of a curve; longer ones are drawn as means


def write_report(evaluation: Evaluation, folder: Path, command: str = "") -> Path:
    """Write report.html, scores.json, scores.csv, frames.csv and scores.md; what is there of an
    earlier report is replaced.

    Args:
        command: What made the evaluation, to be shown as it was given.

    Returns:
        The page.

    Raises:
        MissingExtra: matplotlib is not there.
        DiskFullError, UsageError: The folder cannot be written.
    """
    page = to_html(evaluation, command)
    content = {"command": command, **evaluation.as_dict()}
    texts = {
        "scores.json": json.dumps(content, indent=1, allow_nan=False),
        "scores.md": tables.to_markdown(evaluation),
        "report.html": page,
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
    """The page, with nothing outside it that it needs."""
    title = f"Evaluation: {', '.join(m.name for m in evaluation.models)}"
    shown, left_out = _drawn(evaluation)
    parts = [
        f"<header><h1>{_text(title)}</h1>",
        f"<p>{_text(evaluation.title)}; {_count(len(evaluation.clips), 'clip')}.</p></header>",
        _section("Summary", _table(*tables.summary(evaluation), evaluation, best=True)),
        _list(tables.explained(evaluation)),
    ]
    if evaluation.notes:
        parts.append(_section("What the means hide", _list(evaluation.notes)))
    if len(evaluation.models) > 1:
        about = "PSNR above bicubic's, dB; further right is better."
        parts.append(
            _section("Gain over bicubic", _figure(_gains(evaluation, shown), about + left_out))
        )
    if evaluation.crops:
        parts.append(_section("Look", _looks(evaluation)))
    curves = [clip for clip in shown if clip.counted > 1]
    if curves:
        drawn = "".join(_figure(_curves(evaluation, clip), _about_curves(clip)) for clip in curves)
        parts.append(_section("Frame by frame", f'<div class="charts">{drawn}</div>'))
    clips = _table(*tables.per_clip(evaluation), evaluation, "PSNR in dB / SSIM.")
    parts.append(_section("Every clip", clips))
    parts.append(_section("How it was made", _made(evaluation, command)))
    return _page(title, parts)


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


# Words and tables ----------------------------------------------------------------------------


def _text(value: object) -> str:
    return html.escape(str(value))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{_text(title)}</h2>\n{content}</section>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


LOWER_IS_BETTER = ("LPIPS", "NIQE", "tOF", "flicker")
BETTER = ("gain", "score", "PSNR", "SSIM", "QM", "VMAF", "frames a second", *LOWER_IS_BETTER)


def _table(
    heads: list[str],
    rows: list[list[str]],
    evaluation: Evaluation,
    more: str = "",
    best: bool = False,
) -> str:
    """A table with its protocol as the caption; with `best` the best of each column is bold."""
    bold: set[tuple[int, int]] = set()
    if best and len(rows) > 1:
        for column, head in enumerate(heads):
            values = {k: float(r[column]) for k, r in enumerate(rows) if _is_number(r[column])}
            if head.startswith(BETTER) and len(set(values.values())) > 1:
                choose = min if head.startswith(LOWER_IS_BETTER) else max
                top = choose(values.values())
                bold |= {(k, column) for k, value in values.items() if value == top}
    lines = ["<tr>" + "".join(f'<th scope="col">{_text(h)}</th>' for h in heads) + "</tr>"]
    for k, row in enumerate(rows):
        first, *rest = row
        cells = [f'<th scope="row">{_text(first)}</th>']
        for column, cell in enumerate(rest, 1):
            strong = f"<strong>{_text(cell)}</strong>" if (k, column) in bold else _text(cell)
            cells.append(f"<td>{strong}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    caption = f"{_text(evaluation.title)}. {_text(more)}"
    return (
        f'<div class="wide" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody></table></div>"
    )


def _is_number(cell: str) -> bool:
    try:
        return not math.isnan(float(cell))
    except ValueError:
        return False


def _made(evaluation: Evaluation, command: str) -> str:
    rows = [(f"{m.name}", f"{m.source}, {m.engine}, SHA-256 {m.sha256 or '-'}")
            for m in evaluation.models]  # fmt: skip
    settings = {k: v for k, v in evaluation.settings.items() if k != "protocol"}
    rows += [(k.replace("_", " "), "-" if v is None else str(v)) for k, v in settings.items()]
    rule = evaluation.settings["protocol"]
    rows.append(("protocol", ", ".join(f"{k} {v}" for k, v in rule.items() if k != "summary")))
    rows += list(evaluation.versions.items())
    rows.append(("took", f"{evaluation.seconds:.1f} s"))
    cells = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in rows)
    shown = f'<pre tabindex="0"><code>{_text(command)}</code></pre>' if command else ""
    return f"{shown}<dl>{cells}</dl>"


# Charts --------------------------------------------------------------------------------------


def _drawn(evaluation: Evaluation) -> tuple[list[ClipResult], str]:
    """The clips that are drawn, and what is said when those are not all."""
    clips = list(evaluation.clips)
    if len(clips) <= MOST_CHARTS:
        return clips, ""
    judge = evaluation.models[min(1, len(evaluation.models) - 1)].name
    order = sorted(clips, key=lambda c: c.of(judge).psnr - c.of(BICUBIC).psnr)
    half = MOST_CHARTS // 2
    kept = {clip.clip for clip in (*order[:half], *order[-half:])}
    return [c for c in clips if c.clip in kept], (
        f" Drawn are the {half} clips with the least and the {half} with the most gain of {judge}; "
        "the table below holds all."
    )


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtra("Drawing charts (matplotlib)", "train") from e
    with mpl.rc_context({"font.size": 10}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK)
    axes.set_facecolor("none")
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    """The figure as an element of the page, in the page's own ink."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', "", drawn, count=2)
    drawn = drawn.replace(INK, "currentColor")
    # Names that nothing refers to are the same in every chart, which a page must not have.
    used = set(re.findall(r"#([\w-]+)", drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", drawn)
    # The text is the page's own; where it says nothing of a colour, it would be black.
    drawn = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", drawn)
    return drawn.replace(
        "<svg", f'<svg role="img" fill="currentColor" aria-label="{_text(label)}"', 1
    )


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{_text(caption)}</figcaption></figure>"


def _colour(number: int) -> str:
    return COLOURS[number] if number == 0 else COLOURS[1 + (number - 1) % (len(COLOURS) - 1)]


def _gains(evaluation: Evaluation, clips: list[ClipResult]) -> str:
    models = [m.name for m in evaluation.models if m.name != BICUBIC]
    gains = {
        name: [clip.of(name).psnr - clip.of(BICUBIC).psnr for clip in clips] for name in models
    }
    bars = len(clips) * len(models)
    figure, axes = _new_figure(8, 0.9 + max(0.24 * bars, 0.34 * len(clips)))
    high = 0.8 / len(models)
    for k, name in enumerate(models):
        places = np.arange(len(clips)) + (k - (len(models) - 1) / 2) * high
        finite = [g if math.isfinite(g) else 0.0 for g in gains[name]]
        drawn = axes.barh(places, finite, high * 0.9, color=_colour(k + 1), label=name)
        words = [tables.number(g, 2, sign=True) for g in gains[name]]
        axes.bar_label(drawn, words, padding=4, color=INK, fontsize=8)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_ylim(len(clips) - 0.5, -0.5)
    axes.set_yticks(range(len(clips)), [_plain(clip.clip) for clip in clips])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("gain over bicubic, dB", color=INK)
    if len(models) > 1:
        _legend(figure, axes)
    best = "; ".join(f"{n} {evaluation.gain(n):+.2f} dB in the mean" for n in models)
    return _svg(figure, f"Bars: gain over bicubic of each clip; {best}")


def _plain(name: str, longest: int = 40) -> str:
    """A name as matplotlib draws it: no mathematics, and no longer than there is room for."""
    short = name if len(name) <= longest else f"{name[: longest // 2]}…{name[-longest // 2 :]}"
    return short.replace("$", r"\$")


def _legend(figure: Any, axes: Any) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left", ncols=4, frameon=False, labelcolor=INK,
    )  # fmt: skip


def _curves(evaluation: Evaluation, clip: ClipResult) -> str:
    figure, axes = _new_figure(5.4, 2.4)
    for k, model in enumerate(evaluation.models):
        scores = clip.of(model.name).frames
        step = -(-len(scores) // MOST_POINTS)
        parts = [scores[at : at + step] for at in range(0, len(scores), step)]
        x = [part[0].frame for part in parts]
        y = [float(np.mean([score.psnr for score in part])) for part in parts]
        marker = "o" if len(x) <= 30 else None
        axes.plot(
            x, [v if math.isfinite(v) else math.nan for v in y],
            color=_colour(k), linewidth=1.6, marker=marker, markersize=3.5, label=model.name,
        )  # fmt: skip
    axes.set_xlabel("frame", color=INK)
    axes.set_ylabel("PSNR, dB", color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.6)
    _legend(figure, axes)
    return _svg(figure, f"Curves: PSNR of each frame of {clip.clip}")


def _about_curves(clip: ClipResult) -> str:
    step = -(-clip.counted // MOST_POINTS)
    means = f" Each point is the mean of {step} frames." if step > 1 else ""
    return f"{clip.clip}, {_count(clip.counted, 'frame')}.{means}"


# Pictures ------------------------------------------------------------------------------------


def _looks(evaluation: Evaluation) -> str:
    crops = list(evaluation.crops)
    said = (
        "Left of the line one version, right of it another; move the line with the mouse or, when "
        "it has the focus, with the arrow keys."
    )
    if len(crops) > MOST_CROPS:
        order = sorted(crops, key=lambda c: c.gain)
        half = MOST_CROPS // 2
        kept = {id(crop) for crop in (*order[:half], *order[-half:])}
        crops = [crop for crop in crops if id(crop) in kept]
        said += f" Shown are the {MOST_CROPS} frames with the least and the most gain."
    return f"<p>{said}</p>" + '<div class="looks">' + "".join(map(_look, crops)) + "</div>"


def _look(crop: Crop) -> str:
    height, width = crop.truth.shape[:2]
    versions = {
        "low resolution": _nearest(crop.lr, height, width),
        **crop.pictures,
        "truth": crop.truth,
    }
    what = {"best": "best frame", "worst": "worst frame", "only": "frame"}[crop.kind]
    level = f"gain of {crop.model}" if crop.model != BICUBIC else "PSNR of bicubic"
    caption = f"{crop.clip}, {what} {crop.frame}, {level} " + tables.number(
        crop.gain, 2, sign=crop.model != BICUBIC
    )
    about = f"{crop.clip}, frame {crop.frame}, part at {crop.left}, {crop.top}"
    return _stack(versions, BICUBIC, _right(crop), about, f"{caption} dB")


def _stack(versions: Mapping[str, Pixels], left: str, right: str, about: str, caption: str) -> str:
    """Pictures of one size, of which the line shows two."""
    height, width = versions[left].shape[:2]
    pictures = "".join(
        f'<div class="version" data-name="{_text(name)}"><img width="{width}" height="{height}" '
        f'src="data:image/png;base64,{_png(pixels)}" '
        f'alt="{_text(f"{name}: {about}")}"><span>{_text(name)}</span></div>'
        for name, pixels in versions.items()
    )
    return (
        f'<figure class="look" data-left="{_text(left)}" data-right="{_text(right)}" '
        f'style="--ratio: {width} / {height}"><div class="stack">{pictures}</div>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def slider(versions: Mapping[str, Pixels], about: str) -> str:
    """A page with two pictures or more of one size, and the line to move between them.

    Args:
        versions: By name; at first the first one is left of the line and the last one right.
        about: What they show.
    """
    left, *_, right = versions
    width = versions[left].shape[1]
    whole = f'<div class="looks" style="grid-template-columns: 1fr; max-width: {width}px">'
    return _page(about, [f"{whole}{_stack(versions, left, right, about, about)}</div>"])


def _right(crop: Crop) -> str:
    """What is seen at first on the right: the model, or where there is none the truth."""
    return crop.model if crop.model != BICUBIC else "truth"


def _nearest(lr: Pixels, height: int, width: int) -> Pixels:
    """Each pixel as large as it is in the truth."""
    rows = np.arange(height) * lr.shape[0] // height
    columns = np.arange(width) * lr.shape[1] // width
    pixels: Pixels = lr[rows][:, columns]
    return pixels


def _png(pixels: Pixels) -> str:
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return base64.b64encode(images.encode_png(pixels)).decode()


STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #5c6470; --page: #fff; --line: #d8dce2;
  --band: #f3f5f8; --mark: #2f7ed8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --soft: #a3abb8; --page: #15181d;
  --line: #363c46; --band: #1e2229; --mark: #6aa9f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; color: var(--ink);
  background: var(--page); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
header p, figcaption, caption, ul { color: var(--soft); }
ul { padding-left: 1.2rem; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding: .5rem 0; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { vertical-align: bottom; font-weight: 600; white-space: normal; }
th:first-child { text-align: left; }
tbody tr:nth-child(odd) { background: var(--band); }
tbody th { font-weight: 500; }
figure { margin: 0 0 1.4rem; }
figure svg { display: block; width: 100%; max-width: 52rem; height: auto; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr));
  gap: 0 1.5rem; }
figcaption { font-size: .85rem; margin-top: .3rem; overflow-wrap: anywhere; }
.looks { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr));
  gap: 1.2rem; }
.stack { display: flex; flex-wrap: wrap; gap: .4rem; }
.version span { display: block; font-size: .8rem; color: var(--soft); }
.version img { display: block; max-width: 100%; height: auto; }
.live .stack { position: relative; display: block; aspect-ratio: var(--ratio); overflow: hidden;
  border-radius: 4px; }
.live .version { position: absolute; inset: 0; visibility: hidden; }
.live .version img { width: 100%; height: 100%; image-rendering: pixelated; }
.live .version span { display: none; }
.live .version.left, .live .version.right { visibility: visible; }
.live .version.right:not(.left) { clip-path: inset(0 0 0 var(--at, 50%)); }
.live .stack::after { content: ""; position: absolute; inset: 0 auto 0 var(--at, 50%);
  width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; }
.controls { display: grid; grid-template-columns: auto 1fr auto; gap: .6rem; align-items: center;
  margin-top: .4rem; font-size: .85rem; }
.controls input { width: 100%; accent-color: var(--mark); }
select { font: inherit; color: inherit; background: var(--band); border: 1px solid var(--line);
  border-radius: 4px; padding: .2rem; max-width: 11rem; }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
pre { background: var(--band); padding: .8rem; overflow-x: auto; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .85rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { .controls { display: none; } }
"""

SCRIPT = """
for (const look of document.querySelectorAll(".look")) {
  const versions = [...look.querySelectorAll(".version")];
  const where = look.querySelector("figcaption").textContent;
  const choice = (side) => {
    const select = document.createElement("select");
    select.setAttribute("aria-label", `${side} of the line: ${where}`);
    for (const one of versions) select.add(new Option(one.dataset.name));
    select.value = look.dataset[side];
    select.addEventListener("change", show);
    return select;
  };
  function show() {
    for (const one of versions) {
      one.classList.toggle("left", one.dataset.name === left.value);
      one.classList.toggle("right", one.dataset.name === right.value);
      const seen = [left.value, right.value].includes(one.dataset.name);
      one.style.zIndex = one.dataset.name === right.value ? 1 : 0;
      one.setAttribute("aria-hidden", String(!seen));
    }
  }
  const line = document.createElement("input");
  Object.assign(line, { type: "range", min: 0, max: 100, value: 50 });
  line.setAttribute("aria-label", `place of the line: ${where}`);
  const stack = look.querySelector(".stack");
  const move = () => stack.style.setProperty("--at", line.value + "%");
  line.addEventListener("input", move);
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = stack.getBoundingClientRect();
    line.value = 100 * (event.clientX - box.left) / box.width;
    move();
    event.preventDefault();
  };
  stack.addEventListener("pointerdown", drag);
  stack.addEventListener("pointermove", drag);
  stack.style.touchAction = "pan-y";
  const left = choice("left"), right = choice("right");
  const controls = document.createElement("div");
  controls.className = "controls";
  controls.append(left, line, right);
  stack.after(controls);
  look.classList.add("live");
  show();
}
"""
