"""Health check and metrics of a running site."""

from __future__ import annotations

from typing import Any

from tests.support.site_process import Client


def test_health_and_metrics_report_the_state_of_the_site(
    client: Client, finished: tuple[Any, Any]
) -> None:
    assert client.request("GET", "/healthz").json == {"status": "ok"}
    text = client.request("GET", "/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(
        line.rsplit(" ", 1) for line in text.body.decode().splitlines() if not line.startswith("#")
    )
    assert int(lines['sharpreel_jobs{kind="upscale",state="done"}']) >= 1
    route = 'method="POST",route="/api/v1/uploads",status="201"'
    assert int(lines[f"sharpreel_http_requests_total{{{route}}}"]) >= 1
    assert float(lines["sharpreel_disk_used_bytes"]) > finished[0]["size"]
