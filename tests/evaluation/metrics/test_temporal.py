"""tOF, warping error and flicker on known motion."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from skimage.filters import gaussian

from sharpreel.errors import MissingExtra
from sharpreel.evaluation.metrics.temporal import (
    _Samples,
    _targets,
    _visible_in_both,
    flicker,
    tof,
    tof_pair,
    warping_error,
)
from sharpreel.evaluation.protocols import PROTOCOLS, Protocol
from tests.support.photos import HR, noisy, to_bytes
from tests.support.videos import Pixels, moving


def texture(height: int, width: int, right: int = 0, down: int = 0) -> Pixels:
    """A smooth pattern whose content is moved by whole pixels."""
    noise = np.random.default_rng(1).normal(0, 1, (height + 40, width + 40, 3))
    large = gaussian(noise, 2.5, channel_axis=2)
    view = large[20 - down : 20 - down + height, 20 - right : 20 - right + width]
    return to_bytes(127 + 200 * view / np.abs(large).max())


def pair(frames: list[Pixels], t: int) -> tuple[Pixels, Pixels]:
    return frames[t], frames[t + 1]


def test_tof_is_the_difference_of_two_known_shifts() -> None:
    still, right = texture(120, 160), texture(120, 160, right=2)
    both = texture(120, 160, right=2, down=2)
    protocol = Protocol("inner", "Away from the frame's edge.", crop_border=30)
    assert tof_pair(still, right, still, right) == 0
    assert tof_pair(still, still, still, right, protocol) == pytest.approx(2, abs=0.1)
    assert tof_pair(still, right, still, both, protocol) == pytest.approx(2, abs=0.1)
    assert tof_pair(still, still, still, both, protocol) == pytest.approx(8**0.5, abs=0.1)


def test_tof_of_a_video_is_the_mean_over_its_pairs() -> None:
    hr = list(moving((96, 64), 5))
    sr = [noisy(f, 6) for f in hr]
    pairs = [tof_pair(*pair(sr, t), *pair(hr, t)) for t in range(4)]
    assert tof(iter(sr), iter(hr)) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="the same number of frames, but sr ends after 4"):
        tof(sr[:-1], hr)
    with pytest.raises(ValueError, match="two frames or more"):
        tof(sr[:1], hr[:1])


def test_tof_by_tecogans_protocol_skips_border_and_ends() -> None:
    hr = list(moving((96, 64), 7))
    sr = [noisy(f, 6) for f in hr]
    teco = PROTOCOLS["P3"]
    pairs = [tof_pair(*pair(sr, t), *pair(hr, t), teco) for t in (2, 3)]
    assert tof(sr, hr, teco) == pytest.approx(np.mean(pairs))
    assert pairs[0] != tof_pair(*pair(sr, 2), *pair(hr, 2))
    with pytest.raises(ValueError, match="two frames or more"):
        tof(sr[:5], hr[:5], teco)


def test_a_video_that_moves_like_the_reference_has_no_warping_error() -> None:
    a, b = texture(120, 160), texture(120, 160, right=3, down=-2)
    assert warping_error(a, b, a, b) < 2e-6
    darker = (b - b // 5).astype(np.uint8)
    wanted = np.mean(((b // 5) / 255.0) ** 2)
    assert warping_error(a, darker, a, b) == pytest.approx(wanted, rel=0.05)
    assert warping_error(a, a, a, b) > 1000 * warping_error(a, b, a, b)


def test_warping_error_of_a_static_reference_is_the_mean_squared_change() -> None:
    reference = texture(48, 64)
    sr = noisy(reference, 5)
    wanted = np.mean((sr.astype(float) - reference) ** 2) / 255**2
    assert warping_error(reference, sr, reference, reference) == pytest.approx(wanted)


def test_occluded_pixels_do_not_count_in_the_warping_error() -> None:
    ground, box = texture(120, 160), texture(120, 160, down=9)[:40, :40]
    frames = []
    for left in (50, 58):  # the box covers 8 columns more at its right
        frame = ground.copy()
        frame[40:80, left : left + 40] = box
        frames.append(frame)
    flow = np.zeros((120, 160, 2))
    flow[40:80, 50:90, 0] = 8
    back = np.zeros((120, 160, 2))
    back[40:80, 58:98, 0] = -8
    seen = _visible_in_both(flow, back)
    assert not seen[41:79, 90:98].any()
    assert seen[41:79, 52:88].all()
    assert seen[:38].all()
    assert warping_error(*pair(frames, 0), *pair(frames, 0)) < 1e-4


def test_pixels_that_leave_the_frame_do_not_count_in_the_warping_error() -> None:
    flow = np.zeros((20, 30, 2))
    flow[..., 0] = 4
    seen = _visible_in_both(flow, -flow)
    assert seen[:, :26].all()
    assert not seen[:, 26:].any()
    assert not _visible_in_both(flow + 100, -flow - 100).any()


def test_warping_samples_where_the_flow_points() -> None:
    image = np.random.default_rng(0).normal(0, 1, (6, 7, 2))
    flow = np.zeros((6, 7, 2))
    flow[..., 0], flow[..., 1] = 1.25, -0.5
    warped = _Samples(*_targets(flow), (6, 7)).of(image)
    upper, lower = (0.75 * image[y, 4] + 0.25 * image[y, 5] for y in (2, 3))
    assert warped[3, 3] == pytest.approx((upper + lower) / 2)
    assert warped[0, 6] == pytest.approx(image[0, 6])  # edge pixels repeat


def test_flicker_is_the_change_where_the_reference_is_static() -> None:
    hr_prev = np.full((10, 10, 3), 100, np.uint8)
    hr_next = hr_prev.copy()
    hr_next[:, 5:, 2] = 110  # moves
    sr_next = hr_prev.copy()
    sr_next[:5] += 4
    sr_next[:, 5:] += 50
    assert flicker(hr_prev, sr_next, hr_prev, hr_next) == 2
    assert flicker(hr_prev, sr_next, hr_prev, hr_next, still=10) == 27
    assert flicker(hr_prev, hr_prev, hr_prev, hr_next) == 0


def test_flicker_is_nan_when_nothing_is_static() -> None:
    assert math.isnan(flicker(HR, HR, HR, HR ^ 128))


@pytest.mark.parametrize(
    "call",
    [
        lambda: tof_pair(HR, HR, HR, HR),
        lambda: tof([HR, HR], [HR, HR]),
        lambda: warping_error(HR, HR, HR, HR),
    ],
)
def test_without_opencv_measuring_motion_names_the_extra(
    call: Callable[[], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"sharpreel\[torch\]"):
        call()
