"""Opens an Optuna study."""

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
from sharpreel.training import trackers
from sharpreel.training.setup import first_line

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study

STARTUP_TRIALS = 3  # that are never pruned


# Optuna's storage ------------------------------------------------------------------------------


@contextlib.contextmanager
def ignore_experimental() -> Iterator[None]:
    """Optuna says of some of its parts that they may change; not here."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_study(out: Path, recipe: str, storage: str | None = None) -> Study:
    """The study of a search, begun or found.

    Raises:
        UsageError: Optuna cannot use the storage.
    """
    import optuna

    where = storage or str(out / "study.journal")
    kept: str | BaseStorage
    try:
        with ignore_experimental():
            kept = where if "://" in where else _journal(Path(where))
            return optuna.create_study(
                storage=kept,
                study_name=recipe,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
                load_if_exists=True,
            )
    except Exception as e:
        why = without_password(first_line(e))
        raise UsageError(
            f"{without_password(where)}: no storage for a study ({type(e).__name__}: {why})."
        ) from e


def _journal(path: Path) -> BaseStorage:
    """A journal file as a storage. What a power cut left of its last line is cut off: Optuna would
    append to it, and read nothing after."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = FileLock(path.with_name(path.name + ".lock"))
    with lock, path.open("a+b") as file:
        file.seek(0)
        whole = file.read()
        if not whole.endswith(b"\n"):
            file.truncate(whole.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def without_password(url: str | None) -> str:
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", url or "")


# MLflow ----------------------------------------------------------------------------------------


@dataclass
class ParentRun:
    """The MLflow run that all trials' runs are part of: one for each study."""

    client: Any
    run_id: str | None

    @classmethod
    def of(cls, out: Path, recipe: str) -> ParentRun:
        parent = cls(None, None)
        with trackers.quietly():
            from mlflow import MlflowClient

            uri = trackers.default_uri(out / "trial")  # the trials' own
            parent.client = MlflowClient(uri)
            note = out / "mlflow.json"
            known = json.loads(note.read_text()) if note.is_file() else {}
            if known.get("uri") == uri:
                parent.run_id = known["run_id"]
                parent.client.update_run(parent.run_id, "RUNNING")
                return parent
            number = trackers.experiment_of(parent.client, out)
            tags = {"mlflow.runName": f"tune {recipe}", "recipe": recipe}
            parent.run_id = parent.client.create_run(number, tags=tags).info.run_id
            atomic_write(note, json.dumps({"uri": uri, "run_id": parent.run_id}))
        return parent

    def log(self, best: float, finished: int) -> None:
        if self.run_id is not None:
            with trackers.quietly():
                self.client.log_metric(self.run_id, "best_gain_db", best, step=finished)

    def end(self, status: str) -> None:
        if self.run_id is not None:
            with trackers.quietly():
                self.client.set_terminated(self.run_id, status)

    def keep(self, out: Path) -> None:
        if self.run_id is not None:
            with trackers.quietly():
                for path in (out / "best.json", out / "trials.csv", *(out / "plots").glob("*.png")):
                    self.client.log_artifact(self.run_id, str(path))
