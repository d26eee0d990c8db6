"""The server process: runs Gunicorn, or Werkzeug's threaded server on Windows.

python -m sharpreel.web.server [LISTENING_SOCKET]    settings: the first line of standard input
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from typing import Any

from sharpreel.web import create_app, logs
from sharpreel.web.context import EXTENSION, SiteContext
from sharpreel.web.sandbox import process
from sharpreel.web.settings import Settings, read_settings
from sharpreel.web.supervisor import listen


def set_timeouts(listener: socket.socket, seconds: float) -> None:
    """Close connections without traffic: they inherit these timeouts from the listening socket."""
    value = struct.pack("ll", int(seconds), 0)
    for name in ("SO_RCVTIMEO", "SO_SNDTIMEO"):
        listener.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)


def run_werkzeug(settings: Settings, listener: socket.socket) -> None:
    """Serve with Werkzeug's threaded server, which is enough for one person."""
    from werkzeug.serving import make_server

    app = create_app(settings)
    site: SiteContext = app.extensions[EXTENSION]
    server = make_server(settings.host, settings.port, app, threaded=True, fd=listener.fileno())

    def stop(number: int, frame: Any) -> None:
        site.end_streams()
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    process.exit_with_parent()
    server.serve_forever()
    site.close()


def main() -> int:
    settings = read_settings()
    logs.configure("server")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=int(sys.argv[1])) if sys.argv[1:] else listen(settings)
    with suppress(OSError, AttributeError):
        set_timeouts(listener, settings.limits.idle_seconds)
    if settings.server == "gunicorn":
        from sharpreel.web.gunicorn_server import GunicornServer

        GunicornServer(settings, listener.detach()).run()
    else:
        run_werkzeug(settings, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
