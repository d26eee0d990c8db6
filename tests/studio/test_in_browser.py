"""The studio in a real browser: a training is begun, watched in two windows, tested, downloaded.

Needs Chromium with its driver (Debian: chromium and chromium-driver) and selenium. With
STUDIO_PICTURES=FOLDER it leaves pictures of what it saw, and STUDIO_CLIPS=FOLDER gives it other
clips than its own: `docs/studio/` was made so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpreel.studio import jobs
from sharpreel.studio.folder import (
    RUNS,
    SEARCHES,
    mlflow_job,
)
from sharpreel.studio.follower import Follower
from tests.support.chromium import chromium, needs_chromium
from tests.support.tiles import tiles
from tests.support.videos import write_frames

pytest.importorskip("streamlit", reason="streamlit is not installed")
WebDriverException = pytest.importorskip("selenium.common.exceptions").WebDriverException
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    needs_chromium,
]
DEADLINE = 240.0  # seconds; a machine that trains beside the tests is slow
CHARTS = '[data-testid="stVegaLiteChart"]'
CONTROLS = {"text": "input", "number": "input", "area": "textarea"}


def wait_for(found: Callable[[], Any], what: str) -> Any:
    """What the function returns, once that is true; pages change under it."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            if value := found():
                return value
        except WebDriverException as e:
            last: object = e
        else:
            last = "nothing"
        assert time.monotonic() < end, f"{what}: not within {DEADLINE:.0f} s ({last})"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("STUDIO_CLIPS")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("clips")
    for k in range(4):
        frames = [tiles(k, t, (192, 144)) for t in range(8)]
        write_frames(folder / f"clip{k}.mp4", frames, options={"crf": "5"})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The studio's folder, with a search that has a best."""
    made = tmp_path_factory.mktemp("studio") / "studio"
    search = made / SEARCHES / "found"
    (search / "studio").mkdir(parents=True)
    best = {"recipe": "reel-fast", "scale": 2, "set": {"steps": 77}, "value": 0.5, "trial": 3}
    (search / "best.json").write_text(json.dumps(best))
    facts = {"words": [], "about": {"recipe": "reel-fast", "trials": 4}, "began": 0}
    (search / "studio" / "job.json").write_text(json.dumps(facts))
    (search / "studio" / "events.jsonl").write_text('{"event": "tuned"}\n')
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "sharpreel", "studio", "--port", "0", "--folder", str(folder)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": ""}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            reported = process.stdout.readline().strip()

            def healthy() -> bool:
                with urllib.request.urlopen(f"{reported}/_stcore/health", timeout=5) as answer:
                    return bool(answer.status == 200)

            def tried() -> bool:
                try:
                    return healthy()
                except OSError:
                    return False

            wait_for(tried, "the studio answers")
            yield reported
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            mlflow = mlflow_job(folder)
            wait_for(lambda: not mlflow.running(), "MLflow's page ends with the studio")
        finally:
            process.kill()


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[Any]:
    prefs = {"download.default_directory": str(downloads)}
    with chromium("--window-size=1280,1500", prefs=prefs) as driver:
        yield driver


def by_label(browser: Any, kind: str, label: str) -> Any:
    return wait_for(
        lambda: browser.find_element(
            "xpath", f'//{CONTROLS[kind]}[starts-with(@aria-label, "{label}")]'
        ),
        label,
    )


def fill(browser: Any, kind: str, label: str, value: str) -> None:
    """Type into a field and leave it; the page is run again each time."""

    def typed() -> bool:
        field = by_label(browser, kind, label)
        if field.get_attribute("value") != value:
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys(value)
            field.send_keys(Keys.CONTROL + Keys.ENTER if kind == "area" else Keys.ENTER)
            settle(browser)
        return bool(by_label(browser, kind, label).get_attribute("value") == value)

    wait_for(typed, f"{label} is {value}")


def settle(browser: Any) -> None:
    """Wait until the page is not being made any more."""
    time.sleep(0.3)
    wait_for(
        lambda: (
            browser.find_element("css selector", '[data-testid="stApp"]').get_attribute(
                "data-test-script-state"
            )
            != "running"
        ),
        "the page is made",
    )


def click(browser: Any, text: str) -> None:
    def clicked() -> bool:
        button = browser.find_element("xpath", f'//button[.//p[normalize-space()="{text}"]]')
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        return True

    wait_for(clicked, text)
    settle(browser)


def choose(browser: Any, label: str, value: str) -> None:
    """An entry of a select box."""

    def chosen() -> bool:
        field = browser.find_element(
            "xpath", f'//input[@role="combobox"][contains(@aria-label, "{label}")]'
        )
        field.click()
        field.send_keys(value)
        field.send_keys(Keys.ENTER)
        return True

    wait_for(chosen, label)
    settle(browser)


def text_of(browser: Any) -> str:
    return str(browser.find_element("css selector", '[data-testid="stMain"]').text)


def drawn(browser: Any) -> list[str]:
    """The nine charts as pictures."""
    found = browser.find_elements("css selector", CHARTS)
    return [one.screenshot_as_base64 for one in found] if len(found) == 9 else []


def keep(browser: Any, name: str) -> None:
    """See that nothing on the page broke; and a picture of it, where pictures are wanted."""
    assert browser.find_elements("css selector", '[data-testid="stException"]') == []
    folder = os.environ.get("STUDIO_PICTURES")
    if folder:
        high = browser.execute_script(
            "return document.querySelector('[data-testid=\"stMainBlockContainer\"]').scrollHeight"
        )
        browser.set_window_size(1280, min(int(high) + 160, 4000))
        time.sleep(1)  # the charts follow the window
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))
        browser.set_window_size(1280, 1500)


def test_train_watch_test_and_download(
    browser: Any, address: str, folder: Path, clips: Path, downloads: Path
) -> None:
    browser.get(address)
    fill(browser, "text", "Path", str(clips))
    fill(browser, "number", "Patch size", "16")
    fill(browser, "number", "Steps", "30")
    fill(browser, "number", "Validate every", "10")
    fill(browser, "text", "Name of the run", "mine")
    fill(browser, "area", "Other settings", "stages=[[1.0, 2, 4]]\nlearning_rate=0.003")
    keep(browser, "new")
    click(browser, "Start training")

    job = jobs.Job(folder / RUNS / "mine")
    rows = Follower(job.folder / "batches.jsonl")
    wait_for(lambda: any("clip" not in row for row in rows.read()), "a step is done")
    pid = job.facts()["pid"]
    os.kill(pid, signal.SIGSTOP)  # a fast machine would have ended before one has looked
    try:
        before = wait_for(lambda: drawn(browser), "nine charts")
        assert len(set(before)) > 1
        first = browser.current_window_handle
        browser.switch_to.new_window("tab")  # a second page, which finds the training by itself
        browser.get(address)
        wait_for(lambda: "Training batches" in text_of(browser), "the second page finds it")
        browser.close()
        browser.switch_to.window(first)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "Finished" in text_of(browser), "the training is finished")
    assert "Epochs: 3 of 3" in text_of(browser)

    def moved() -> bool:
        after = drawn(browser)
        return bool(after) and all(a != b for a, b in zip(before, after, strict=True))

    wait_for(moved, "all nine charts have moved")
    pictures = browser.find_elements("css selector", '[data-testid="stImage"] img')
    assert len(pictures) == 3
    assert all(int(p.get_attribute("naturalWidth")) > 30 for p in pictures)
    keep(browser, "train")

    browser.get(f"{address}/test")
    choose(browser, "Network", "mine: reel-fast_x2.safetensors")
    fill(browser, "text", "Path", str(sorted(clips.iterdir())[0]))
    click(browser, "Start test")
    wait_for(lambda: "Download report.html" in text_of(browser), "the test is finished")
    assert "QM" in text_of(browser)
    assert "reel-fast_x2" in text_of(browser)
    keep(browser, "test")
    click(browser, "Download report.html")
    page = downloads / "report.html"
    wait_for(page.is_file, "the report is downloaded")
    assert "<title>Evaluation: bicubic, reel-fast_x2</title>" in page.read_text()


def test_a_video_is_enlarged_and_the_line_moves_over_it(
    browser: Any, address: str, clips: Path, tmp_path: Path
) -> None:
    browser.get(f"{address}/test")
    click_radio(browser, "Inference: low-resolution video in")
    fill(browser, "text", "Path", str(sorted(clips.iterdir())[0]))
    click(browser, "Upscale")
    wait_for(lambda: "Download the result" in text_of(browser), "it is enlarged")
    player = wait_for(lambda: browser.find_element("css selector", "video"), "a player")
    wait_for(
        lambda: browser.execute_script("return arguments[0].videoWidth", player) > 0, "it plays"
    )
    frame = wait_for(lambda: browser.find_element("css selector", "iframe"), "before and after")
    keep(browser, "inference")
    high = enlarged_high(browser, address, tmp_path)
    frame = wait_for(lambda: browser.find_element("css selector", "iframe"), "before and after")
    browser.switch_to.frame(frame)
    try:
        stack = browser.find_element("css selector", ".stack").size
        assert stack == pytest.approx(high, abs=2)
        place = "return document.querySelector('.stack').style.getPropertyValue('--at')"
        line = browser.find_element("css selector", "input[type=range]")
        line.send_keys(Keys.ARROW_RIGHT)
        assert browser.execute_script(place) == "51%"
    finally:
        browser.switch_to.default_content()


def enlarged_high(browser: Any, address: str, folder: Path) -> dict[str, float]:
    """The size at which the page plays a video of 360x864."""
    frames = [tiles(9, t, (180, 144)).repeat(3, 0) for t in range(4)]
    write_frames(folder / "high.mp4", frames, options={"crf": "5"})
    browser.get(f"{address}/test")
    choose(browser, "Show", "New test")
    click_radio(browser, "Inference: low-resolution video in")
    fill(browser, "text", "Path", str(folder / "high.mp4"))
    click(browser, "Upscale")
    wait_for(lambda: "Download the result" in text_of(browser), "it is enlarged")
    player = wait_for(lambda: browser.find_element("css selector", "video"), "a player")
    wait_for(
        lambda: browser.execute_script("return arguments[0].videoWidth", player) == 360, "plays"
    )
    assert player.size == pytest.approx({"width": 262, "height": 630}, abs=2)
    keep(browser, "high")
    return dict(player.size)


def click_radio(browser: Any, text: str) -> None:
    def clicked() -> bool:
        browser.find_element("xpath", f'//label[.//p[normalize-space()="{text}"]]').click()
        return True

    wait_for(clicked, text)
    settle(browser)


def test_the_best_of_a_search_is_taken_as_a_recipe(browser: Any, address: str) -> None:
    browser.get(f"{address}/tune")
    choose(browser, "Show", "found")
    wait_for(lambda: "Best: trial 3, +0.500 dB" in text_of(browser), "the best is named")
    click(browser, "Use best trial as recipe")
    wait_for(lambda: "Training videos" in text_of(browser), "the page Train")
    steps = by_label(browser, "number", "Steps")
    wait_for(lambda: steps.get_attribute("value") == "77", "its settings")


def test_runs_are_shown_and_mlflows_page_opens_beside(browser: Any, address: str) -> None:
    browser.get(f"{address}/runs")
    wait_for(lambda: "1 of 1 runs" in text_of(browser), "the training is a run")
    click(browser, "Start the MLflow UI")
    link = wait_for(
        lambda: browser.find_element("css selector", '[data-testid="stLinkButton"] a'), "a link"
    )
    keep(browser, "runs")
    there = link.get_attribute("href")
    with urllib.request.urlopen(there, timeout=60) as answer:
        assert b"MLflow" in answer.read()
