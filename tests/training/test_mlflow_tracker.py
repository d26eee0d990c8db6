"""Runs in MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.data.store import Clip
from sharpreel.errors import MissingExtra
from sharpreel.training import (
    mlflow_tracker,
    trainer,
)
from tests.support.training import (
    TINY,
    Stopped,
    stop_after,
)


@pytest.mark.slow
def test_a_resumed_run_is_one_run_in_mlflow(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "runs" / "first"
    with pytest.raises(Stopped):
        trainer.train(
            TINY,
            three[:2],
            three[2:],
            run,
            on_progress=stop_after(1),
            tracker=mlflow_tracker.MlflowTracker(run, {"clips": 2}),
        )
    tracker = mlflow_tracker.MlflowTracker(run, {"clips": 2})
    trainer.train(TINY, three[:2], three[2:], run, tracker=tracker)
    tracker.close()
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(mlflow_tracker.EXPERIMENT)
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["model"] == "reel-fast"
    assert logged.data.params["arguments.channels"] == "8"
    assert logged.data.params["clips"] == "2"
    assert {"train_loss", "train_psnr", "train_ssim", "val_psnr"} <= set(logged.data.metrics)
    points = client.get_metric_history(logged.info.run_id, "val_gain_db")
    assert [p.step for p in points] == [0, 3, 6]
    images = client.list_artifacts(logged.info.run_id, "pictures")
    assert len(images) == 3
    model = client.list_artifacts(logged.info.run_id, "model")
    assert [a.path for a in model] == ["model/reel-fast_x2.safetensors"]
    (version,) = client.search_model_versions("name='sharpreel-reel-fast_x2'")
    assert version.run_id == logged.info.run_id


def test_a_failing_tracker_causes_a_warning(
    three: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    run = tmp_path / "run"
    with pytest.warns(RuntimeWarning, match="Logging to MLflow failed"):
        trainer.train(TINY, three, [], run, tracker=mlflow_tracker.MlflowTracker(run))
    assert (run / "reel-fast_x2.safetensors").is_file()


def test_settings_are_logged_by_dotted_names() -> None:
    settings = {"steps": 5, "gan": {"image": 1.0, "inner": {"a": None}}, "stages": [1]}
    assert mlflow_tracker.with_dotted_names(settings) == {
        "steps": 5,
        "gan.image": 1.0,
        "gan.inner.a": None,
        "stages": [1],
    }


def test_runs_are_tracked_next_to_their_folder_unless_a_store_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_tracker.tracking_uri(tmp_path / "run") == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert mlflow_tracker.tracking_uri(tmp_path / "run") == "http://elsewhere"


def test_without_mlflow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_tracker, "mlflow_installed", lambda: False)
    with pytest.raises(MissingExtra, match=r"pip install 'sharpreel\[train\]'"):
        mlflow_tracker.MlflowTracker(tmp_path)
