"""`sharpreel data`, `train` and `tune`: words into arguments, one call, and words again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpreel.errors import (
    MissingExtra,
    ResumableError,
    SharpreelError,
    UsageError,
    write_error,
)
from sharpreel.locks import Lock
from sharpreel.voice import (
    AsJson,
    Debug,
    Device,
    Quiet,
    Voice,
    clock,
    errors_as_exit_codes,
    settings_of,
)

if TYPE_CHECKING:
    from sharpreel.data import Rated, Store
    from sharpreel.harvest import Report as HarvestReport
    from sharpreel.train import Progress, TrainConfig
    from sharpreel.tune import Update

data_app = typer.Typer(
    help="Find, fetch, harvest and prepare clips to train and to measure on.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Videos, or folders of pictures.")]
Out = Annotated[Path, typer.Option("-o", "--output", help="Folder to make or to go on with.")]
ListFile = Annotated[
    Path | None, typer.Option("--list", help="Names of the clips or frames to take, one a line.")
]
Stills = Annotated[
    bool, typer.Option("--stills", help="Each picture is a clip: a camera moves over it.")
]
LrFolder = Annotated[
    Path | None, typer.Option("--lr", help="Low-resolution twins, laid out as FOLDER is.")
]
MaxFrames = Annotated[
    int | None, typer.Option("--max-frames", min=1, help="Of each clip, at most so many.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of whatever is drawn.")]
Height = Annotated[
    int | None,
    typer.Option("--height", min=16, help="Reduce clips to so many lines, in proportion."),
]
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
Noncommercial = Annotated[
    bool,
    typer.Option("--noncommercial", help="Take clips that the manifest calls noncommercial, too."),
]


@data_app.command()
def prepare(
    folder: Folder,
    output: Out,
    list_file: ListFile = None,
    lr: LrFolder = None,
    stills: Stills = False,
    max_frames: MaxFrames = None,
    height: Height = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Decode clips once to a store of bytes that training reads from the disk as it needs them."""
    voice = Voice(as_json, quiet)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import data

        sources = data.find_clips(folder, list_file, lr, stills)
        store = data.prepare(sources, output, max_frames, seed, telling(voice, "prepared"), height)
        frames = sum(e.frames for e in store.entries)
        voice.event("store", path=str(output), clips=len(store.entries), frames=frames,
                    sha256=store.sha256, rights=store.rights)  # fmt: skip
        voice.say(f"{len(store.entries)} clips, {frames} frames; SHA-256 {store.sha256[:16]}")
        voice.result(str(output))


@data_app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="STORE", help="A store of `data prepare`.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check every clip of a store against the SHA-256 of its manifest."""
    voice = Voice(as_json, quiet=False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import data

        store = data.open_store(folder)
        store.verify()
        voice.event("checked", path=str(folder), clips=len(store.entries), sha256=store.sha256)
        voice.result(f"{len(store.entries)} clips are as they were prepared: {store.sha256}")


@data_app.command()
def split(
    folder: Folder,
    output: Out,
    shares: Annotated[str, typer.Option("--shares", help="Of train, val and test.")] = "80/10/10",
    seed: Seed = 123,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Deal clips to train.txt, val.txt and test.txt, whole, by a seed: lists for --list."""
    voice = Voice(as_json, quiet=False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import data

        try:
            first, second, third = (float(part) for part in shares.split("/"))
        except ValueError:
            raise UsageError(f"--shares {shares}: write three numbers, such as 80/10/10.") from None
        names = (
            data.open_store(folder).names
            if data.is_store(folder)
            else [source.name for source in data.find_clips(folder)]
        )
        for part, chosen in data.split(names, seed, (first, second, third)).items():
            path = output / f"{part}.txt"
            try:
                output.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
            except OSError as e:
                raise write_error(path, e) from e
            voice.event("split", part=part, clips=len(chosen), path=str(path))
            voice.result(f"{path}: {len(chosen)} clips")


@data_app.command()
def harvest(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|LIST", help="Long videos, or a list of them (.txt).")
    ],
    output: Out,
    clip_len: Annotated[int, typer.Option("--clip-len", min=2, help="Frames of a clip.")] = 20,
    height: Annotated[int, typer.Option("--height", min=64, help="Of the clips.")] = 360,
    rights: Annotated[str, typer.Option("--rights", help="Written to the manifest.")] = "unknown",
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Cut clean training clips from long videos: no cuts, no standing, blurred or blocky parts."""
    voice = Voice(as_json, quiet)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import harvest as harvesting

        settings = harvesting.HarvestSettings(clip_len=clip_len, height=height, rights=rights)
        rows = harvesting.harvest(
            harvesting.sources_of(source), output, settings, harvest_telling(voice)
        )
        voice.event("harvested", path=str(output), clips=len(rows))
        voice.say(f"{len(rows)} clips")
        voice.result(str(output))


def harvest_telling(voice: Voice) -> Any:
    """A callback that says what became of each source."""
    from dataclasses import asdict

    def tell(report: HarvestReport) -> None:
        voice.event("source", **asdict(report))
        if report.finished:
            why = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
            words = report.problem or f"{report.clips} clips of {report.windows} windows ({why})"
            voice.say(f"  {report.source}: {words}")

    return tell


def bytes_told(voice: Voice) -> Any:
    """A callback that says how far a download or an archive is, at most once a second."""
    next_time = 0.0

    def tell(what: str, done: int, total: int | None) -> None:
        nonlocal next_time
        now = time.monotonic()
        if now >= next_time or done == total:
            next_time = now + 1
            voice.event("progress", what=what, bytes=done, total=total)
            of = "" if total is None else f" of {total / 1e6:.0f}"
            voice.say(f"  {what}: {done / 1e6:.0f}{of} MB")

    return tell


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="vimeo90k, reds, vid4 or inter4k.")],
    output: Out,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download and unpack a published data set; goes on where it stopped."""
    voice = Voice(as_json, quiet)
    with errors_as_exit_codes(voice, debug):
        from sharpreel import datasets

        path = datasets.fetch_dataset(name, output, bytes_told(voice))
        voice.event("fetched", dataset=name, path=str(path))
        voice.result(str(path))


def telling(voice: Voice, verb: str) -> Any:
    """A callback that says each clip with --json, and every tenth of them to people."""

    def tell(name: str, done: int, total: int) -> None:
        voice.event("clip", what=verb, name=name, done=done, total=total)
        if done == total or done % max(total // 10, 1) == 0:
            voice.say(f"  {verb} {done} of {total} clips")

    return tell


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
    voice = Voice(as_json, quiet)
    with errors_as_exit_codes(voice, debug):
        need_torch()
        from sharpreel.recipes import configure

        chosen = settings_of(settings)
        config = configure(recipe, chosen, scale)
        if epochs is not None and "steps" in chosen:
            raise UsageError("--epochs and --set steps=N: choose one of the two.")
        if resume and not (output / "last.pt").is_file():
            raise UsageError(f"--resume: {output} holds no training that could go on.")
        from sharpreel import tracking
        from sharpreel import train as training

        training.check_device(device)
        set_threads(threads)
        with hold(output):
            train_clips, val_clips, facts = clips_for(
                config, data, val, output, list_file, noncommercial, voice, height
            )
            if epochs is not None:
                config = training.for_epochs(config, train_clips, epochs)
            fabric = training.make_fabric(config.precision, device)
            trackers: list[tracking.Tracker] = [tracking.Silent()]
            if fabric.global_rank == 0:
                trackers = [tracking.JsonLog(output)]
                if not no_mlflow and tracking.mlflow_there():
                    trackers.append(tracking.Mlflow(output, facts))
            tracker = tracking.Together(*trackers)
            status = "FAILED"
            try:
                path = training.train(
                    config, train_clips, val_clips, output, fabric=fabric, tracker=tracker,
                    start_from=start_from, tell=progress_told(voice, fabric.global_rank == 0),
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
                graph = training.release(path, val_clips)
                voice.event("trained", path=str(path), graph=None if graph is None else str(graph))
                voice.result(str(path))


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder, which is made; each process of one holds its own.

    Raises:
        ResumableError: Another training is there.
    """
    rank = os.environ.get("RANK", "0")
    lock = Lock(run / ("lock" if rank == "0" else f"lock{rank}"))
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

    from sharpreel.video import usable_cpus

    torch.set_num_threads(threads or usable_cpus())


def clips_for(
    config: TrainConfig,
    source: Path,
    val: Path | None,
    run: Path,
    list_file: Path | None,
    noncommercial: bool,
    voice: Voice,
    height: int | None = None,
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Training and validation clips of a recipe, and what they are for the card.

    A folder that is no store is decoded to one in the run folder, at this height. Without --val the
    clips are split 80/10/10 by the recipe's seed, and the last tenth is left for a test.
    """
    from sharpreel import data

    def taken(folder: Path, found: Sequence[Rated]) -> Sequence[Rated]:
        clips = found if noncommercial else data.allowed(found)[0]
        if not clips:
            raise UsageError(f"{folder}: all clips are noncommercial; --noncommercial takes them.")
        if len(clips) < len(found):
            voice.say(f"{len(found) - len(clips)} noncommercial clips are left out")
        return clips

    def store_of(folder: Path, name: str) -> Store:
        listed = list_file if name == "clips" else None
        if data.is_store(folder):
            if height is not None:
                raise UsageError(
                    f"{folder} is a store, whose clips have their size: --height belongs to "
                    "`sharpreel data prepare`."
                )
            store = data.open_store(folder)
            if listed is not None:
                store = store.only(data.read_list(listed))
            return store.only(entry.name for entry in taken(folder, store.entries))
        sources = taken(folder, data.find_clips(folder, listed))
        return data.prepare(sources, run / name, tell=telling(voice, "prepared"), height=height)

    whole = store_of(source, "clips")
    if val is None:
        parts = data.split(whole.names, config.seed)
        learnt, scored = whole.only(parts["train"]), whole.only(parts["val"])
        voice.say(
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
    facts["versions"] = config.versions
    tell = telling(voice, f"reduced ({config.degradation})")
    return (
        [
            clip
            for version in range(config.versions)
            for clip in learnt.pairs(config.scale, config.degradation, config.seed + version, tell)
        ],
        scored.pairs(config.scale, config.degradation, 0, tell, config.validate_frames),
        facts,
    )


def progress_told(voice: Voice, speaks: bool) -> Any:
    """A callback that says each save and each score."""
    from dataclasses import asdict

    def tell(p: Progress) -> None:
        if not speaks:
            return
        voice.event("train", **asdict(p))
        if p.note:
            voice.warn(p.note)
        gain = "" if p.gain_db is None else f"  {p.psnr:.3f} dB, {p.gain_db:+z.3f} over bicubic"
        left = clock((p.steps - p.step) * p.seconds_per_step) if p.step else "?"
        loss = f"loss {p.loss:.5g}  " if p.step else ""
        voice.say(f"  step {p.step}/{p.steps}  {loss}{p.seconds_per_step:.3f} s a step, "
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
    voice = Voice(as_json, quiet)
    with errors_as_exit_codes(voice, debug):
        need_torch()
        from sharpreel import train as training
        from sharpreel import tune as tuning
        from sharpreel.recipes import configure

        training.check_device(device)
        fixed = settings_of(settings)
        config = configure(recipe, fixed, scale)
        searched = tuning.Space.read(space)
        set_threads(threads)
        train_clips, val_clips, facts = clips_for(
            config, data, val, output, list_file, noncommercial, voice
        )
        found = tuning.tune(
            recipe, searched, train_clips, val_clips, output, trials, scale=scale,
            settings=fixed, storage=storage, seed=seed, device=device, start_from=start_from,
            data=facts, track=not no_mlflow, tell=trial_told(voice),
        )  # fmt: skip
        voice.event("tuned", trial=found.trial, gain_db=found.value, settings=found.settings,
                    recipe=str(found.recipe), model=str(found.model))  # fmt: skip
        chosen = ", ".join(f"{name}={value}" for name, value in found.settings.items())
        voice.say(f"best: trial {found.trial}, {found.value:+z.3f} dB over bicubic ({chosen})")
        voice.result(f"{found.recipe}\n{found.model}")


def trial_told(voice: Voice) -> Any:
    """A callback that says how each trial ended."""

    def tell(update: Update) -> None:
        if update.state == "running":
            return
        voice.event("trial", number=update.trial, state=update.state, gain_db=update.value,
                    best=update.best, finished=update.finished, trials=update.trials,
                    settings=dict(update.settings), note=update.note)  # fmt: skip
        gain = update.note if update.value is None else f"{update.value:+z.3f} dB"
        tried = ", ".join(f"{name}={value}" for name, value in update.settings.items())
        voice.say(f"  {update.finished}/{update.trials}  trial {update.trial} {update.state}: "
                  f"{gain} ({tried})")  # fmt: skip

    return tell


def recipes(as_json: AsJson = False) -> None:
    """List the recipes: named trainings, with their network, factor and first line."""
    from rich.console import Console
    from rich.table import Table

    with errors_as_exit_codes(Voice(as_json, quiet=False), debug=False):
        need_torch()
    from sharpreel.recipes import RECIPES

    voice = Voice(as_json, quiet=False)
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "network", "scale", "steps"):
        table.add_column(title, no_wrap=True)
    table.add_column("what", overflow="fold")
    for name, recipe in RECIPES.items():
        config = recipe()
        what = (recipe.__doc__ or "").splitlines()[0]
        voice.event("recipe", name=name, model=config.model, scale=config.scale,
                    steps=config.steps, summary=what)  # fmt: skip
        table.add_row(name, config.model, f"x{config.scale}", f"{config.steps:,}", what)
    if not as_json:
        Console().print(table)


def register(app: typer.Typer) -> None:
    """Add these commands to `sharpreel`."""
    app.add_typer(data_app, name="data")
    app.command()(train)
    app.command()(tune)
    app.command()(recipes)
