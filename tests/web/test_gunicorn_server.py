"""Gunicorn as this site runs it: slow clients occupy connections, but no threads."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.site_process import NO_RATE_LIMITS, Client, running_site

gunicorn_server = pytest.importorskip(
    "sharpreel.web.gunicorn_server", reason="Gunicorn is not installed"
)


def test_slow_clients_do_not_block_others(client: Client) -> None:
    lines = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(40)]
    try:
        for line in lines:
            line.sendall(b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        # Of this client no more connections are taken, so another address asks.
        other = http.client.HTTPConnection(
            "127.0.0.1", client.port, timeout=20, source_address=("127.0.0.2", 0)
        )
        other.request("GET", "/healthz")
        assert other.getresponse().status == 200
        other.close()
        closed = 0
        for line in lines:
            line.settimeout(0.05)
            try:
                closed += line.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionResetError:
                closed += 1
        assert closed >= 16  # 24 may be open at a time
    finally:
        for line in lines:
            line.close()


def from_address(number: int, port: int) -> socket.socket:
    """A connection from 127.0.0.NUMBER, which is a client of its own."""
    return socket.create_connection(
        ("127.0.0.1", port), timeout=20, source_address=(f"127.0.0.{number}", 0)
    )


def health_for(number: int, port: int) -> bytes:
    with from_address(number, port) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return line.recv(12)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        ("GET /|X-Slow: ", "x"),
        ("POST /login|Content-Length: 9999||", "x"),
        ("PATCH /api/v1/uploads/0|Content-Length: 99999||", "x"),
        ("POST /login|Transfer-Encoding: chunked||", "1|x|"),
    ],
    ids=["head", "body", "piece", "chunks"],
)
def test_slow_requests_leave_threads_to_other_clients(
    tmp_path: Path, begin: str, more: str
) -> None:
    begin = begin.replace("|", " HTTP/1.1|Host: localhost|", 1)
    limits = ("--limit", "request_seconds=4", "--threads", "20", "--token", "a token of a site")
    with running_site(tmp_path / "data", *NO_RATE_LIMITS, *limits) as site:
        port = site.client.port
        lines = [from_address(number, port) for number in (2, 3) for _ in range(30)]
        try:
            for line in lines:
                line.sendall(begin.replace("|", "\r\n").encode())
            for _ in range(8):
                assert health_for(4, port) == b"HTTP/1.1 200"
                for line in lines:
                    with suppress(OSError):
                        line.sendall(more.replace("|", "\r\n").encode())
                time.sleep(0.7)
            for line in lines:  # the time was up for them
                with suppress(ConnectionResetError):
                    while line.recv(4096):
                        pass
        finally:
            for line in lines:
                line.close()


def test_a_request_can_arrive_byte_by_byte_and_wait_for_100_continue(client: Client) -> None:
    body = b'{"name": "a.mp4", "size": 5}'
    head = (
        b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        for _ in range(2):  # the connection is kept
            for byte in head:
                line.sendall(bytes([byte]))
            assert line.recv(12) == b"HTTP/1.1 100"
            line.sendall(body)
            said = b""
            while b"sha256" not in said or not said.endswith(b"}\n"):
                said += (piece := line.recv(4096))
                assert piece, said
            assert b"HTTP/1.1 201" in said


@pytest.mark.parametrize(
    ("received", "incomplete"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", True),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", False),
        (b"PATCH / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", False),  # read by its view
        (b"POST / HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", False),  # rejected unread
    ],
)
def test_a_request_is_complete_with_its_header_and_a_short_body(
    received: bytes, incomplete: bool
) -> None:
    assert gunicorn_server.is_incomplete(received) is incomplete
