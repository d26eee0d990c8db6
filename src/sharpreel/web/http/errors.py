"""Every "no" of the site, and its one shape: {"error": {"code", "message", "request_id"}}.

A program gets JSON, a person a page. What only we could break is told in one sentence; the
traceback goes to the log, with the request's id.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger("sharpreel.web")
API = "/api/"


class Problem(HTTPException):
    """A request that is refused; raised anywhere below a view.

    Args:
        status: Of HTTP.
        name: The error's `code`: a word that programs can rely on.
        message: What is wrong and what to do, for people.
        headers: To add to the answer.
        details: To add to the error object.
    """

    def __init__(
        self,
        status: int,
        name: str,
        message: str,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.code, self.name_of_error = status, name
        self.more_headers, self.details = headers or {}, details


def not_found(what: str) -> Problem:
    return Problem(404, "not_found", f"There is no such {what}. It may have expired.")


def explain(app: Flask) -> None:
    """Answer every error of the site in its shape."""
    app.register_error_handler(HTTPException, _answer)
    app.register_error_handler(Exception, _unexpected)


def request_id() -> str:
    return str(g.get("request_id", ""))


def _answer(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        name, headers, details = error.name_of_error, error.more_headers, error.details
    else:
        if error.response is not None:  # a redirect
            return make_response(error.get_response())
        name = HTTPStatus(error.code or 500).name.lower()
        own, details = dict(error.get_headers()), {}
        headers = {word: own[word] for word in ("Allow", "Content-Range") if word in own}
    return _shaped(error.code or 500, name, error.description or name, headers, details)


def _unexpected(error: Exception) -> Response:
    log.error("unexpected", exc_info=error)
    words = "Something went wrong on the server; whoever runs it finds it in the log by this id."
    return _shaped(500, "internal", words, {}, {})


def _shaped(
    status: int, name: str, message: str, headers: dict[str, str], details: dict[str, Any]
) -> Response:
    if request.path.startswith(API) or not _wants_page():
        body = {"code": name, "message": message, "request_id": request_id(), **details}
        response = jsonify(error=body)
    else:
        title = HTTPStatus(status).phrase
        response = make_response(render_template("error.html", title=title, message=message))
    response.status_code = status
    response.headers.update(headers)
    return response


def _wants_page() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
