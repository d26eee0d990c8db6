"""Structured logs: one JSON object per line."""

from __future__ import annotations

import json
import logging

from sharpreel.web.logs import JsonFormatter


def test_a_log_record_is_one_line_of_json() -> None:
    record = logging.LogRecord("a", logging.INFO, "f", 1, "two\nlines %s", ("x",), None)
    line = JsonFormatter("server").format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines x"
