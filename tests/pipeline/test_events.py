"""The events of the commands have exactly the keys of their types, and can be parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, get_origin, get_type_hints

import pytest

from sharpreel.pipeline import events as protocol
from tests.support.terminal import sharpreel

TYPES: dict[str, Any] = {
    "plan": protocol.PlanEvent,
    "start": protocol.StartEvent,
    "progress": protocol.ProgressEvent,
    "resume": protocol.ProgressEvent,
    "segment": protocol.ProgressEvent,
    "done": protocol.DoneEvent,
    "skipped": protocol.SkippedEvent,
    "error": protocol.ErrorEvent,
}


def check(event: Any) -> None:
    """Compare the keys of an event, and of the objects in it, with its type."""
    hints = get_type_hints(TYPES[event["event"]], include_extras=True)
    required = {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}
    assert required <= event.keys() <= hints.keys(), event
    if event["event"] in ("plan", "start"):
        assert event["from"].keys() == get_type_hints(protocol.InputDescription).keys()
        assert event["to"].keys() == get_type_hints(protocol.OutputDescription).keys()
        for stream in event["streams"]:
            assert stream.keys() == get_type_hints(protocol.StreamDescription).keys()
    if event["event"] == "plan" and event["estimate"] is not None:
        assert event["estimate"].keys() == get_type_hints(protocol.EstimateDescription).keys()


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["plan"], {"plan"}),
        (["plan", "--no-trial"], {"plan"}),
        (["plan", "--height", "20"], {"skipped"}),
        (["upscale", "-o", "out.mp4"], {"start", "progress", "segment", "done"}),
        (["upscale", "--crf", "99"], {"error"}),
    ],
)
def test_events_of_the_commands_have_the_keys_of_their_types(
    clip: Path, tmp_path: Path, arguments: list[str], kinds: set[str]
) -> None:
    command, *options = arguments
    done = sharpreel(command, clip, "-m", "bicubic", "--json", *options, cwd=tmp_path)
    events = protocol.parse_events(done.stdout)
    assert {event["event"] for event in events} == kinds, done.stderr
    for event in events:
        check(event)


def test_incomplete_lines_and_other_text_are_skipped() -> None:
    text = '{"event": "skipped", "input": "a", "reason": "b"}\n[1]\nnoise\n{"event": "do'
    assert [event["event"] for event in protocol.parse_events(text)] == ["skipped"]
