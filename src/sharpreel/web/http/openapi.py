"""The OpenAPI document, built from the routes and from `schemas.py`.

`operation` marks a view with its request and response types; the document is built from these
marks. It cannot describe a route that does not exist, and the site does not start with an
unmarked route.
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
OPERATION_ATTRIBUTE = "_sharpreel_operation"


@dataclass(frozen=True)
class Operation:
    """Request and response of a view.

    Attributes:
        response: A schema, a media type, or None for an empty response.
        body: A schema, a media type, or None.
        query, headers: Parameters: name -> (JSON schema, description).
        partial: Does it support the Range header?
    """

    summary: str
    response: type[BaseModel] | str | None
    status: int = 200
    body: type[BaseModel] | str | None = None
    query: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    headers: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    partial: bool = False


def operation(
    summary: str, response: type[BaseModel] | str | None, status: int = 200, **more: Any
) -> Callable[[F], F]:
    """Mark a view as an operation of the API; see `Operation` for the arguments."""

    def mark(view: F) -> F:
        setattr(view, OPERATION_ATTRIBUTE, Operation(summary, response, status, **more))
        return view

    return mark


def document(app: Flask, prefix: str) -> dict[str, Any]:
    """The OpenAPI document of all routes that start with `prefix`."""
    components: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if not rule.rule.startswith(prefix):
            continue
        view = app.view_functions[rule.endpoint]
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule.removeprefix(prefix))
        for method in METHODS:
            if method.upper() in (rule.methods or ()):
                marked: Operation = getattr(view, OPERATION_ATTRIBUTE)
                paths.setdefault(path, {})[method] = _operation(
                    marked, rule.endpoint, sorted(rule.arguments), components
                )
    _schema(schemas.Error, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sharpreel",
            "version": __version__,
            "description": "Upload a video, upscale it, and download the result.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": prefix}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    marked: Operation, endpoint: str, arguments: list[str], components: dict[str, Any]
) -> dict[str, Any]:
    text = {"type": "string"}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in arguments
    ]
    for location, given in (("query", marked.query), ("header", marked.headers)):
        parameters += [
            {
                "name": name,
                "in": location,
                "schema": schema,
                "description": description,
                "required": location == "header",
            }
            for name, (schema, description) in given.items()
        ]
    responses = {str(marked.status): _content(marked.response, components, "Success.")}
    if marked.partial:
        responses["206"] = _content(marked.response, components, "The bytes of the Range.")
    responses["default"] = _content(schemas.Error, components, "Error.")
    described: dict[str, Any] = {
        "operationId": endpoint.rsplit(".", 1)[-1],
        "summary": marked.summary,
        "responses": responses,
    }
    if parameters:
        described["parameters"] = parameters
    if marked.body is not None:
        content = _content(marked.body, components, marked.summary)
        described["requestBody"] = content | {"required": True}
    return described


def _content(
    kind: type[BaseModel] | str | None, components: dict[str, Any], description: str
) -> dict[str, Any]:
    described: dict[str, Any] = {"description": description}
    if isinstance(kind, str):
        described["content"] = {kind: {"schema": {"type": "string", "format": "binary"}}}
    elif kind is not None:
        described["content"] = {"application/json": {"schema": _schema(kind, components)}}
    return described


def _schema(kind: type[BaseModel], components: dict[str, Any]) -> dict[str, Any]:
    """A reference to a schema, which is added to the components."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    components |= schema.pop("$defs", {})
    components[kind.__name__] = schema
    return {"$ref": f"#/components/schemas/{kind.__name__}"}
