"""Videos converted so that browsers play them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sharpreel.media.probe import probe
from sharpreel.web.sandbox.playable import convert
from tests.support.site_process import Client
from tests.support.terminal import sharpreel
from tests.support.videos import make_clip, make_rich, packets, video_pts


@pytest.mark.slow
def test_other_formats_are_converted_with_the_same_timestamps(
    client: Client, tmp_path: Path
) -> None:
    rich = make_rich(tmp_path / "rich.mkv")
    upload = client.upload(rich)
    job = client.wait_until_done(client.job(upload, codec="ffv1"))
    for side in ("before", "after"):
        response = client.request("GET", job["urls"][side])
        (tmp_path / f"{side}.mp4").write_bytes(response.body)
    before, after = (tmp_path / f"{side}.mp4" for side in ("before", "after"))
    start = video_pts(rich)[0]
    assert [pts - start for pts in video_pts(rich)] == pytest.approx(video_pts(before), abs=0.002)
    assert video_pts(before) == pytest.approx(video_pts(after), abs=0.002)
    assert len(packets(before, "audio")) > 10
    result = tmp_path / job["result"]["name"]
    result.write_bytes(client.request("GET", job["urls"]["result"]).body)
    assert result.name == "rich_bicubic_x2.mkv"
    assert sharpreel("verify", rich, result).returncode == 0


@pytest.mark.parametrize(
    ("options", "seconds", "complete"),
    [
        ({"path": "a.mp4"}, 600.0, True),  # played as it is
        ({"path": "a.mkv"}, 600.0, True),  # remuxed
        ({"path": "a.mkv"}, 0.3, False),
        ({"path": "a.mkv", "codec": "mpeg4"}, 600.0, True),  # transcoded
        ({"path": "a.mkv", "codec": "mpeg4"}, 0.3, False),
    ],
)
def test_a_playable_file_has_the_timestamps_of_its_source(
    tmp_path: Path, options: dict[str, Any], seconds: float, complete: bool
) -> None:
    source = make_clip(tmp_path / options.pop("path"), frames=24, **options)
    event = convert(source, tmp_path / "play", with_hash=True, max_seconds=seconds)
    assert event["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (event["width"], event["height"]) == (64, 48)
    assert event["play"] == "play.mp4"
    assert ("plays_seconds" in event) is not complete
    times, expected = video_pts(tmp_path / "play.mp4"), video_pts(source)
    assert times == pytest.approx(expected[: len(times)], abs=0.002)
    assert (len(times) == len(expected)) is complete


def test_a_large_video_is_reduced_for_playback(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "large.mkv", size=(2048, 1536), frames=2, codec="mpeg4", audio=False
    )
    convert(source, tmp_path / "play", with_hash=False, max_seconds=60)
    small = probe(tmp_path / "play.mp4")
    assert (small.width, small.height) == (1440, 1080)
