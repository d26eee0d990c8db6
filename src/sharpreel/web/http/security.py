"""Who may do what, checked before any view runs.

1. The Host must be one of ours: a foreign name that resolves to 127.0.0.1 reads nothing here.
2. Where there is a token, all but the login needs it: as a bearer token from a program, in a signed
   cookie (HttpOnly, SameSite=Strict) from a browser.
3. An Origin that is not ours is refused, but for reading pages and following links.
4. A browser's change must carry the token of its own page (X-CSRF-Token). A program sends neither
   cookie nor Origin nor Sec-Fetch-Site, which no browser leaves out across sites, and no form type.
5. A client, which is an address, comes so often and no oftener.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from flask import (
    Blueprint,
    Flask,
    Response,
    g,
    redirect,
    render_template,
    request,
    session,
)
from flask.sessions import SecureCookieSessionInterface
from werkzeug.wrappers import Response as AnyResponse

from sharpreel.web import logs
from sharpreel.web.context import site
from sharpreel.web.http.errors import API, Problem
from sharpreel.web.http.rate_limits import client_of
from sharpreel.web.settings import LOOPBACK, Settings

CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
OPEN = frozenset({"security.login", "security.log_in", "static", "health.healthz"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BODY_BYTES = 1 << 16  # of all requests but uploads; a PATCH of so much is no burden by its number

blueprint = Blueprint("security", __name__)
log_of = logging.getLogger("sharpreel.web.access")


def protect(app: Flask) -> None:
    """Put the checks in front of every request and the headers on every answer."""
    app.config.update(
        SESSION_COOKIE_NAME="sharpreel",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        MAX_CONTENT_LENGTH=BODY_BYTES,  # of all but uploads, which say so
        MAX_FORM_MEMORY_SIZE=BODY_BYTES,
    )
    app.session_interface = _Sessions()
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.before_request(_begin)
    app.before_request(_check)
    app.after_request(_end)
    app.register_blueprint(blueprint)


class _Sessions(SecureCookieSessionInterface):
    """Cookies that go over TLS alone once they came over TLS."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def csrf_token() -> str:
    """What a page must send back as X-CSRF-Token; a template global."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


@contextmanager
def check_socket() -> Iterator[None]:
    """One of the client's places for live sockets, while the block runs.

    That the socket is of our own page was checked before the socket was opened.

    Raises:
        Problem: The client has as many as it may.
    """
    _check_origin(required=True)
    with site().sockets.inside(g.client) as entered:
        if not entered:
            raise Problem(429, "too_many", "You have as many live views open as you may.")
        yield


def client() -> str:
    """Whom the request comes from."""
    return str(g.client)


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if GOOD_ID.fullmatch(given) else secrets.token_hex(8)
    g.began = time.perf_counter()
    g.client = client_of(request.remote_addr)
    logs.request_id.set(g.request_id)


def _check() -> AnyResponse | None:
    settings = site().settings
    _check_host(settings)
    if request.endpoint == "health.healthz":
        return None
    _check_rate()
    if "Transfer-Encoding" in request.headers:  # who reads it does not know how long that takes
        raise Problem(411, "length_required", "Say by Content-Length how many bytes come.")
    socket = request.headers.get("Upgrade", "").lower() == "websocket"
    followed = request.headers.get("Sec-Fetch-Mode") == "navigate"  # a link to a result
    if socket or request.method not in SAFE or (request.path.startswith(API) and not followed):
        _check_origin(required=socket)
    by_token = _bearer(settings)
    if settings.token and not by_token and request.endpoint not in OPEN and not _logged_in():
        if request.path.startswith(API) or socket or request.method != "GET":
            words = "This site needs its token: log in, or send Authorization: Bearer TOKEN."
            raise Problem(401, "unauthorized", words, {"WWW-Authenticate": "Bearer"})
        return redirect("/login?next=" + quote(request.full_path.rstrip("?"), safe=""))
    if request.method not in SAFE and not by_token and request.endpoint != "security.log_in":
        _check_forgery()
    return None


def _check_host(settings: Settings) -> None:
    name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    allowed = {*LOOPBACK, *settings.public_hosts, settings.host}
    if settings.host not in LOOPBACK and not settings.public_hosts:
        return  # reached by names we do not know; the token protects it
    if name.strip("[]").lower() not in {host.lower() for host in allowed}:
        raise Problem(421, "wrong_host", "This site is not known under that name: --public-host.")


def _check_rate() -> None:
    data = request.method == "PATCH" and (request.content_length or 0) >= BODY_BYTES
    wait = 0.0 if data else site().requests.take(g.client)
    if wait:
        after = {"Retry-After": str(int(wait) + 1)}
        raise Problem(429, "too_many", "Too many requests; wait a moment.", after)


def _check_origin(required: bool) -> None:
    origin = request.headers.get("Origin")
    ours = f"{request.scheme}://{request.host}"
    if origin is None and required and not _bearer(site().settings):
        raise Problem(403, "wrong_origin", "A live socket opens from a page of this site only.")
    foreign = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if (origin is not None and origin != ours) or foreign:
        raise Problem(403, "wrong_origin", "This request comes from a page of another site.")


def _check_forgery() -> None:
    if request.mimetype in FORMS:
        raise Problem(415, "wrong_type", "Send application/json, or bytes of an upload.")
    browser = session or "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    if not browser and not site().settings.token:
        return  # a program on this machine
    if not _same(request.headers.get("X-CSRF-Token", ""), str(session.get("csrf", ""))):
        raise Problem(403, "forged", "The page is too old, or not ours: load it again.")


def _bearer(settings: Settings) -> bool:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not settings.token:
        return False
    if _is_token(given):
        return True
    words = "That is not this site's token."
    raise Problem(401, "unauthorized", words, {"WWW-Authenticate": "Bearer"})


def _logged_in() -> bool:
    return _same(str(session.get("login", "")), _proof())


def _proof() -> str:
    """What a cookie says of its having known the token; another token makes it void."""
    here = site()
    key, token = here.settings.secret(), here.settings.token or ""
    return hmac.new(key.encode(), token.encode(), hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def _is_token(given: str) -> bool:
    """Is this the site's token? One that is not is counted.

    Raises:
        Problem: There were too many wrong ones; this one is not looked at.
    """
    logins = site().logins
    if wait := logins.wait(g.client):
        after = {"Retry-After": str(int(wait) + 1)}
        raise Problem(429, "too_many", "Too many wrong tokens; wait a minute.", after)
    if _same(given.strip(), site().settings.token or ""):
        return True
    logins.take(g.client)
    return False


@blueprint.get("/login")
def login() -> AnyResponse | str:
    """Ask for the token."""
    if not site().settings.token or _logged_in():
        return redirect(_local(request.args.get("next")))
    return render_template("login.html", next=_local(request.args.get("next")))


@blueprint.post("/login")
def log_in() -> AnyResponse | tuple[str, int]:
    """Take the token and remember in a cookie that it was right."""
    target = _local(request.form.get("next"))
    if not _same(request.form.get("csrf_token", ""), str(session.get("csrf", ""))):
        raise Problem(403, "forged", "The page is too old, or not ours: load it again.")
    if not _is_token(request.form.get("token", "")):
        error = "That is not the token of this site."
        return render_template("login.html", next=target, error=error), 401
    session.clear()  # what an earlier page knew is not worth a login
    session["login"] = _proof()
    return redirect(target, 303)


def _local(target: str | None) -> str:
    """A path on this site, whatever was asked for."""
    if target and re.fullmatch(r"/(?![/\\])[^\x00-\x1f\\]*", target):
        return target
    return "/"


def _end(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = g.request_id
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    seconds = time.perf_counter() - g.began
    route = request.url_rule.rule if request.url_rule else "unknown"
    site().metrics.request(request.method, route, response.status_code, seconds)
    logs.say(
        log_of, "request", method=request.method, path=request.path,
        status=response.status_code, milliseconds=round(seconds * 1000, 1), client=g.client,
        bytes_in=request.content_length or 0,
    )  # fmt: skip
    return response
