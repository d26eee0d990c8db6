"""Upscales several inputs, such as the videos of a folder: a failure does not stop the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sharpreel.errors import (
    DiskFullError,
    NothingToDoError,
    SharpreelError,
    TerminatedError,
    UsageError,
)
from sharpreel.pipeline.inputs import find_inputs
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.pipeline.stages import ProgressCallback, Result
from sharpreel.upscale import SegmentRunner, run

Job = tuple[Path, Path | None]  # input and output, as `make_plan` takes them


@dataclass(frozen=True)
class Outcome:
    """What became of one input: a result, a reason why it was skipped, or an error."""

    source: Path
    plan: Plan | None = None
    result: Result | None = None
    skipped: str = ""
    error: Exception | None = None


def upscale_folder(
    folder: str | Path,
    output: str | Path | None = None,
    options: UpscaleOptions | None = None,
    *,
    recursive: bool = False,
    on_progress: Callable[[Plan], ProgressCallback] | None = None,
) -> list[Outcome]:
    """Upscale every video of a folder, or its images.

    Args:
        folder: The inputs; outputs of earlier runs are not among them.
        output: A folder for the outputs, with the tree of `folder`; by default each is next to its
            input.
        options: See `upscale_video` for each field.
        recursive: Search subfolders too.
        on_progress: Returns the progress callback of one video.

    Returns:
        One outcome for each input, in order of name. Errors of one input are in its outcome; a full
        disk or a signal is raised, because it concerns the next input too.

    Raises:
        InputError: The folder holds nothing to upscale.
    """
    jobs = find_inputs(Path(folder), None if output is None else Path(output), recursive)

    def progress_of(plan: Plan) -> AbstractContextManager[ProgressCallback]:
        return nullcontext((lambda progress: None) if on_progress is None else on_progress(plan))

    queue = UpscaleQueue(options or UpscaleOptions(), jobs, progress_of=progress_of)
    return [queue.run(job) for job in jobs]


class UpscaleQueue:
    """The inputs of one command; `run` upscales one of them, from several threads on a cluster.

    Args:
        progress_of: A context manager around the run of a plan, which yields its progress callback.
        stdin, stdout: For jobs that read or write a pipe.

    Attributes:
        make_runner: Makes what computes the segments; None: this process does.
    """

    def __init__(
        self,
        options: UpscaleOptions,
        jobs: Sequence[Job],
        *,
        progress_of: Callable[[Plan], AbstractContextManager[ProgressCallback]],
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> None:
        self.jobs = jobs
        self.make_runner: Callable[[Plan], SegmentRunner] | None = None
        self._options, self._progress_of = options, progress_of
        self._stdin, self._stdout = stdin, stdout
        self._outputs: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def is_single(self) -> bool:
        return len(self.jobs) == 1

    def run(self, job: Job) -> Outcome:
        """Upscale one input.

        Raises:
            DiskFullError, TerminatedError: If there are more inputs, which it concerns too.
        """
        return self._attempt(job, self._upscale)

    def check(self, job: Job) -> Outcome | None:
        """The outcome of an input that cannot be started; None: it can."""
        planned = self._attempt(job, lambda plan: Outcome(plan.source, plan))
        return None if planned.error is None and not planned.skipped else planned

    def _upscale(self, plan: Plan) -> Outcome:
        self._claim(plan)
        with self._progress_of(plan) as callback:
            return Outcome(plan.source, plan, run(plan, callback, self.make_runner))

    def _attempt(self, job: Job, action: Callable[[Plan], Outcome]) -> Outcome:
        source, output = job
        try:
            plan = make_plan(source, output, self._options, stdin=self._stdin, stdout=self._stdout)
            return action(plan)
        except NothingToDoError as e:
            return Outcome(source, skipped=str(e))
        except SharpreelError as e:
            if isinstance(e, DiskFullError | TerminatedError) and not self.is_single:
                raise
            return Outcome(source, error=e)
        except Exception as e:
            if self.is_single:
                raise
            return Outcome(source, error=e)

    def _claim(self, plan: Plan) -> None:
        """Raise UsageError if another input has the same output."""
        with self._lock:
            if plan.output in self._outputs:
                raise UsageError(
                    f"{plan.source}: its output {plan.output} was already written for another "
                    "input of this run. Rename one of them."
                )
            self._outputs.add(plan.output)
