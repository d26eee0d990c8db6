"""The web site: upload a video and watch it being upscaled, or upscale a webcam live.

    browser, programs ──> api ──> store (SQLite) <── worker ──> child: sharpreel upscale
                           │   uploads/ID  jobs/ID/   one job at a time, with limits
                           └─> queue (Huey) ────────────^

`supervisor.serve` starts and watches the server and the workers. The store holds the state of
every job; the queue only wakes a worker. A job resumes from its own journal after any crash.
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
    from werkzeug.middleware.proxy_fix import ProxyFix

    from sharpreel.web.context import open_site
    from sharpreel.web.http import api, errors, health, live, pages, security
    from sharpreel.web.http.openapi import OPERATION_ATTRIBUTE

    settings.prepare()
    app = Flask(__name__)
    app.secret_key = settings.secret()
    open_site(app, settings)
    if hops := settings.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, hops, hops, hops)  # type: ignore[method-assign]
    errors.register(app)
    security.register(app)
    for blueprint in (api.blueprint, health.blueprint, pages.blueprint):
        app.register_blueprint(blueprint)
    live.register(app)
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(api.PREFIX):
            view = app.view_functions[rule.endpoint]
            assert hasattr(view, OPERATION_ATTRIBUTE), f"{rule} has no @operation"
    return app
