"""`sharpreel train`, `tune` and `recipes`: parse options, call the library, print the result."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.data import Height, ListFile, clip_events
from sharpreel.cli.options import AsJson, Debug, Device, Noncommercial, Quiet, Seed
from sharpreel.errors import MissingExtra, UsageError
from sharpreel.system.text import format_duration, parse_settings

if TYPE_CHECKING:
    from sharpreel.training.progress import TrainProgress
    from sharpreel.training.run import LoadingCallbacks
    from sharpreel.training.trainer import ProgressCallback
    from sharpreel.training.tune.results import SearchUpdate
    from sharpreel.training.tune.search import UpdateCallback


Recipe = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="Recipe name, or a best.json written by `tune`."),
]
Data = Annotated[
    Path, typer.Option("--data", help="A store of `data prepare`, or a folder of clips.")
]
Val = Annotated[
    Path | None,
    typer.Option(
        "--val", help="Validation clips (same formats as --data); default: 10 % of --data."
    ),
]
Scale = Annotated[
    int | None, typer.Option("-s", "--scale", help="Scale, for recipes that support several.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe, such as steps=500."),
]
StartFrom = Annotated[
    str | None, typer.Option("--from", help="Start from this checkpoint (up-training).")
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; all by default.")
]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Log to the run folder only.")]

RunFolder = Annotated[
    Path, typer.Option("-o", "--out", "--output", help="Run folder; an existing run is resumed.")
]
Epochs = Annotated[
    int | None,
    typer.Option("--epochs", min=1, help="Train for N epochs instead of a number of steps."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Only resume an existing run; never start a new one.")
]

SearchFolder = Annotated[
    Path,
    typer.Option("-o", "--out", "--output", help="Search folder; an existing search is resumed."),
]
SpaceFile = Annotated[Path, typer.Option("--space", help="Search space (JSON or TOML).")]
Trials = Annotated[int, typer.Option("--trials", min=1, help="Number of trials in all.")]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage", help="Database that several workers share: sqlite:///study.db, or a URL."
    ),
]


def train(
    recipe: Recipe,
    data: Data,
    output: RunFolder,
    val: Val = None,
    scale: Scale = None,
    settings: Settings = None,
    start_from: StartFrom = None,
    epochs: Epochs = None,
    height: Height = None,
    resume: Resume = False,
    list_file: ListFile = None,
    device: Device = "auto",
    threads: Threads = None,
    no_mlflow: NoMlflow = False,
    noncommercial: Noncommercial = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network by a recipe; the same command resumes an interrupted run."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        need_torch()
        from sharpreel.training.recipes import configure
        from sharpreel.training.run import ClipFolders, train_from_folder
        from sharpreel.training.setup import set_threads

        chosen = parse_settings(settings)
        config = configure(recipe, chosen, scale)
        if epochs is not None and "steps" in chosen:
            raise UsageError("--epochs and --set steps=N: choose one of the two.")
        set_threads(threads)
        trained = train_from_folder(
            config,
            ClipFolders(data, val, list_file, noncommercial, height),
            output,
            epochs=epochs,
            start_from=start_from,
            resume=resume,
            device=device,
            mlflow=not no_mlflow,
            callbacks=loading_callbacks(console, config.degradation),
            on_progress=progress_printer(console),
        )
        if trained.is_main:
            graph = None if trained.graph is None else str(trained.graph)
            console.event("trained", path=str(trained.path), graph=graph)
            console.result(str(trained.path))


def tune(
    recipe: Recipe,
    data: Data,
    output: SearchFolder,
    space: SpaceFile,
    trials: Trials = 20,
    val: Val = None,
    scale: Scale = None,
    settings: Settings = None,
    storage: Storage = None,
    start_from: StartFrom = None,
    seed: Seed = 123,
    list_file: ListFile = None,
    device: Device = "auto",
    threads: Threads = None,
    no_mlflow: NoMlflow = False,
    noncommercial: Noncommercial = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search a recipe's settings; several workers may run the same command."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        need_torch()
        from sharpreel.training.recipes import configure
        from sharpreel.training.run import ClipFolders
        from sharpreel.training.setup import set_threads
        from sharpreel.training.tune.run import tune_from_folder
        from sharpreel.training.tune.search import SearchOptions

        chosen = parse_settings(settings)
        config = configure(recipe, chosen, scale)
        set_threads(threads)
        best = tune_from_folder(
            recipe,
            space,
            ClipFolders(data, val, list_file, noncommercial),
            output,
            trials,
            scale=scale,
            settings=chosen,
            options=SearchOptions(storage, seed, device, start_from, mlflow=not no_mlflow),
            callbacks=loading_callbacks(console, config.degradation),
            on_update=trial_printer(console),
        )
        values = {"gain_db": best.value, "settings": best.settings, "recipe": str(best.recipe)}
        console.event("tuned", trial=best.trial, **values, model=str(best.model))
        text = ", ".join(f"{name}={value}" for name, value in best.settings.items())
        console.info(f"best: trial {best.trial}, {best.value:+z.3f} dB over bicubic ({text})")
        console.result(f"{best.recipe}\n{best.model}")


def recipes(as_json: AsJson = False) -> None:
    """List the recipes with their network, scale, number of steps and first line."""
    from rich.console import Console as RichConsole
    from rich.table import Table

    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug=False):
        need_torch()
    from sharpreel.training.recipes import RECIPES

    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "network", "scale", "steps"):
        table.add_column(title, no_wrap=True)
    table.add_column("what", overflow="fold")
    for name, recipe in RECIPES.items():
        config = recipe()
        summary = (recipe.__doc__ or "").splitlines()[0]
        console.event(
            "recipe",
            name=name,
            model=config.model,
            scale=config.scale,
            steps=config.steps,
            summary=summary,
        )
        table.add_row(name, config.model, f"x{config.scale}", f"{config.steps:,}", summary)
    if not as_json:
        RichConsole().print(table)


def need_torch() -> None:
    """Raise MissingExtra unless torch is installed."""
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise MissingExtra("Training", "train") from e


def loading_callbacks(console: Console, degradation: str) -> LoadingCallbacks:
    """Return callbacks that print the progress of loading clips."""
    from sharpreel.training.run import LoadingCallbacks

    return LoadingCallbacks(
        on_prepared=clip_events(console, "prepared"),
        on_degraded=clip_events(console, f"reduced ({degradation})"),
        on_note=console.info,
    )


def progress_printer(console: Console) -> ProgressCallback:
    """Return a callback that prints each save and each validation."""

    def on_progress(p: TrainProgress) -> None:
        console.event("train", **asdict(p))
        if p.note:
            console.warn(p.note)
        gain = "" if p.gain_db is None else f"  {p.psnr:.3f} dB, {p.gain_db:+z.3f} over bicubic"
        left = format_duration((p.steps - p.step) * p.seconds_per_step) if p.step else "?"
        loss = f"loss {p.loss:.5g}  " if p.step else ""
        pace = f"{p.seconds_per_step:.3f} s per step, {left} left"
        console.info(f"  step {p.step}/{p.steps}  {loss}{pace}{gain}")

    return on_progress


def trial_printer(console: Console) -> UpdateCallback:
    """Return a callback that prints how each trial ended."""

    def on_update(update: SearchUpdate) -> None:
        if update.state == "running":
            return
        console.event(
            "trial",
            number=update.trial,
            state=update.state,
            gain_db=update.value,
            best=update.best,
            finished=update.finished,
            trials=update.trials,
            settings=dict(update.settings),
            note=update.note,
        )
        gain = update.note if update.value is None else f"{update.value:+z.3f} dB"
        settings = ", ".join(f"{name}={value}" for name, value in update.settings.items())
        count = f"{update.finished}/{update.trials}"
        console.info(f"  {count}  trial {update.trial} {update.state}: {gain} ({settings})")

    return on_update
