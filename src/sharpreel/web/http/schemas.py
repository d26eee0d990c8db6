"""What goes over the wire, as types: requests are checked by them, and OpenAPI is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, Field(max_length=64, examples=["reel-fast"])]
Scale = Annotated[float, Field(ge=1, le=16)]


class Strict(BaseModel):
    """A request: a field that nobody knows is a mistake worth telling."""

    model_config = ConfigDict(extra="forbid")


class NewUpload(Strict):
    """A file that will come."""

    name: Annotated[str, Field(min_length=1, max_length=4096)]
    size: Annotated[int, Field(gt=0, description="Bytes.")]


class Finish(Strict):
    """The last word about an upload."""

    sha256: Sha256 | None = None


class Options(Strict):
    """How a film is made; what is left out is chosen as `sharpreel upscale` does."""

    model: ModelName | None = None
    scale: Scale | None = None
    height: Annotated[int, Field(ge=16, le=16384)] | None = None
    codec: Literal["h264", "hevc", "av1", "vp9", "ffv1", "prores"] | None = None
    crf: Annotated[int, Field(ge=0, le=63)] | None = None
    preset: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")] | None = None
    container: Literal["mp4", "mkv", "webm", "mov", "m4v", "ts"] | None = None


class NewJob(Strict):
    """A film to make of an upload."""

    upload: Id
    options: Options = Options()


class NewSample(Strict):
    """Some seconds by several networks."""

    upload: Id
    models: Annotated[list[ModelName], Field(min_length=1, max_length=6)]
    scale: Scale = 2
    start: Annotated[float, Field(ge=0, description="Seconds; the middle by default.")] | None = (
        None
    )
    seconds: Annotated[float, Field(gt=0, le=10)] = 3


class Stream(BaseModel):
    """A stream of an upload."""

    kind: str
    codec: str
    language: str | None


class Info(BaseModel):
    """What an upload holds; sizes as shown, after rotation."""

    width: int
    height: int
    fps: float
    seconds: float | None
    frames: int | None
    video_codec: str
    container: str
    streams: list[Stream]


class Upload(BaseModel):
    """A file that comes or has come; one that is all here may be `checking` for minutes."""

    id: Id
    name: str
    size: int
    offset: int
    chunk_bytes: int
    state: Literal["receiving", "checking", "ready", "refused"]
    sha256: Sha256 | None = None
    info: Info | None = None


class Offset(BaseModel):
    """How much of an upload is here."""

    offset: int


class Uploads(RootModel[list[Upload]]):
    """Files that are here or on their way."""


class Model(BaseModel):
    """A network that runs here."""

    name: str
    scales: list[int]
    licence: str
    note: str
    default: bool


class Models(RootModel[list[Model]]):
    """The networks that run here."""


class Fate(BaseModel):
    """What becomes of a stream."""

    kind: str
    label: str
    fate: str


class Plan(BaseModel):
    """What a job would make, and how long that takes, measured on the upload's first seconds."""

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
    """A finished film; in the page its first `plays_seconds` play, or all of it (null)."""

    name: str
    bytes: int
    width: int
    height: int
    sha256: Sha256
    plays_seconds: float | None = None


class SampleResult(BaseModel):
    """A sample by one network."""

    model: str
    url: str


class Job(BaseModel):
    """A film, or a sample, that waits, is made, or was; times are seconds since 1970."""

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
    """What every refusal looks like."""

    error: ErrorDetail
