"""The server process: Gunicorn with one process of many threads; on Windows, Werkzeug's server.

    python -m sharpreel.web.server [LISTENING_SOCKET]    settings: the first line of standard input

One process, because limits for each client are counted in it and live sockets stay in it. Threads
are for those who use them:

    connection ──> arriving ──> whole head, and a short body ──> thread
      so many      the main loop reads; all must be
      a client     here within `request_seconds`

What moves afterwards, pieces of uploads and answers, is cut off by the socket's own timeouts when
it stops moving.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from sharpreel.web import create_app, logs
from sharpreel.web.context import KEY
from sharpreel.web.http import security
from sharpreel.web.http.rate_limits import ConcurrencyLimit, client_of
from sharpreel.web.jobs.worker import read_settings
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings
from sharpreel.web.supervisor import listen

if TYPE_CHECKING:
    from flask import Flask

GRACE_SECONDS = 10
HEAD_BYTES = 1 << 15  # of a request, which a browser's cookies and paths come nowhere near
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
KEEP_ALIVE_SECONDS = 2


def set_timeouts(listener: socket.socket, seconds: float) -> None:
    """Let the system end what hangs: connections inherit these from the socket they came by."""
    value = struct.pack("ll", int(seconds), 0)
    for name in ("SO_RCVTIMEO", "SO_SNDTIMEO"):
        listener.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)


def missing(came: bytes | bytearray) -> bool:
    """Does a request that came so far lack some of its head, or of its body where that is short?

    Pieces of uploads are read by their view, which knows whose they are; what else is long is
    refused unread.
    """
    end = came.find(b"\r\n\r\n")
    if end < 0:
        return True
    found = LENGTH.search(came, 0, end + 2)
    length = 0 if found is None or came.startswith(b"PATCH ") else int(found[1])
    return length <= security.BODY_BYTES and len(came) < end + 4 + length


def end_streams(app: Flask) -> None:
    """Let everyone go who follows events or looks live, so that the server can end."""
    app.extensions[KEY].feed.close()
    if live := app.extensions.get("sharpreel-live"):
        live.close()


def run_gunicorn(settings: Settings, descriptor: int) -> None:
    """Serve until SIGTERM, or until whoever started this process ends."""
    from gunicorn import glogging
    from gunicorn.app.base import BaseApplication
    from gunicorn.workers import gthread

    limits = settings.limits

    class Worker(gthread.ThreadWorker):  # type: ignore[misc]
        """Gives threads to whole requests alone; see the top of this file."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            # Behind a proxy all connections are the proxy's: it must count them.
            most = (
                self.cfg.worker_connections if settings.proxies else limits.connections_per_client
            )
            self.connections = ConcurrencyLimit(most)
            self.arriving: dict[Any, float] = {}  # connection -> when all must be here

        def enqueue_req(self, conn: Any) -> None:
            if not conn.initialized:
                who = client_of(conn.client[0])
                if not self.connections.enter(who):
                    self.nr_conns -= 1
                    conn.close()
                    return
                _close_once(conn, partial(self.connections.leave, who))
                conn.init()
            conn.came, conn.told = bytearray(), False
            conn.sock.setblocking(False)
            self.arriving[conn] = time.monotonic() + limits.request_seconds
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.take, conn))

        def take(self, conn: Any, sock: Any) -> None:
            """Read what came of a request, and hand it on when it is whole."""
            try:
                piece = conn.parser.unreader.read()
            except BlockingIOError:
                return
            except OSError:
                piece = b""
            conn.came += piece
            if not piece or (b"\r\n\r\n" not in conn.came and len(conn.came) > HEAD_BYTES):
                self.drop(conn)
            elif not missing(conn.came):
                self.hand_on(conn)
            elif not conn.told and EXPECTS.search(conn.came):
                conn.told = True
                with suppress(OSError):
                    conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

        def drop(self, conn: Any) -> None:
            del self.arriving[conn]
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()

        def hand_on(self, conn: Any) -> None:
            del self.arriving[conn]
            self.poller.unregister(conn.sock)
            conn.sock.setblocking(True)
            conn.data_ready = True
            conn.parser.unreader.unread(bytes(conn.came))
            super().enqueue_req(conn)

        def notify(self) -> None:
            """Called by the main loop whenever something happened, and each second."""
            super().notify()
            now = time.monotonic()
            for conn in [conn for conn, due in self.arriving.items() if due < now]:
                self.drop(conn)

        def handle(self, conn: Any) -> Any:
            keep = super().handle(conn)
            if keep is False:  # it waits for the client, which the main loop must not
                conn.close(graceful=True)
            return keep

        def handle_request(self, req: Any, conn: Any) -> Any:
            keep = super().handle_request(req, conn)
            # What the view did not want to read is not waited for.
            return keep and getattr(req.body.reader, "length", None) == 0

        def send_away(self) -> None:
            """Let everyone go who listens, or has not asked yet."""
            end_streams(self.wsgi)
            for conn in list(self.arriving):
                with suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RDWR)

        def handle_exit(self, number: int, frame: Any) -> None:
            threading.Thread(target=self.send_away, daemon=True).start()
            super().handle_exit(number, frame)

        def is_parent_alive(self) -> bool:
            alive = bool(super().is_parent_alive())
            if not alive:
                self.send_away()
            return alive

    class Logger(glogging.Logger):  # type: ignore[misc]
        """Gunicorn's words in the form of all others."""

        def setup(self, cfg: Any) -> None:
            self.cfg = cfg
            self.error_log.propagate = True
            self.error_log.handlers = []
            logging.getLogger("gunicorn").setLevel(logging.WARNING)

        def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
            if isinstance(sys.exc_info()[1], BlockingIOError):  # the socket's own timeout
                self.error_log.warning("a client was too slow")
            else:
                super().exception(msg, *args, **kwargs)

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options: dict[str, Any] = {
                "bind": f"fd://{descriptor}",
                "worker_class": Worker,
                "workers": 1,
                "threads": settings.threads,
                "worker_connections": 8 * settings.threads,
                "graceful_timeout": GRACE_SECONDS,
                "keepalive": KEEP_ALIVE_SECONDS,
                "timeout": 120,
                "forwarded_allow_ips": "",  # who may speak for clients is `settings.proxies`
                "control_socket_disable": True,
                "logger_class": Logger,
                "post_worker_init": _end_with_site,
            }
            for name, value in options.items():
                if name in self.cfg.settings:  # older ones have fewer
                    self.cfg.set(name, value)

        def load(self) -> Flask:
            return create_app(settings)

    Server().run()


def _end_with_site(worker: Any) -> None:
    """Tell Gunicorn to end when the site does; from here, since who forks shall have no threads."""
    arbiter = os.getppid()
    process.when_input_ends(lambda: os.kill(arbiter, signal.SIGTERM))


def _close_once(connection: Any, then: Callable[[], None]) -> None:
    """Let a connection of Gunicorn's be closed by the first who does, and act then."""
    close = connection.close
    closed = threading.Event()

    def closing(*arguments: Any, **named: Any) -> None:
        if not closed.is_set():
            closed.set()
            then()
            close(*arguments, **named)

    connection.close = closing


def run_werkzeug(settings: Settings, listener: socket.socket) -> None:
    """Serve with Werkzeug's threads: enough for one person."""
    from werkzeug.serving import make_server

    app = create_app(settings)
    server = make_server(settings.host, settings.port, app, threaded=True, fd=listener.fileno())

    def stop(number: int, frame: Any) -> None:
        end_streams(app)
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    process.die_with_parent()
    server.serve_forever()
    app.extensions[KEY].close()


def main() -> int:
    settings = read_settings()
    logs.set_up("server")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=int(sys.argv[1])) if sys.argv[1:] else listen(settings)
    with suppress(OSError, AttributeError):
        set_timeouts(listener, settings.limits.idle_seconds)
    if settings.server == "gunicorn":
        run_gunicorn(settings, listener.detach())
    else:
        run_werkzeug(settings, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
