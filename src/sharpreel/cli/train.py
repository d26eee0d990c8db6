"""`sharpreel train`, `tune` and `recipes`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.data import Height, ListFile, clip_events
from sharpreel.cli.options import AsJson, Debug, Device, Noncommercial, Quiet, Seed
from sharpreel.errors import MissingExtra, ResumableError, SharpreelError, UsageError, write_error
from sharpreel.system.files import FileLock
from sharpreel.system.text import format_duration, parse_settings

if TYPE_CHECKING:
    from sharpreel.data.clips import Rated
    from sharpreel.data.store import ClipStore
    from sharpreel.training.config import TrainConfig
    from sharpreel.training.trainer import TrainProgress
    from sharpreel.training.tune.search import SearchUpdate


Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe, such as steps=500."),
]
Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, or a file of tune.")]
Scale = Annotated[int | None, typer.Option("-s", "--scale", help="Factor, where there are some.")]
Data = Annotated[
    Path, typer.Option("--data", help="A store of `data prepare`, or a folder of clips.")
]
Val = Annotated[
    Path | None,
    typer.Option("--val", help="As --data, to score on; by default a tenth of --data."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Processor threads; by default all.")
]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Log to the run folder alone.")]


def train(
    recipe: Recipe,
    data: Data,
    output: Annotated[
        Path, typer.Option("-o", "--out", "--output", help="Run folder; one that exists goes on.")
    ],
    val: Val = None,
    scale: Scale = None,
    settings: Settings = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Begin with this checkpoint (up-training).")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Instead of steps: so often through all frames."),
    ] = None,
    height: Height = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Refuse to start a new run: only go on with one.")
    ] = False,
    list_file: ListFile = None,
    device: Device = "auto",
    threads: Threads = None,
    no_mlflow: NoMlflow = False,
    noncommercial: Noncommercial = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network by a recipe; the same command goes on where it stopped."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        need_torch()
        from sharpreel.training.recipes import configure

        chosen = parse_settings(settings)
        config = configure(recipe, chosen, scale)
        if epochs is not None and "steps" in chosen:
            raise UsageError("--epochs and --set steps=N: choose one of the two.")
        if resume and not (output / "last.pt").is_file():
            raise UsageError(f"--resume: {output} holds no training that could go on.")
        from sharpreel.training import trackers as trackers_module
        from sharpreel.training import trainer
        from sharpreel.training.checkpoint import release
        from sharpreel.training.setup import for_epochs, make_fabric, validate_device

        validate_device(device)
        set_threads(threads)
        with hold(output):
            train_clips, val_clips, facts = clips_for(
                config, data, val, output, list_file, noncommercial, console, height
            )
            if epochs is not None:
                config = for_epochs(config, train_clips, epochs)
            fabric = make_fabric(config.precision, device)
            trackers: list[trackers_module.Tracker] = [trackers_module.NullTracker()]
            if fabric.global_rank == 0:
                trackers = [trackers_module.JsonlTracker(output)]
                if not no_mlflow and trackers_module.mlflow_there():
                    trackers.append(trackers_module.MlflowTracker(output, facts))
            tracker = trackers_module.MultiTracker(*trackers)
            status = "FAILED"
            try:
                path = trainer.train(
                    config, train_clips, val_clips, output, fabric=fabric, tracker=tracker,
                    start_from=start_from, tell=progress_told(console, fabric.global_rank == 0),
                    extra={"data": facts},
                )  # fmt: skip
                status = "FINISHED"
            except SharpreelError as e:
                status = "KILLED" if e.exit_code == 6 else "FAILED"
                raise
            except KeyboardInterrupt:
                status = "KILLED"
                raise
            finally:
                tracker.close(status)
            if fabric.global_rank == 0:
                graph = release(path, val_clips)
                console.event(
                    "trained", path=str(path), graph=None if graph is None else str(graph)
                )
                console.result(str(path))


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder, which is made; each process of one holds its own.

    Raises:
        ResumableError: Another training is there.
    """
    rank = os.environ.get("RANK", "0")
    lock = FileLock(run / ("lock" if rank == "0" else f"lock{rank}"))
    try:
        run.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(wait=False)
    except OSError as e:
        raise write_error(run, e) from e
    if not held:
        raise ResumableError(f"{run}: another training is there. Wait for it, or stop it first.")
    try:
        yield
    finally:
        lock.release()


def need_torch() -> None:
    """Raise MissingExtra unless torch is there."""
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise MissingExtra("Training", "train") from e


def set_threads(threads: int | None) -> None:
    import torch

    from sharpreel.system.resources import usable_cpus

    torch.set_num_threads(threads or usable_cpus())


def clips_for(
    config: TrainConfig,
    source: Path,
    val: Path | None,
    run: Path,
    list_file: Path | None,
    noncommercial: bool,
    console: Console,
    height: int | None = None,
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Training and validation clips of a recipe, and what they are for the card.

    A folder that is no store is decoded to one in the run folder, at this height. Without --val the
    clips are split 80/10/10 by the recipe's seed, and the last tenth is left for a test.
    """
    from sharpreel.data import clips
    from sharpreel.data import store as store_
    from sharpreel.data.clips import allowed, find_clips, read_list
    from sharpreel.data.store import is_store, open_store

    def taken(folder: Path, found: Sequence[Rated]) -> Sequence[Rated]:
        clips = found if noncommercial else allowed(found)[0]
        if not clips:
            raise UsageError(f"{folder}: all clips are noncommercial; --noncommercial takes them.")
        if len(clips) < len(found):
            console.info(f"{len(found) - len(clips)} noncommercial clips are left out")
        return clips

    def store_of(folder: Path, name: str) -> ClipStore:
        listed = list_file if name == "clips" else None
        if is_store(folder):
            if height is not None:
                raise UsageError(
                    f"{folder} is a store, whose clips have their size: --height belongs to "
                    "`sharpreel data prepare`."
                )
            store = open_store(folder)
            if listed is not None:
                store = store.only(read_list(listed))
            return store.only(entry.name for entry in taken(folder, store.entries))
        sources = taken(folder, find_clips(folder, listed))
        return store_.prepare(
            sources, run / name, on_progress=clip_events(console, "prepared"), height=height
        )

    whole = store_of(source, "clips")
    if val is None:
        parts = clips.split(whole.names, config.seed)
        learnt, scored = whole.only(parts["train"]), whole.only(parts["val"])
        console.info(
            f"{len(parts['train'])} clips to learn from, {len(parts['val'])} to score on, "
            f"{len(parts['test'])} left for a test"
        )
    else:
        learnt, scored = whole, store_of(val, "val")
    facts = {
        "clips": len(learnt.entries),
        "clips by rights": learnt.rights,
        "sha256": learnt.sha256,
        "degradation": config.degradation,
    }
    if config.task == "bursts":
        return (
            [learnt.frames(e) for e in learnt.entries],
            [scored.frames(e) for e in scored.entries],
            facts,
        )
    tell = clip_events(console, f"reduced ({config.degradation})")
    return (
        learnt.pairs(config.scale, config.degradation, config.seed, tell),
        scored.pairs(config.scale, config.degradation, 0, tell, config.validate_frames),
        facts,
    )


def progress_told(console: Console, speaks: bool) -> Any:
    """A callback that says each save and each score."""
    from dataclasses import asdict

    def tell(p: TrainProgress) -> None:
        if not speaks:
            return
        console.event("train", **asdict(p))
        if p.note:
            console.warn(p.note)
        gain = "" if p.gain_db is None else f"  {p.psnr:.3f} dB, {p.gain_db:+z.3f} over bicubic"
        left = format_duration((p.steps - p.step) * p.seconds_per_step) if p.step else "?"
        loss = f"loss {p.loss:.5g}  " if p.step else ""
        console.info(f"  step {p.step}/{p.steps}  {loss}{p.seconds_per_step:.3f} s a step, "
                  f"{left} left{gain}")  # fmt: skip

    return tell


def tune(
    recipe: Recipe,
    data: Data,
    output: Annotated[
        Path, typer.Option("-o", "--out", "--output", help="Folder of the search; goes on.")
    ],
    space: Annotated[
        Path, typer.Option("--space", help="JSON or TOML file: settings, and what they may be.")
    ],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many in all.")] = 20,
    val: Val = None,
    scale: Scale = None,
    settings: Settings = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="Where several workers meet: sqlite:///study.db, or a URL."),
    ] = None,
    start_from: Annotated[
        str | None, typer.Option("--from", help="Each trial begins with this checkpoint.")
    ] = None,
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
    """Search a recipe's settings; several workers may give the same command."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        need_torch()
        from sharpreel.training.recipes import configure
        from sharpreel.training.setup import validate_device
        from sharpreel.training.tune import search
        from sharpreel.training.tune.space import Space

        validate_device(device)
        fixed = parse_settings(settings)
        config = configure(recipe, fixed, scale)
        searched = Space.read(space)
        set_threads(threads)
        train_clips, val_clips, facts = clips_for(
            config, data, val, output, list_file, noncommercial, console
        )
        found = search.tune(
            recipe, searched, train_clips, val_clips, output, trials, scale=scale,
            settings=fixed, storage=storage, seed=seed, device=device, start_from=start_from,
            data=facts, track=not no_mlflow, tell=trial_told(console),
        )  # fmt: skip
        console.event("tuned", trial=found.trial, gain_db=found.value, settings=found.settings,
                    recipe=str(found.recipe), model=str(found.model))  # fmt: skip
        chosen = ", ".join(f"{name}={value}" for name, value in found.settings.items())
        console.info(f"best: trial {found.trial}, {found.value:+z.3f} dB over bicubic ({chosen})")
        console.result(f"{found.recipe}\n{found.model}")


def trial_told(console: Console) -> Any:
    """A callback that says how each trial ended."""

    def tell(update: SearchUpdate) -> None:
        if update.state == "running":
            return
        console.event("trial", number=update.trial, state=update.state, gain_db=update.value,
                    best=update.best, finished=update.finished, trials=update.trials,
                    settings=dict(update.settings), note=update.note)  # fmt: skip
        gain = update.note if update.value is None else f"{update.value:+z.3f} dB"
        tried = ", ".join(f"{name}={value}" for name, value in update.settings.items())
        console.info(f"  {update.finished}/{update.trials}  trial {update.trial} {update.state}: "
                  f"{gain} ({tried})")  # fmt: skip

    return tell


def recipes(as_json: AsJson = False) -> None:
    """List the recipes: named trainings, with their network, factor and first line."""
    from rich.console import Console as RichConsole
    from rich.table import Table

    with errors_as_exit_codes(Console(as_json, quiet=False), debug=False):
        need_torch()
    from sharpreel.training.recipes import RECIPES

    console = Console(as_json, quiet=False)
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "network", "scale", "steps"):
        table.add_column(title, no_wrap=True)
    table.add_column("what", overflow="fold")
    for name, recipe in RECIPES.items():
        config = recipe()
        what = (recipe.__doc__ or "").splitlines()[0]
        console.event("recipe", name=name, model=config.model, scale=config.scale,
                    steps=config.steps, summary=what)  # fmt: skip
        table.add_row(name, config.model, f"x{config.scale}", f"{config.steps:,}", what)
    if not as_json:
        RichConsole().print(table)
