"""Conversion to RGB and back, and deinterlacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from tests.support.upscaling import enlarge, read
from tests.support.videos import (
    comb_energy,
    decode_rgb,
    make_interlaced,
    video_pts,
)


def test_interlaced_video_is_deinterlaced_frame_for_frame(tmp_path: Path) -> None:
    clip = make_interlaced(tmp_path / "in.mkv")
    info = probe(clip)
    assert info.interlaced
    frames, _ = read(clip)
    woven = decode_rgb(clip)
    assert len(frames) == len(woven) == 12
    assert [f.pts * info.time_base for f in frames] == video_pts(clip)
    assert comb_energy(woven[3:9]) > 3
    assert comb_energy(np.stack([f.pixels for f in frames[3:9]])) < 0.3
    enlarge(clip, tmp_path / "out.mkv")
    assert not probe(tmp_path / "out.mkv").interlaced
    assert verify(clip, tmp_path / "out.mkv") == []
