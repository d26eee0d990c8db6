"""report.py: the page needs nothing but itself, and the numbers stand beside it."""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sharpreel.errors import UsageError
from sharpreel.evaluation import report, tables
from sharpreel.evaluation.results import ClipResult, Crop, Evaluation, ModelInfo
from sharpreel.evaluation.scores import FrameScore, ModelResult
from sharpreel.media import images


def result(model: str, base: float, frames: int, **more: float) -> ModelResult:
    scores = tuple(FrameScore(k, base + math.sin(k), 0.8) for k in range(frames))
    psnr = float(np.mean([s.psnr for s in scores]))
    tof = more.get("tof", 0.4)
    return ModelResult(
        model=model, psnr=psnr, ssim=0.8, qm=5.0, tof=tof, warping_error=1e-3, flicker=0.9,
        lpips=0.3 - base / 1000, niqe=4.0, seam_time=1.1, seam_space=None, vmaf=None,
        vmaf_neg=None, fps=25.0, frames=scores,
    )  # fmt: skip


def crop(clip: str, kind: str, models: list[str], gain: float = 1.0) -> Crop:
    rng = np.random.default_rng(len(clip))
    hr = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return Crop(
        clip, 3, kind, models[-1], gain, 8, 16, hr[::2, ::2].copy(), hr, dict.fromkeys(models, hr)
    )


def made(
    clips: int = 2, models: tuple[str, ...] = ("bicubic", "ours", "theirs"), frames: int = 5
) -> Evaluation:
    names = [f"clip{k}" for k in range(clips)]
    return Evaluation(
        protocol="P1",
        protocol_text="Y, whole frames",
        degradation="bi",
        scale=2,
        models=tuple(ModelInfo(m, m, "openvino", "00ff") for m in models),
        clips=tuple(
            ClipResult(
                name, 64, 48, 32, 24, frames, frames, 1e-3, 3.5,
                tuple(result(m, 25 + k + j, frames) for k, m in enumerate(models)),
            )
            for j, name in enumerate(names)
        ),
        notes=("clip0, ours: frame 2 is of one colour where the truth is not, and counted",),
        settings={"source": "data", "max_frames": None, "protocol": {"name": "P1"}},
        versions={"sharpreel": "0", "numpy": np.__version__},
        seconds=1.5,
        peak_memory_mb=321,
        crops=tuple(crop(name, kind, list(models)) for name in names for kind in ("worst", "best")),
    )  # fmt: skip


class Page(HTMLParser):
    """Collects what a page refers to, its pictures, and whether its tags close."""

    VOID = frozenset({"meta", "img", "input", "br", "link", "path", "use", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name in ("src", "href", "xlink:href", "action", "data"):
            where = values.get(name)
            if where and not where.startswith(("data:", "#")):
                self.outside.append(where)
        if tag == "img":
            self.images.append(values)
        if name_of_it := values.get("id"):
            self.ids.append(name_of_it)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_needs_no_network_and_holds_every_clip_and_model() -> None:
    text = report.to_html(made(), "sharpreel evaluate -m ours --data 'a & b'")
    page = Page(text)
    assert page.open == []
    assert page.outside == []
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"(url\(|@import|fetch\(|\b(src|href)=.?http)[^#)]*http", text)
    for word in ("clip0", "clip1", "bicubic", "ours", "theirs", "321", "Y, whole frames"):
        assert word in text
    assert "sharpreel evaluate -m ours --data &#x27;a &amp; b&#x27;" in text
    assert "frame 2 is of one colour" in text


def test_measures_that_were_asked_for_have_columns_and_say_how_they_were_taken() -> None:
    evaluation = made()
    settings = {
        **evaluation.settings, "lpips": "vgg16, SHA-256 aa", "niqe": "photos", "seams": "t6+"
    }  # fmt: skip
    text = report.to_html(replace(evaluation, settings=settings))
    for head in ("LPIPS", "NIQE", "seam in time"):
        assert f'<th scope="col">{head}</th>' in text
    assert "seam in space" not in text
    for words in ("LPIPS 0.1 by vgg16", "NIQE by the model of photos", "itself has 3.500", "t6+"):
        assert words in text


def test_every_table_names_the_protocol() -> None:
    text = report.to_html(made())
    captions = re.findall(r"<caption>(.*?)</caption>", text)
    assert len(captions) == text.count("<table>") == 2
    assert all("protocol P1" in caption for caption in captions)


def test_every_picture_has_words_and_is_what_was_cut() -> None:
    evaluation = made(clips=1)
    page = Page(report.to_html(evaluation))
    assert len(page.images) == 2 * 5
    for picture in page.images:
        assert picture["alt"]
        assert "clip0, frame 3" in picture["alt"]
    shown = {str(p["alt"]).partition(":")[0]: p for p in page.images}
    assert set(shown) == {"low resolution", "bicubic", "ours", "theirs", "truth"}

    def pixels(name: str) -> bytes:
        return base64.b64decode(str(shown[name]["src"]).removeprefix("data:image/png;base64,"))

    truth = evaluation.crops[0].truth
    assert pixels("truth") == images.encode_png(truth)
    nearest = evaluation.crops[0].lr.repeat(2, 0).repeat(2, 1)
    assert pixels("low resolution") == images.encode_png(nearest)


def test_charts_take_the_ink_of_the_page_and_say_what_they_show() -> None:
    text = report.to_html(made())
    charts = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(charts) == 3  # gains, and a curve for each clip
    for chart in charts:
        assert report.INK not in chart
        assert "currentColor" in chart
        assert re.search(r'aria-label="\w+', chart)
    for clip in ("clip0", "clip1"):
        assert any(clip in chart for chart in charts)


def test_the_numbers_stand_beside_the_page_with_all_digits(tmp_path: Path) -> None:
    evaluation = made()
    page = report.write_report(evaluation, tmp_path / "new" / "report", "the command")
    assert page == tmp_path / "new" / "report" / "report.html"
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["frames.csv", "report.html", "scores.csv", "scores.json", "scores.md"]
    scores = json.loads((page.parent / "scores.json").read_text())
    assert scores["command"] == "the command"
    assert scores["clips"][1]["results"][2]["psnr"] == evaluation.clips[1].results[2].psnr
    assert tables.against(evaluation, scores, 0) == []
    assert "protocol P1" in (page.parent / "scores.md").read_text()
    with (page.parent / "frames.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 3 * 5


def test_the_same_evaluation_gives_the_same_page() -> None:
    assert report.to_html(made()) == report.to_html(made())


@pytest.mark.parametrize(
    "odd",
    [
        lambda e: replace(e, crops=()),
        lambda e: replace(e, peak_memory_mb=None, notes=()),
        lambda e: replace(e, clips=(replace(e.clips[0], clip='<b>"$x$&_%'),)),
        lambda e: replace(e, clips=(replace(e.clips[0], truth_warping_error=math.nan),)),
    ],
)
def test_odd_evaluations_have_a_page_too(odd: Callable[[Evaluation], Evaluation]) -> None:
    text = report.to_html(odd(made()))
    assert Page(text).open == []
    assert "<b>" not in text


def test_infinite_numbers_and_none_are_shown_as_such(tmp_path: Path) -> None:
    evaluation = made(clips=1)
    clip = evaluation.clips[0]
    frames = (FrameScore(0, math.inf, 1.0), FrameScore(1, math.nan, math.nan))
    best = replace(clip.results[1], psnr=math.inf, qm=math.inf, frames=frames)
    none = replace(clip.results[2], psnr=math.nan, ssim=math.nan, tof=None, frames=frames)
    clip = replace(clip, counted=2, results=(clip.results[0], best, none))
    report.write_report(replace(evaluation, clips=(clip,)), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "<td>+inf</td>" in text
    assert "nan" in text
    assert '"inf"' in (tmp_path / "scores.json").read_text()


def test_bicubic_alone_has_no_chart_of_gains() -> None:
    text = report.to_html(made(models=("bicubic",)))
    assert "Gain over bicubic" not in text
    assert "PSNR of bicubic" in text


def test_many_clips_and_frames_are_drawn_in_part_and_listed_whole() -> None:
    evaluation = made(clips=60, models=("bicubic", "ours"), frames=2)
    text = report.to_html(evaluation)
    assert text.count("<svg") == 1 + report.MOST_CHARTS
    assert "20 clips with the least and the 20 with the most gain" in text
    assert all(f'<th scope="row">clip{k}</th>' in text for k in range(60))
    assert text.count('class="look"') == report.MOST_CROPS
    long = report.to_html(made(clips=1, frames=5000))
    assert "Each point is the mean of 9 frames" in long
    assert len(long) < 300_000


def test_deep_pictures_are_shown_in_bytes() -> None:
    deep = np.array([[[0, 257, 65535]]], np.uint16)
    png = base64.b64decode(report._png(deep))
    assert png == images.encode_png(np.array([[[0, 1, 255]]], np.uint8))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        report.write_report(made(clips=1), tmp_path / "file")
