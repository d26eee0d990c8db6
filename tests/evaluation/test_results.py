"""Results as JSON, and their means."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sharpreel.evaluation.results import Evaluation


def test_json_records_settings_versions_and_means(evaluation: Evaluation, vid4: Path) -> None:
    content = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert (content["protocol"], content["degradation"], content["scale"]) == ("P1", "bi", 4)
    assert content["settings"]["source"] == str(vid4)
    assert content["models"][1]["engine"].startswith("openvino")
    assert content["versions"]["numpy"] == np.__version__
    assert content["clips"][0]["results"][0]["frames"]["frame"] == [0, 1, 2, 3, 4]
    assert content["means"]["reel-fast"]["psnr"] == evaluation.mean("reel-fast", "psnr")
