"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from pathlib import Path

from sharpreel.web.http.metrics import Metrics
from tests.support.site_app import limited_client


def test_cli_options_clients_make_no_new_numbers(tmp_path: Path) -> None:
    client = limited_client(tmp_path)
    for number in range(20):
        client.open(f"/nothing/{number}", method=f"METHOD{number}")
    text = client.get("/metrics").text
    assert 'method="other",route="unknown"' in text
    assert "METHOD" not in text
    assert "/nothing" not in text


def test_durations_are_a_cumulative_histogram_and_labels_are_escaped() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.05, 100.0):
        metrics.request("GET", "/a", 200, seconds)
    lines = metrics.text({"sharpreel_jobs": {(("name", 'a"\n'),): 2}}).splitlines()
    assert 'sharpreel_http_requests_total{method="GET",route="/a",status="200"} 3' in lines
    assert 'sharpreel_http_request_seconds_bucket{route="/a",le="0.005"} 1' in lines
    assert 'sharpreel_http_request_seconds_bucket{route="/a",le="0.1"} 2' in lines
    assert 'sharpreel_http_request_seconds_bucket{route="/a",le="+Inf"} 3' in lines
    assert 'sharpreel_http_request_seconds_count{route="/a"} 3' in lines
    assert 'sharpreel_jobs{name="a\\"\\n"} 2' in lines
