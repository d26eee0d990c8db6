"""The report in Chromium: the movable line, the choice of versions, narrow screens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpreel.evaluation import report
from tests.support.chromium import chromium, needs_chromium, webdriver
from tests.support.evaluation import make_evaluation

Select = pytest.importorskip("selenium.webdriver.support.ui").Select
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("page")
    report.write_report(make_evaluation(clips=1), folder, "sharpreel evaluate -m ours")
    with chromium("--window-size=1200,1600") as driver:
        driver.get((folder / "report.html").as_uri())
        yield driver


def look(page: Any) -> Any:
    first = page.find_element("css selector", ".look")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)
    return first


def line_of(page: Any, one: Any) -> float:
    """Where the line is, in per cent of the image, as it is drawn."""
    place = page.execute_script(
        "const s = arguments[0].querySelector('.stack');"
        "return 100 * parseFloat(getComputedStyle(s, '::after').left) / s.clientWidth",
        one,
    )
    return float(place)


def seen_at(page: Any, one: Any, share: float) -> str:
    """The version that is on top at this share of the width, as clicks find it."""
    name = page.execute_script(
        "const b = arguments[0].querySelector('.stack').getBoundingClientRect();"
        "const e = document.elementFromPoint(b.left + arguments[1] * b.width,"
        " b.top + b.height / 2);"
        "return e.closest('.version').dataset.name",
        one,
        share,
    )
    return str(name)


def set_line(page: Any, one: Any, percent: int) -> None:
    page.execute_script(
        "const r = arguments[0].querySelector('input'); r.value = arguments[1];"
        "r.dispatchEvent(new Event('input'))",
        one,
        percent,
    )


def test_the_page_loads_without_an_error(page: Any) -> None:
    assert page.title == "Evaluation: bicubic, ours, theirs"
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_keys_move_the_line_and_the_image_changes_there(page: Any) -> None:
    one = look(page)
    line = one.find_element("css selector", "input")
    set_line(page, one, 50)
    assert line_of(page, one) == pytest.approx(50, abs=0.5)
    for _ in range(10):
        line.send_keys("\ue014")  # arrow right
    assert line_of(page, one) == pytest.approx(60, abs=0.5)
    left, right = (o.get_attribute("value") for o in one.find_elements("css selector", "select"))
    assert (left, right) == ("bicubic", "theirs")
    assert seen_at(page, one, 0.55) == left
    assert seen_at(page, one, 0.65) == right


def test_the_mouse_drags_the_line(page: Any) -> None:
    one = look(page)
    set_line(page, one, 50)
    stack = one.find_element("css selector", ".stack")
    width = stack.size["width"]
    mouse = webdriver.ActionChains(page)
    mouse.move_to_element(stack).click_and_hold()
    mouse.move_by_offset(-round(width * 0.3), 0).release().perform()
    assert line_of(page, one) == pytest.approx(20, abs=1.5)
    assert seen_at(page, one, 0.1) == "bicubic"
    assert seen_at(page, one, 0.3) == "theirs"


def test_each_side_can_show_every_version(page: Any) -> None:
    one = look(page)
    set_line(page, one, 50)
    left, right = one.find_elements("css selector", "select")
    names = [option.text for option in left.find_elements("css selector", "option")]
    assert names == ["low resolution", "bicubic", "ours", "theirs", "reference"]
    for name, other in zip(names, reversed(names), strict=True):
        Select(left).select_by_visible_text(name)
        Select(right).select_by_visible_text(other)
        assert seen_at(page, one, 0.25) == name
        assert seen_at(page, one, 0.75) == other


def test_the_page_fits_a_phone(page: Any, tmp_path: Path) -> None:
    page.set_window_size(500, 900)
    width = page.execute_script("return document.documentElement.scrollWidth - innerWidth")
    page.set_window_size(1200, 1600)
    assert width <= 0
