"""Every error sharpreel raises for the world outside, and the exit code each one means.

    SharpreelError           1  something failed; the base of all
    ├── UsageError           2  the request cannot be met: unknown model, impossible size, ...
    │   └── MissingExtra     2  an optional part is not installed
    ├── InputError           3  an input is missing, unreadable or of a kind we do not take
    │   ├── WeightsError     3  a model file is not one, or not this one
    │   └── FetchError       3  a file cannot be downloaded, or is not the one that was published
    ├── DeviceError          4  the device is missing or out of memory
    ├── VerificationError    5  the output does not hold what the input held
    └── ResumableError       6  stopped on the way; the same command goes on
        ├── Terminated       6  told to end, by SIGTERM
        └── DiskFullError    6  no space left for the output

Ctrl-C exits with 130. A wrong argument from Python raises ValueError.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class SharpreelError(Exception):
    """Base of every error about files, models, devices and results."""

    exit_code = 1


class UsageError(SharpreelError):
    """What was asked for cannot be done; asking otherwise can."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional part of sharpreel is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra part: pip install 'sharpreel[{extra}]'.")
        self._arguments = (what, extra)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), self._arguments  # as it travels from a cluster's machine


class InputError(SharpreelError):
    """An input that is missing, unreadable, or of a kind sharpreel does not take."""

    exit_code = 3


class WeightsError(InputError):
    """A model file that is not one, is damaged, or holds another network."""


class FetchError(InputError):
    """A file that cannot be downloaded, or is not the one that was published."""


class DeviceError(SharpreelError):
    """The device asked for is not there, or its memory does not suffice."""

    exit_code = 4


class VerificationError(SharpreelError):
    """The output was made but does not hold what the input held.

    `differences` lists every one, in words.
    """

    exit_code = 5

    def __init__(self, message: str, differences: list[str]) -> None:
        super().__init__(message)
        self.differences = differences


class ResumableError(SharpreelError):
    """The run stopped; what it finished is kept and the same command goes on from there."""

    exit_code = 6


class Terminated(ResumableError):
    """The process was told to end."""


class DiskFullError(ResumableError):
    """No space left where the output is written."""


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.4) -> str:
    """ " Did you mean NAME?", with the space before it, or nothing when none of them is near."""
    near = difflib.get_close_matches(name, list(names), 1, cutoff)
    return f" Did you mean {near[0]}?" if near else ""


def write_error(path: Path, cause: OSError) -> SharpreelError:
    """What a failed write means to the user."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"{path.parent}: the disk is full. Free some space and give the same command again; "
            "it goes on where it stopped."
        )
    return UsageError(f"{path}: cannot be written ({cause.strerror or cause}).")


class NothingToDoError(Exception):
    """The input is as large as asked already, or its output exists and --skip-existing is given."""


class TrainingError(SharpreelError):
    """A training that cannot go on: its loss is no number any more."""


class RemoteError(SharpreelError):
    """The site refused something; `code` is its word for why."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
