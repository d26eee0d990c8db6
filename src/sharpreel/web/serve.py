"""`sharpreel serve`: the server and the workers, started and watched by one process."""

from __future__ import annotations

from typing import Any

from gunicorn.app.base import BaseApplication

from sharpreel.web import create_app
from sharpreel.web.settings import Settings


class Server(BaseApplication):  # type: ignore[misc]
    """Gunicorn with one process of many threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": f"{self.settings.host}:{self.settings.port}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": self.settings.threads,
            "worker_connections": 1000,
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        return create_app(self.settings)


def serve(settings: Settings) -> None:
    """Run the site until it is told to end."""
    Server(settings).run()
