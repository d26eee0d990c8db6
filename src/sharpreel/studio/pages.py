"""The studio's pages, and the navigation between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from sharpreel.studio import runs_page, test_page, train_page, tune_page

PAGES: dict[str, Callable[[], None]] = {
    "Train": train_page.show,
    "Tune": lambda: tune_page.show(lambda: st.switch_page(page("Train"))),
    "Test": test_page.show,
    "Runs": runs_page.show,
}


def page(title: str) -> Any:
    """Return Streamlit's object for a page of PAGES."""
    return st.Page(PAGES[title], title=title, url_path=title.lower(), default=title == "Train")


def run() -> None:
    """Show the page that the address names; called by `app.py`."""
    st.set_page_config(page_title="sharpreel studio", layout="wide")
    st.navigation([page(title) for title in PAGES]).run()
