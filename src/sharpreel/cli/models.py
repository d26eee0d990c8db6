"""`sharpreel models`, `fetch` and `export`: the networks that this installation can run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Scale
from sharpreel.errors import UsageError
from sharpreel.models import DEFAULT_MODEL, MODELS

Row = tuple[str, ...]


def fetch_model(name: str, offline: bool, console: Console) -> None:
    """Download a published model before anything else, with progress for people."""
    from sharpreel.models.pretrained import PUBLISHED

    if name not in PUBLISHED:
        return
    from sharpreel.system import download

    row, reported = PUBLISHED[name], 0.0

    def on_bytes(done: int, total: int | None) -> None:
        nonlocal reported
        now = time.monotonic()
        if now >= reported + 1 or done == total:
            reported = now
            console.event("download", model=name, url=row.url, bytes=done, total=total)
            of = "" if total is None else f" of {total / 1e6:.1f}"
            console.info(f"  {row.file}: {done / 1e6:.1f}{of} MB")

    path = download.cached(row.file, row.url, row.sha256, on_bytes, offline)
    if reported:
        console.info(f"{name} ({row.licence}): {path}")


def models(as_json: AsJson = False) -> None:
    """List models: bundled, downloadable, and architectures that accept a checkpoint."""
    console = Console(as_json, quiet=False)
    bundled = [
        _bundled(name, scale, console)
        for name, spec in MODELS.items()
        if spec.bundled
        for scale in _scales(name)
    ]
    downloads = _downloads(console)
    checkpoints = [_checkpoint(name, console) for name, spec in MODELS.items() if not spec.bundled]
    if as_json:
        return
    print_table(
        ("bundled", "scale", "parameters", "over bicubic", "frames", "licence", "summary"), bundled
    )
    print_table(
        ("to download", "scale", "parameters", "frames", "licence", "network, trained on"),
        downloads,
    )
    print_table(
        ("accepts a checkpoint", "scale", "frames", "licence", "summary; source"), checkpoints
    )
    console.result(
        "frames: those that the network looks at; 3+1+3 is three before and three after.\n"
        "Downloads come from their publishers: --json has the addresses."
    )


def _scales(name: str) -> tuple[int, ...]:
    from sharpreel.models.weights import available_scales

    return available_scales(name)


def _bundled(name: str, scale: int, console: Console) -> Row:
    """The row of a bundled model, which is also printed with --json."""
    from sharpreel.models.weights import load_model

    spec, card = MODELS[name], load_model(name, scale).card
    console.event(
        "model",
        name=name,
        family=name,
        scale=scale,
        context=spec.context,
        summary=spec.summary,
        licence=spec.licence,
        parameters=card.get("parameters", 0),
        where="package",
        source=spec.source,
        card=card,
    )
    gain = f"+{card['val_psnr_y']['gain_db']:.2f} dB" if card else "-"
    default = " (default)" if name == DEFAULT_MODEL else ""
    parameters = f"{card.get('parameters', 0):,}"
    summary = spec.summary + default
    return name, f"x{scale}", parameters, gain, spec.context, spec.licence, summary


def _checkpoint(name: str, console: Console) -> Row:
    """The row of an architecture that accepts a checkpoint; its scales as events with --json."""
    spec = MODELS[name]
    choices = {k: v if isinstance(v, tuple) else v.__name__ for k, v in spec.choices.items()}
    for scale in spec.scales:
        console.event(
            "model",
            name=name,
            family=name,
            scale=scale,
            context=spec.context,
            summary=spec.summary,
            licence=spec.licence,
            where="checkpoint",
            source=spec.source,
            choices=choices,
        )
    scales = "x" + ", ".join(map(str, spec.scales))
    return name, scales, spec.context, spec.licence, f"{spec.summary}; {spec.source}"


def _downloads(console: Console) -> list[Row]:
    """The rows of published models."""
    from sharpreel.models.pretrained import PUBLISHED

    rows: list[Row] = []
    for name, row in PUBLISHED.items():
        context = MODELS[row.model].context
        console.event(
            "model",
            name=name,
            family=row.model,
            scale=row.scale,
            parameters=row.parameters,
            context=context,
            licence=row.licence,
            where="download",
            source=row.url,
            trained=row.trained,
        )
        trained = f"{row.model}, {row.trained}"
        rows.append((name, f"x{row.scale}", f"{row.parameters:,}", context, row.licence, trained))
    return rows


def print_table(columns: Row, rows: list[Row]) -> None:
    """Print a table whose last column alone may be folded."""
    from rich.console import Console as RichConsole
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    RichConsole().print(table, "")


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models to download.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Download published models to the cache, for use without a network; prints their paths."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.models.pretrained import PUBLISHED
        from sharpreel.models.weights import load_model

        for name in names:
            if name not in PUBLISHED:
                known = ", ".join(PUBLISHED)
                raise UsageError(f"{name}: not downloadable; there are {known}.")
            fetch_model(name, False, console)
            model = load_model(name)
            console.event("fetched", model=name, path=model.tensors, sha256=model.sha256)
            console.result(str(model.tensors))


def export(
    model: Annotated[str, typer.Argument(help="Name of a bundled model, or a model file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for .xml and .bin.")],
    scale: Scale = None,
    precision: Annotated[str, typer.Option("--precision", help="float32 or int8.")] = "float32",
    videos: Annotated[
        Path | None, typer.Option("--data", help="For int8: folder of videos to calibrate on.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Build a model's OpenVINO graph, which runs without PyTorch, from its weights."""
    console = Console(False, False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.models.export import export_graph
        from sharpreel.models.weights import load_model

        loaded = load_model(model, scale)
        if precision == "int8":
            if videos is None:
                raise UsageError("--precision int8 needs videos to calibrate on: --data FOLDER.")
            from sharpreel.training.quantize import quantize

            print(quantize(loaded, videos, output, console.info))
        elif precision == "float32":
            print(export_graph(loaded, output))
        else:
            raise UsageError(f"--precision {precision} is not known; choose float32 or int8.")
