"""The pages in a real browser on a running site: from upload to download, and the camera.

Needs Chromium with its driver (Debian: chromium and chromium-driver) and selenium. Screenshots are
saved to $SHARPREEL_SCREENSHOTS, or to pytest's folder.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sharpreel import ops
from sharpreel.media.encoders import CODECS
from sharpreel.media.probe import probe
from sharpreel.web.http.pages import CODEC_LABELS
from tests.support.chromium import chromium, needs_chromium, webdriver
from tests.support.site_process import API, NO_RATE_LIMITS, RunningSite, running_site, wait_until
from tests.support.terminal import DEADLINE
from tests.support.videos import count_frames, make_clip

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("flask_sock", reason="the web extra is not installed")
clients = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
from selenium.common.exceptions import WebDriverException  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = needs_chromium
AUTOPLAY = "--autoplay-policy=no-user-gesture-required"
PAGES = ("/", "/jobs", "/live", "/learn")
PHONE = (375, 812)
STREAMS = 32  # event streams at a time on the site of most tests
SIZE = "{}\N{MULTIPLICATION SIGN}{}"


class Page:
    """One browser tab, and the site that it shows."""

    def __init__(self, driver: Any, running: RunningSite, folder: Path) -> None:
        self.driver, self.running, self.client = driver, running, running.client
        self.folder = folder
        self.downloads = folder / "downloads"
        self.screenshots = Path(os.environ.get("SHARPREEL_SCREENSHOTS") or folder / "screenshots")
        self.screenshots.mkdir(parents=True, exist_ok=True)
        driver.execute_cdp_cmd(
            "Browser.setDownloadBehavior",
            {"behavior": "allow", "downloadPath": str(self.downloads)},
        )

    def open(self, path: str) -> None:
        self.driver.get(f"http://127.0.0.1:{self.client.port}{path}")

    def __call__(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def text(self, selector: str) -> str:
        return str(self("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def until(self, condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
        def safe() -> Any:
            try:
                return condition()
            except WebDriverException:  # the page is being replaced
                return None

        return wait_until(safe, seconds)

    def screenshot(self, name: str) -> None:
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    def size(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def dark(self, on: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def logged_errors(self) -> list[str]:
        """Errors that the browser logged since the last call."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def upload(self, path: Path) -> None:
        """Choose a video on the start page, and wait for its plan."""
        self.open("/")
        self.find("#file").send_keys(str(path))
        self.wait_for_plan()

    def wait_for_plan(self) -> None:
        self.until(
            lambda: self.find("#begin").is_enabled() and self.find("#planned").is_displayed()
        )

    def start(self) -> str:
        """Start the planned job; returns its id."""
        self.find("#begin").click()
        self.until(lambda: "/jobs/" in self.driver.current_url and self.text("#name") != "Job")
        return str(self.driver.current_url.rsplit("/", 1)[-1])

    def state(self) -> str:
        return str(self("return document.getElementById('state').dataset.state"))

    @contextmanager
    def with_script(self, source: str) -> Iterator[None]:
        """Run a script first in every page that is opened during the block."""
        command = "Page.addScriptToEvaluateOnNewDocument"
        script = self.driver.execute_cdp_cmd(command, {"source": source})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Slow uploads during the block."""
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2e5}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        try:
            yield
        finally:
            fast = {**slow, "uploadThroughput": -1}
            self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", fast)
            self.driver.execute_cdp_cmd("Network.disable", {})


def write_y4m(path: Path, width: int = 640, height: int = 360, frames: int = 60) -> Path:
    """The video of Chromium's fake camera: a smooth moving texture at 30 fps."""
    noise = np.random.default_rng(0).integers(30, 226, (height // 12, width // 8), np.uint8)
    large = ops.resize(noise[..., None], height, width + 2 * frames)[..., 0]
    blue, red = (np.full((height // 2, width // 2), level, np.uint8) for level in (110, 150))
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode())
        for k in range(frames):
            file.write(b"FRAME\n" + large[:, 2 * k : 2 * k + width].tobytes())
            file.write(blue.tobytes() + red.tobytes())
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("pages")
    camera = write_y4m(folder / "camera.y4m")
    flags = (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    )
    limits = (
        *NO_RATE_LIMITS,
        "--limit",
        f"streams_per_client={STREAMS}",
        "--limit",
        "chunk_bytes=65536",
    )
    with (
        running_site(folder / "site", *limits, "--segment-seconds", "1") as running,
        chromium(AUTOPLAY, *flags) as driver,
    ):
        yield Page(driver, running, folder)


@pytest.fixture(autouse=True)
def reset(page: Page) -> Iterator[None]:
    page.size(1200, 900)
    page.dark(False)
    page.logged_errors()
    yield
    page.driver.get("about:blank")  # closes streams and sockets


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of 160x90 with audio."""
    folder = tmp_path_factory.mktemp("video")
    return make_clip(folder / "holiday video.mp4", size=(160, 90), frames=150)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Too long for a test: its jobs are cancelled."""
    folder = tmp_path_factory.mktemp("long")
    return make_clip(folder / "long.mp4", size=(640, 360), frames=400, audio=False)


CONTRAST = """
const number = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) =>
    (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * x + .7152 * y + .0722 * z;
};
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = number(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > .99) return c;
  }
  return [255, 255, 255];
};
const weak = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  const unseen = !e.checkVisibility() || e.closest('noscript, .tag, :disabled');
  if (!walk.currentNode.textContent.trim() || unseen) continue;
  const [a, b] = [light(number(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) weak.push(`${ratio.toFixed(2)}: ${walk.currentNode.textContent.trim()}`);
}
return weak;
"""
CONTROLS = {
    "button",
    "link",
    "textbox",
    "combobox",
    "slider",
    "checkbox",
    "spinbutton",
    "listbox",
    "progressbar",
    "radio",
    "DisclosureTriangle",
    "image",
    "Video",
    "table",
}


def nameless(page: Page) -> list[str]:
    """Controls and images without an accessible name."""
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    page.driver.execute_cdp_cmd("Accessibility.disable", {})
    return [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node.get("role", {}).get("value") in CONTROLS
        and not node.get("name", {}).get("value", "").strip()
    ]


def check_page(page: Page, name: str) -> None:
    """Check the open page: names, contrast in light and dark, and the width of a phone."""
    assert page.logged_errors() == []
    assert nameless(page) == []
    assert len(page.all("h1")) == 1
    assert page("return document.documentElement.lang") == "en"
    assert page(CONTRAST) == []
    page.screenshot(name)
    page.dark(True)
    assert page(CONTRAST) == []
    page.screenshot(f"{name}-dark")
    page.size(*PHONE)
    beyond = page("return document.documentElement.scrollWidth - innerWidth")
    page.dark(False)
    page.screenshot(f"{name}-phone")
    assert beyond <= 0
    page.size(1200, 900)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_is_accessible_and_fits_a_phone(page: Page, path: str) -> None:
    page.open(path)
    page.until(lambda: page("return document.readyState") == "complete")
    check_page(page, path.strip("/") or "home")


def test_every_image_of_the_learn_page_has_its_size(page: Page) -> None:
    page.open("/learn")
    page("for (const i of document.images) i.loading = 'eager'")
    page.until(lambda: page("return [...document.images].every((i) => i.complete)"))
    wrong = page(
        "return [...document.querySelectorAll('.learn img')].filter((i) =>"
        " i.naturalWidth != i.getAttribute('width') || i.naturalHeight != i.getAttribute('height'))"
        ".map((i) => i.src)"
    )
    assert wrong == []
    page("document.documentElement.scrollTop = 0")
    page.size(1200, 5200)
    page.screenshot("learn-whole")
    # A phone shows them in full size, too, in boxes that scroll.
    page.size(*PHONE)
    small = page("return [...document.querySelectorAll('.learn img')].map((i) => i.width)")
    assert min(small) > PHONE[0]
    page.screenshot("learn-phone-image")


def test_the_first_key_skips_the_menu(page: Page) -> None:
    page.open("/jobs")
    page.find("body").send_keys(Keys.TAB)
    assert page("return document.activeElement.textContent") == "Skip to content"
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page("return document.activeElement.id") == "main"


def test_an_unknown_job_is_reported(page: Page) -> None:
    page.open("/jobs/" + "0" * 32)
    page.until(lambda: "no such job" in page.text("#error"))
    assert not page.find("#details").is_displayed()


def test_a_rejected_event_stream_is_opened_again(page: Page, video: Path) -> None:
    client = page.client
    upload = client.upload(video)
    with ExitStack() as others:
        for _ in range(STREAMS):
            other = http.client.HTTPConnection("127.0.0.1", client.port, timeout=DEADLINE)
            others.enter_context(closing(other))
            other.request("GET", f"{API}/events")
            if other.getresponse().status == 429:
                break
        page.open("/jobs")
        page.until(lambda: "interrupted" in page.text("#connection"))
        # Meanwhile the page polls.
        job = client.job(upload)
        client.wait_until_done(job)
        page.until(lambda: page.text(f"tr[data-id='{job['id']}'] .state") == "done")
        page.screenshot("jobs-without-events")
    page.until(lambda: page.text("#connection") == "")
    client.call("DELETE", f"/jobs/{job['id']}")
    page.until(lambda: not page.all(f"tr[data-id='{job['id']}']"))


def test_a_job_that_is_deleted_elsewhere_disappears_from_the_pages(
    page: Page, video: Path, long_video: Path
) -> None:
    client = page.client
    upload = client.upload(long_video)
    jobs = [client.job(upload, model="reel", scale=4) for _ in range(2)]
    page.open("/jobs")
    rows = [f"tr[data-id='{job['id']}']" for job in jobs]
    page.until(lambda: all(page.all(row) for row in rows))
    assert page.text(f"{rows[1]} [data-label=Started]") == "queued"
    client.call("DELETE", f"/jobs/{jobs[1]['id']}")
    page.until(lambda: not page.all(rows[1]))
    assert page.all(rows[0])
    page.open(f"/jobs/{jobs[0]['id']}")
    page.until(lambda: page.state() == "running")
    before = page.text("#done")
    page.until(lambda: page.text("#done") != before)  # the event stream is open
    client.call("DELETE", f"/jobs/{jobs[0]['id']}")
    page.until(lambda: page.text("#error") == "This job was deleted.")
    assert page.text("#state") == "deleted"
    assert not page.all("#actions *")
    page.screenshot("job-deleted")
    # There are no events of a job that had ended; the next action reveals it.
    upload = client.upload(video)
    for selector in ("#download", "[data-action=delete]"):
        job = client.wait_until_done(client.job(upload))
        page.open(f"/jobs/{job['id']}")
        page.until(partial(page.all, selector))
        client.call("DELETE", f"/jobs/{job['id']}")
        page.find(selector).click()
        if selector != "#download":
            page.driver.switch_to.alert.accept()
        page.until(lambda: page.text("#error") == "This job was deleted.")
        assert page.driver.current_url.endswith(job["id"])


@pytest.mark.parametrize("size", [(90, 160), (320, 90)])
def test_the_comparison_has_the_aspect_ratio_of_the_video(
    page: Page, tmp_path: Path, size: tuple[int, int]
) -> None:
    video = make_clip(tmp_path / "video.mp4", size=size)
    job = page.client.wait_until_done(page.client.job(page.client.upload(video)))
    page.open(f"/jobs/{job['id']}")
    page.until(lambda: page.find("#player").is_displayed())
    for window in ((1200, 800), PHONE):
        page.size(*window)
        stack, line = page.find(".compare").size, page.find("#slide").size
        assert stack["width"] / stack["height"] == pytest.approx(size[0] / size[1], rel=0.02)
        assert stack["height"] < window[1]
        assert line["width"] == pytest.approx(stack["width"], abs=1)
        page.screenshot(f"job-{size[0]}x{size[1]}-{window[0]}")


def test_a_video_goes_from_upload_to_download(page: Page, video: Path) -> None:
    page.upload(video)
    assert "holiday video.mp4" in page.text("#input-facts")
    assert SIZE.format(160, 90) in page.text("#input-facts")
    assert SIZE.format(320, 180) in page.text("#plan-figures")
    assert "audio" in page.text("#streams")
    values = "return [...document.getElementsByName(arguments[0])[0].options].map((o) => o.value)"
    assert set(page(values, "codec")) == {"", *CODEC_LABELS} <= {"", *CODECS}
    assert {"", "mkv", "mp4", "webm"} <= set(page(values, "container"))
    check_page(page, "plan")
    # Another size is planned again.
    Select(page.find("[name=size]")).select_by_value("x4")
    page.until(lambda: SIZE.format(640, 360) in page.text("#plan-figures"))
    Select(page.find("[name=size]")).select_by_value("x2")
    page.until(lambda: SIZE.format(320, 180) in page.text("#plan-figures"))
    job_id = page.start()
    seen: set[str] = set()

    def done() -> bool:
        seen.add(page.text("#done"))
        if page("return !document.getElementById('frame-after').hidden") and "shot" not in seen:
            seen.add("shot")
            page.screenshot("job-running")
        return page.state() == "done"

    page.until(done)
    assert any("of 150" in text for text in seen)
    page.until(lambda: page.find("#player").is_displayed())

    job = page.client.call("GET", f"/jobs/{job_id}")
    page.find("#download").click()
    target = page.downloads / job["result"]["name"]
    page.until(lambda: target.exists() and target.stat().st_size == job["result"]["bytes"])
    assert hashlib.sha256(target.read_bytes()).hexdigest() == job["result"]["sha256"]
    result = probe(target)
    assert (result.width, result.height) == (320, 180)
    assert count_frames(target) == count_frames(video) == 150
    check_slider(page)
    check_playing(page)
    check_page(page, "job")


def check_slider(page: Page) -> None:
    """Keys and the pointer move the line; the input is left of it, the result right of it."""

    def top_at(share: float) -> str:
        found = page(
            "const b = document.querySelector('.compare').getBoundingClientRect();"
            "return document.elementFromPoint(b.left + arguments[0] * b.width, b.top + 20).id",
            share,
        )
        return str(found)

    line = page.find("#slide")
    page("arguments[0].scrollIntoView({block: 'end'})", line)
    for _ in range(20):
        line.send_keys(Keys.ARROW_RIGHT)
    assert line.get_attribute("value") == "70"
    assert (top_at(0.65), top_at(0.75)) == ("before", "after")
    stack = page.find(".compare")
    mouse = webdriver.ActionChains(page.driver)
    mouse.move_to_element(stack).click_and_hold()
    mouse.move_by_offset(-round(stack.size["width"] * 0.3), 0).release().perform()
    assert float(line.get_attribute("value")) == pytest.approx(20, abs=1.5)
    assert (top_at(0.15), top_at(0.25)) == ("before", "after")
    for _ in range(30):
        line.send_keys(Keys.ARROW_RIGHT)


def check_playing(page: Page) -> None:
    """Both videos play from one button, seek by one slider, and stay in sync."""
    times = "return ['after', 'before'].map((id) => document.getElementById(id).currentTime)"
    page.find("#play").click()
    page.until(lambda: min(page(times)) > 0.5)
    page.find("#play").click()
    page.until(lambda: page.text("#play") == "Play")
    page.until(lambda: abs(np.subtract(*page(times))) < 0.02)
    seek = page.find("#seek")
    page("arguments[0].value = 2; arguments[0].dispatchEvent(new Event('input'))", seek)
    page.until(lambda: page(times) == [2, 2])


def test_a_job_is_paused_resumed_cancelled_retried_and_deleted(
    page: Page, long_video: Path
) -> None:
    page.upload(long_video)
    Select(page.find("[name=model]")).select_by_value("reel")
    Select(page.find("[name=size]")).select_by_value("x4")
    page.until(lambda: page.find("#begin").is_enabled() and "2560" in page.text("#plan-figures"))
    job_id = page.start()
    page.until(lambda: page.state() == "running")

    def press(action: str) -> None:
        page.until(lambda: page.all(f"[data-action={action}]"))
        page.find(f"[data-action={action}]").click()

    press("pause")
    page.until(lambda: page.state() == "paused")
    press("resume")
    page.until(lambda: page.state() == "running")
    page.open("/jobs")
    row = f"tr[data-id='{job_id}']"
    page.until(lambda: page.all(f"{row} [data-action=cancel]"))
    check_page(page, "jobs-running")
    page.find(f"{row} [data-action=cancel]").click()
    page.until(lambda: page.text(f"{row} .state") == "cancelled")
    page.until(lambda: page.all(f"{row} [data-action=retry]"))
    page.find(f"{row} [data-action=retry]").click()
    page.until(lambda: page.text(f"{row} .state") in ("queued", "running"))
    page.until(lambda: page.all(f"{row} [data-action=cancel]"))
    page.find(f"{row} [data-action=cancel]").click()
    page.until(lambda: page.all(f"{row} [data-action=delete]"))
    page.find(f"{row} [data-action=delete]").click()
    page.driver.switch_to.alert.accept()
    page.until(lambda: not page.all(row))
    assert page.client.api("GET", f"/jobs/{job_id}").status == 404


def large(folder: Path) -> Path:
    """A video of thirteen chunks."""
    big = make_clip(folder / "big.mp4")
    padding = os.urandom(800_000)
    with big.open("ab") as file:  # a box of MP4 that readers skip
        file.write(struct.pack(">I4s", len(padding) + 8, b"free") + padding)
    return big


def test_an_upload_resumes_after_a_pause_and_a_reload(page: Page, tmp_path: Path) -> None:
    big = large(tmp_path)
    sent = "return Number(JSON.parse(Object.values(localStorage)[0] ?? '{}').sent ?? 0)"
    with page.slow():
        page.open("/")
        page("localStorage.clear()")
        page.find("#file").send_keys(str(big))
        page.until(lambda: page(sent) >= 2 * 65536)
        page.find("#hold").click()
        assert "Paused" in page.text("#sending-numbers")
        page.screenshot("upload-paused")
        before = page(sent)
        page.driver.refresh()
        page.until(lambda: "big.mp4" in page.text("#unfinished-list"))
        page.screenshot("upload-unfinished")
        page.logged_errors()
    known = page("return JSON.parse(Object.values(localStorage)[0]).id")
    assert page.client.call("GET", f"/uploads/{known}")["offset"] >= before > 0
    page.find("#file").send_keys(str(big))
    page.until(lambda: "upload=" in page.driver.current_url)
    assert page.driver.current_url.endswith(known)
    upload = page.client.call("GET", f"/uploads/{known}")
    assert upload["state"] == "ready"
    assert upload["sha256"] == hashlib.sha256(big.read_bytes()).hexdigest()
    assert page("return localStorage.length") == 0
    # The plan is shown after a reload, too.
    page.until(lambda: page.find("#begin").is_enabled())
    page.driver.refresh()
    page.until(lambda: "big.mp4" in page.text("#input-facts"))


# Intercepts the requests of the page. The value of `window.instead(method, path)` is the response;
# the response to a POST whose path ends in `window.holds` is delayed until `letGo` is called.
INTERCEPT = """
window.requests = [];
const originalFetch = window.fetch, send = XMLHttpRequest.prototype.send;
const held = new Promise((done) => { window.letGo = done; });
window.fetch = async (path, options) => {
  window.requests.push(`${options.method} ${path}`);
  const replacement = window.instead?.(options.method, path);
  if (replacement) return replacement;
  const holds = window.holds && options.method === 'POST' && path.endsWith(window.holds);
  if (!holds) return originalFetch(path, options);
  const response = await originalFetch(path, { ...options, signal: undefined });
  await held;
  return response;
};
XMLHttpRequest.prototype.send = function (data) {
  window.requests.push('PATCH');
  send.call(this, data);
};
window.errorResponse = (status, code) => new Response(
  JSON.stringify({ error: { code, message: code, request_id: 'r' } }), { status });
"""


def with_intercepted_requests(page: Page, script: str) -> None:
    page.open("/")
    page("localStorage.clear()")
    page(INTERCEPT + script)


def request_count(page: Page, prefix: str) -> int:
    """Number of requests of the page with this prefix."""
    return int(page(f"return window.requests.filter((one) => one.startsWith('{prefix}')).length"))


def test_a_lost_response_to_the_last_request_loses_nothing(page: Page, video: Path) -> None:
    lost_then_busy = """
    let count = 0;
    window.instead = (method, path) => {
      if (!path.endsWith('/finish') || ++count > 2) return null;
      if (count === 1) throw new TypeError('Failed to fetch');
      return window.errorResponse(409, 'busy');
    };
    """
    with_intercepted_requests(page, lost_then_busy)
    page.find("#file").send_keys(str(video))
    page.until(lambda: page.find("#plan").is_displayed())
    assert page.text("#error") == ""
    assert request_count(page, f"POST {API}/uploads/") == 3
    page.wait_for_plan()


def test_pause_and_cancel_work_while_the_server_checks(page: Page, video: Path) -> None:
    busy_once = """
    let count = 0;
    window.holds = '/finish';
    window.instead = (method) =>
      method === 'DELETE' && !count++ && window.errorResponse(409, 'busy');
    """

    def checking(button: str) -> str:
        with_intercepted_requests(page, busy_once)
        page.find("#file").send_keys(str(video))
        page.until(lambda: request_count(page, f"POST {API}/uploads/") == 1)
        known = page("return JSON.parse(Object.values(localStorage)[0]).id")
        page.find(button).click()
        page("window.letGo()")
        return str(known)

    known = checking("#hold")
    time.sleep(0.5)
    assert "Paused" in page.text("#sending-numbers")
    page("window.holds = ''")
    page.find("#hold").click()
    page.wait_for_plan()
    assert page.driver.current_url.endswith(known)

    known = checking("#drop-upload")
    page.until(lambda: page.client.api("GET", f"/uploads/{known}").status == 404)
    assert page.find("#choose").is_displayed()
    assert not page.find("#unfinished").is_displayed()
    assert page.text("#error") == ""


def test_a_pause_before_the_first_chunk_works(page: Page, video: Path) -> None:
    with_intercepted_requests(page, "window.holds = '/uploads'")
    page.find("#file").send_keys(str(video))
    page.until(lambda: request_count(page, "POST") == 1)
    page.find("#hold").click()
    page("window.letGo()")
    time.sleep(0.5)
    assert request_count(page, "PATCH") == 0
    page.find("#hold").click()
    page.wait_for_plan()
    assert request_count(page, f"POST {API}/uploads") == 2  # one to begin, one to finish
    assert page.logged_errors() == []


def test_too_many_unfinished_uploads_are_reported(page: Page, video: Path) -> None:
    begun = []
    while (
        response := page.client.api("POST", "/uploads", {"name": "a.mp4", "size": 9})
    ).status == 201:
        begun.append(response.json["id"])
    page.open("/")
    page("localStorage.clear()")
    page.find("#file").send_keys(str(video))
    try:
        page.until(lambda: "unfinished uploads" in page.text("#error"))
        assert page.find("#file").is_displayed()
    finally:
        for one in begun:
            page.client.call("DELETE", f"/uploads/{one}")


def test_a_file_that_is_deleted_during_its_upload_is_reported(page: Page, tmp_path: Path) -> None:
    big = large(tmp_path)
    page.open("/")
    page("localStorage.clear()")
    with page.slow():
        page.find("#file").send_keys(str(big))
        page.until(lambda: " of " in page.text("#sending-numbers"))
        big.unlink()
        page.until(lambda: "cannot be read" in page.text("#error"))
    assert page.find("#file").is_displayed()
    page("localStorage.clear()")
    page.logged_errors()


def test_a_file_that_is_not_a_video_is_refused_with_a_message(page: Page, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video\n" * 500)
    page.open("/")
    page.find("#file").send_keys(str(text))
    page.until(lambda: page.text("#error"))
    assert page.find("#file").is_displayed()


DROP = """
const data = new DataTransfer();
data.items.add(new File(['not a video'], 'dropped.txt'));
for (const name of ['dragover', 'drop']) {
  document.getElementById('drop').dispatchEvent(
    new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""


def test_a_file_can_be_dropped_on_the_page(page: Page) -> None:
    page.open("/")
    page(DROP)
    page.until(lambda: page.text("#sending-name") == "dropped.txt" and page.text("#error"))


def test_a_sample_shows_several_models_at_once(page: Page, video: Path) -> None:
    page.upload(video)
    page.find("#sample [value=reel-live]").click()
    page.find("#make-sample").click()
    page.until(lambda: page.text("#sample-state") == "The sample is ready.")
    of_all = "return [...document.querySelectorAll('#sample-videos video')].map((v) => {})"
    page.until(lambda: page(of_all.format("v.readyState > 1 && v.videoWidth")) == [320] * 3)
    names = [f.text for f in page.all("#sample-videos strong")]
    assert names == ["bicubic", "reel", "reel-live"]
    page("document.getElementById('sample-play').scrollIntoView({block: 'end'})")
    page.find("#sample-play").click()
    times = (
        "return [...document.querySelectorAll('#sample-videos video')].map((v) => v.currentTime)"
    )
    page.until(lambda: min(page(times)) > 0)
    page.screenshot("sample")
    # They are not shown for another video.
    page.find("#another").click()
    page.find("#file").send_keys(str(video))
    page.wait_for_plan()
    assert not page.all("#sample-videos video")
    assert not page.find("#sample-results").is_displayed()
    assert page.text("#sample-state") == ""


def test_samples_are_offered_for_models_with_the_scale(page: Page, long_video: Path) -> None:
    page.upload(long_video)
    ticked = "return [...document.querySelectorAll('#sample input:checked')].map((b) => b.value)"
    assert page(ticked) == ["bicubic", "reel"]
    assert not page.find("#sample [value=reel-gan]").is_enabled()
    assert "only 4" in page(
        "return document.querySelector('#sample [value=reel-gan]').parentElement.textContent"
    )
    page.screenshot("plan-samples")
    Select(page.find("[name=model]")).select_by_value("reel-gan")
    Select(page.find("[name=size]")).select_by_value("480")
    assert page.text("#try-scale") == "4"
    assert page(ticked) == ["bicubic", "reel-gan"]
    assert not page.find("#sample [value=reel-live]").is_enabled()
    page.find("#sample [value=reel]").click()
    Select(page.find("[name=model]")).select_by_value("reel")
    assert page.text("#try-scale") == "2"
    assert page(ticked) == ["bicubic", "reel"]  # as ticked by hand, if possible


SHA256 = """
const done = arguments[arguments.length - 1];
import('/static/sha256.js').then(({ Sha256 }) => {
  const data = new Uint8Array(70000).map((_, k) => (k * 31) ^ (k >> 8));
  done([0, 1, 55, 56, 63, 64, 65, 127, 70000].map((size) => {
    const hash = new Sha256();
    for (let at = 0; at < size; at += 37) hash.update(data.subarray(at, Math.min(at + 37, size)));
    return hash.hex();
  }));
});
"""


def test_the_sha256_of_the_page_is_correct(page: Page) -> None:
    page.open("/")
    found = page.driver.execute_async_script(SHA256)
    data = bytes(((k * 31) ^ (k >> 8)) & 255 for k in range(70000))
    sizes = (0, 1, 55, 56, 63, 64, 65, 127, 70000)
    assert found == [hashlib.sha256(data[:size]).hexdigest() for size in sizes]


def live_state(page: Page) -> str:
    return str(page("return document.getElementById('views').dataset.state"))


def drawn(page: Page) -> int:
    return int(page("return Number(document.getElementById('views').dataset.drawn ?? 0)"))


FLYING = """
window.mostFlying = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  if (!this.flying) {
    this.count = 0;
    this.flying = [];
    this.addEventListener('message', ({ data }) => { // a response also accounts for dropped frames
      const answered = new DataView(data).getUint32(0);
      this.flying = this.flying.filter((number) => number > answered);
    });
  }
  this.flying.push(this.count++);
  window.mostFlying = Math.max(window.mostFlying, this.flying.length);
  send.call(this, data);
};
"""


def start_live(page: Page, size: str = "320x180") -> None:
    page.open("/live")
    Select(page.find("[name=size]")).select_by_value(size)
    page.find("#start").click()
    page.until(lambda: drawn(page) >= 3)
    assert live_state(page) == "running"


def canvas(page: Page, name: str, url: str) -> npt.NDArray[np.uint8]:
    data = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    return np.ascontiguousarray(cv2.imdecode(data, 1)[..., ::-1])


def test_the_camera_comes_back_upscaled(page: Page) -> None:
    with page.with_script(FLYING):
        start_live(page)
    names = ("low", "bicubic", "ours")
    urls = page(f"return {list(names)}.map((id) => document.getElementById(id).toDataURL())")
    low, bicubic, ours = (canvas(page, n, u) for n, u in zip(names, urls, strict=True))
    assert low.shape == (180, 320, 3)
    assert bicubic.shape == ours.shape == (360, 640, 3)
    # The browser's bicubic is the one of papers; one level of tolerance for rounding.
    exact = ops.resize(low, 360, 640)
    assert np.abs(bicubic.astype(int) - exact).max() <= 1
    # The result shows the same scene, and differs from bicubic.
    assert 0.2 < np.abs(ours.astype(int) - exact).mean() < 8
    before = drawn(page)
    page.until(lambda: drawn(page) >= before + 10)
    page.until(lambda: page.text("#p95").endswith(" ms") and float(page.text("#fps")) > 0)
    assert page.text("#median").endswith(" ms")
    assert int(page.text("#dropped")) >= 0
    assert 1 <= page("return window.mostFlying") <= 2  # one in the network, one waiting
    check_page(page, "live-running")
    page.find("#stop").click()
    assert live_state(page) == "idle"
    page.until(lambda: live_clients(page) == 0)


def test_an_unreadable_frame_does_not_stop_the_others(page: Page) -> None:
    broken = """
    let count = 0;
    const read = window.createImageBitmap;
    window.createImageBitmap = (...given) =>
      ++count < 6 ? Promise.reject(new DOMException('broken')) : read(...given);
    """
    with page.with_script(broken):
        start_live(page, "160x90")
    page.until(lambda: page.text("#dropped").isdigit())
    page.find("#stop").click()


def test_a_camera_that_does_not_play_is_released(page: Page) -> None:
    deaf = """
    const take = MediaDevices.prototype.getUserMedia;
    MediaDevices.prototype.getUserMedia = async function (wanted) {
      return window.taken = await take.call(this, wanted);
    };
    HTMLMediaElement.prototype.play = () => Promise.reject(new DOMException('no', 'AbortError'));
    """
    with page.with_script(deaf):
        page.open("/live")
        page.find("#start").click()
        page.until(lambda: live_state(page) == "no-camera")
    assert page("return window.taken.getTracks().map((t) => t.readyState)") == ["ended"]


def live_clients(page: Page) -> int:
    """Open live sockets, as counted by the server."""
    metrics = page.client.request("GET", "/metrics").body.decode()
    [line] = [x for x in metrics.splitlines() if x.startswith("sharpreel_live_clients ")]
    return int(float(line.split()[1]))


@pytest.mark.slow
def test_the_camera_keeps_its_frame_rate(
    page: Page, record_property: Callable[[str, object], None]
) -> None:
    """The rate is reported; only that frames keep coming is asserted."""
    for size in ("160x90", "320x180"):
        start_live(page, size)
        before, began = drawn(page), time.monotonic()
        while drawn(page) < before + 150:
            assert live_state(page) == "running"
            assert time.monotonic() < began + DEADLINE
            time.sleep(0.05)
        rate = (drawn(page) - before) / (time.monotonic() - began)
        found = f"{rate:.1f} frames/s, median {page.text('#median')}, p95 {page.text('#p95')}"
        record_property(f"live {size}", found)
        print(f"live {size}: {found}")
        assert rate > 1


def test_other_sizes_webp_and_a_file_work_instead_of_the_camera(page: Page, video: Path) -> None:
    page.open("/live")
    Select(page.find("[name=from]")).select_by_value("file")
    page.find("#start").click()
    page.until(lambda: live_state(page) == "no-file")
    page.find("[name=file]").send_keys(str(video))
    Select(page.find("[name=size]")).select_by_value("160")
    Select(page.find("[name=format]")).select_by_value("image/webp")
    page.find("#start").click()
    page.until(lambda: drawn(page) >= 3)
    size = "return [ours.width, ours.height, low.width, low.height]"
    assert page(size) == [320, 180, 160, 90]
    Select(page.find("[name=size]")).select_by_value("320x180")
    page.until(lambda: page(size) == [640, 360, 320, 180])
    assert page.logged_errors() == []


def test_a_lost_server_is_reported_and_reconnected(page: Page) -> None:
    start_live(page, "160x90")
    for process in page.running.processes("sharpreel.web.server"):
        process.kill()
    page.until(lambda: live_state(page) == "lost")
    before = drawn(page)
    page.until(lambda: live_state(page) == "running" and drawn(page) > before)
    page.find("#stop").click()
    page.logged_errors()  # of the lost connection


def test_a_missing_camera_is_reported(page: Page) -> None:
    with chromium(AUTOPLAY, "--use-fake-ui-for-media-stream") as other:
        alone = Page(other, page.running, page.folder)
        alone.open("/live")
        alone.find("#start").click()
        alone.until(lambda: live_state(alone) == "no-camera")
        assert "no camera" in alone.text("#state")
        assert alone.find("#start").is_displayed()


def test_a_denied_camera_is_reported(page: Page) -> None:
    with chromium(
        AUTOPLAY, "--use-fake-device-for-media-stream", "--deny-permission-prompts"
    ) as other:
        alone = Page(other, page.running, page.folder)
        alone.open("/live")
        alone.find("#start").click()
        alone.until(lambda: live_state(alone) == "denied")
        assert "not allowed" in alone.text("#state")


def test_a_site_with_a_token_asks_for_it_once(page: Page, tmp_path: Path) -> None:
    options = (*NO_RATE_LIMITS, "--token", "open sesame", "--limit", "streams_per_client=1")
    with running_site(tmp_path / "site", *options) as running:
        private = Page(page.driver, running, page.folder)
        private.open("/jobs")
        private.until(lambda: private.all("#token"))
        check_page(private, "login")
        private.find("#token").send_keys("open barley", Keys.ENTER)
        private.until(lambda: private.text("[role=alert]"))
        assert private.find("#token").get_attribute("aria-invalid") == "true"
        private.find("#token").send_keys("open sesame", Keys.ENTER)
        private.until(lambda: private.driver.current_url.endswith("/jobs"))
        private.until(lambda: private.find("#none").is_displayed())
        check_busy_page(private)


def check_busy_page(page: Page) -> None:
    """While another client has the only slot, the page says so, and it starts afterwards."""
    address = f"ws://127.0.0.1:{page.client.port}/live/socket"
    known = {"Authorization": "Bearer open sesame"}
    with clients.connect(address, additional_headers=known, open_timeout=DEADLINE) as other:
        other.recv(DEADLINE)
        page.open("/live")
        page.find("#start").click()
        page.until(lambda: live_state(page) == "busy")
        page.screenshot("live-busy")
    page.until(lambda: drawn(page) >= 1)
