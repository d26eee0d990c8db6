"""The Optuna study of a search: its storage, and the MLflow run that its trials belong to."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpreel.errors import UsageError
from sharpreel.system.files import FileLock, atomic_write
from sharpreel.training.mlflow_tracker import (
    failures_as_warnings,
    open_experiment,
    tracking_uri,
)
from sharpreel.training.setup import first_line
from sharpreel.training.trackers import Status

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

STARTUP_TRIALS = 3  # these are never pruned


@contextlib.contextmanager
def ignore_experimental() -> Iterator[None]:
    """Silence Optuna's warnings that some of its parts may change."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_study(out: Path, recipe: str, storage: str | None = None) -> Study:
    """Open the study of a search, or create it.

    Args:
        storage: A database's URL, or the file of a journal; by default `study.journal` in `out`.

    Raises:
        UsageError: Optuna cannot use the storage.
    """
    import optuna

    where = storage or str(out / "study.journal")
    backend: str | BaseStorage
    try:
        with ignore_experimental():
            backend = where if "://" in where else _journal(Path(where))
            return optuna.create_study(
                storage=backend,
                study_name=recipe,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
                load_if_exists=True,
            )
    except Exception as e:
        why = without_password(first_line(e))
        raise UsageError(
            f"{without_password(where)}: cannot store a study ({type(e).__name__}: {why})."
        ) from e


def _journal(path: Path) -> BaseStorage:
    """Open a journal file as a storage.

    A partial last line, left by a power cut, is removed: Optuna would append to it and then read
    nothing after it.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = FileLock(path.with_name(path.name + ".lock"))
    with lock, path.open("a+b") as file:
        file.seek(0)
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def without_password(url: str | None) -> str:
    """Hide the password of a URL, for messages."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", url or "")


@dataclass
class ParentRun:
    """The MLflow run that the runs of all trials are part of: one for each study."""

    client: Any
    run_id: str | None

    @classmethod
    def open(cls, out: Path, recipe: str) -> ParentRun:
        """Open the run whose id is in the search folder, or create it."""
        parent = cls(None, None)
        with failures_as_warnings():
            from mlflow import MlflowClient

            uri = tracking_uri(out / "trial")  # that of the trials
            parent.client = MlflowClient(uri)
            id_file = out / "mlflow.json"
            known = json.loads(id_file.read_text()) if id_file.is_file() else {}
            if known.get("uri") == uri:
                parent.run_id = known["run_id"]
                parent.client.update_run(parent.run_id, "RUNNING")
                return parent
            experiment = open_experiment(parent.client, out)
            tags = {"mlflow.runName": f"tune {recipe}", "recipe": recipe}
            parent.run_id = parent.client.create_run(experiment, tags=tags).info.run_id
            atomic_write(id_file, json.dumps({"uri": uri, "run_id": parent.run_id}))
        return parent

    def log(self, best: float, finished: int) -> None:
        if self.run_id is not None:
            with failures_as_warnings():
                self.client.log_metric(self.run_id, "best_gain_db", best, step=finished)

    def end(self, status: Status) -> None:
        if self.run_id is not None:
            with failures_as_warnings():
                self.client.set_terminated(self.run_id, status)

    def log_results(self, out: Path) -> None:
        if self.run_id is not None:
            with failures_as_warnings():
                for path in (out / "best.json", out / "trials.csv", *(out / "plots").glob("*.png")):
                    self.client.log_artifact(self.run_id, str(path))
