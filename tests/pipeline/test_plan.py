from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import InputError, NothingToDoError, UsageError, WeightsError
from sharpreel.media.probe import probe
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from sharpreel.upscale import run
from tests.support.videos import make_clip


def plan_of(source: Path, output: Path | None = None, **options: Any) -> Any:
    return make_plan(source, output, UpscaleOptions(**options))


def size_of(plan: Any) -> tuple[int, int]:
    return plan.settings.width, plan.settings.height


def a_clip(folder: Path, **settings: Any) -> Path:
    return make_clip(folder / "in.mp4", **{"frames": 3, "audio": False, **settings})


# Which network, at which size.


def test_without_a_wish_the_picture_is_doubled(clip: Path) -> None:
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
def test_a_height_chooses_the_smallest_factor_that_reaches_it(
    height: int, scale: int, size: tuple[int, int], clip: Path
) -> None:
    plan = plan_of(clip, height=height)
    assert plan.model.scale == scale
    assert size_of(plan) == size


def test_a_factor_that_is_given_stands_beside_a_height(clip: Path) -> None:
    plan = plan_of(clip, height=96, scale=4)
    assert plan.model.scale == 4
    assert size_of(plan) == (128, 96)
    assert any("resized once to 128x96" in note for note in plan.notes)


def test_the_resize_to_an_exact_size_is_named(clip: Path) -> None:
    notes = plan_of(clip, height=72).notes
    assert any("makes 128x96, resized once to 96x72" in note for note in notes)
    assert not any("resized" in note for note in plan_of(clip, height=96).notes)


def test_the_output_has_exactly_the_height_asked_for(clip: Path, tmp_path: Path) -> None:
    plan = plan_of(clip, tmp_path / "out.mp4", height=110, model="bicubic")
    run(plan)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (146, 110)


def test_an_exact_size_is_shown_in_the_proportions_of_the_input(clip: Path) -> None:
    plan = plan_of(clip, size=(160, 96))
    assert size_of(plan) == (160, 96)
    assert plan.settings.sample_aspect_ratio == Fraction(64 * 96, 48 * 160)


def test_a_turned_video_reaches_the_height_that_is_seen(tmp_path: Path) -> None:
    source = a_clip(tmp_path, rotation=90)
    plan = plan_of(source, height=128)  # shown 48x64
    assert plan.model.scale == 2
    assert size_of(plan) == (128, 96)


@pytest.mark.parametrize("options", [{"height": 48}, {"height": 32}, {"size": (64, 48)}])
def test_a_video_that_is_large_enough_needs_nothing(options: dict[str, Any], clip: Path) -> None:
    with pytest.raises(NothingToDoError, match=r"already 64x48.*give -s 2 to enlarge it anyway"):
        plan_of(clip, **options)


def test_a_size_that_is_larger_on_one_side_only_is_made(clip: Path) -> None:
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
        ({"size": (129, 96)}, "129x96 is odd.*--pix-fmt yuv444p"),
        ({"size": (128, 97)}, "128x97 is odd"),
        ({"height": 97}, "x97 is odd"),
        ({"scale": 3}, "2 or 4 times, not 3"),
        ({"scale": 0}, "--scale 0 cannot be made; choose 2 or 4"),
        ({"start": Fraction(-1)}, "--start"),
        ({"start": Fraction(2), "end": Fraction(1)}, "--end"),
        ({"end": Fraction(0)}, "--end"),
        ({"segment_seconds": 0}, "--segment-seconds must be above 0"),
        ({"segment_seconds": float("nan")}, "--segment-seconds"),
        ({"model": "real-fast"}, "Did you mean reel-fast"),
        ({"codec": "mpeg1"}, "--codec mpeg1 is not known"),
        ({"codec": "h264", "pix_fmt": "gray16le"}, "--pix-fmt gray16le"),
    ],
)
def test_what_cannot_be_made_is_refused_in_words(
    options: dict[str, Any], message: str, clip: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(clip, **options)


def test_a_tile_that_is_too_small_is_refused_before_the_run(clip: Path) -> None:
    with pytest.raises(UsageError, match="tile=20 is too small"):
        plan_of(clip, tile=20)


def test_an_odd_size_can_be_stored_without_subsampling(clip: Path) -> None:
    assert size_of(plan_of(clip, size=(129, 97), pix_fmt="yuv444p")) == (129, 97)


def test_an_odd_input_is_doubled_to_an_even_size(tmp_path: Path) -> None:
    source = a_clip(tmp_path, size=(35, 21), pix_fmt="yuv444p")
    assert size_of(plan_of(source, pix_fmt="yuv420p")) == (70, 42)


def test_a_result_beyond_the_largest_side_is_refused(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "wide.mkv", size=(5000, 16), frames=1, audio=False, codec="ffv1")
    with pytest.raises(UsageError, match="more than 16384 pixels a side"):
        plan_of(source, scale=4)


# Names.


def test_an_output_is_named_after_input_network_and_factor(clip: Path) -> None:
    assert plan_of(clip).output == clip.with_name("clip_reel_x2.mp4")
    assert plan_of(clip, model="bicubic", scale=4).output == clip.with_name("clip_bicubic_x4.mp4")


def test_an_output_folder_gets_the_same_name(clip: Path, tmp_path: Path) -> None:
    assert plan_of(clip, tmp_path).output == tmp_path / "clip_reel_x2.mp4"


@pytest.mark.parametrize(
    ("suffix", "codec", "made"), [("mkv", "libx264", ".mkv"), ("avi", "mpeg4", ".mkv")]
)
def test_the_output_is_of_the_inputs_kind_or_matroska(
    suffix: str, codec: str, made: str, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / f"in.{suffix}", frames=3, codec=codec)
    assert plan_of(source).output.suffix == made


@pytest.mark.parametrize("options", [{}, {"scale": 4}, {"height": 80}])
def test_the_plan_holds_for_the_run(options: dict[str, Any], clip: Path, tmp_path: Path) -> None:
    plan = plan_of(clip, tmp_path / "o.mp4", model="bicubic", **options)
    result = run(plan)
    info = probe(result.output)
    assert (info.width, info.height) == size_of(plan)
    assert info.codec == plan.settings.codec
    assert info.pix_fmt == plan.settings.pix_fmt
    assert result.frames == plan.num_frames


# What is refused before the first frame.


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".webm", "h264"), (".mp4", "prores"), (".mov", "ffv1"), (".ts", "vp9"), (".m2ts", "ffv1")],
)
def test_a_codec_that_the_container_does_not_take_is_refused(
    suffix: str, codec: str, clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out{suffix}"
    with pytest.raises(UsageError, match=f"{suffix}.*{codec}"):
        plan_of(clip, output, codec=codec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "ffv1", "prores"])
@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4", ".mov", ".ts"])
def test_a_codec_that_the_plan_takes_makes_a_run_that_succeeds(
    suffix: str, codec: str, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, audio=False)
    try:
        plan = plan_of(source, tmp_path / f"out{suffix}", codec=codec, model="bicubic")
    except UsageError:
        return  # refused in time
    assert run(plan).frames == 3


def test_an_unknown_suffix_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xyz"):
        plan_of(clip, tmp_path / "out.xyz")


def test_an_output_that_is_the_input_is_refused(tmp_path: Path) -> None:
    source = a_clip(tmp_path)
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    for output in (source, tmp_path / "link.mp4", tmp_path / "." / "in.mp4"):
        with pytest.raises(UsageError, match="the output is the input"):
            plan_of(source, output, overwrite=True)
    assert source.read_bytes() == before


def test_an_output_that_exists_is_refused_skipped_or_replaced(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"there")
    with pytest.raises(UsageError, match="Give --overwrite, --skip-existing or another -o"):
        plan_of(clip, output)
    with pytest.raises(NothingToDoError, match="exists"):
        plan_of(clip, output, skip_existing=True)
    assert plan_of(clip, output, overwrite=True).output == output
    assert output.read_bytes() == b"there"


def test_an_output_folder_that_is_not_there_is_named(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        plan_of(clip, tmp_path / "nowhere" / "out.mp4")


def test_an_output_folder_that_is_a_file_is_named(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file does not exist"):
        plan_of(clip, tmp_path / "file" / "out.mp4")


def test_a_folder_that_takes_no_files_is_named(clip: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("only where /proc is")
    with pytest.raises(UsageError, match="/proc cannot be written to"):
        plan_of(clip, Path("/proc/out.mp4"))


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mp4: no such file"):
        plan_of(tmp_path / "gone.mp4")


def test_a_file_that_is_no_model_is_named(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(WeightsError, match=r"model\.safetensors: not a model file"):
        plan_of(clip, model=str(path))


# What is said.


def test_every_stream_and_note_is_in_the_plan_as_data(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=25)
    said = json.loads(json.dumps(plan_of(source).as_dict()))
    assert said["output"] == str(tmp_path / "in_reel_x2.mp4")
    assert (said["from"]["width"], said["to"]["width"]) == (64, 128)
    assert [s["action"] for s in said["streams"]] == ["upscale", "copy"]
    assert said["segments"] == 1


def test_segments_are_counted_by_their_length(clip: Path) -> None:
    assert plan_of(clip, segment_seconds=0.24).num_segments == 4


def test_the_frames_of_a_stretch_are_counted(clip: Path) -> None:
    assert plan_of(clip, start=Fraction(12, 25)).num_frames == 12
    assert plan_of(clip, end=Fraction(6, 25)).num_frames == 6


def test_a_plan_touches_nothing(clip: Path, tmp_path: Path) -> None:
    plan_of(clip, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_whatever_changes_the_bytes_is_in_the_journals_settings(clip: Path) -> None:
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


@pytest.mark.parametrize("wrong", [{"height": 720.5}, {"size": "320x200"}, {"scale": "2"}])
def test_an_option_of_the_wrong_type_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        UpscaleOptions(**wrong)
