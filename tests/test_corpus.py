"""Every awkward file of the corpus is upscaled faithfully, or refused with the right reason."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sharpreel.errors import InputError
from sharpreel.media.frame import TimeRange
from sharpreel.media.probe import probe
from sharpreel.media.verify import verify
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from sharpreel.upscale import run, upscale_video
from tests.support.videos import CORPUS, count_frames

REFUSED = {
    "eac3.mkv": "no video stream, only audio",
    "gen_alpha_vp9.webm": "the video has transparency",
    "gen_audio_only.mp4": "no video stream, only audio",
    "gen_empty.mp4": "the file is empty",
    "gen_truncated_nomoov.mp4": "not a readable video",
    "sample_ac4_level4.mp4": "no video stream",
}
# Large videos or long ones: their beginning is enough, and a network of 4K frames takes long.
UNTIL = {
    "av1_video.mkv": Fraction(2),
    "bbb_800x640_768kbps_30fps_avc_non_reference_3b.mp4": Fraction(1),
    "bt709_full_range.mp4": Fraction(1, 3),
    "fire2.mp4": Fraction(2, 3),
    "frames.webm": Fraction(1, 10),
    "gen_odd_427x239_vp9.webm": Fraction(1),
    "hdr10-video-with-sdr-container.mp4": Fraction(1, 12),
    "nasa_13013.mp4": Fraction(2),
    "sample_fpcm_32le.mp4": Fraction(1, 3),
    "sample_partially_fragmented.mp4": Fraction(1, 3),
    "sample_with_colr_mdcv_and_clli.mp4": Fraction(1, 25),
    "sample_with_increasing_timestamps_320w_240h.mp4": Fraction(2),
    "sample_with_vtt_subtitles.mkv": Fraction(1, 3),
}
# Streams that no container can hold because FFmpeg does not know them: noted in the plan.
LOST = {"sample_with_vtt_subtitles.mkv": "subtitle stream 2 (unknown)"}
DAMAGED = {"annex-b.mp4", "gen_damaged.mp4", "gen_truncated_faststart.mp4"}
FILES = sorted(p.name for p in CORPUS.iterdir()) if CORPUS.is_dir() else []


@pytest.mark.skipif(not FILES, reason="the corpus of real clips is not available")
def test_the_lists_above_name_files_of_the_corpus() -> None:
    assert {*REFUSED, *UNTIL, *LOST, *DAMAGED} <= set(FILES)


@pytest.mark.parametrize("name", [n for n in FILES if n not in REFUSED])
def test_a_real_file_is_upscaled_with_everything_kept(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.symlink_to(CORPUS / name)
    options: dict[str, Any] = {"model": "bicubic"}
    if probe(source).codec not in ("vp8", "vp9", "av1"):
        options["preset"] = "ultrafast"
    end = UNTIL.get(name)
    plan = make_plan(source, None, UpscaleOptions(end=end, **options))
    result = run(plan)
    window = TimeRange(None, end)
    info = probe(source)
    after = probe(result.output)
    assert (after.width, after.height) == (2 * info.width, 2 * info.height)
    assert after.rotation == info.rotation
    assert count_frames(result.output) == result.frames
    assert (result.lost > 0) == (name in DAMAGED)
    if end is None:
        whole = count_frames(source)
        assert result.frames == whole
    gone = [LOST[name]] if name in LOST else []
    assert verify(source, result.output, window) == [f"{what} is missing" for what in gone]
    assert [note for note in plan.notes if "cannot be kept" in note] == [
        f"{what} cannot be kept: its codec is not known to FFmpeg" for what in gone
    ]


@pytest.mark.parametrize("name", [n for n in FILES if n in REFUSED])
def test_a_file_that_cannot_be_upscaled_is_refused_with_the_right_reason(
    tmp_path: Path, name: str
) -> None:
    source = tmp_path / name
    source.symlink_to(CORPUS / name)
    with pytest.raises(InputError, match=REFUSED[name]):
        upscale_video(source, model="bicubic")
    assert [p.name for p in tmp_path.iterdir()] == [name]
