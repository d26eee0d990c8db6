"""Chromium with its driver, for tests that need a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
needs_chromium = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and chromium-driver are not installed"
)


@contextmanager
def chromium(*flags: str, prefs: Mapping[str, str] | None = None) -> Iterator[Any]:
    """A headless browser that logs the errors of its pages; it is closed after the block.

    Args:
        flags: More arguments for its command line.
        prefs: Its settings.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # required for root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if prefs is not None:
        options.add_experimental_option("prefs", dict(prefs))
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()
