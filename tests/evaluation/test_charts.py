"""Charts in the colour of the page."""

from __future__ import annotations

import re

from sharpreel.evaluation import charts, report
from tests.support.evaluation import make_evaluation


def test_charts_use_the_colour_of_the_page_and_have_labels() -> None:
    text = report.to_html(make_evaluation())
    drawn = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(drawn) == 3  # gains, and a curve for each clip
    for chart in drawn:
        assert charts.INK not in chart
        assert "currentColor" in chart
        assert re.search(r'aria-label="\w+', chart)
    for clip in ("clip0", "clip1"):
        assert any(clip in chart for chart in drawn)


def test_bicubic_alone_has_no_chart_of_gains() -> None:
    text = report.to_html(make_evaluation(models=("bicubic",)))
    assert "Gain over bicubic" not in text
    assert "PSNR of bicubic" in text
