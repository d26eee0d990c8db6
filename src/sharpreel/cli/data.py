"""`sharpreel data ...`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Quiet, Seed
from sharpreel.errors import UsageError, write_error

if TYPE_CHECKING:
    from sharpreel.data.harvest import HarvestReport


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
Height = Annotated[
    int | None,
    typer.Option("--height", min=16, help="Reduce clips to so many lines, in proportion."),
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
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data import store as store_
        from sharpreel.data.clips import find_clips

        sources = find_clips(folder, list_file, lr, stills)
        store = store_.prepare(
            sources, output, max_frames, seed, telling(console, "prepared"), height
        )
        frames = sum(e.frames for e in store.entries)
        console.event("store", path=str(output), clips=len(store.entries), frames=frames,
                    sha256=store.sha256, rights=store.rights)  # fmt: skip
        console.info(f"{len(store.entries)} clips, {frames} frames; SHA-256 {store.sha256[:16]}")
        console.result(str(output))


@data_app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="STORE", help="A store of `data prepare`.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check every clip of a store against the SHA-256 of its manifest."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data.store import open_store

        store = open_store(folder)
        store.verify()
        console.event("checked", path=str(folder), clips=len(store.entries), sha256=store.sha256)
        console.result(f"{len(store.entries)} clips are as they were prepared: {store.sha256}")


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
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data import clips
        from sharpreel.data.clips import find_clips
        from sharpreel.data.store import is_store, open_store

        try:
            first, second, third = (float(part) for part in shares.split("/"))
        except ValueError:
            raise UsageError(f"--shares {shares}: write three numbers, such as 80/10/10.") from None
        names = (
            open_store(folder).names
            if is_store(folder)
            else [source.name for source in find_clips(folder)]
        )
        for part, chosen in clips.split(names, seed, (first, second, third)).items():
            path = output / f"{part}.txt"
            try:
                output.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
            except OSError as e:
                raise write_error(path, e) from e
            console.event("split", part=part, clips=len(chosen), path=str(path))
            console.result(f"{path}: {len(chosen)} clips")


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
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data import harvest as harvest_
        from sharpreel.data.clip_quality import HarvestSettings
        from sharpreel.data.video_sources import sources_of

        settings = HarvestSettings(clip_len=clip_len, height=height, rights=rights)
        rows = harvest_.harvest(sources_of(source), output, settings, harvest_telling(console))
        console.event("harvested", path=str(output), clips=len(rows))
        console.info(f"{len(rows)} clips")
        console.result(str(output))


def harvest_telling(console: Console) -> Any:
    """A callback that says what became of each source."""
    from dataclasses import asdict

    def tell(report: HarvestReport) -> None:
        console.event("source", **asdict(report))
        if report.finished:
            why = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
            words = report.problem or f"{report.clips} clips of {report.windows} windows ({why})"
            console.info(f"  {report.source}: {words}")

    return tell


def bytes_told(console: Console) -> Any:
    """A callback that says how far a download or an archive is, at most once a second."""
    next_time = 0.0

    def tell(what: str, done: int, total: int | None) -> None:
        nonlocal next_time
        now = time.monotonic()
        if now >= next_time or done == total:
            next_time = now + 1
            console.event("progress", what=what, bytes=done, total=total)
            of = "" if total is None else f" of {total / 1e6:.0f}"
            console.info(f"  {what}: {done / 1e6:.0f}{of} MB")

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
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data import downloads

        path = downloads.fetch_dataset(name, output, bytes_told(console))
        console.event("fetched", dataset=name, path=str(path))
        console.result(str(path))


def telling(console: Console, verb: str) -> Any:
    """A callback that says each clip with --json, and every tenth of them to people."""

    def tell(name: str, done: int, total: int) -> None:
        console.event("clip", what=verb, name=name, done=done, total=total)
        if done == total or done % max(total // 10, 1) == 0:
            console.info(f"  {verb} {done} of {total} clips")

    return tell
