"""Time ranges: which frames are inside, and where they are empty."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from sharpreel.errors import InputError
from sharpreel.media.frame import time_range_of
from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from tests.support.upscaling import enlarge, planned
from tests.support.videos import (
    count_frames,
    ffmpeg,
    make_clip,
)


def test_times_of_a_transport_stream_count_from_its_beginning(tmp_path: Path) -> None:
    video = tmp_path / "in.ts"
    clip = make_clip(tmp_path / "in.mp4", frames=50)
    ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", "1000", video)
    half = {"start": Fraction(1, 2), "end": Fraction(1)}
    assert planned(video, None, **half).num_frames == 12
    out = enlarge(video, tmp_path / "out.ts", **half).output
    assert count_frames(out) == 13  # at 0.52, 0.56 ... 1.00 of a clock that began with the sound
    assert verify(video, out, time_range_of(probe(video), **half)) == []
    with pytest.raises(InputError, match=r"start=3\.00 s is after its end \(2\.0"):
        planned(video, start=3)


def test_a_cut_after_the_end_of_the_audio_has_no_audio(tmp_path: Path) -> None:
    video = tmp_path / "in.mp4"
    clip = make_clip(tmp_path / "clip.mp4", frames=50)
    sound = ["-f", "lavfi", "-i", "sine=d=0.5"]
    ffmpeg("-i", clip, *sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", video)
    assert enlarge(video, tmp_path / "out.mp4", start=1).frames == 25
