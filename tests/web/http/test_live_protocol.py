"""Messages of the live socket: their layout is what the page's script reads and writes."""

from __future__ import annotations

import re

from sharpreel.web.http import live_protocol
from sharpreel.web.http.live_protocol import REQUEST_HEADER, RESPONSE_HEADER, LiveError
from tests.support.videos import REPO

SCRIPT = REPO / "src/sharpreel/web/static/live.js"


def test_headers_are_big_endian_without_padding() -> None:
    assert REQUEST_HEADER.pack(1, 2.0) == bytes.fromhex("00000001 4000000000000000")
    assert RESPONSE_HEADER.pack(1, 2.0, 1.0, 3) == bytes.fromhex(
        "00000001 4000000000000000 3f800000 00000003"
    )


def test_the_script_of_the_page_has_the_sizes_of_the_headers() -> None:
    stated = re.search(r"REQUEST_HEADER = (\d+), RESPONSE_HEADER = (\d+)", SCRIPT.read_text())
    assert stated is not None
    assert [int(n) for n in stated.groups()] == [REQUEST_HEADER.size, RESPONSE_HEADER.size]


def test_an_error_has_the_code_and_reason_of_a_close_message() -> None:
    error = LiveError(live_protocol.TOO_BIG, "the frame is too large")
    assert (error.code, error.reason, str(error)) == (1009, "the frame is too large", error.reason)
    assert len(error.reason.encode()) <= live_protocol.MAX_REASON_BYTES
