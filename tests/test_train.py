"""train.py, data.py, metrics.py, evaluate.py: a first small training that is exact to resume."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from media import write_frames
from sharpreel import data, evaluate, metrics, ops, train, weights
from sharpreel.engine import OpenVinoEngine
from sharpreel.upscale import upscale_frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clips = tmp_path / "clips"
    clips.mkdir()
    for k in range(2):
        write_frames(clips / f"clip{k}.mp4", [tiles(k, t) for t in range(6)], options={"crf": "5"})
    return clips


def tiles(seed: int, shift: int) -> np.ndarray:
    """Hard-edged tiles of random colour, moved sideways: what bicubic blurs and networks learn."""
    colours = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), np.uint8)
    return np.roll(colours.repeat(5, 0).repeat(5, 1), 2 * shift, axis=1)[:80, :96]


TINY = replace(
    train.recipe(2, steps=6),
    channels=8,
    blocks=1,
    patch=16,
    warmup_steps=2,
    stages=((0.5, 2, 2), (0.5, 3, 1)),
)


def test_lr_is_the_bicubic_reduction_of_hr_cropped_from_the_top_left() -> None:
    hr = np.random.default_rng(0).integers(0, 256, (2, 13, 18, 3), np.uint8)
    cropped, lr = data.degrade_bicubic(hr, 4)
    np.testing.assert_array_equal(cropped, hr[:, :12, :16])
    np.testing.assert_array_equal(lr[1], ops.resize(hr[1, :12, :16], 3, 4))


def test_a_batch_is_named_by_seed_and_step_and_its_crops_match(folder: Path) -> None:
    clips = data.load_clips(sorted(folder.iterdir()), 2)
    one = data.sample_batch(clips, 2, 4, 3, 16, seed=1, step=7)
    two = data.sample_batch(clips, 2, 4, 3, 16, seed=1, step=7)
    np.testing.assert_array_equal(one[0], two[0])
    assert (data.sample_batch(clips, 2, 4, 3, 16, seed=1, step=8)[0] != one[0]).any()
    lr, hr = one
    assert lr.shape == (4, 3, 3, 16, 16)
    assert hr.shape == (4, 3, 3, 32, 32)
    # Away from the crop's border, reducing the hr crop gives the lr crop.
    for n in range(4):
        reduced = ops.resize(hr[n, 0].transpose(1, 2, 0), 16, 16).transpose(2, 0, 1)
        inside = np.abs(reduced.astype(int) - lr[n, 0])[:, 3:-3, 3:-3]
        assert inside.max() <= 1


def test_noncommercial_clips_are_left_out(folder: Path) -> None:
    with (folder.parent / "MANIFEST.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "rights"])
        rows.writerow(["clips/clip0.mp4", "noncommercial"])
        rows.writerow(["clips/clip1.mp4", "permissive"])
    kept, rights = train.allowed_clips(folder)
    assert [p.name for p in kept] == ["clip1.mp4"]
    assert rights == {"permissive": 1}


def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(folder.iterdir())
    monkeypatch.setattr(train, "SAVE_EVERY", 3)
    whole = train.train(TINY, paths, [], tmp_path / "whole")

    def stop(*args: object) -> None:
        saved(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    saved = train.save_checkpoint
    monkeypatch.setattr(train, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train.train(TINY, paths, [], tmp_path / "cut")
    monkeypatch.setattr(train, "save_checkpoint", saved)
    resumed = train.train(TINY, paths, [], tmp_path / "cut")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


def test_other_settings_do_not_go_on_with_a_run(folder: Path, tmp_path: Path) -> None:
    paths = sorted(folder.iterdir())
    train.train(TINY, paths, [], tmp_path / "run")
    with pytest.raises(SystemExit, match="other settings"):
        train.train(replace(TINY, steps=9), paths, [], tmp_path / "run")


def test_training_lowers_the_loss_and_its_file_runs(folder: Path, tmp_path: Path) -> None:
    config = replace(TINY, channels=16, steps=300, learning_rate=3e-3, stages=((1.0, 2, 4),))
    paths = sorted(folder.iterdir())
    average = train.train(config, paths, [], tmp_path / "run")
    path = train.finish(config, average, {"unknown": 2}, paths, tmp_path / "run")
    card = weights.load_model(path).card
    assert card["steps"] == 300
    assert card["val_psnr_y"]["gain_db"] > 0
    frame = np.zeros((8, 8, 3), np.uint8)
    assert next(upscale_frames([frame], path)).shape == (16, 16, 3)


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    config = train.TrainConfig(steps=1000, warmup_steps=100, learning_rate=1.0)
    assert config.learning_rate_at(0) == pytest.approx(0.01)
    assert config.learning_rate_at(100) == pytest.approx(1.0)
    assert config.learning_rate_at(999) < 1e-5


def test_stages_share_the_steps() -> None:
    config = replace(TINY, steps=10, stages=((0.3, 2, 8), (0.7, 5, 4)))
    assert [config.stage(k) for k in (0, 2, 3, 9)] == [(2, 8), (2, 8), (5, 4), (5, 4)]


def test_psnr_is_scikit_images_on_luma() -> None:
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (32, 40, 3), np.uint8)
    sr = np.clip(hr.astype(int) + rng.integers(-9, 10, hr.shape), 0, 255).astype(np.uint8)
    wanted = peak_signal_noise_ratio(ops.luma(hr), ops.luma(sr), data_range=255)
    assert metrics.psnr_y(sr, hr) == pytest.approx(wanted)
    inner = (slice(4, -4), slice(4, -4))
    wanted = peak_signal_noise_ratio(ops.luma(hr)[inner], ops.luma(sr)[inner], data_range=255)
    assert metrics.psnr_y(sr, hr, crop_border=4) == pytest.approx(wanted)
    assert metrics.psnr_y(hr, hr) == math.inf
    with pytest.raises(ValueError, match="one shape"):
        metrics.psnr_y(sr[:-1], hr)


def test_bicubic_gains_nothing_over_bicubic(folder: Path) -> None:
    clips = data.load_clips(sorted(folder.iterdir()), 2)
    scores = evaluate.evaluate(OpenVinoEngine(weights.load_model("bicubic", 2)), clips)
    assert [s.gain for s in scores] == [0, 0]
    assert "P1" in evaluate.markdown("bicubic", scores)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_default_model_beats_bicubic_on_every_validation_clip(scale: int, corpus: Path) -> None:
    paths = sorted((corpus / "val").glob("*.mp4"))
    clips = data.load_clips(paths, scale, max_frames=6)
    scores = evaluate.evaluate(OpenVinoEngine(weights.load_model("reel-fast", scale)), clips)
    assert len(scores) == 10
    assert min(s.gain for s in scores) > 0.3
    assert evaluate.mean_gain(scores) > 1.0
