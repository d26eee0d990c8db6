"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpreel.models import DEFAULT_MODEL, LIVE_MODEL

# Options that several commands share.
Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        "-n",
        "--model-name",
        help=f"Name, or model file; {DEFAULT_MODEL} by default, {LIVE_MODEL} with --live.",
    ),
]
Scale = Annotated[
    float | None, typer.Option("-s", "--scale", help="Factor: 2 or 4; any for tsrcnn.")
]
Height = Annotated[int | None, typer.Option("--height", help="Height of the output as shown.")]
Size = Annotated[str | None, typer.Option("--size", help="Exact size, WIDTHxHEIGHT.")]
EngineName = Annotated[str, typer.Option("--engine", help="auto, openvino or torch.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="What a checkpoint cannot tell: residual=true, ..."
    ),
]
TileSide = Annotated[
    str, typer.Option("--tile", help="Pixels a side that the network sees at once, 0: all; auto.")
]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", help="What the network may take, such as 800M or 4G.")
]
CodecName = Annotated[
    str | None,
    typer.Option("-c", "--codec", help="h264, hevc, av1, vp9, ffv1, prores, ...; default: fits."),
]
Crf = Annotated[
    int | None, typer.Option("--crf", help="Quality of the encoder; less is better and larger.")
]
Preset = Annotated[str | None, typer.Option("--preset", help="Speed of the encoder.")]
PixFmt = Annotated[str | None, typer.Option("--pix-fmt", help="Pixel format of the output.")]
Start = Annotated[str | None, typer.Option("--start", help="Begin here: 12.5 or 1:02:03.")]
End = Annotated[str | None, typer.Option("--end", help="Stop before this time.")]
Transcode = Annotated[
    bool,
    typer.Option(
        "--allow-audio-transcode", help="Re-encode audio that the output container refuses."
    ),
]
Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Look into subfolders too.")]
SegmentSeconds = Annotated[
    float,
    typer.Option(
        "--segment-seconds", help="About how much video is finished at a time and never redone."
    ),
]
Batch = Annotated[
    int, typer.Option("--batch", help="Segments that go through the network at once; for GPUs.")
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="File or folder to make; - writes y4m to stdout."),
]
Seed = Annotated[int, typer.Option("--seed", help="Of whatever is drawn.")]
Noncommercial = Annotated[
    bool,
    typer.Option("--noncommercial", help="Take clips that the manifest calls noncommercial, too."),
]
# Options that commands of every kind have.
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Device = Annotated[str, typer.Option("-d", "--device", help="auto, cpu or cuda.")]
Precision = Annotated[
    str, typer.Option("--precision", help="auto, float32, float16 (GPU) or int8 (CPU).")
]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing.")]
