"""LR and HR frames: folders, stores and videos, degradations, given LR versions, sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel import ops
from sharpreel.data.clips import find_clips
from sharpreel.data.degrade.resample import area_resize, bicubic
from sharpreel.data.store import prepare
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import pairs as pairs_module
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.evaluation.results import Evaluation
from sharpreel.media import images
from sharpreel.upscale import upscale_frames
from tests.support.evaluation import SIZE, lossless, run_benchmark, save_images
from tests.support.videos import make_clip, moving


def test_lr_frames_can_be_given_in_a_parallel_folder(
    vid4: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    for clip in evaluation.clips:
        paths = images.image_files(vid4 / "GT" / clip.clip)
        lr = [bicubic(images.read_rgb(p)[None], 4)[0] for p in paths]
        save_images(tmp_path / "BIx4" / clip.clip, lr)
    given = run_benchmark(["reel-fast"], vid4, scale=4, lr_folder=tmp_path / "BIx4", temporal=False)
    assert given.degradation == "given"
    for ours, theirs in zip(given.clips, evaluation.clips, strict=True):
        assert [r.frames for r in ours.results] == [r.frames for r in theirs.results]


def test_a_video_a_folder_and_a_store_give_equal_scores(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    path = lossless(tmp_path / "clips" / "one.mkv", moving(SIZE, 4))
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    assert store.names == ["one"]
    scores = [
        run_benchmark([], source, temporal=False).clips[0].of("bicubic").frames
        for source in (path, tmp_path / "clips", tmp_path / "store")
    ]
    assert scores[0] == scores[1] == scores[2]


def test_degradations_of_complete_clips_work_in_chunks_and_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "CHUNK_FRAMES", 8)
    (tmp_path / "clips").mkdir()
    hr = np.stack(list(moving(SIZE, 20)))
    lossless(tmp_path / "clips" / "one.mkv", hr)
    found = run_benchmark([], tmp_path / "clips", degradation="afm", temporal=False)
    assert found.notes == ("one: afm was drawn again after every 8 frames",)
    # The first chunk is the same as in a data store with a clip of this name.
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store", max_frames=8)
    lr = store.pairs(2, "afm")[0].lr
    bicubic = upscale_frames(list(lr), "bicubic", scale=2)
    expected = [psnr_y(sr, reference) for sr, reference in zip(bicubic, hr[:8], strict=True)]
    assert [s.psnr for s in found.clips[0].of("bicubic").frames[:8]] == expected


def test_a_fractional_scale_uses_integer_sizes(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving((50, 40), 2))
    for degradation in ("bi", "area"):
        clip = run_benchmark([], path, scale=1.5, degradation=degradation, temporal=False).clips[0]
        assert (clip.width, clip.height, clip.lr_width, clip.lr_height) == (48, 39, 32, 26)
    hr = next(iter(moving((50, 40), 1)))[:39, :48]
    sr = ops.resize(area_resize(hr[None], 26, 32)[0], 39, 48)
    assert clip.of("bicubic").frames[0].psnr == psnr_y(sr, hr)
    with pytest.raises(UsageError, match=r"Scale 1.5 supports only the bi and area degradations"):
        run_benchmark([], path, scale=1.5, degradation="bd")


def test_mismatched_lr_versions_are_reported_with_frame_and_size(tmp_path: Path) -> None:
    hr = np.stack(list(moving(SIZE, 6)))
    lr = bicubic(hr, 2)
    (tmp_path / "lr").mkdir()
    path = lossless(tmp_path / "one.mkv", hr)
    lossless(tmp_path / "lr" / "one.mkv", lr[:4])
    with pytest.raises(
        InputError, match=r"one: frame 4 exists in high resolution only; .* low .* after 4 frames"
    ):
        run_benchmark([], path, lr_folder=tmp_path / "lr", temporal=False)
    lossless(tmp_path / "lr" / "one.mkv", bicubic(hr, 4))
    with pytest.raises(
        InputError,
        match="one: frame 0 is 16x12 in low resolution, 32x24 at scale 2, but 64x48 in high",
    ):
        run_benchmark([], path, lr_folder=tmp_path / "lr", temporal=False)
    with pytest.raises(UsageError, match="degradation='bd' cannot be combined with lr_folder="):
        run_benchmark([], path, lr_folder=tmp_path / "lr", degradation="bd")
    with pytest.raises(UsageError, match="set `lr_folder` to the folder of"):
        run_benchmark([], path, degradation="given")


def test_images_of_two_sizes_in_one_clip_are_reported_with_the_frame(tmp_path: Path) -> None:
    first, second = moving(SIZE, 2)
    save_images(tmp_path / "clips" / "a", [first, second[:40]])
    with pytest.raises(InputError, match="a: frame 1 is 64x40, the frames before it are 64x48"):
        run_benchmark([], tmp_path / "clips", temporal=False)


def test_a_list_and_a_limit_select_clips_and_frames(tmp_path: Path, vid4: Path) -> None:
    (tmp_path / "list.txt").write_text("walk\ncity\n")
    found = run_benchmark([], vid4, list_file=tmp_path / "list.txt", max_frames=2, temporal=False)
    assert [(c.clip, c.frames) for c in found.clips] == [("walk", 2), ("city", 2)]


def test_damaged_frames_are_skipped_and_noted(corpus: Path) -> None:
    found = run_benchmark([], corpus / "media" / "gen_damaged.mp4", temporal=False, protocol="P1")
    assert any("cannot be decoded and are skipped" in note for note in found.notes)


def test_frames_are_cropped_to_a_multiple_of_the_scale(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "odd.mkv", size=(51, 39), frames=2, codec="ffv1", pix_fmt="yuv444p")
    clip = run_benchmark([], path, temporal=False, scale=2).clips[0]
    assert (clip.width, clip.height) == (50, 38)
