"""The error tree: exit codes, messages, and that every error survives a trip between machines."""

from __future__ import annotations

import errno
import inspect
import pickle
from pathlib import Path

import pytest

from sharpreel import errors
from sharpreel.errors import (
    DiskFullError,
    InputChangedError,
    InputError,
    MissingExtra,
    NothingToDoError,
    RemoteError,
    ResumableError,
    SharpreelError,
    TerminatedError,
    TrainingError,
    UsageError,
    VerificationError,
    did_you_mean,
    write_error,
)

CODES = {
    NothingToDoError("exists"): 0,
    TrainingError("the loss is NaN"): 1,
    RemoteError("refused", 429, "too_many"): 1,
    UsageError("no"): 2,
    MissingExtra("Training", "train"): 2,
    InputError("no"): 3,
    InputChangedError("no"): 3,
    VerificationError("not written", ["a", "b"]): 5,
    ResumableError("stopped"): 6,
    TerminatedError("terminated"): 6,
    DiskFullError("full"): 6,
}


@pytest.mark.parametrize("error", CODES, ids=lambda error: type(error).__name__)
def test_an_error_has_its_exit_code_and_can_be_sent_to_another_process(
    error: SharpreelError,
) -> None:
    assert error.exit_code == CODES[error]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_error_is_a_sharpreel_error_and_in_the_diagram() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert len(classes) >= 15
    for cls in classes:
        assert issubclass(cls, SharpreelError)
        assert cls.__name__ in (errors.__doc__ or "")


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    assert "pip install 'sharpreel[train]'" in str(MissingExtra("Training", "train"))


def test_a_full_disk_can_be_resumed_and_another_failed_write_cannot() -> None:
    path = Path("out") / "a.mp4"
    full = write_error(path, OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, DiskFullError)
    assert "run the same command again" in str(full)
    denied = write_error(path, PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(denied, UsageError)
    assert str(denied) == f"{path}: cannot be written (Permission denied)."


def test_only_a_similar_name_is_suggested() -> None:
    assert did_you_mean("reel-fats", ["reel-fast", "bicubic"]) == " Did you mean reel-fast?"
    assert did_you_mean("zzz", ["reel-fast", "bicubic"]) == ""
