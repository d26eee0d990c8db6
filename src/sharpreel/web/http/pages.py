"""The HTML pages: templates without data, which their scripts fill through the API."""

from __future__ import annotations

import json
from pathlib import Path

from flask import Blueprint, render_template

from sharpreel._version import __version__
from sharpreel.media.containers import CONTAINERS
from sharpreel.web.http import live_protocol

blueprint = Blueprint("pages", __name__)

LEARN_IMAGES = Path(__file__).parent.parent / "static/learn"  # by examples/learn_pictures.py
LIVE_SIDES = (160, 320)  # longer side in pixels to which a camera's frames are reduced
# Keys of `CODECS` that the page offers, each with its description; the API takes all of them.
CODEC_LABELS = {
    "h264": "H.264, plays everywhere",
    "hevc": "HEVC, smaller files",
    "av1": "AV1, smallest files, slow",
    "vp9": "VP9, for WebM",
    "ffv1": "FFV1, lossless, very large",
    "prores": "ProRes, for editing, very large",
}


@blueprint.app_context_processor
def base_values() -> dict[str, str]:
    """Values in base.html, for every page."""
    return {"version": __version__, "openapi_url": "/api/v1/openapi.json"}


def container_names() -> list[str]:
    """One file suffix per container format, without the dot."""
    suffixes: dict[str, str] = {}
    for suffix, (muxer, _) in CONTAINERS.items():
        suffixes.setdefault(muxer, suffix.removeprefix("."))
    return list(suffixes.values())


@blueprint.get("/")
def home() -> str:
    """Choose a video, see the plan, start."""
    return render_template("home.html", codecs=CODEC_LABELS, containers=container_names())


@blueprint.get("/jobs")
def jobs() -> str:
    """All jobs in a table."""
    return render_template("jobs.html")


@blueprint.get("/jobs/<job_id>")
def job(job_id: str) -> str:
    """One job: progress, then the result next to the input."""
    return render_template("job.html", job_id=job_id)


@blueprint.get("/live")
def live() -> str:
    """The camera, upscaled live."""
    return render_template(
        "live.html",
        socket=live_protocol.PATH,
        model=live_protocol.MODEL,
        scale=live_protocol.SCALE,
        sizes=LIVE_SIDES,
    )


@blueprint.get("/learn")
def learn() -> str:
    """What the networks do, and what they cannot do."""
    numbers = json.loads((LEARN_IMAGES / "numbers.json").read_text())
    return render_template("learn.html", n=numbers)
