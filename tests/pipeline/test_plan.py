"""Plans: model, size, notes, and what is refused before the first frame."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import InputError, NothingToDoError, UsageError, WeightsError
from sharpreel.media.probe import probe
from sharpreel.upscale import run
from tests.support.plans import a_clip, plan_of, size_of
from tests.support.videos import make_clip


def test_the_default_scale_is_two(clip: Path) -> None:
    plan = plan_of(clip)
    assert plan.model.scale == 2
    assert size_of(plan) == (128, 96)


@pytest.mark.parametrize(
    ("height", "scale", "size"),
    [
        (72, 2, (96, 72)),
        (96, 2, (128, 96)),
        (98, 4, (130, 98)),
        (192, 4, (256, 192)),
        (384, 4, (512, 384)),
    ],
)
def test_a_height_chooses_the_smallest_scale_that_reaches_it(
    height: int, scale: int, size: tuple[int, int], clip: Path
) -> None:
    plan = plan_of(clip, height=height)
    assert plan.model.scale == scale
    assert size_of(plan) == size


def test_a_scale_and_a_height_can_be_combined(clip: Path) -> None:
    plan = plan_of(clip, height=96, scale=4)
    assert plan.model.scale == 4
    assert size_of(plan) == (128, 96)
    assert any("resized once to 128x96" in note for note in plan.notes)


def test_the_resize_to_an_exact_size_is_noted(clip: Path) -> None:
    notes = plan_of(clip, height=72).notes
    assert any("makes 128x96, resized once to 96x72" in note for note in notes)
    assert not any("resized" in note for note in plan_of(clip, height=96).notes)


def test_the_output_has_exactly_the_requested_height(clip: Path, tmp_path: Path) -> None:
    plan = plan_of(clip, tmp_path / "out.mp4", height=110, model="bicubic")
    run(plan)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (146, 110)


def test_the_height_of_a_rotated_video_is_that_of_the_shown_frame(tmp_path: Path) -> None:
    source = a_clip(tmp_path, rotation=90)
    plan = plan_of(source, height=128)  # shown 48x64
    assert plan.model.scale == 2
    assert size_of(plan) == (128, 96)


@pytest.mark.parametrize("options", [{"height": 48}, {"height": 32}, {"size": (64, 48)}])
def test_a_video_that_is_large_enough_has_nothing_to_do(
    options: dict[str, Any], clip: Path
) -> None:
    with pytest.raises(NothingToDoError, match=r"already 64x48.*give scale=2 to enlarge it anyway"):
        plan_of(clip, **options)


def test_a_size_that_is_larger_on_one_side_only_is_accepted(clip: Path) -> None:
    assert size_of(plan_of(clip, size=(32, 80))) == (32, 80)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 0}, "A side of 0 pixels"),
        ({"height": -4}, "A side of -4 pixels"),
        ({"height": 15}, "A side of 15 pixels"),
        ({"height": 16386}, "between 16 and 16384"),
        ({"size": (0, 96)}, "A side of 0 pixels"),
        ({"size": (96, 15)}, "A side of 15 pixels"),
        ({"size": (16386, 96)}, "A side of 16386 pixels"),
        ({"size": (96, 96), "height": 96}, "not both"),
        ({"size": (129, 96)}, "129x96 is odd.*pix_fmt='yuv444p'"),
        ({"size": (128, 97)}, "128x97 is odd"),
        ({"height": 97}, "x97 is odd"),
        ({"scale": 3}, "scale=3: reel exists for 2x and 4x"),
        ({"scale": 0}, "scale=0 is not possible; choose 2 or 4"),
        ({"start": Fraction(-1)}, "start must be 0 or more"),
        ({"start": Fraction(2), "end": Fraction(1)}, "`end` must be greater than `start`"),
        ({"end": Fraction(0)}, "`end` must be greater"),
        ({"segment_seconds": 0}, "segment_seconds must be above 0"),
        ({"segment_seconds": float("nan")}, "segment_seconds must be"),
        ({"model": "real-fast"}, "Did you mean reel-fast"),
        ({"codec": "mpeg1"}, "codec='mpeg1' is not known"),
        ({"codec": "h264", "pix_fmt": "gray16le"}, "pix_fmt='gray16le'"),
    ],
)
def test_a_request_that_cannot_be_fulfilled_is_refused_with_the_reason(
    options: dict[str, Any], message: str, clip: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(clip, **options)


def test_a_tile_that_is_too_small_is_refused_before_the_run(clip: Path) -> None:
    with pytest.raises(UsageError, match="tile=20 is too small"):
        plan_of(clip, tile=20)


def test_an_output_beyond_the_largest_side_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "wide.mkv", size=(5000, 16), frames=1, audio=False, codec="ffv1")
    with pytest.raises(UsageError, match="more than 16384 pixels a side"):
        plan_of(source, scale=4)


@pytest.mark.parametrize("options", [{}, {"scale": 4}, {"height": 80}])
def test_a_run_does_what_its_plan_states(
    options: dict[str, Any], clip: Path, tmp_path: Path
) -> None:
    plan = plan_of(clip, tmp_path / "o.mp4", model="bicubic", **options)
    result = run(plan)
    info = probe(result.output)
    assert (info.width, info.height) == size_of(plan)
    assert info.codec == plan.settings.codec
    assert info.pix_fmt == plan.settings.pix_fmt
    assert result.frames == plan.num_frames


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mp4: no such file"):
        plan_of(tmp_path / "gone.mp4")


def test_an_unreadable_model_file_is_named(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"model\.safetensors: not a model file"):
        plan_of(clip, model=str(path))


def test_every_stream_and_note_is_in_the_plan_as_data(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=25)
    reported = json.loads(json.dumps(plan_of(source).as_dict()))
    assert reported["output"] == str(tmp_path / "in_reel_x2.mp4")
    assert (reported["from"]["width"], reported["to"]["width"]) == (64, 128)
    assert [s["action"] for s in reported["streams"]] == ["upscale", "copy"]
    assert reported["segments"] == 1


def test_segments_are_counted_by_their_length(clip: Path) -> None:
    assert plan_of(clip, segment_seconds=0.24).num_segments == 4


def test_the_frames_between_start_and_end_are_counted(clip: Path) -> None:
    assert plan_of(clip, start=Fraction(12, 25)).num_frames == 12
    assert plan_of(clip, end=Fraction(6, 25)).num_frames == 6


def test_a_plan_writes_nothing(clip: Path, tmp_path: Path) -> None:
    plan_of(clip, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_every_option_that_changes_the_bytes_is_in_the_journal_settings(clip: Path) -> None:
    base = plan_of(clip).journal_settings("openvino")
    assert plan_of(clip).journal_settings("openvino") == base
    assert plan_of(clip).journal_settings("torch-cpu") != base
    for changed in (
        {"model": "bicubic"},
        {"scale": 4},
        {"height": 90},
        {"size": (100, 100)},
        {"codec": "hevc"},
        {"crf": 20},
        {"preset": "slow"},
        {"pix_fmt": "yuv444p"},
        {"start": Fraction(1, 5)},
        {"end": Fraction(1, 5)},
        {"segment_seconds": 1.0},
    ):
        assert plan_of(clip, **changed).journal_settings("openvino") != base, changed
    assert plan_of(clip, overwrite=True, strict=True).journal_settings("openvino") == base
