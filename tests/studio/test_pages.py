"""The pages and their navigation."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sharpreel.studio import (
    jobs,
)
from tests.support.studio import (
    DEADLINE,
    errors,
    opened,
)


@pytest.mark.parametrize("name", ["train", "tune", "test", "runs"])
def test_each_page_opens_on_an_empty_folder(name: str, home: Path) -> None:
    at = opened(name)
    assert errors(at) == []
    assert at.title[0].value == name.capitalize()


def test_the_app_opens_the_page_train(home: Path) -> None:
    at = AppTest.from_file(jobs.__file__.replace("jobs.py", "app.py"), default_timeout=DEADLINE)
    at.run()
    assert not at.exception
    assert at.title[0].value == "Train"
