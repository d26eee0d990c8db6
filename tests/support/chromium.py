"""Chromium with its driver, as the tests that need a real browser start it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromium-driver are not installed"
)


@contextmanager
def chromium(*words: str, prefs: Mapping[str, str] | None = None) -> Iterator[Any]:
    """A browser without a window, which logs what its pages complain of; it ends with the block.

    Args:
        words: More for its command line.
        prefs: Its settings.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                 *words):  # fmt: skip
        options.add_argument(word)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which root has to
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if prefs is not None:
        options.add_experimental_option("prefs", dict(prefs))
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
