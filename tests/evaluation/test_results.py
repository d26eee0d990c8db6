"""Results as JSON, and their means."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from sharpreel.evaluation.results import Evaluation, FrameScore, mean, mean_of_numbers, plain


def test_json_records_settings_versions_and_means(evaluation: Evaluation, vid4: Path) -> None:
    content = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert (content["protocol"], content["degradation"], content["scale"]) == ("P1", "bi", 4)
    assert content["settings"]["source"] == str(vid4)
    assert content["models"][1]["engine"].startswith("openvino")
    assert content["versions"]["numpy"] == np.__version__
    assert content["clips"][0]["results"][0]["frames"]["frame"] == [0, 1, 2, 3, 4]
    assert content["means"]["reel-fast"]["psnr"] == evaluation.mean("reel-fast", "psnr")


def test_means_skip_what_was_not_measured() -> None:
    assert mean([None, None]) is None
    assert mean([1.0, None, 3.0]) == 2.0
    assert mean([1.0, math.inf]) == math.inf
    assert mean_of_numbers([]) is None
    assert mean_of_numbers([1.0, math.nan, 3.0]) == 2.0
    value = mean_of_numbers([math.nan])
    assert value is not None
    assert math.isnan(value)


def test_plain_values_fit_into_json_and_frames_become_columns() -> None:
    scores = (FrameScore(2, 30.0, 0.5), FrameScore(3, math.inf, math.nan, constant=True))
    assert plain({"path": Path("a/b"), "frames": scores, "pair": (1, -math.inf)}) == {
        "path": "a/b",
        "frames": {
            "frame": [2, 3],
            "psnr": [30.0, "inf"],
            "ssim": [0.5, "nan"],
            "constant": [False, True],
            "lpips": [None, None],
            "niqe": [None, None],
        },
        "pair": [1, "-inf"],
    }
