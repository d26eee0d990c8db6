"""The web site: upload a film, watch it get sharp; turn on a webcam, see it live.

    browser, programs ──HTTP──> api ──> store (SQLite) <── worker ──> child process: sharpreel upscale
                                │  uploads/ID  jobs/ID/       one job at a time, with limits
                                └─> queue (Huey) ───────────^

`serve` starts and watches the server and the workers. The store is the truth about every job; the
queue only wakes a worker. A job's own journal makes it go on after whatever died.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpreel.errors import MissingExtra

if TYPE_CHECKING:
    from flask import Flask

    from sharpreel.web.settings import Settings


def create_app(settings: Settings) -> Flask:
    """The site as a WSGI application.

    Raises:
        MissingExtra: Flask is not installed.
    """
    try:
        from flask import Flask
    except ImportError as e:
        raise MissingExtra("The web site", "web") from e
    from sharpreel.web import api, live, pages, security

    settings.prepare()
    app = Flask(__name__)
    app.secret_key = settings.secret()
    app.extensions["sharpreel"] = settings
    security.protect(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(pages.blueprint)
    live.register(app)
    return app
