"""Is the site well, and what does it do? For load balancers and for Prometheus."""

from __future__ import annotations

import shutil
from collections import Counter

from flask import Blueprint, Response, current_app, jsonify

from sharpreel.web.context import site
from sharpreel.web.http.metrics import CONTENT_TYPE, Labels
from sharpreel.web.jobs.storage import disk_used

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 where requests are answered and the table can be read."""
    site().store.revision()
    return jsonify(status="ok")


@blueprint.get("/metrics")
def metrics() -> Response:
    """Counters since the server began, and how things stand."""
    here = site()
    jobs = Counter((job.kind, job.state) for job in here.store.jobs("state != 'deleted'"))
    gauges: dict[str, dict[Labels, float]] = {
        "sharpreel_jobs": {
            (("kind", kind), ("state", state)): count for (kind, state), count in jobs.items()
        },
        "sharpreel_queue_length": {
            (("lane", lane),): len(queue.waiting()) for lane, queue in here.queues.items()
        },
        "sharpreel_disk_used_bytes": {(): disk_used(here.settings)},
        "sharpreel_disk_free_bytes": {(): shutil.disk_usage(here.settings.data_dir).free},
    }
    if live := current_app.extensions.get("sharpreel-live"):
        gauges["sharpreel_live_clients"] = {(): live.clients}
        gauges["sharpreel_live_frames"] = {(): live.frames}
        gauges["sharpreel_live_dropped_frames"] = {(): live.dropped}
    return Response(here.metrics.text(gauges), content_type=CONTENT_TYPE)
