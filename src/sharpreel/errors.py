"""Every error sharpreel raises for the world outside, and the exit code each one means.

    SharpreelError                1  something failed; the base of all
    ├── NothingToDoError          0  the output exists, or the input is as large as requested
    ├── UsageError                2  the request cannot be met: unknown model, impossible size, ...
    │   └── MissingExtra          2  an optional dependency is not installed
    ├── InputError                3  an input is missing, unreadable or of an unsupported kind
    │   ├── InputChangedError     3  an input decodes to other frames than it did before
    │   ├── WeightsError          3  a model file is damaged, or holds another network
    │   └── FetchError            3  a file cannot be downloaded, or its checksum does not match
    ├── DeviceError               4  the device is missing or out of memory
    ├── VerificationError         5  the output does not hold what the input held
    ├── TrainingError             1  a training run cannot continue
    ├── RemoteError               1  a sharpreel server refused a request
    └── ResumableError            6  interrupted; run the same command again to resume
        ├── TerminatedError       6  terminated by SIGTERM
        └── DiskFullError         6  no space left for the output

Ctrl-C exits with 130. A wrong argument from Python raises ValueError.

Messages name the parameter of the Python function (`codec='x'`); the command line replaces it by
its option.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class SharpreelError(Exception):
    """Base of every error about files, models, devices and results."""

    exit_code = 1


class NothingToDoError(SharpreelError):
    """There is nothing to upscale: the input is as large as requested, or its output exists.

    Not a failure: the command line reports it and exits with 0. Code that catches SharpreelError
    catches this one first where it wants to treat it as success.
    """

    exit_code = 0


class UsageError(SharpreelError):
    """The request cannot be fulfilled as given (bad option, impossible size, ...)."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional dependency of sharpreel is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} requires an optional dependency: pip install 'sharpreel[{extra}]'."
        )
        self._arguments = (what, extra)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), self._arguments  # so that it can be sent from a machine of a cluster


class InputError(SharpreelError):
    """An input is missing, unreadable, or of a kind that sharpreel does not support."""

    exit_code = 3


class InputChangedError(InputError):
    """An input decodes to other frames than it did earlier in the same run."""


class WeightsError(InputError):
    """A model file is damaged, is not a model file, or holds another network."""


class FetchError(InputError):
    """A file cannot be downloaded, or its checksum is not the published one."""


class DeviceError(SharpreelError):
    """The requested device does not exist, or its memory does not suffice."""

    exit_code = 4


class VerificationError(SharpreelError):
    """The output was written but does not hold what the input held.

    `differences` lists each one as a sentence.
    """

    exit_code = 5

    def __init__(self, message: str, differences: list[str]) -> None:
        super().__init__(message)
        self.differences = differences

    def __reduce__(self) -> tuple[type[VerificationError], tuple[str, list[str]]]:
        return type(self), (str(self), self.differences)


class TrainingError(SharpreelError):
    """A training run cannot continue, such as when its loss is NaN or infinite."""


class RemoteError(SharpreelError):
    """A sharpreel server refused a request; `status` is HTTP's, `code` the server's reason."""

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, int, str]]:
        return type(self), (str(self), self.status, self.code)


class ResumableError(SharpreelError):
    """The run stopped; what it finished is kept and the same command resumes from there."""

    exit_code = 6


class TerminatedError(ResumableError):
    """The process received SIGTERM."""


class DiskFullError(ResumableError):
    """No space is left where the output is written."""


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.4) -> str:
    """Return " Did you mean NAME?", with the leading space, or "" when no name is similar."""
    similar = difflib.get_close_matches(name, list(names), 1, cutoff)
    return f" Did you mean {similar[0]}?" if similar else ""


def write_error(path: Path, cause: OSError) -> SharpreelError:
    """The error that reports a failed write of `path` to the user."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"{path.parent}: the disk is full. Free some space and run the same command again; "
            "it resumes where it stopped."
        )
    return UsageError(f"{path}: cannot be written ({cause.strerror or cause}).")
