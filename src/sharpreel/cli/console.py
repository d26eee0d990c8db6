"""Console output: messages to stderr, results (or JSON lines) to stdout, and exit codes."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import typer

from sharpreel.errors import SharpreelError, TerminatedError

INTERRUPTED = 130
MENTION = re.compile(r"`(\w+)`|\b(\w+)(?:=('[^']*'|\[[^]]*\]|[^\s'\[,;:)]*[^\s'\[,;:.)])| must )")
OPTION_OF = {  # of parameters whose option has another name
    "choices": "--set",
    "degradation": "--degrade",
    "lr_folder": "--lr",
    "output": "-o",
    "resume": "--no-resume",
}
RUNNING: ContextVar[Callable[..., None] | None] = ContextVar("RUNNING", default=None)


class Console:
    """Messages for people on stderr, results and JSON lines for programs on stdout.

    Several threads may share one. Its stdout is that of its creation, whatever `sys.stdout`
    becomes later.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._command = RUNNING.get()  # other threads do not see it
        self._stdout = sys.stdout
        self._lock = threading.Lock()

    def _print(self, text: str, to_stderr: bool = False) -> None:
        with self._lock:
            print(text, file=sys.stderr if to_stderr else self._stdout, flush=True)

    def event(self, event: str, **values: Any) -> None:
        """Print one JSON object on stdout, with --json."""
        if self.as_json:
            self._print(json.dumps({"event": event, **values}, default=str))

    def info(self, text: str) -> None:
        """Print a line for people; not with --quiet or --json."""
        if not (self.quiet or self.as_json):
            self._print(text, to_stderr=True)

    def warn(self, text: str) -> None:
        """Print a line that people must see, with --quiet too."""
        self._print(f"sharpreel: warning: {text}", to_stderr=True)

    def result(self, text: str) -> None:
        """Print a line of the result itself."""
        if not self.as_json:
            self._print(text)

    def error(self, error: BaseException, source: str | None = None) -> None:
        """Print an error, with options of the command line for the parameters it names."""
        message = with_options(str(error), self._command)
        self.event("error", input=source, type=type(error).__name__, message=message)
        self._print(f"sharpreel: {message}", to_stderr=True)


def with_options(message: str, command: Callable[..., None] | None) -> str:
    """A message of the library, with a command's options for its parameters.

    "codec='x' is not known"         ->  "--codec x is not known"
    "tile must be auto or a number"  ->  "--tile must be auto or a number"
    "Give `height` or `size`"        ->  "Give --height or --size"
    """
    options = {} if command is None else options_of(command)

    def replaced(match: re.Match[str]) -> str:
        quoted, name, value = match.groups()
        option = options.get(quoted or name or "")
        if option is None:
            return match[0]
        if quoted:
            return option
        if value is None:
            return f"{option} must "
        return option if value in ("True", "False") else f"{option} {value.strip(chr(39))}"

    return MENTION.sub(replaced, message)


def options_of(command: Callable[..., None]) -> dict[str, str]:
    """A command's options, by the names of the library's parameters that they set."""
    options, names = {}, set()
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(info, typer.models.OptionInfo):
                declared = _declared(info) or [f"--{parameter.name.replace('_', '-')}"]
                long = [name for name in declared if name.startswith("--")]
                options[parameter.name] = (long or declared)[0]
                names |= {*declared}
    return options | {name: option for name, option in OPTION_OF.items() if option in names}


def _declared(info: typer.models.OptionInfo) -> list[str]:
    """The names of an option; in `Annotated`, Typer keeps the first one as the default."""
    first = info.default if isinstance(info.default, str) else ""
    return [name for name in (first, *(info.param_decls or ())) if name.startswith("-")]


def noted(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which is `RUNNING` while it runs."""

    @functools.wraps(command)
    def call(*arguments: Any, **named: Any) -> None:
        RUNNING.set(command)
        command(*arguments, **named)

    return call


@contextmanager
def errors_as_exit_codes(
    console: Console, debug: bool, grace_seconds: float | None = None
) -> Iterator[None]:
    """Turn an exception inside into one line on stderr and the exit code of `errors.py`.

    Args:
        grace_seconds: Time that the command has to end after Ctrl-C or SIGTERM; then its process
            is ended. For commands whose threads may wait long, for a pipe or a network, and which
            lose nothing that way.
    """
    forced = _ForcedExit(console, grace_seconds)

    def terminate(number: int, frame: Any) -> None:
        raise forced.after(TerminatedError("terminated. Run the same command again to resume."))

    def interrupt(number: int, frame: Any) -> None:
        raise forced.after(KeyboardInterrupt())

    previous = {signal.SIGTERM: signal.signal(signal.SIGTERM, terminate)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except typer.Exit:
        raise
    except (SharpreelError, KeyboardInterrupt) as e:
        if debug and isinstance(e, SharpreelError):
            traceback.print_exc()
        raise typer.Exit(_report(console, e)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except MemoryError:
        console.error(SharpreelError("out of memory; choose a smaller scale or size."))
        raise typer.Exit(4) from None
    except Exception as e:
        if debug:
            traceback.print_exc()
        # A signal in the middle of Python's own code, such as Thread.start, breaks that.
        raise typer.Exit(_report(console, forced.cause or unexpected(e))) from None
    finally:
        forced.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _report(console: Console, error: BaseException) -> int:
    """Print how the command ended; the exit code."""
    if isinstance(error, SharpreelError):
        console.error(error)
        return error.exit_code
    console.event("error", type="KeyboardInterrupt", message="interrupted; resumable")
    print("\nsharpreel: interrupted. Run the same command again to resume.", file=sys.stderr)
    return INTERRUPTED


def unexpected(error: Exception) -> SharpreelError:
    """An error that only a fault of sharpreel's can cause, in one line."""
    words = " ".join(str(error).split())[:300]
    return SharpreelError(f"unexpected {type(error).__name__}: {words} (use --debug to see where)")


class _ForcedExit:
    """Ends this process if the command does not end some seconds after a signal.

    Attributes:
        cause: Why it is to end; None before a signal.
    """

    def __init__(self, console: Console, grace_seconds: float | None) -> None:
        self._console, self._grace_seconds = console, grace_seconds
        self._timer: threading.Timer | None = None
        self.cause: BaseException | None = None

    def after(self, cause: BaseException) -> BaseException:
        """Start the timer; returns the cause, to be raised."""
        if self._grace_seconds is not None and self._timer is None:
            self._timer = threading.Timer(self._grace_seconds, self._end)
            self._timer.daemon = True
            self._timer.start()
        self.cause = cause
        return cause

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        assert self.cause is not None
        code = _report(self._console, self.cause)
        sys.stderr.flush()
        os._exit(code)
