"""Health check for load balancers and metrics for Prometheus."""

from __future__ import annotations

import shutil
from collections import Counter

from flask import Blueprint, Response, jsonify

from sharpreel.web.context import current_site
from sharpreel.web.http.metrics import CONTENT_TYPE, Labels
from sharpreel.web.jobs.storage import disk_used

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 if requests are answered and the database can be read."""
    current_site().store.revision()
    return jsonify(status="ok")


@blueprint.get("/metrics")
def metrics() -> Response:
    """Counters since the server started, and the current state of jobs, disk and live sockets."""
    site = current_site()
    jobs = Counter((job.kind, job.state) for job in site.store.jobs())
    gauges: dict[str, dict[Labels, float]] = {
        "sharpreel_jobs": {
            (("kind", kind), ("state", state)): count for (kind, state), count in jobs.items()
        },
        "sharpreel_queue_length": {
            (("lane", lane),): len(queue.waiting()) for lane, queue in site.queues.items()
        },
        "sharpreel_disk_used_bytes": {(): disk_used(site.settings)},
        "sharpreel_disk_free_bytes": {(): shutil.disk_usage(site.settings.data_dir).free},
        "sharpreel_live_clients": {(): site.live_slots.clients},
        "sharpreel_live_frames": {(): site.live_slots.frames},
        "sharpreel_live_dropped_frames": {(): site.live_slots.dropped},
    }
    return Response(site.metrics.text(gauges), content_type=CONTENT_TYPE)
