"""evaluate.py: what a benchmark measures, how it streams, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sharpreel.evaluation.showcase import most_textured_crop

from sharpreel import ops
from sharpreel.data.clips import find_clips
from sharpreel.data.degrade import resample
from sharpreel.data.degrade.resample import area_resize, bicubic
from sharpreel.data.store import load_clips, prepare
from sharpreel.engines.choose import choose_engine
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation import benchmark as benchmark_
from sharpreel.evaluation import benchmark as benchmark_module
from sharpreel.evaluation import pairs as pairs_module
from sharpreel.evaluation import runners, tables
from sharpreel.evaluation import scores as scores_module
from sharpreel.evaluation.benchmark import benchmark
from sharpreel.evaluation.metrics import temporal
from sharpreel.evaluation.metrics.fidelity import psnr, psnr_y, ssim
from sharpreel.evaluation.metrics.niqe import Niqe
from sharpreel.evaluation.metrics.seams import Seams, seam_in_space, seam_in_time
from sharpreel.evaluation.metrics.temporal import _farneback
from sharpreel.evaluation.protocols import PROTOCOLS
from sharpreel.evaluation.results import Evaluation
from sharpreel.media import images
from sharpreel.models.weights import load_model
from sharpreel.upscale import upscale_frames, upscale_video
from tests.support.videos import decode_rgb, make_clip, moving, write_frames

SIZE = (64, 48)


def lossless(path: Path, frames: Any) -> Path:
    """An FFV1 file of RGB: what is written is what is read."""
    return write_frames(path, frames, codec="ffv1", pix_fmt="bgr0")


def pictures(folder: Path, frames: Any) -> Path:
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames, 1):
        images.write_png(folder / f"{k:03}.png", frame)
    return folder


@pytest.fixture(scope="module")
def vid4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folders of numbered PNGs, 48x36, five frames each."""
    root = tmp_path_factory.mktemp("vid4") / "GT"
    for shift, name in enumerate(("calendar", "city", "foliage", "walk")):
        frames = list(moving((48, 36), 5 + shift))[shift:]
        pictures(root / name, frames)
    return root.parent


@pytest.fixture(scope="module")
def found(vid4: Path) -> Evaluation:
    return benchmark(["reel-fast"], vid4, scale=4, temporal=True)


def matlab_bicubic(frame: Any, height: int, width: int) -> Any:
    """imresize from its definition, in double precision: one dense matrix for each axis."""

    def matrix(size_in: int, size_out: int) -> Any:
        ratio = size_in / size_out
        widen = max(ratio, 1)
        out = np.zeros((size_out, size_in))
        for i in range(size_out):
            centre = (i + 0.5) * ratio - 0.5
            for j in range(math.floor(centre - 2 * widen), math.ceil(centre + 2 * widen) + 1):
                x = abs(centre - j) / widen
                near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
                place = j % (2 * size_in)
                weight = near if x <= 1 else far if x < 2 else 0
                out[i, place if place < size_in else 2 * size_in - 1 - place] += weight
            out[i] /= out[i].sum()
        return out

    rows, columns = matrix(frame.shape[0], height), matrix(frame.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", rows, frame.astype(np.float64), columns)


def rounded(exact: Any) -> Any:
    return np.clip(np.rint(exact), 0, 255).astype(np.uint8)


def clear_frame(seed: int) -> tuple[Any, Any, Any]:
    """hr, lr and bicubic, by the definition, of which no value lies so near to a half that single
    precision could round it to the other side."""
    rng = np.random.default_rng(seed)
    while True:
        hr = rng.integers(40, 216, (24, 32, 3)).astype(np.uint8)
        small = matlab_bicubic(hr, 6, 8)
        large = matlab_bicubic(rounded(small), 24, 32)
        if all(np.abs(np.abs(x - np.rint(x)) - 0.5).min() > 1e-4 for x in (small, large)):
            return hr, rounded(small), rounded(large)


def luma_psnr(sr: Any, hr: Any) -> float:
    """By the equation of rgb2ycbcr alone."""
    weight = np.array([65.481, 128.553, 24.966])
    a, b = (16 + f.astype(np.float64) @ weight / 255 for f in (sr, hr))
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def test_bicubic_by_p1_is_exactly_what_the_definitions_give(tmp_path: Path) -> None:
    frames = [clear_frame(seed) for seed in range(3)]
    path = lossless(tmp_path / "one.mkv", [hr for hr, _, _ in frames])
    clip = benchmark([], path, scale=4, protocol="P1", temporal=False).clips[0]
    expected = [luma_psnr(sr, hr) for hr, _, sr in frames]
    # The pixels are the very same; two ways to add up luma may differ in the last bits.
    assert [s.psnr for s in clip.of("bicubic").frames] == pytest.approx(expected, rel=1e-13)
    exact = [psnr_y(sr, hr) for hr, _, sr in frames]
    assert [s.psnr for s in clip.of("bicubic").frames] == exact
    assert clip.of("bicubic").psnr == np.mean(exact)


def test_the_layout_of_vid4_is_found(found: Evaluation) -> None:
    assert [clip.clip for clip in found.clips] == ["calendar", "city", "foliage", "walk"]


def test_low_resolution_frames_of_vid4_can_be_given_in_a_parallel_folder(
    vid4: Path, found: Evaluation, tmp_path: Path
) -> None:
    for clip in found.clips:
        paths = images.image_files(vid4 / "GT" / clip.clip)
        lr = [bicubic(images.read_rgb(p)[None], 4)[0] for p in paths]
        pictures(tmp_path / "BIx4" / clip.clip, lr)
    given = benchmark(["reel-fast"], vid4, scale=4, lr_folder=tmp_path / "BIx4", temporal=False)
    assert given.degradation == "given"
    for ours, theirs in zip(given.clips, found.clips, strict=True):
        assert [r.frames for r in ours.results] == [r.frames for r in theirs.results]


def test_bicubic_comes_first_and_every_measure_is_there(found: Evaluation) -> None:
    assert [m.name for m in found.models] == ["bicubic", "reel-fast"]
    for clip in found.clips:
        assert (clip.width, clip.height, clip.lr_width, clip.lr_height) == (48, 36, 12, 9)
        assert (clip.frames, clip.counted) == (5, 5)
        assert clip.truth_warping_error is not None
        for result in clip.results:
            assert result.qm == math.sqrt(result.psnr * result.ssim)
            assert result.tof is not None
            assert result.warping_error is not None
            assert result.flicker is not None
            assert result.vmaf is None
            assert result.fps > 0
            assert [score.frame for score in result.frames] == list(range(5))
    assert found.peak_memory_mb
    assert found.score("reel-fast") in (0, 0.25, 0.5, 0.75, 1)
    assert found.gain("bicubic") == 0


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_what_is_measured_is_what_upscale_writes_losslessly(kind: str, tmp_path: Path) -> None:
    hr = np.stack(list(moving(SIZE, 6)))
    lr = bicubic(hr, 2)
    if kind == "video":
        (tmp_path / "hr").mkdir()
        (tmp_path / "lr").mkdir()
        lossless(tmp_path / "hr" / "clip.mkv", hr)
        lr_path = lossless(tmp_path / "lr" / "clip.mkv", lr)
        upscale_video(
            lr_path, tmp_path / "out.mkv", codec="ffv1", pix_fmt="bgr0", model="reel-fast"
        )
        written = list(decode_rgb(tmp_path / "out.mkv"))
    else:
        pictures(tmp_path / "hr" / "clip", hr)
        lr_path = pictures(tmp_path / "lr" / "clip", lr)
        upscale_video(lr_path, tmp_path / "out", model="reel-fast")
        written = [images.read_rgb(p) for p in images.image_files(tmp_path / "out")]
    result = benchmark(
        ["reel-fast"], tmp_path / "hr", lr_folder=tmp_path / "lr", temporal=False, protocol="P1-RGB"
    )
    clip = result.clips[0]
    assert result.degradation == "given"
    scores = clip.of("reel-fast").frames
    for score, sr, truth in zip(scores, written, hr, strict=True):
        assert score.psnr == psnr(sr, truth, "rgb")
        assert score.ssim == ssim(sr, truth, "rgb")
    crop = result.crops[0]
    height, width = crop.truth.shape[:2]
    here = slice(crop.top, crop.top + height), slice(crop.left, crop.left + width)
    assert (crop.pictures["reel-fast"] == written[crop.frame][here]).all()
    # Frames that are reduced here are the same as those that were given.
    made = benchmark(["reel-fast"], tmp_path / "hr", temporal=False, protocol="P1-RGB")
    assert made.clips[0].of("reel-fast").frames == scores


def test_one_video_a_folder_and_a_store_score_alike(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    path = lossless(tmp_path / "clips" / "one.mkv", moving(SIZE, 4))
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    assert store.names == ["one"]
    scores = [
        benchmark([], source, temporal=False).clips[0].of("bicubic").frames
        for source in (path, tmp_path / "clips", tmp_path / "store")
    ]
    assert scores[0] == scores[1] == scores[2]


def test_it_agrees_with_evaluate_which_training_uses(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 4))
    model = load_model("reel-fast", 2)
    clips = load_clips([path], 2)
    score = benchmark_.evaluate(choose_engine(model), clips)[0]
    clip = benchmark([model], path, temporal=False).clips[0]
    assert (clip.of("reel-fast").psnr, clip.of("bicubic").psnr) == (score.psnr, score.bicubic)


class Frames:
    """Makes frames one by one and counts those that are still alive."""

    def __init__(self) -> None:
        self.alive = self.most = 0

    def watch(self, frame: Any) -> Any:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(frame, self._gone)
        return frame

    def _gone(self) -> None:
        self.alive -= 1

    def many(self, count: int) -> Iterator[Any]:
        for frame in moving((32, 32), count):
            yield self.watch(frame)
            del frame


@pytest.mark.parametrize("protocol", ["P1", "P4", "P1-Vimeo"])
def test_a_long_video_is_measured_in_constant_memory(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = Frames()
    monkeypatch.setattr(pairs_module, "decoded", lambda paths, name, notes: frames.many(300))
    path = lossless(tmp_path / "long.mkv", moving((32, 32), 2))
    told: list[tuple[str, int, int | None]] = []
    found = benchmark(
        ["reel-fast"], path, protocol=protocol, temporal=False, tell=lambda *at: told.append(at)
    )
    counted = {"P1": 300, "P4": 294, "P1-Vimeo": 1}[protocol]
    assert (found.clips[0].frames, found.clips[0].counted) == (300, counted)
    assert frames.most <= 8
    assert [done for _, done, _ in told] == list(range(1, 301))
    del found
    assert frames.alive == 0


def test_degradations_of_whole_clips_get_stretches_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs_module, "STRETCH_FRAMES", 8)
    (tmp_path / "clips").mkdir()
    hr = np.stack(list(moving(SIZE, 20)))
    lossless(tmp_path / "clips" / "one.mkv", hr)
    found = benchmark([], tmp_path / "clips", degradation="afm", temporal=False)
    assert found.notes == ("one: afm was drawn anew for each 8 frames",)
    # The first stretch is what a data store makes of a clip of this name.
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store", max_frames=8)
    twin = store.pairs(2, "afm")[0].lr
    bicubic = upscale_frames(list(twin), "bicubic", scale=2)
    expected = [psnr_y(sr, truth) for sr, truth in zip(bicubic, hr[:8], strict=True)]
    assert [s.psnr for s in found.clips[0].of("bicubic").frames[:8]] == expected


def test_a_factor_that_is_not_whole_is_measured_on_whole_pixels(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving((50, 40), 2))
    for degradation in ("bi", "area"):
        clip = benchmark([], path, scale=1.5, degradation=degradation, temporal=False).clips[0]
        assert (clip.width, clip.height, clip.lr_width, clip.lr_height) == (48, 39, 32, 26)
    hr = next(iter(moving((50, 40), 1)))[:39, :48]
    sr = ops.resize(area_resize(hr[None], 26, 32)[0], 39, 48)
    assert clip.of("bicubic").frames[0].psnr == psnr_y(sr, hr)
    with pytest.raises(UsageError, match=r"By 1.5 frames are reduced by bi or area alone"):
        benchmark([], path, scale=1.5, degradation="bd")


def test_the_truth_s_motion_is_found_once_for_all_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flows: list[Any] = []
    farneback = _farneback

    def counted(*pair: Any) -> Any:
        flows.append(pair)
        return farneback(*pair)

    monkeypatch.setattr(temporal, "_farneback", counted)
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 4))
    found = benchmark(["reel-fast"], path)
    assert len(flows) == 3 * (2 + 1)  # pairs times two models and the truth
    alone = benchmark([], path).clips[0].of("bicubic")
    together = found.clips[0].of("bicubic")
    for name in ("tof", "warping_error", "flicker"):
        assert getattr(alone, name) == getattr(together, name)


class Counted:
    """Stands for LPIPS: the difference of means."""

    about = "means"

    def __init__(self) -> None:
        self.frames = 0

    def seen(self, frame: Any) -> float:
        self.frames += 1
        return float(frame.mean())

    def between(self, sr: float, hr: float) -> float:
        return abs(sr - hr)


def test_lpips_sees_the_truth_once_and_only_where_the_protocol_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lpips = Counted()
    monkeypatch.setattr(benchmark_module, "open_lpips", lambda *_: lpips)
    frames = list(moving(SIZE, 3))
    path = lossless(tmp_path / "one.mkv", frames)
    found = benchmark(["reel-fast"], path, protocol="P2", lpips=(path, path), temporal=False)
    assert lpips.frames == 3 * (2 + 1)
    lr = resample.bicubic(np.stack(frames), 2)
    bicubic = list(upscale_frames(list(lr), "bicubic", scale=2))
    expected = [abs(a[8:-8, 8:-8].mean() - b[8:-8, 8:-8].mean())
                for a, b in zip(bicubic, frames, strict=True)]  # fmt: skip
    result = found.clips[0].of("bicubic")
    assert [s.lpips for s in result.frames] == pytest.approx(expected)
    assert result.lpips == pytest.approx(np.mean(expected))
    text = tables.to_markdown(found)
    assert "| LPIPS |" in text
    assert "LPIPS 0.1 by means." in text


def test_niqe_of_models_and_of_the_truth_names_the_pictures_it_was_fitted_on(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    big = [rng.integers(0, 256, (192, 288, 3)).astype(np.uint8) for _ in range(3)]
    clips = pictures(tmp_path / "clips" / "one", big)
    found = benchmark([], tmp_path / "clips", niqe=clips, temporal=False)
    model = Niqe.fit(big)
    clip = found.clips[0]
    assert clip.truth_niqe is not None
    assert clip.truth_niqe == pytest.approx(np.mean([model(frame) for frame in big]))
    niqe = clip.of("bicubic").niqe
    assert niqe is not None
    assert niqe > clip.truth_niqe
    text = tables.to_markdown(found)
    assert "| NIQE |" in text
    assert "one, fitted on its 3 pictures: it compares with no table" in text
    model.save(tmp_path / "model.npz")
    again = benchmark([], tmp_path / "clips", niqe=tmp_path / "model.npz", temporal=False)
    assert again.clips[0].of("bicubic").niqe == pytest.approx(niqe)
    tables.write_frames_csv(found, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(newline="") as file:
        assert [float(row["niqe"]) for row in csv.DictReader(file)] == [
            score.niqe for score in clip.of("bicubic").frames
        ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: Only 0 blocks"):
        benchmark([], tmp_path / "clips", niqe=tmp_path / "empty")


def test_seams_are_found_where_they_are_and_nowhere_else() -> None:
    rng = np.random.default_rng(1)
    hr = list(moving(SIZE, 12))
    sr = [np.clip(f // 2 + 60 + rng.normal(0, 2, f.shape), 0, 255).astype(np.uint8) for f in hr]
    hr = [f // 2 + 60 for f in hr]
    for frame in sr[6:]:
        frame[:] = frame + 20
    for frame in sr:
        frame[:, 32:] += 10
    found = {}
    for text in ("t6,x32", "t4,x20", "t6+,x32+,y24"):
        measures = scores_module.MetricSet(PROTOCOLS["P1"], False, seams=Seams.parse(text))
        counting, before = scores_module.ScoreAccumulator(measures), None
        for index, (ours, truth) in enumerate(zip(sr, hr, strict=True)):
            counting.add(ours, scores_module.ReferenceFrame(measures, index, truth, before))
            before = truth
        found[text] = counting.result("ours", 1.0), counting.notes()
    seam, notes = found["t6,x32"]
    assert seam.seam_time == seam_in_time(sr, 6, hr)
    assert seam.seam_time is not None
    assert seam.seam_time > 3
    assert any("the join before frame 6 stands out most" in note for note in notes)
    expected = np.mean([seam_in_space(a, 32, 1, b) for a, b in zip(sr, hr, strict=True)])
    assert seam.seam_space == pytest.approx(expected)
    assert expected > 1.5
    assert found["t4,x20"][0].seam_time == pytest.approx(1, abs=0.5)
    assert found["t4,x20"][0].seam_space == pytest.approx(1, abs=0.2)
    assert found["t6+,x32+,y24"][0].seam_time == seam.seam_time


def test_places_of_seams_are_read_and_those_that_mean_nothing_are_named() -> None:
    seams = Seams.parse("t48+, x640,y9")
    assert seams.on("t", 145) == [48, 96]
    assert (seams.on("x", 1280), seams.on("y", 20)) == ([640], [9])
    for text in ("48", "t0", "z4", "t4,,x2", ""):
        with pytest.raises(UsageError, match="is no place"):
            Seams.parse(text)


def test_deep_video_is_measured_in_its_own_depth(tmp_path: Path) -> None:
    deep = list(moving(SIZE, 2, deep=True))
    path = write_frames(tmp_path / "deep.mkv", deep, codec="ffv1", pix_fmt="gbrp16le")
    clip = benchmark([], path, temporal=False).clips[0]
    lr = bicubic(np.stack(deep), 2)
    sr = upscale_frames(list(lr), "bicubic", scale=2)
    expected = [psnr_y(x, y) for x, y in zip(sr, deep, strict=True)]
    assert [score.psnr for score in clip.of("bicubic").frames] == expected


def test_twins_that_do_not_fit_are_said_with_frame_and_size(tmp_path: Path) -> None:
    hr = np.stack(list(moving(SIZE, 6)))
    lr = bicubic(hr, 2)
    (tmp_path / "lr").mkdir()
    path = lossless(tmp_path / "one.mkv", hr)
    lossless(tmp_path / "lr" / "one.mkv", lr[:4])
    with pytest.raises(
        InputError, match=r"one: frame 4 is there in high resolution only; .* low .* after 4 frames"
    ):
        benchmark([], path, lr_folder=tmp_path / "lr", temporal=False)
    lossless(tmp_path / "lr" / "one.mkv", bicubic(hr, 4))
    with pytest.raises(
        InputError,
        match="one: frame 0 is 16x12 in low resolution, which by 2 is 32x24, but 64x48 in high",
    ):
        benchmark([], path, lr_folder=tmp_path / "lr", temporal=False)
    with pytest.raises(UsageError, match="leave 'bd' out"):
        benchmark([], path, lr_folder=tmp_path / "lr", degradation="bd")
    with pytest.raises(UsageError, match="say which folder holds the frames in low resolution"):
        benchmark([], path, degradation="given")


def test_pictures_of_two_sizes_in_one_clip_are_said_with_the_frame(tmp_path: Path) -> None:
    first, second = moving(SIZE, 2)
    pictures(tmp_path / "clips" / "a", [first, second[:40]])
    with pytest.raises(InputError, match="a: frame 1 is 64x40, those before it are 64x48"):
        benchmark([], tmp_path / "clips", temporal=False)


class Broken:
    """An engine whose frames break down: one of one colour, one equal to the truth."""

    name, scale, warm_up, clip_len, past, future, tile = "broken", 2.0, 0, 0, 0, 0, None

    def __init__(self, truth: list[Any]) -> None:
        self.truth = truth
        self.count = -1  # the first frame only warms up

    def reset(self) -> None: ...

    def run(self, frame: Any) -> Any:
        index, self.count = self.count, self.count + 1
        if index == 2:
            return np.zeros_like(self.truth[0])
        return self.truth[3] if index == 3 else frame.repeat(2, 0).repeat(2, 1)

    def run_clip(self, frames: list[Any], first: int, count: int) -> list[Any]:
        raise NotImplementedError


def test_frames_that_broke_down_are_noted_and_not_averaged_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = [f // 4 + 60 for f in moving(SIZE, 6)]
    truth[5] = np.full_like(truth[5], 90)
    path = lossless(tmp_path / "one.mkv", truth)
    monkeypatch.setattr(runners, "choose_engine", lambda *_, **__: Broken(truth))
    found = benchmark(["reel-fast"], path, protocol="P3", temporal=False)
    result = found.clips[0].of("reel-fast")
    assert [s.frame for s in result.frames] == [2, 3]
    assert [s.constant for s in result.frames] == [True, False]
    assert result.psnr == math.inf
    assert math.isnan(result.ssim)
    notes = "\n".join(found.notes)
    assert "one, reel-fast: frame 2 is of one colour where the truth is not" in notes
    assert "one, reel-fast: frame 3 is equal to the truth" in notes
    assert "one, reel-fast: frame 2 is without a number (NaN)" in notes
    everything = found.as_dict()
    text = json.dumps(everything, allow_nan=False)
    assert json.loads(text)["clips"][0]["results"][1]["psnr"] == "inf"
    whole = benchmark([], path, temporal=False)
    assert any("frame 5 is of one colour in the truth itself" in note for note in whole.notes)


def test_pairs_without_a_number_are_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(3)]
    found = benchmark([], lossless(tmp_path / "one.mkv", frames))
    assert any("2 of 2 pairs of frames have no flicker" in note for note in found.notes)
    flicker = found.clips[0].of("bicubic").flicker
    assert flicker is not None
    assert math.isnan(flicker)


def test_protocols_choose_frames_and_what_does_not_fit_is_said(tmp_path: Path, vid4: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving(SIZE, 7))
    vimeo = benchmark([], path, protocol="P1-Vimeo").clips[0]
    assert [s.frame for s in vimeo.of("bicubic").frames] == [3]
    assert vimeo.of("bicubic").tof is None
    with pytest.raises(InputError, match="protocol P4 counts none of its 5 frames"):
        benchmark([], vid4, protocol="P4", temporal=False)
    with pytest.raises(UsageError, match=r"calendar: .*leaves nothing of a frame of 48x36"):
        benchmark([], vid4, protocol=replace(PROTOCOLS["P2"], crop_border=20))
    with pytest.raises(UsageError, match="no protocol 'P9'"):
        benchmark([], vid4, protocol="P9")


def test_requests_that_cannot_be_met_are_refused_before_the_first_frame(
    tmp_path: Path, vid4: Path
) -> None:
    with pytest.raises(UsageError, match=r"(?i)did you mean '?bi"):
        benchmark([], vid4, degradation="by")
    with pytest.raises(UsageError, match="defined for scales 2, 4"):
        benchmark([], vid4, degradation="bd-tecogan", scale=3)
    with pytest.raises(InputError, match="no such file or folder"):
        benchmark([], tmp_path / "nothing")
    with pytest.raises(UsageError, match="reel-fast enlarges 2 times, the others 4"):
        benchmark(["reel-fast", load_model("reel-fast", 2)], vid4, scale=4)
    with pytest.raises(UsageError, match="reel-fast is asked for twice"):
        benchmark(["reel-fast", "reel-fast"], vid4)


def test_a_list_and_a_bound_choose_clips_and_frames(tmp_path: Path, vid4: Path) -> None:
    (tmp_path / "list.txt").write_text("walk\ncity\n")
    found = benchmark([], vid4, list_file=tmp_path / "list.txt", max_frames=2, temporal=False)
    assert [(c.clip, c.frames) for c in found.clips] == [("walk", 2), ("city", 2)]


def test_vmaf_is_measured_on_the_frames_that_count(tmp_path: Path) -> None:
    path = lossless(tmp_path / "one.mkv", moving((192, 144), 5))
    result = benchmark([], path, temporal=False, with_vmaf=True, protocol="P1").clips[0].results[0]
    assert result.vmaf is not None
    assert result.vmaf_neg is not None
    assert 0 < result.vmaf_neg <= result.vmaf + 1e-6 <= 100


def test_tables_name_the_protocol_and_files_hold_all_digits(
    found: Evaluation, tmp_path: Path
) -> None:
    text = tables.to_markdown(found)
    assert text.count("x4, degradation bi, protocol P1") == 2
    assert "| walk | 48x36 | 5 |" in text
    tables.write_csv(found, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["protocol"] for row in rows} == {"P1"}
    assert [float(r["psnr"]) for r in rows if r["model"] == "bicubic"] == [
        clip.of("bicubic").psnr for clip in found.clips
    ]
    tables.write_frames_csv(found, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(newline="") as file:
        frames = list(csv.DictReader(file))
    assert len(frames) == 40
    assert float(frames[0]["ssim"]) == found.clips[0].results[0].frames[0].ssim


def test_json_says_how_the_numbers_were_taken(found: Evaluation, vid4: Path) -> None:
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (content["protocol"], content["degradation"], content["scale"]) == ("P1", "bi", 4)
    assert content["settings"]["source"] == str(vid4)
    assert content["models"][1]["engine"].startswith("openvino")
    assert content["versions"]["numpy"] == np.__version__
    assert content["clips"][0]["results"][0]["frames"]["frame"] == [0, 1, 2, 3, 4]
    assert content["means"]["reel-fast"]["psnr"] == found.mean("reel-fast", "psnr")


def test_crops_are_kept_of_the_best_and_the_worst_frame(found: Evaluation) -> None:
    for clip in found.clips:
        crops = [crop for crop in found.crops if crop.clip == clip.clip]
        pairs = zip(clip.of("reel-fast").frames, clip.of("bicubic").frames, strict=True)
        gains = [ours.psnr - theirs.psnr for ours, theirs in pairs]
        assert [crop.kind for crop in crops] == ["worst", "best"]
        assert [crop.gain for crop in crops] == [min(gains), max(gains)]
        for crop in crops:
            assert crop.truth.shape == (36, 48, 3)
            assert crop.lr.shape == (9, 12, 3)
            assert crop.truth.base is None
            assert set(crop.pictures) == {"bicubic", "reel-fast"}


def test_the_busiest_place_is_where_detail_is() -> None:
    frame = np.full((120, 160, 3), 128, np.uint8)
    frame[64:96, 100:140] = np.random.default_rng(0).integers(0, 255, (32, 40, 3))
    top, left = most_textured_crop(frame, 32, 40, 4)
    assert (top, left) == (64, 100)


def test_the_gate_lets_equal_runs_pass_and_names_what_fell(found: Evaluation) -> None:
    baseline = json.loads(json.dumps(found.as_dict()))
    assert tables.against(found, baseline, 0) == []
    was = baseline["clips"][1]["results"][1]["psnr"]
    baseline["clips"][1]["results"][1]["psnr"] = was + 0.05
    assert tables.against(found, baseline, 0.06) == []
    (line,) = tables.against(found, baseline, 0.02)
    assert line.startswith(f"city, reel-fast: {was:.4f} dB, was {was + 0.05:.4f} (-0.0500")
    baseline["clips"][1]["results"][1]["psnr"] = was - 5
    assert tables.against(found, baseline, 0.02) == []


def test_a_number_that_became_none_is_a_regression(found: Evaluation) -> None:
    baseline = found.as_dict()
    clip = found.clips[0]
    lost = replace(clip.results[1], psnr=math.nan)
    broken = replace(
        found, clips=(replace(clip, results=(clip.results[0], lost)), *found.clips[1:])
    )
    assert len(tables.against(broken, baseline, 100)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "P2"}, "with protocol P2, this run with P1"),
        ({"degradation": "bd"}, "with degradation bd, this run with bi"),
        ({"scale": 2}, "with scale 2, this run with 4"),
        ({"clips": []}, "has other clips: 0 against 4"),
        ({"clips": None}, "not the scores.json of an evaluation"),
        ({"settings": {"protocol": {"name": "P1"}}}, "another variant of protocol P1"),
    ],
)
def test_a_baseline_of_another_kind_is_refused(
    found: Evaluation, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        tables.against(found, {**found.as_dict(), **change}, 0.02)


def test_a_baseline_without_the_model_or_of_other_frames_is_refused(
    found: Evaluation, vid4: Path
) -> None:
    alone = benchmark([], vid4, scale=4, temporal=False).as_dict()
    with pytest.raises(UsageError, match="no model reel-fast"):
        tables.against(found, alone)
    fewer = benchmark([], vid4, scale=4, temporal=False, max_frames=3)
    with pytest.raises(UsageError, match=r"calendar: the baseline has 5 frames .* this run 3"):
        tables.against(fewer, alone)


def test_damaged_frames_are_left_out_and_said(corpus: Path) -> None:
    found = benchmark([], corpus / "media" / "gen_damaged.mp4", temporal=False, protocol="P1")
    assert any("do not decode and are left out" in note for note in found.notes)


def test_frame_sizes_are_cut_to_what_the_factor_divides(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "odd.mkv", size=(51, 39), frames=2, codec="ffv1", pix_fmt="yuv444p")
    clip = benchmark([], path, temporal=False, scale=2).clips[0]
    assert (clip.width, clip.height) == (50, 38)
