"""Pieces of the best and the worst frames."""

from __future__ import annotations

import numpy as np

from sharpreel.evaluation.crops import most_textured_crop
from sharpreel.evaluation.results import Evaluation


def test_crops_show_the_best_and_the_worst_frame(evaluation: Evaluation) -> None:
    for clip in evaluation.clips:
        crops = [crop for crop in evaluation.crops if crop.clip == clip.clip]
        pairs = zip(clip.of("reel-fast").frames, clip.of("bicubic").frames, strict=True)
        gains = [ours.psnr - theirs.psnr for ours, theirs in pairs]
        assert [crop.kind for crop in crops] == ["worst", "best"]
        assert [crop.gain for crop in crops] == [min(gains), max(gains)]
        for crop in crops:
            assert crop.hr.shape == (36, 48, 3)
            assert crop.lr.shape == (9, 12, 3)
            assert crop.hr.base is None
            assert set(crop.srs) == {"bicubic", "reel-fast"}


def test_the_most_textured_crop_is_where_the_detail_is() -> None:
    frame = np.full((120, 160, 3), 128, np.uint8)
    frame[64:96, 100:140] = np.random.default_rng(0).integers(0, 255, (32, 40, 3))
    top, left = most_textured_crop(frame, 32, 40, 4)
    assert (top, left) == (64, 100)
