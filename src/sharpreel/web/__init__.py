"""The web site: upload a film, watch it get sharp; turn on a webcam, see it live.

    browser, programs ──> api ──> store (SQLite) <── worker ──> child: sharpreel upscale
                           │   uploads/ID  jobs/ID/   one job at a time, with limits
                           └─> queue (Huey) ────────────^

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
    from werkzeug.middleware.proxy_fix import ProxyFix

    from sharpreel.web.context import open_site
    from sharpreel.web.http import api, errors, health, live, pages, security
    from sharpreel.web.http.openapi import MARK

    settings.prepare()
    app = Flask(__name__)
    app.secret_key = settings.secret()
    open_site(app, settings)
    if hops := settings.proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, hops, hops, hops)  # type: ignore[method-assign]
    errors.explain(app)
    security.protect(app)
    for blueprint in (api.blueprint, health.blueprint, pages.blueprint):
        app.register_blueprint(blueprint)
    live.register(app, settings.limits.live_clients)
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(api.PREFIX):
            assert hasattr(app.view_functions[rule.endpoint], MARK), f"{rule} is not marked"
    return app
