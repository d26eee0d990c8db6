"""The report: a self-contained page, and all numbers beside it."""

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

import pytest

from sharpreel.errors import UsageError
from sharpreel.evaluation import baseline, report
from sharpreel.evaluation.results import (
    Evaluation,
    FrameScore,
)
from sharpreel.media import images
from tests.support.evaluation import make_evaluation


class Page(HTMLParser):
    """Collects the references of a page, its images, and whether its tags close."""

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


def test_the_page_is_self_contained_and_lists_every_clip_and_model() -> None:
    text = report.to_html(make_evaluation(), "sharpreel evaluate -m ours --data 'a & b'")
    page = Page(text)
    assert page.open == []
    assert page.outside == []
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"(url\(|@import|fetch\(|\b(src|href)=.?http)[^#)]*http", text)
    for word in ("clip0", "clip1", "bicubic", "ours", "theirs", "321", "Y, full frames"):
        assert word in text
    assert "sharpreel evaluate -m ours --data &#x27;a &amp; b&#x27;" in text
    assert "frame 2 is of one colour" in text


def test_requested_metrics_have_columns_and_explanations() -> None:
    evaluation = make_evaluation()
    more = {"lpips": "vgg16, SHA-256 aa", "niqe": "photos", "seams": "t6+"}
    settings = {**evaluation.settings, **more}
    text = report.to_html(replace(evaluation, settings=settings))
    for head in ("LPIPS", "NIQE", "seam in time"):
        assert f'<th scope="col">{head}</th>' in text
    assert "seam in space" not in text
    for words in ("LPIPS 0.1 by vgg16", "NIQE by the model of photos", "itself has 3.500", "t6+"):
        assert words in text


def test_every_table_names_the_protocol() -> None:
    text = report.to_html(make_evaluation())
    captions = re.findall(r"<caption>(.*?)</caption>", text)
    assert len(captions) == text.count("<table>") == 2
    assert all("protocol P1" in caption for caption in captions)


def test_every_image_has_alternative_text_and_the_pixels_of_its_crop() -> None:
    evaluation = make_evaluation(clips=1)
    page = Page(report.to_html(evaluation))
    assert len(page.images) == 2 * 5
    for image in page.images:
        assert image["alt"]
        assert "clip0, frame 3" in image["alt"]
    shown = {str(p["alt"]).partition(":")[0]: p for p in page.images}
    assert set(shown) == {"low resolution", "bicubic", "ours", "theirs", "reference"}

    def pixels(name: str) -> bytes:
        return base64.b64decode(str(shown[name]["src"]).removeprefix("data:image/png;base64,"))

    hr = evaluation.crops[0].hr
    assert pixels("reference") == images.encode_png(hr)
    nearest = evaluation.crops[0].lr.repeat(2, 0).repeat(2, 1)
    assert pixels("low resolution") == images.encode_png(nearest)


def test_number_files_are_written_beside_the_page(tmp_path: Path) -> None:
    evaluation = make_evaluation()
    page = report.write_report(evaluation, tmp_path / "new" / "report", "the command")
    assert page == tmp_path / "new" / "report" / "report.html"
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["frames.csv", "report.html", "scores.csv", "scores.json", "scores.md"]
    scores = json.loads((page.parent / "scores.json").read_text())
    assert scores["command"] == "the command"
    assert scores["clips"][1]["results"][2]["psnr"] == evaluation.clips[1].results[2].psnr
    assert baseline.regressions(evaluation, scores, 0) == []
    assert "protocol P1" in (page.parent / "scores.md").read_text()
    with (page.parent / "frames.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 3 * 5


def test_the_same_evaluation_gives_the_same_page() -> None:
    assert report.to_html(make_evaluation()) == report.to_html(make_evaluation())


@pytest.mark.parametrize(
    "odd",
    [
        lambda e: replace(e, crops=()),
        lambda e: replace(e, peak_memory_mb=None, notes=()),
        lambda e: replace(e, clips=(replace(e.clips[0], clip='<b>"$x$&_%'),)),
        lambda e: replace(e, clips=(replace(e.clips[0], truth_warping_error=math.nan),)),
    ],
)
def test_unusual_evaluations_have_a_valid_page(odd: Callable[[Evaluation], Evaluation]) -> None:
    text = report.to_html(odd(make_evaluation()))
    assert Page(text).open == []
    assert "<b>" not in text


def test_infinities_and_nan_are_shown(tmp_path: Path) -> None:
    evaluation = make_evaluation(clips=1)
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


def test_of_many_clips_some_are_drawn_and_all_are_listed() -> None:
    evaluation = make_evaluation(clips=60, models=("bicubic", "ours"), frames=2)
    text = report.to_html(evaluation)
    assert text.count("<svg") == 1 + report.MAX_CHARTS
    assert "20 clips with the least and the 20 with the most gain" in text
    assert all(f'<th scope="row">clip{k}</th>' in text for k in range(60))
    assert text.count('class="look"') == report.MAX_CROPS
    long = report.to_html(make_evaluation(clips=1, frames=5000))
    assert "Each point is the mean of 9 frames" in long
    assert len(long) < 300_000


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        report.write_report(make_evaluation(clips=1), tmp_path / "file")
