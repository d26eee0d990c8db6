"""How commands speak: people read stderr, programs read stdout, the exit code says how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from sharpreel.errors import SharpreelError, TerminatedError

INTERRUPTED = 130


class Console:
    """Where words go: people read stderr, programs read stdout. Threads may share one.

    Its stdout is the one of its making, whatever `sys.stdout` becomes later.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._stdout = sys.stdout
        self._lock = threading.Lock()

    def _print(self, text: str, to_stderr: bool = False) -> None:
        with self._lock:
            print(text, file=sys.stderr if to_stderr else self._stdout, flush=True)

    def event(self, event: str, **values: Any) -> None:
        """One JSON object on stdout, with --json."""
        if self.as_json:
            self._print(json.dumps({"event": event, **values}, default=str))

    def info(self, text: str) -> None:
        """A line for people; not with --quiet or --json."""
        if not (self.quiet or self.as_json):
            self._print(text, to_stderr=True)

    def warn(self, text: str) -> None:
        """A line that people must see, with --quiet too."""
        self._print(f"sharpreel: warning: {text}", to_stderr=True)

    def result(self, text: str) -> None:
        """A line of the answer itself."""
        if not self.as_json:
            self._print(text)

    def error(self, error: BaseException, source: str | None = None) -> None:
        self.event("error", input=source, type=type(error).__name__, message=str(error))
        self._print(f"sharpreel: {error}", to_stderr=True)


@contextmanager
def errors_as_exit_codes(
    console: Console, debug: bool, patience: float | None = None
) -> Iterator[None]:
    """Turn what is raised inside into one line on stderr and the exit code of `errors.py`.

    Args:
        patience: Seconds that the command has to come to an end after Ctrl-C or SIGTERM; then its
            process is ended. For commands whose threads may wait long, in a pipe or a network, and
            which lose nothing that way.
    """
    last = _ForcedExit(console, patience)

    def terminate(number: int, frame: Any) -> None:
        raise last.ask(TerminatedError("terminated. Give the same command again to go on."))

    def interrupt(number: int, frame: Any) -> None:
        raise last.ask(KeyboardInterrupt())

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
        raise typer.Exit(_tell(console, e)) from None
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
        raise typer.Exit(_tell(console, last.asked or unexpected(e))) from None
    finally:
        last.spare()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell(console: Console, error: BaseException) -> int:
    """Say how it ended; the exit code."""
    if isinstance(error, SharpreelError):
        console.error(error)
        return error.exit_code
    console.event("error", type="KeyboardInterrupt", message="interrupted; resumable")
    print("\nsharpreel: interrupted. Give the same command again to go on.", file=sys.stderr)
    return INTERRUPTED


def unexpected(error: Exception) -> SharpreelError:
    """What only we could break, in one line."""
    words = " ".join(str(error).split())[:300]
    return SharpreelError(f"unexpected {type(error).__name__}: {words} (use --debug to see where)")


class _ForcedExit:
    """Ends this process when the command does not, some seconds after it was asked to.

    Attributes:
        asked: Why it shall end, once it shall.
    """

    def __init__(self, console: Console, patience: float | None) -> None:
        self._voice, self._patience = console, patience
        self._timer: threading.Timer | None = None
        self.asked: BaseException | None = None

    def ask(self, why: BaseException) -> BaseException:
        """Wait for the end from now on; what is to be raised."""
        if self._patience is not None and self._timer is None:
            self._timer = threading.Timer(self._patience, self._end)
            self._timer.daemon = True
            self._timer.start()
        self.asked = why
        return why

    def spare(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        assert self.asked is not None
        code = _tell(self._voice, self.asked)
        sys.stderr.flush()
        os._exit(code)
