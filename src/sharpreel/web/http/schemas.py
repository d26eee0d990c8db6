"""Requests and responses of the API as types: they validate requests and make the OpenAPI page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, WithJsonSchema

from sharpreel.media.containers import CONTAINERS
from sharpreel.media.encoders import CODECS
from sharpreel.media.frame import MAX_SIDE, MIN_SIDE

CODEC_NAMES = tuple(CODECS)
CONTAINER_NAMES = tuple(suffix.removeprefix(".") for suffix in CONTAINERS)


def _one_of(names: Iterable[str]) -> Callable[[str], str]:
    """A validator that accepts these names only."""
    known = tuple(names)

    def validate(name: str) -> str:
        if name not in known:
            raise ValueError(f"choose one of {', '.join(known)}")
        return name

    return validate


Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, Field(max_length=64, examples=["reel-fast"])]
Scale = Annotated[float, Field(ge=1, le=16)]
CodecName = Annotated[
    str,
    AfterValidator(_one_of(CODEC_NAMES)),
    WithJsonSchema({"type": "string", "enum": list(CODEC_NAMES)}),
]
ContainerName = Annotated[
    str,
    AfterValidator(_one_of(CONTAINER_NAMES)),
    WithJsonSchema({"type": "string", "enum": list(CONTAINER_NAMES)}),
]


class Request(BaseModel):
    """A request; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class NewUpload(Request):
    """A file that the client is going to send."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    size: Annotated[int, Field(gt=0, description="Bytes.")]


class Finish(Request):
    """End of an upload, with its checksum if the client knows it."""

    sha256: Sha256 | None = None


class Options(Request):
    """Options of a video; defaults are those of `sharpreel upscale`."""

    model: ModelName | None = None
    scale: Scale | None = None
    height: Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)] | None = None
    codec: CodecName | None = None
    crf: Annotated[int, Field(ge=0, le=63)] | None = None
    preset: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")] | None = None
    container: ContainerName | None = None


class NewJob(Request):
    """Upscale an upload."""

    upload: Id
    options: Options = Options()


class NewSample(Request):
    """Upscale a few seconds by several models."""

    upload: Id
    models: Annotated[list[ModelName], Field(min_length=1, max_length=6)]
    scale: Scale = 2
    start: Annotated[float, Field(ge=0, description="Seconds; default: the middle.")] | None = None
    seconds: Annotated[float, Field(gt=0, le=10)] = 3


class Stream(BaseModel):
    """A stream of an upload."""

    kind: str
    codec: str
    language: str | None


class Info(BaseModel):
    """Content of an upload; width and height as shown, after rotation."""

    width: int
    height: int
    fps: float
    seconds: float | None
    frames: int | None
    video_codec: str
    container: str
    streams: list[Stream]


class Upload(BaseModel):
    """A file that is uploaded or being uploaded; a complete one may be `checking` for minutes."""

    id: Id
    name: str
    size: int
    offset: int
    chunk_bytes: int
    state: Literal["receiving", "checking", "ready", "refused"]
    sha256: Sha256 | None = None
    info: Info | None = None


class Offset(BaseModel):
    """Number of received bytes of an upload."""

    offset: int


class Uploads(RootModel[list[Upload]]):
    """Uploads, the oldest first."""


class Model(BaseModel):
    """A model that runs on this site."""

    name: str
    scales: list[int]
    licence: str
    note: str
    default: bool


class Models(RootModel[list[Model]]):
    """The models that run on this site."""


class Fate(BaseModel):
    """What happens to a stream."""

    kind: str
    label: str
    fate: str


class Plan(BaseModel):
    """What a job would produce, and how long it takes, measured on the upload's first seconds."""

    width: int
    height: int
    frames: int | None
    seconds: float | None
    engine: str
    eta_seconds: float | None
    bytes_estimate: int | None
    codec: str
    container: str
    streams: list[Fate]
    notes: list[str]


class Result(BaseModel):
    """A finished video; the page plays its first `plays_seconds`, or all of it (null)."""

    name: str
    bytes: int
    width: int
    height: int
    sha256: Sha256
    plays_seconds: float | None = None


class SampleResult(BaseModel):
    """A sample by one model."""

    model: str
    url: str


class Job(BaseModel):
    """A video or a sample that is queued, running or has ended; times are seconds since 1970."""

    id: Id
    kind: Literal["upscale", "sample"]
    name: str
    state: Literal["queued", "running", "paused", "cancelled", "failed", "done"]
    stage: str
    options: dict[str, Any]
    upload: Id
    created: float
    started: float | None
    finished: float | None
    frames: int
    total: int | None
    fps: float
    eta_seconds: float | None
    segment: int
    segments: int | None
    error: str | None
    notes: list[str]
    result: Result | None
    results: list[SampleResult]
    urls: dict[str, str]


class Jobs(RootModel[list[Job]]):
    """Jobs, the newest first."""


class ErrorDetail(BaseModel):
    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    request_id: str


class Error(BaseModel):
    """The form of every error."""

    error: ErrorDetail
