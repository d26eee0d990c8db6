"""The server process: Gunicorn with one process of many threads; on Windows, Werkzeug's server.

    python -m sharpreel.web.server [LISTENING_SOCKET]    settings: the first line of standard input

One process, because limits for each client are counted in it and live sockets stay in it. A client
that sends or reads nothing is cut off by the socket's own timeouts, and may not hold more than so
many connections: threads are for those who use them.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sharpreel.web import child, create_app, log
from sharpreel.web.gates import Gate, client_of
from sharpreel.web.serve import listen
from sharpreel.web.settings import Settings
from sharpreel.web.site import KEY
from sharpreel.web.worker import read_settings

if TYPE_CHECKING:
    from flask import Flask

GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 2


def set_timeouts(listener: socket.socket, seconds: float) -> None:
    """Let the system end what hangs: connections inherit these from the socket they came by."""
    value = struct.pack("ll", int(seconds), 0)
    for name in ("SO_RCVTIMEO", "SO_SNDTIMEO"):
        listener.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)


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

    most = settings.limits.connections_per_client

    class Worker(gthread.ThreadWorker):  # type: ignore[misc]
        """With so many connections for each client, and streams that end when it does."""

        connections = Gate(most)

        def enqueue_req(self, conn: Any) -> None:
            if not conn.initialized and not hasattr(conn, "counted"):
                # Behind a proxy all connections are the proxy's: it must count them.
                who = client_of(conn.client[0])
                conn.counted = settings.proxies or self.connections.enter(who)
                if not conn.counted:
                    self.nr_conns -= 1
                    conn.close()
                    return
                if not settings.proxies:
                    _when_closed(conn, lambda: self.connections.leave(who))
            super().enqueue_req(conn)

        def handle_exit(self, number: int, frame: Any) -> None:
            threading.Thread(target=end_streams, args=(self.wsgi,), daemon=True).start()
            super().handle_exit(number, frame)

        def is_parent_alive(self) -> bool:
            alive = bool(super().is_parent_alive())
            if not alive:
                end_streams(self.wsgi)
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
    child.when_input_ends(lambda: os.kill(arbiter, signal.SIGTERM))


def _when_closed(connection: Any, leave: Any) -> None:
    """Call `leave` once, when a connection of Gunicorn's is closed."""
    close = connection.close
    left = threading.Event()

    def closing(*arguments: Any, **named: Any) -> None:
        if not left.is_set():
            left.set()
            leave()
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
    child.die_with_parent()
    server.serve_forever()
    app.extensions[KEY].close()


def main() -> int:
    settings = read_settings()
    log.set_up("server")
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
