"""The table of runs."""

from __future__ import annotations

from pathlib import Path

from sharpreel.studio import (
    mlflow_runs,
)
from tests.support.studio import (
    errors,
    labelled,
    opened,
)


def test_runs_are_listed_filtered_and_compared(home: Path) -> None:
    from mlflow import MlflowClient

    from sharpreel.training import mlflow_tracker

    mlflow_runs.prepare_store()
    client = MlflowClient(mlflow_runs.store_uri())
    experiment = client.get_experiment_by_name(mlflow_tracker.EXPERIMENT)
    assert experiment is not None
    assert experiment.artifact_location == (home / "runs" / "mlartifacts").as_uri()
    for name, loss, gain in (("one", "l1", 1.5), ("two", "mse", 0.5), ("three", "l1", 0.1)):
        tags = {"mlflow.runName": name, "recipe": "reel-fast"}
        number = client.create_run(experiment.experiment_id, tags=tags).info.run_id
        client.log_param(number, "loss", loss)
        client.log_param(number, "patch", 16)
        client.log_param(number, "sha256", name)
        client.log_param(number, "stages", f"({{'share': 1.0, 'clip_len': 2, 'batch': {gain}}},)")
        for step in (0, 10):
            client.log_metric(number, "val_gain_db", gain * step / 10, step=step)
        client.set_terminated(number)
    at = opened("runs")
    assert len(at.dataframe[0].value) == 3
    labelled(at.number_input, "Gain").set_value(0.4).run()
    assert [name.split()[0] for name in at.dataframe[0].value["run"]] == ["two", "one"]
    labelled(at.text_input, "Name or setting").set_value("L1").run()
    assert [name.split()[0] for name in at.dataframe[0].value["run"]] == ["one"]
    labelled(at.text_input, "Name or setting").set_value("").run()
    compare = labelled(at.multiselect, "Compare")
    compare.set_value(compare.options).run()
    assert errors(at) == []
    compared = at.dataframe[1].value
    settings = ["loss", "stages", "gain, dB", "PSNR, dB", "training loss"]
    assert list(compared["setting"]) == settings
    assert compared.iloc[1, 1] == "share 1.0, clip_len 2, batch 0.5"
    curves = mlflow_runs.histories(mlflow_runs.read_runs()[:1])
    assert [(p.x, p.y) for p in curves["val_gain_db"]] == [(0, 0), (10, 0.1)]
