"""SIGTERM during training only requests a stop."""

from __future__ import annotations

import os
import signal
import threading

from sharpreel.training.interrupt import sigterm_as_request


def test_sigterm_is_recorded_and_the_handler_is_restored() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with sigterm_as_request() as requested:
        assert not requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested()
    assert signal.getsignal(signal.SIGTERM) is previous


def test_in_another_thread_nothing_is_requested() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    seen: list[bool] = []

    def work() -> None:
        with sigterm_as_request() as requested:
            seen.append(requested())
            seen.append(signal.getsignal(signal.SIGTERM) is previous)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]
