"""The OpenAPI document, made of the routes themselves and of `schemas.py`.

`operation` marks a view with what it takes and gives; the document is what the marks say, so it
cannot tell of a route that is not there, and a route without a mark does not start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Flask
from pydantic import BaseModel

from sharpreel._version import __version__
from sharpreel.web.http import schemas

F = TypeVar("F", bound=Callable[..., Any])
METHODS = ("get", "post", "patch", "delete")
MARK = "_sharpreel_operation"


@dataclass(frozen=True)
class Operation:
    """What a view takes and gives.

    Attributes:
        answer: A schema, a media type, or None for an empty answer.
        body: A schema, a media type, or None.
        query, headers: Parameters: name -> (JSON schema, what it means).
    """

    summary: str
    answer: type[BaseModel] | str | None
    status: int = 200
    body: type[BaseModel] | str | None = None
    query: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    headers: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    partial: bool = False


def operation(
    summary: str, answer: type[BaseModel] | str | None, status: int = 200, **more: Any
) -> Callable[[F], F]:
    """Mark a view; see `Operation`."""

    def mark(view: F) -> F:
        setattr(view, MARK, Operation(summary, answer, status, **more))
        return view

    return mark


def document(app: Flask, prefix: str) -> dict[str, Any]:
    """The document of all routes below a prefix."""
    parts: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if not rule.rule.startswith(prefix):
            continue
        view = app.view_functions[rule.endpoint]
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule.removeprefix(prefix))
        for method in METHODS:
            if method.upper() in (rule.methods or ()):
                marked: Operation = getattr(view, MARK)
                paths.setdefault(path, {})[method] = _operation(
                    marked, rule.endpoint, sorted(rule.arguments), parts
                )
    _schema(schemas.Error, parts)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sharpreel",
            "version": __version__,
            "description": "Upload a video, have it upscaled, take the result.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": prefix}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(parts.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    marked: Operation, endpoint: str, arguments: list[str], parts: dict[str, Any]
) -> dict[str, Any]:
    text = {"type": "string"}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in arguments
    ]
    for place, given in (("query", marked.query), ("header", marked.headers)):
        parameters += [
            {"name": name, "in": place, "schema": schema, "description": words,
             "required": place == "header"}
            for name, (schema, words) in given.items()
        ]  # fmt: skip
    answers: dict[str, Any] = {str(marked.status): _content(marked.answer, parts, "Done.")}
    if marked.partial:
        answers["206"] = _content(marked.answer, parts, "The bytes of the Range.")
    answers["default"] = _content(schemas.Error, parts, "Refused.")
    found: dict[str, Any] = {
        "operationId": endpoint.rsplit(".", 1)[-1],
        "summary": marked.summary,
        "responses": answers,
    }
    if parameters:
        found["parameters"] = parameters
    if marked.body is not None:
        found["requestBody"] = _content(marked.body, parts, marked.summary) | {"required": True}
    return found


def _content(
    kind: type[BaseModel] | str | None, parts: dict[str, Any], words: str
) -> dict[str, Any]:
    found: dict[str, Any] = {"description": words}
    if isinstance(kind, str):
        found["content"] = {kind: {"schema": {"type": "string", "format": "binary"}}}
    elif kind is not None:
        found["content"] = {"application/json": {"schema": _schema(kind, parts)}}
    return found


def _schema(kind: type[BaseModel], parts: dict[str, Any]) -> dict[str, Any]:
    """A reference to a schema, which is put among the components."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    parts |= schema.pop("$defs", {})
    parts[kind.__name__] = schema
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
