"""The HTML pages: shells without data, which their scripts fill through the REST interface."""

from __future__ import annotations

import json
from pathlib import Path

from flask import Blueprint, render_template

from sharpreel._version import __version__
from sharpreel.web.http import live as sockets

blueprint = Blueprint("pages", __name__)

PICTURES = Path(__file__).parent.parent / "static/learn"  # made by examples/learn_pictures.py
LOW_SIZES = (160, 320)  # longer side in pixels that a camera's picture is reduced to


@blueprint.app_context_processor
def for_every_page() -> dict[str, str]:
    """What base.html shows on each page."""
    return {"version": __version__, "openapi_url": "/api/v1/openapi.json"}


@blueprint.get("/")
def home() -> str:
    """Choose a film, see the plan, begin."""
    return render_template("home.html")


@blueprint.get("/jobs")
def jobs() -> str:
    """All jobs in a table."""
    return render_template("jobs.html")


@blueprint.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    """One job: progress, then the result beside the input."""
    return render_template("job.html", job_id=job_id)


@blueprint.get("/live")
def live() -> str:
    """The camera, enlarged as it comes."""
    return render_template(
        "live.html",
        socket=sockets.PATH,
        model=sockets.MODEL,
        scale=sockets.SCALE,
        sizes=LOW_SIZES,
    )


@blueprint.get("/learn")
def learn() -> str:
    """What the networks do, and what they cannot."""
    numbers = json.loads((PICTURES / "numbers.json").read_text())
    return render_template("learn.html", n=numbers)
