"""`sharpreel models`, `fetch` and `export`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Scale
from sharpreel.errors import UsageError
from sharpreel.models import DEFAULT_MODEL, MODELS


def have_model(name: str, offline: bool, console: Console) -> None:
    """Download a published model before anything else, with progress for people."""
    from sharpreel.models.pretrained import PUBLISHED

    if name not in PUBLISHED:
        return
    from sharpreel.system import download

    row, told = PUBLISHED[name], 0.0

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        now = time.monotonic()
        if now >= told + 1 or done == total:
            told = now
            console.event("download", model=name, url=row.url, bytes=done, total=total)
            of = "" if total is None else f" of {total / 1e6:.1f}"
            console.info(f"  {row.file}: {done / 1e6:.1f}{of} MB")

    path = download.cached(row.file, row.url, row.sha256, tell, offline)
    if told:
        console.info(f"{name} ({row.licence}): {path}")


def models(as_json: AsJson = False) -> None:
    """List the networks: in the package, to download by name, and those to give a checkpoint of."""
    from rich.console import Console as RichConsole

    from sharpreel.models.pretrained import PUBLISHED
    from sharpreel.models.weights import available_scales, load_model

    console = Console(as_json, quiet=False)
    rows: dict[str, list[tuple[str, ...]]] = {"package": [], "download": [], "checkpoint": []}
    for name, spec in MODELS.items():
        shared = {"context": spec.context, "summary": spec.summary, "licence": spec.licence}
        if not spec.bundled:
            factors = "x" + ", ".join(map(str, spec.scales))
            choices = {
                k: v if isinstance(v, tuple) else v.__name__ for k, v in spec.choices.items()
            }
            for scale in spec.scales:
                console.event("model", name=name, family=name, scale=scale, **shared,
                            where="checkpoint", source=spec.source,
                            choices=choices)  # fmt: skip
            rows["checkpoint"].append(
                (name, factors, spec.context, spec.licence, f"{spec.summary}; {spec.source}")
            )
            continue
        for scale in available_scales(name):
            card = load_model(name, scale).card
            console.event("model", name=name, family=name, scale=scale, **shared,
                        parameters=card.get("parameters", 0), where="package",
                        source=spec.source, card=card)  # fmt: skip
            gain = f"+{card['val_psnr_y']['gain_db']:.2f} dB" if card else "-"
            default = " (default)" if name == DEFAULT_MODEL else ""
            rows["package"].append(
                (name, f"x{scale}", f"{card.get('parameters', 0):,}", gain, spec.context,
                 spec.licence, spec.summary + default)
            )  # fmt: skip
    for name, row in PUBLISHED.items():
        spec = MODELS[row.model]
        console.event("model", name=name, family=row.model, scale=row.scale,
                    parameters=row.parameters, context=spec.context, licence=row.licence,
                    where="download", source=row.url, trained=row.trained)  # fmt: skip
        rows["download"].append(
            (name, f"x{row.scale}", f"{row.parameters:,}", spec.context, row.licence,
             f"{row.model}, {row.trained}")
        )  # fmt: skip
    if as_json:
        return
    print_table(
        ("in the package", "scale", "parameters", "over bicubic", "frames", "licence", "what"),
        rows["package"],
    )
    print_table(
        ("to download", "scale", "parameters", "frames", "licence", "network, trained on"),
        rows["download"],
    )
    print_table(
        ("give a checkpoint of", "scale", "frames", "licence", "what; where from"),
        rows["checkpoint"],
    )
    RichConsole().print(
        "frames: those it looks at; 3+1+3 sees three before and three after. Downloads come from "
        "their publishers: --json has the addresses."
    )


def print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A table whose last column alone may be folded."""
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
    """Download published models to the cache, for use without a network; says where they lie."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.models.pretrained import PUBLISHED
        from sharpreel.models.weights import load_model

        for name in names:
            if name not in PUBLISHED:
                known = ", ".join(PUBLISHED)
                raise UsageError(f"{name}: nothing to download; there are {known}.")
            have_model(name, False, console)
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
    """Build a model's OpenVINO graph, which runs without torch, from its weights."""
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
