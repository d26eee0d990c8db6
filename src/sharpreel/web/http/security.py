"""Access control, checked before any view runs.

1. The Host must be a name of this site: a foreign name that resolves to 127.0.0.1 reads nothing.
2. If the site has a token, everything except the login needs it: as a bearer token from a program,
   in a signed cookie (HttpOnly, SameSite=Strict) from a browser.
3. A foreign Origin is rejected, except for reading pages and following links.
4. A change by a browser must carry the CSRF token of its page (X-CSRF-Token). A program sends no
   cookie, no Origin, no Sec-Fetch-Site (which browsers always send across sites), and no form type.
5. The request rate of a client, which is an address, is limited.
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
from sharpreel.web.context import current_site
from sharpreel.web.http.errors import API, ApiError
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
WITHOUT_TOKEN = frozenset({"security.login", "security.log_in", "static", "health.healthz"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_BODY_BYTES = 1 << 16  # of all requests except uploads; larger PATCHes are not rate-limited

blueprint = Blueprint("security", __name__)
log = logging.getLogger("sharpreel.web.access")


def register(app: Flask) -> None:
    """Put the checks in front of every request and the headers on every response."""
    app.config.update(
        SESSION_COOKIE_NAME="sharpreel",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,  # uploads raise it for their requests
        MAX_FORM_MEMORY_SIZE=MAX_BODY_BYTES,
    )
    app.session_interface = _SecureSessions()
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.before_request(_begin_request)
    app.before_request(_check_access)
    app.after_request(_end_request)
    app.register_blueprint(blueprint)


class _SecureSessions(SecureCookieSessionInterface):
    """Cookies that are sent over TLS only if they were set over TLS."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def csrf_token() -> str:
    """The token that a page must send back as X-CSRF-Token; a template global."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


@contextmanager
def live_socket_slot() -> Iterator[None]:
    """Count a live socket of the client during the block, and check its origin once more.

    Raises:
        ApiError: The client has too many, or the socket is not from a page of this site.
    """
    _check_origin(required=True)
    with current_site().sockets.inside(g.client) as entered:
        if not entered:
            raise ApiError(429, "too_many", "Too many live views open.")
        yield


def client() -> str:
    """The client of the current request."""
    return str(g.client)


def _begin_request() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    g.began = time.perf_counter()
    g.client = client_of(request.remote_addr)
    logs.request_id.set(g.request_id)


def _check_access() -> AnyResponse | None:
    """All checks of the head of this file; a redirect to the login, or None."""
    settings = current_site().settings
    _check_host(settings)
    if request.endpoint == "health.healthz":
        return None
    _check_rate()
    if "Transfer-Encoding" in request.headers:  # the length, and so the time, would be unknown
        raise ApiError(411, "length_required", "Content-Length is required.")
    if _needs_own_origin():
        _check_origin(required=_is_websocket())
    authorized = _has_bearer_token(settings)
    if (
        settings.token
        and not authorized
        and request.endpoint not in WITHOUT_TOKEN
        and not _is_logged_in()
    ):
        return _to_login()
    if (
        request.method not in SAFE_METHODS
        and not authorized
        and request.endpoint != "security.log_in"
    ):
        _check_csrf()
    return None


def _is_websocket() -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _needs_own_origin() -> bool:
    """Is this a live socket, a change, or a use of the API other than following a link?"""
    if _is_websocket() or request.method not in SAFE_METHODS:
        return True
    is_link = request.headers.get("Sec-Fetch-Mode") == "navigate"  # for example to a result
    return request.path.startswith(API) and not is_link


def _to_login() -> AnyResponse:
    """A redirect to the login for pages.

    Raises:
        ApiError: The request is not for a page.
    """
    if request.path.startswith(API) or _is_websocket() or request.method != "GET":
        message = "This site requires its token: log in, or send Authorization: Bearer TOKEN."
        raise ApiError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})
    return redirect("/login?next=" + quote(request.full_path.rstrip("?"), safe=""))


def _check_host(settings: Settings) -> None:
    name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    allowed = {*LOOPBACK, *settings.public_hosts, settings.host}
    if settings.host not in LOOPBACK and not settings.public_hosts:
        return  # its names are unknown; the token protects it
    if name.strip("[]").lower() not in {host.lower() for host in allowed}:
        message = (
            "This site does not accept requests under this host name. "
            "Its operator can add it to the public host names."
        )
        raise ApiError(421, "wrong_host", message)


def _check_rate() -> None:
    chunk = request.method == "PATCH" and (request.content_length or 0) >= MAX_BODY_BYTES
    wait = 0.0 if chunk else current_site().requests.take(g.client)
    if wait:
        headers = {"Retry-After": str(int(wait) + 1)}
        raise ApiError(429, "too_many", "Too many requests; wait a moment.", headers)


def _check_origin(required: bool) -> None:
    origin = request.headers.get("Origin")
    own = f"{request.scheme}://{request.host}"
    if origin is None and required and not _has_bearer_token(current_site().settings):
        message = "A live socket can be opened by a page of this site only."
        raise ApiError(403, "wrong_origin", message)
    foreign = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if (origin is not None and origin != own) or foreign:
        raise ApiError(403, "wrong_origin", "This request comes from a page of another site.")


def _check_csrf() -> None:
    if request.mimetype in FORM_TYPES:
        raise ApiError(415, "wrong_type", "Send application/json, or bytes of an upload.")
    browser = session or "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    if not browser and not current_site().settings.token:
        return  # a program on this machine
    if not _same(request.headers.get("X-CSRF-Token", ""), str(session.get("csrf", ""))):
        raise _csrf_error()


def _csrf_error() -> ApiError:
    return ApiError(403, "forged", "Session expired or invalid CSRF token; reload the page.")


def _has_bearer_token(settings: Settings) -> bool:
    """Does the request carry the site's token?

    Raises:
        ApiError: It carries another one.
    """
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not settings.token:
        return False
    if _is_token(given):
        return True
    headers = {"WWW-Authenticate": "Bearer"}
    raise ApiError(401, "unauthorized", "Wrong token for this site.", headers)


def _is_logged_in() -> bool:
    return _same(str(session.get("login", "")), _login_proof())


def _login_proof() -> str:
    """Content of the cookie after a login; a changed token invalidates it."""
    site = current_site()
    key, token = site.settings.secret(), site.settings.token or ""
    return hmac.new(key.encode(), token.encode(), hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def _is_token(given: str) -> bool:
    """Is this the site's token? Wrong ones are counted.

    Raises:
        ApiError: There were too many wrong ones; this one is not compared.
    """
    logins = current_site().logins
    if wait := logins.wait(g.client):
        headers = {"Retry-After": str(int(wait) + 1)}
        raise ApiError(429, "too_many", "Too many wrong tokens; wait a minute.", headers)
    if _same(given.strip(), current_site().settings.token or ""):
        return True
    logins.take(g.client)
    return False


@blueprint.get("/login")
def login() -> AnyResponse | str:
    """Ask for the token."""
    if not current_site().settings.token or _is_logged_in():
        return redirect(_local_path(request.args.get("next")))
    return render_template("login.html", next=_local_path(request.args.get("next")))


@blueprint.post("/login")
def log_in() -> AnyResponse | tuple[str, int]:
    """Check the token and remember the login in a cookie."""
    target = _local_path(request.form.get("next"))
    if not _same(request.form.get("csrf_token", ""), str(session.get("csrf", ""))):
        raise _csrf_error()
    if not _is_token(request.form.get("token", "")):
        error = "Wrong token for this site."
        return render_template("login.html", next=target, error=error), 401
    session.clear()  # a CSRF token from before the login must not stay valid
    session["login"] = _login_proof()
    return redirect(target, 303)


def _local_path(target: str | None) -> str:
    """`target` if it is a path on this site, otherwise "/"."""
    if target and re.fullmatch(r"/(?![/\\])[^\x00-\x1f\\]*", target):
        return target
    return "/"


def _end_request(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = g.request_id
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    seconds = time.perf_counter() - g.began
    route = request.url_rule.rule if request.url_rule else "unknown"
    current_site().metrics.request(request.method, route, response.status_code, seconds)
    logs.log_event(
        log,
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        milliseconds=round(seconds * 1000, 1),
        client=g.client,
        bytes_in=request.content_length or 0,
    )
    return response
