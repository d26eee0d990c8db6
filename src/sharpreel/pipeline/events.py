"""The events of `sharpreel upscale --json` and `sharpreel plan --json`: their types, and a parser.

Each line of standard output is one JSON object with a key "event". The CLI writes them; the web
site reads them from its child processes. This module is what both agree on:

    upscale    start, (resume | progress | segment | again)..., done
    plan       plan
    either     skipped, or error
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Literal, NotRequired, TypedDict, cast


class InputDescription(TypedDict):
    """The input video; `rate` is a fraction such as "30000/1001"."""

    width: int
    height: int
    codec: str
    pix_fmt: str
    rate: str
    seconds: float | None
    frames: int | None


class OutputDescription(TypedDict):
    """The output video; `sample_aspect_ratio` is a fraction."""

    width: int
    height: int
    codec: str
    pix_fmt: str
    crf: int | None
    preset: str | None
    sample_aspect_ratio: str


class StreamDescription(TypedDict):
    """What happens to one stream of the input; see `media.containers.StreamPlan`."""

    index: int
    kind: str
    codec: str
    action: str
    why: str
    language: str | None
    title: str | None


class EstimateDescription(TypedDict):
    """Measured on the first seconds of the input; see `pipeline.estimate.Estimate`."""

    engine: str
    tile: int
    frames: int
    fps: float
    decode_fps: float
    network_fps: float
    encode_fps: float
    eta_seconds: float | None
    peak_memory_mb: int | None
    output_mb: float | None
    free_disk_mb: float
    shares: dict[str, float]


# Keys of `Plan.as_dict`; "from" is a keyword, hence this form.
PlanDescription = TypedDict(
    "PlanDescription",
    {
        "input": str,
        "output": str,
        "model": str,
        "scale": float,
        "precision": str,
        "why": str,
        "from": InputDescription,
        "to": OutputDescription,
        "segments": int | None,
        "streams": list[StreamDescription],
        "chapters": int,
        "notes": list[str],
    },
)


class PlanEvent(PlanDescription):
    """What a run would do; `estimate` is None with --no-trial."""

    event: Literal["plan"]
    estimate: EstimateDescription | None


class StartEvent(PlanDescription):
    """A run starts; its plan."""

    event: Literal["start"]


class ProgressEvent(TypedDict):
    """Frames finished so far: at most four per second, and for each finished segment.

    "resume" is the first event of a resumed run, "segment" follows each finished segment, and
    "again" says that a segment is computed again.
    """

    event: Literal["progress", "resume", "segment", "again"]
    input: str
    stage: Literal["upscale", "join", "verify"]
    frames: int
    total: int | None
    fps: float
    eta_seconds: float | None
    segment: int
    nodes: NotRequired[dict[str, float]]
    why: NotRequired[str]
    restarted: NotRequired[str]


class DoneEvent(TypedDict):
    """A run has finished and its output is verified."""

    event: Literal["done"]
    input: str
    output: str
    frames: int
    lost: int
    resumed_frames: int
    seconds: float
    fps: float
    engine: str
    notes: list[str]
    verified: bool


class SkippedEvent(TypedDict):
    """There is nothing to do for this input."""

    event: Literal["skipped"]
    input: str
    reason: str


class ErrorEvent(TypedDict):
    """The command failed; `type` is the class of the exception."""

    event: Literal["error"]
    type: str
    message: str
    input: NotRequired[str | None]


Event = PlanEvent | StartEvent | ProgressEvent | DoneEvent | SkippedEvent | ErrorEvent


def parse_events(text: str) -> list[Event]:
    """The events in the output of a command; incomplete lines and other text are skipped."""
    events: list[dict[str, Any]] = []
    for line in text.splitlines():
        with suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict) and "event" in value:
                events.append(value)
    return cast("list[Event]", events)
