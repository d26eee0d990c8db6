"""Gunicorn as this site runs it: one process, and threads for complete requests only.

One process, because the limits per client are counted in it and live sockets stay in it.
A slow client occupies a connection, but no thread:

    connection ──> arriving ──> complete header, and a short body ──> thread
      at most N      the main loop reads; everything must
      per client     arrive within `request_seconds`

After that, upload chunks and responses are limited by the timeouts of the socket.

Imports Gunicorn, which Windows does not have; `server.main` imports this module only if needed.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.workers import gthread

from sharpreel.web import create_app
from sharpreel.web.context import EXTENSION, SiteContext
from sharpreel.web.http.rate_limits import ConcurrencyLimit, client_of
from sharpreel.web.http.security import MAX_BODY_BYTES
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

GRACE_SECONDS = 10
MAX_HEADER_BYTES = 1 << 15  # far more than a browser's cookies and paths need
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
EXPECT_CONTINUE = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
KEEP_ALIVE_SECONDS = 2


def is_incomplete(received: bytes | bytearray) -> bool:
    """Does a request still lack part of its header, or of a short body?

    Upload chunks are read by their view, which knows the upload; other long bodies are rejected
    without being read.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return True
    match = CONTENT_LENGTH.search(received, 0, end + 2)
    length = 0 if match is None or received.startswith(b"PATCH ") else int(match[1])
    return length <= MAX_BODY_BYTES and len(received) < end + 4 + length


class RequestBufferingWorker(gthread.ThreadWorker):  # type: ignore[misc]
    """A threaded worker that gives a thread only to requests that have arrived completely."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        settings: Settings = self.app.site_settings
        self.request_seconds = settings.limits.request_seconds
        # Behind a proxy all connections are the proxy's: it must count them.
        self.connections = ConcurrencyLimit(
            self.cfg.worker_connections
            if settings.proxies
            else settings.limits.connections_per_client
        )
        self.arriving: dict[Any, float] = {}  # connection -> its deadline

    def enqueue_req(self, conn: Any) -> None:
        """Called by Gunicorn for a new connection, and again for each request on it."""
        if not conn.initialized:
            client = client_of(conn.client[0])
            if not self.connections.enter(client):
                self.nr_conns -= 1
                conn.close()
                return
            _call_on_close(conn, partial(self.connections.leave, client))
            conn.init()
        conn.received, conn.sent_continue = bytearray(), False
        conn.sock.setblocking(False)
        self.arriving[conn] = time.monotonic() + self.request_seconds
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.read_request, conn))

    def read_request(self, conn: Any, sock: Any) -> None:
        """Read the available bytes of a request, and pass it to a thread if it is complete."""
        try:
            block = conn.parser.unreader.read()
        except BlockingIOError:
            return
        except OSError:
            block = b""
        conn.received += block
        header_too_long = b"\r\n\r\n" not in conn.received and len(conn.received) > MAX_HEADER_BYTES
        if not block or header_too_long:
            self.drop(conn)
        elif not is_incomplete(conn.received):
            self.start_request(conn)
        elif not conn.sent_continue and EXPECT_CONTINUE.search(conn.received):
            conn.sent_continue = True
            with suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def drop(self, conn: Any) -> None:
        """Close a connection whose request did not arrive."""
        del self.arriving[conn]
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def start_request(self, conn: Any) -> None:
        """Pass a complete request to Gunicorn's threads."""
        del self.arriving[conn]
        self.poller.unregister(conn.sock)
        conn.sock.setblocking(True)
        conn.data_ready = True
        conn.parser.unreader.unread(bytes(conn.received))
        super().enqueue_req(conn)

    def notify(self) -> None:
        """Called by the main loop after each event, and at least once per second."""
        super().notify()
        now = time.monotonic()
        for conn in [conn for conn, deadline in self.arriving.items() if deadline < now]:
            self.drop(conn)

    def handle(self, conn: Any) -> Any:
        keep = super().handle(conn)
        if keep is False:  # closing waits for the client, which the main loop must not do
            conn.close(graceful=True)
        return keep

    def handle_request(self, req: Any, conn: Any) -> Any:
        keep = super().handle_request(req, conn)
        # A body that the view did not read is not waited for.
        return keep and getattr(req.body.reader, "length", None) == 0

    def disconnect_waiting(self) -> None:
        """Disconnect event streams, live sockets and clients that have not sent a request."""
        site: SiteContext = self.wsgi.extensions[EXTENSION]
        site.end_streams()
        for conn in list(self.arriving):
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)

    def handle_exit(self, number: int, frame: Any) -> None:
        threading.Thread(target=self.disconnect_waiting, daemon=True).start()
        super().handle_exit(number, frame)

    def is_parent_alive(self) -> bool:
        alive = bool(super().is_parent_alive())
        if not alive:
            self.disconnect_waiting()
        return alive


class JsonLogger(glogging.Logger):  # type: ignore[misc]
    """Gunicorn's messages in the format of all other logs."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log.propagate = True
        self.error_log.handlers = []
        logging.getLogger("gunicorn").setLevel(logging.WARNING)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], BlockingIOError):  # the timeout of the socket
            self.error_log.warning("a client was too slow")
        else:
            super().exception(msg, *args, **kwargs)


class GunicornServer(BaseApplication):  # type: ignore[misc]
    """Gunicorn with the options of this site; `run` serves until SIGTERM or the supervisor ends.

    Args:
        settings: Settings of the site.
        descriptor: File descriptor of the listening socket.
    """

    def __init__(self, settings: Settings, descriptor: int) -> None:
        self.site_settings, self._descriptor = settings, descriptor
        super().__init__()

    def load_config(self) -> None:
        threads = self.site_settings.threads
        options: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": RequestBufferingWorker,
            "workers": 1,
            "threads": threads,
            "worker_connections": 8 * threads,
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "timeout": 120,
            "forwarded_allow_ips": "",  # `Settings.proxies` decides who may name the client
            "control_socket_disable": True,
            "logger_class": JsonLogger,
            "post_worker_init": _stop_with_supervisor,
        }
        for name, value in options.items():
            if name in self.cfg.settings:  # older versions have fewer
                self.cfg.set(name, value)

    def load(self) -> Flask:
        return create_app(self.site_settings)


def _stop_with_supervisor(worker: Any) -> None:
    """Stop Gunicorn when the supervisor ends.

    Runs in the worker, because the arbiter must have no threads when it forks.
    """
    arbiter = os.getppid()
    process.call_when_stdin_closes(lambda: os.kill(arbiter, signal.SIGTERM))


def _call_on_close(connection: Any, callback: Callable[[], None]) -> None:
    """Call `callback` when one of Gunicorn's connections is closed for the first time."""
    close = connection.close
    closed = threading.Event()

    def close_once(*arguments: Any, **named: Any) -> None:
        if not closed.is_set():
            closed.set()
            callback()
            close(*arguments, **named)

    connection.close = close_once
