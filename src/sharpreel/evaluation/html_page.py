"""A self-contained HTML page: sections, lists, and images with a movable line between two of them.

The page needs no network. Controls are plain HTML inputs and selects; without JavaScript the images
are shown one beside the other.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np

from sharpreel.media import images
from sharpreel.ops import Pixels


def escape(value: object) -> str:
    """The value as text of the page."""
    return html.escape(str(value))


def page(title: str, parts: Sequence[str]) -> str:
    """A page with these parts in its body."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """A section with a heading; the content is HTML."""
    return f"<section><h2>{escape(title)}</h2>\n{content}</section>"


def bullet_list(lines: Sequence[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def figure(svg: str, caption: str) -> str:
    """A chart with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def slider(versions: Mapping[str, Pixels], about: str) -> str:
    """A page with two or more images of one size, and a line to move between two of them.

    Args:
        versions: By name; at first the first one is left of the line and the last one right.
        about: What they show; the title of the page.
    """
    left, *_, right = versions
    width = versions[left].shape[1]
    opening = f'<div class="looks" style="grid-template-columns: 1fr; max-width: {width}px">'
    return page(about, [f"{opening}{image_stack(versions, left, right, about, about)}</div>"])


def image_stack(
    versions: Mapping[str, Pixels], left: str, right: str, about: str, caption: str
) -> str:
    """Images of one size, two of which are visible on either side of a line.

    Args:
        versions: By name; RGB, (H, W, 3), uint8 or uint16.
        left, right: Names of those that are visible at first.
        about: Continues the alternative text of each image after its name.
    """
    height, width = versions[left].shape[:2]
    stack = "".join(
        f'<div class="version" data-name="{escape(name)}"><img width="{width}" '
        f'height="{height}" src="data:image/png;base64,{_png(pixels)}" '
        f'alt="{escape(f"{name}: {about}")}"><span>{escape(name)}</span></div>'
        for name, pixels in versions.items()
    )
    return (
        f'<figure class="look" data-left="{escape(left)}" data-right="{escape(right)}" '
        f'style="--ratio: {width} / {height}"><div class="stack">{stack}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


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
  line.setAttribute("aria-label", `position of the line: ${where}`);
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
