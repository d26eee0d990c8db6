"""Models side by side on one stream of frames."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sharpreel.data.degrade.resample import bicubic
from sharpreel.errors import UsageError
from sharpreel.evaluation.runners import SharedInputs, bicubic_engine, model_runners, side_by_side
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames
from tests.support.videos import moving


def runners_of(models: list[Any], scale: float | None = None) -> Any:
    return model_runners(models, scale, "cpu", "auto", "auto")


def test_bicubic_comes_first_and_the_scale_is_that_of_the_first_model() -> None:
    runners, scale = runners_of(["reel-fast", "bicubic"])
    assert scale == load_model("reel-fast").scale
    assert [runner.info.name for runner in runners] == ["bicubic", "reel-fast"]
    assert runners[1].info.sha256


def test_bicubic_needs_no_bundled_graph() -> None:
    assert bicubic_engine(2) is not None
    assert bicubic_engine(1.5) is None
    (runner,), _ = runners_of([], 1.5)
    assert (runner.info.engine, runner.info.sha256) == ("arrays", "")


def test_models_of_different_scales_or_given_twice_are_rejected() -> None:
    with pytest.raises(UsageError, match="reel-fast is a 2x model, the others are 4x"):
        runners_of([load_model("reel-fast", 4), load_model("reel-fast", 2)])
    with pytest.raises(UsageError, match="reel-fast is given twice"):
        runners_of(["reel-fast", "reel-fast"])


def test_every_row_holds_matching_versions_of_one_frame() -> None:
    hr = np.stack(list(moving((64, 48), 5)))
    lr = bicubic(hr, 2)
    runners, _ = runners_of(["reel-fast"], 2)
    rows = list(side_by_side(iter(zip(lr, hr, strict=True)), runners))
    upscaled = list(upscale_frames(list(lr), "bicubic", scale=2))
    assert [row.index for row in rows] == list(range(5))
    for row in rows:
        np.testing.assert_array_equal(row.lr, lr[row.index])
        np.testing.assert_array_equal(row.hr, hr[row.index])
        np.testing.assert_array_equal(row.srs[0], upscaled[row.index])
        assert [sr.shape for sr in row.srs] == [row.hr.shape] * 2
    assert all(runner.frames == 5 and runner.fps > 0 for runner in runners)


def test_shared_frames_are_dropped_when_all_readers_have_taken_them() -> None:
    alive = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def frames() -> Iterator[Any]:
        nonlocal alive
        for _ in range(4):
            frame = np.zeros((2, 2, 3), np.uint8)
            weakref.finalize(frame, gone)
            alive += 1
            yield frame
            del frame

    shared = SharedInputs(frames(), 2)
    first, second = shared.reader(0), shared.reader(1)
    next(first)
    next(first)
    assert alive == 2  # they wait for the second reader
    next(second)
    next(second)
    assert alive == 1  # the producer's own
    assert len(list(first)) == len(list(second)) == 2
    assert alive == 0
