"""Options that several commands share: each is declared once.

`UpscaleArguments` holds those that mean an upscaling run. A command that takes a parameter of that
type and is decorated with `expanded` shows them all on its command line:

    @expanded
    def plan(source: ..., chosen: UpscaleArguments, as_json: AsJson = False) -> None:
        options = chosen.options()
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sharpreel.cli.arguments import seconds_of, size_of, tile_of
from sharpreel.models import DEFAULT_MODEL, LIVE_MODEL
from sharpreel.system.text import parse_bytes, parse_settings

if TYPE_CHECKING:
    from sharpreel.pipeline.options import UpscaleOptions

# Of commands of every kind.
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line to stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu or cuda.")]
Precision = Annotated[
    str, typer.Option("--precision", help="auto, float32, float16 (GPU) or int8 (CPU).")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not download anything.")]
Seed = Annotated[int, typer.Option("--seed", help="Random seed.")]
Noncommercial = Annotated[
    bool,
    typer.Option(
        "--noncommercial", help="Also use clips that the manifest marks as noncommercial."
    ),
]

# Of upscaling.
Scale = Annotated[
    float | None, typer.Option("-s", "--scale", help="Scale: 2 or 4; any for tsrcnn.")
]
Start = Annotated[str | None, typer.Option("--start", help="Start at this time: 12.5 or 1:02:03.")]
End = Annotated[str | None, typer.Option("--end", help="Stop before this time.")]
Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Search subfolders too.")]


Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Output file or folder; - writes y4m to stdout."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        "-n",
        "--model-name",
        help=f"Name, or model file; default: {DEFAULT_MODEL}, with --live {LIVE_MODEL}.",
    ),
]
Height = Annotated[int | None, typer.Option("--height", help="Height of the output as shown.")]
Codec = Annotated[
    str | None,
    typer.Option(
        "-c", "--codec", help="h264, hevc, av1, vp9, ffv1, prores, ...; default: one that fits."
    ),
]
Crf = Annotated[
    int | None, typer.Option("--crf", help="Encoder quality; lower is better and larger.")
]
Preset = Annotated[str | None, typer.Option("--preset", help="Encoder speed.")]
Overwrite = Annotated[bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")]


@dataclass(frozen=True)
class UpscaleArguments:
    """The options of an upscaling run, as they are typed; `options` parses them."""

    output: Output = None
    model: ModelName = None
    scale: Scale = None
    height: Height = None
    size: Annotated[str | None, typer.Option("--size", help="Exact size, WIDTHxHEIGHT.")] = None
    device: Device = "auto"
    engine: Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")] = "auto"
    precision: Precision = "auto"
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Model argument that cannot be inferred from the checkpoint, e.g. residual=true.",
        ),
    ] = None
    tile: Annotated[
        str,
        typer.Option("--tile", help="Tile size in input pixels: auto, or N (0 = whole frames)."),
    ] = "auto"
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", help="Memory limit for inference, e.g. 800M or 4G."),
    ] = None
    offline: Offline = False
    codec: Codec = None
    crf: Crf = None
    preset: Preset = None
    pix_fmt: Annotated[
        str | None, typer.Option("--pix-fmt", help="Pixel format of the output.")
    ] = None
    start: Start = None
    end: End = None
    allow_audio_transcode: Annotated[
        bool,
        typer.Option(
            "--allow-audio-transcode",
            help="Re-encode audio that the output container cannot hold.",
        ),
    ] = False
    overwrite: Overwrite = False
    no_resume: Annotated[
        bool, typer.Option("--no-resume", help="Discard an interrupted run and start over.")
    ] = False
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip inputs whose output already exists.")
    ] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first frame that does not decode.")
    ] = False
    segment_seconds: Annotated[
        float,
        typer.Option(
            "--segment-seconds",
            help="Approximate segment length in seconds; a crash loses at most one segment.",
        ),
    ] = 10.0
    batch: Annotated[
        int, typer.Option("--batch", help="Segments that go through the network at once (GPU).")
    ] = 1
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Low-latency mode for pipes: process the newest frame and drop late ones.",
        ),
    ] = False
    recursive: Recursive = False

    @property
    def model_name(self) -> str:
        return self.model or (LIVE_MODEL if self.live else DEFAULT_MODEL)

    def options(self) -> UpscaleOptions:
        """The options of the run.

        Raises:
            UsageError: A time, a size or an amount of memory is not one.
        """
        from sharpreel.pipeline.options import UpscaleOptions

        parsed: Mapping[str, Any] = {
            "model": self.model_name,
            "size": size_of(self.size),
            "start": seconds_of(self.start),
            "end": seconds_of(self.end),
            "resume": not self.no_resume,
            "choices": parse_settings(self.settings),
            "tile": tile_of(self.tile),
            "max_memory": parse_bytes(self.max_memory),
        }
        plain = {
            field.name: getattr(self, field.name)
            for field in fields(UpscaleOptions)
            if field.name not in parsed
        }
        return UpscaleOptions(**plain, **parsed)


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each field of its `UpscaleArguments` as an option of its own."""
    parameters: list[inspect.Parameter] = []
    name = ""
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.annotation is not UpscaleArguments:
            parameters.append(parameter)
            continue
        name = parameter.name
        hints = get_type_hints(UpscaleArguments, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in fields(UpscaleArguments)
        ]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        own = {field.name: given.pop(field.name) for field in fields(UpscaleArguments)}
        command(**given, **{name: UpscaleArguments(**own)})

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    del call.__wrapped__
    return call
