"""Videos that are upscaled and compared with bicubic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel.evaluation import html_page
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import probe
from sharpreel.studio import (
    inference,
    test_page,
    widgets,
)
from sharpreel.studio.jobs import Job
from tests.support.studio import (
    ended,
    errors,
    labelled,
    opened,
)
from tests.support.tiles import tiles
from tests.support.videos import make_clip


def test_a_video_is_upscaled_and_compared_at_a_time(
    home: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened("test")
    labelled(at.radio, "Mode").set_value(test_page.INFERENCE).run()
    labelled(at.text_input, "Path").set_value(str(videos / "clip1.mp4"))
    labelled(at.button, "Upscale").click().run()
    assert errors(at) == []
    job = Job(home / "tests" / "large-reel-1")
    assert ended(job).state == "finished", job.log_tail()
    at.run()
    assert errors(at) == []
    result = job.folder / "clip1_reel.mp4"
    pair = inference.frames_at(videos / "clip1.mp4", result, 0.08)
    assert {frame.shape for frame in pair.values()} == {(160, 192, 3)}
    truth = tiles(1, 2).repeat(2, 0).repeat(2, 1).astype(float)
    others = [tiles(1, t).repeat(2, 0).repeat(2, 1).astype(float) for t in (0, 4)]
    for frame in pair.values():  # that of two twenty-fifths of a second, and no other
        far = [float(np.abs(frame - other).mean()) for other in others]
        assert float(np.abs(frame - truth).mean()) < min(far) / 2
    assert 'data-name="bicubic"' in html_page.slider(pair, "a & b")
    assert "a &amp; b" in html_page.slider(pair, "a & b")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((1920, 1080), (1120, 630)),
        ((480, 854), (354, 630)),
        ((64, 48), (64, 48)),
    ],
)
def test_a_video_is_neither_enlarged_nor_taller_than_a_screen(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert widgets.shown_size(*size) == shown
    middle = inference.shown_part(np.zeros((*size[::-1], 3), np.uint8))
    assert middle.shape[1::-1] == shown  # the line moves over the same size


def test_a_rotated_video_is_compared_upright(tmp_path: Path) -> None:
    for name, size in (("lr.mp4", (64, 48)), ("sr.mp4", (128, 96))):
        make_clip(tmp_path / name, size=size, frames=3, rotation=90, audio=False)
    assert probe(tmp_path / "sr.mp4").shown_size == (96, 128)
    pair = inference.frames_at(tmp_path / "lr.mp4", tmp_path / "sr.mp4", 0.0)
    assert {frame.shape for frame in pair.values()} == {(128, 96, 3)}
    stored = next(iter(video_reader.VideoReader(probe(tmp_path / "sr.mp4")))).pixels
    np.testing.assert_array_equal(pair["result"][0], stored[::-1, 0])  # clockwise
