"""The study of a search: its storage, and its runs in MLflow."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest

from sharpreel.errors import UsageError
from sharpreel.training import trainer
from tests.support.tuning import (
    LONG,
    TINY,
    flat,
    interrupt_in,
    rows,
    scripted,
    search,
)


def test_each_trial_is_a_nested_run_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "out"
    once = {**TINY, "steps": 2, "validate_frames": 1}
    with pytest.raises(KeyboardInterrupt):
        search(out, 2, settings=once, mlflow=True, on_update=interrupt_in(1))
    search(out, 2, settings=once, mlflow=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{out}/mlflow.db")
        experiment = client.get_experiment_by_name("sharpreel")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        parent = client.get_run(json.loads((out / "mlflow.json").read_text())["run_id"])
        kept = [a.path for a in client.list_artifacts(parent.info.run_id)]
    children = [r for r in runs if r.info.run_id != parent.info.run_id]
    assert {r.data.tags["mlflow.runName"] for r in children} == {"trial-00000", "trial-00001"}
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert {r.info.status for r in runs} == {"FINISHED"}
    values = [float(r["value"]) for r in rows(out) if r["value"]]
    assert parent.data.metrics["best_gain_db"] == pytest.approx(max(values))
    assert sorted(kept) == ["best.json", "trials.csv"]


def test_a_folder_and_a_storage_belong_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    out, storage = tmp_path / "out", f"sqlite:///{tmp_path}/studies.db"
    search(out, 2, settings=LONG, storage=storage)
    assert not (out / "study.journal").exists()
    assert sum(search(out, 3, settings=LONG, storage=storage).states.values()) == 3
    with pytest.raises(UsageError, match=f"another folder, {re.escape(str(out))}. Choose that"):
        search(tmp_path / "other", 2, settings=LONG, storage=storage)
    with pytest.raises(UsageError, match=r"a search that is not in .*study.journal. Name its"):
        search(out, 2, settings=LONG)


def test_an_unusable_storage_is_reported_in_one_line_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        search(tmp_path / "out", storage="nosql://me:secret@host/db")
    assert re.match(r"nosql://me:\*\*\*@host/db: cannot store a study \(", str(caught.value))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_partial_last_line_of_the_journal_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "train", scripted(flat))
    search(tmp_path / "out", 2, settings=LONG)
    with (tmp_path / "out" / "study.journal").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"a')
    assert sum(search(tmp_path / "out", 4, settings=LONG).states.values()) == 4
