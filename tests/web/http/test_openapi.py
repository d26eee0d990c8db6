"""The OpenAPI document: it describes every route and every response."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import jsonschema
from flask import Flask

from sharpreel.web.settings import Limits
from tests.support.site_process import API, Client
from tests.support.videos import REPO


def fits(document: Any, name: str, value: Any) -> None:
    """Check a value against a schema of the OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_document_describes_every_route_and_every_response(
    client: Client, finished: tuple[Any, Any]
) -> None:
    document = client.call("GET", "/openapi.json")
    upload, job = finished
    fits(document, "Upload", client.call("GET", f"/uploads/{upload['id']}"))
    fits(document, "Job", client.call("GET", f"/jobs/{job['id']}"))
    fits(document, "Models", client.call("GET", "/models"))
    fits(document, "Jobs", client.call("GET", "/jobs"))
    fits(document, "Error", client.api("GET", "/jobs/nothing").json)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            concrete = path.replace("{upload_id}", "0" * 32).replace("{job_id}", "0" * 32)
            concrete = concrete.replace("{side}", "after").replace("{model}", "reel")
            if concrete in ("/events", "/openapi.json") or (method == "get" and "{" not in path):
                continue
            response = client.api(method.upper(), concrete)
            assert response.status in (400, 404, 409, 411, 415), (method, path, response.body)
            fits(document, "Error", response.json)
            assert operation["summary"]


def test_every_limit_and_every_route_is_documented(app: Flask) -> None:
    text = (REPO / "docs" / "web.md").read_text()
    for one in fields(Limits):
        assert f"`{one.name}`" in text, one.name
    for path in app.test_client().get(f"{API}/openapi.json").json["paths"]:  # type: ignore[index]
        route = path.replace("{upload_id}", "ID").replace("{job_id}", "ID")
        last = route.rsplit("/", 1)[-1].replace("{model}", "MODEL").replace("{side}", "before")
        assert last in text, path
