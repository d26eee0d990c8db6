"""Error responses of the site, in one form: {"error": {"code", "message", "request_id"}}.

A program gets JSON, a person gets a page. Unexpected errors are reported in one sentence; the
traceback goes to the log, with the id of the request.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)
API = "/api/"


class ApiError(HTTPException):
    """A rejected request; can be raised anywhere in or below a view.

    Args:
        status: HTTP status.
        error_code: Machine-readable `code` of the error, which is stable.
        message: What is wrong and what to do, for people.
        headers: Added to the response.
        details: Added to the error object.
    """

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.code, self.error_code = status, error_code
        self.extra_headers, self.details = headers or {}, details


def not_found(what: str) -> ApiError:
    return ApiError(404, "not_found", f"There is no such {what}. It may have expired.")


def register(app: Flask) -> None:
    """Answer every error of the site in this form."""
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_unexpected_error)


def request_id() -> str:
    return str(g.get("request_id", ""))


def _on_http_error(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, ApiError):
        code, headers, details = error.error_code, error.extra_headers, error.details
    else:
        if error.response is not None:  # a redirect
            return make_response(error.get_response())
        code = HTTPStatus(error.code or 500).name.lower()
        own, details = dict(error.get_headers()), {}
        headers = {name: own[name] for name in ("Allow", "Content-Range") if name in own}
    return _response(error.code or 500, code, error.description or code, headers, details)


def _on_unexpected_error(error: Exception) -> Response:
    log.error("unexpected", exc_info=error)
    message = "Something went wrong on the server. Its log has the details under this request id."
    return _response(500, "internal", message, {}, {})


def _response(
    status: int, code: str, message: str, headers: dict[str, str], details: dict[str, Any]
) -> Response:
    if request.path.startswith(API) or not _prefers_html():
        body = {"code": code, "message": message, "request_id": request_id(), **details}
        response = jsonify(error=body)
    else:
        title = HTTPStatus(status).phrase
        response = make_response(render_template("error.html", title=title, message=message))
    response.status_code = status
    response.headers.update(headers)
    return response


def _prefers_html() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
