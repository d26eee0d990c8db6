"""`sharpreel data ...`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Quiet, Seed
from sharpreel.errors import UsageError

if TYPE_CHECKING:
    from sharpreel.data import downloads, harvest, store
    from sharpreel.data.harvest import HarvestReport

data_app = typer.Typer(
    help="Find, fetch, harvest and prepare clips for training and evaluation.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Videos, or folders of images.")]
Out = Annotated[
    Path, typer.Option("-o", "--output", help="Output folder; an existing one is continued.")
]
ListFile = Annotated[
    Path | None, typer.Option("--list", help="Names of the clips or frames to take, one per line.")
]
Stills = Annotated[
    bool, typer.Option("--stills", help="Each image is a clip: a camera moves over it.")
]
LrFolder = Annotated[
    Path | None,
    typer.Option("--lr", help="Low-resolution versions, with the same layout as FOLDER."),
]
MaxFrames = Annotated[
    int | None, typer.Option("--max-frames", min=1, help="At most N frames of each clip.")
]
Height = Annotated[
    int | None, typer.Option("--height", min=16, help="Reduce clips to N lines, in proportion.")
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
    """Decode clips once into a store, which training reads from the disk as needed."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data.store import prepare_folder

        store = prepare_folder(
            folder,
            output,
            list_file=list_file,
            lr_folder=lr,
            stills=stills,
            max_frames=max_frames,
            height=height,
            seed=seed,
            on_progress=clip_events(console, "prepared"),
        )
        frames = sum(e.frames for e in store.entries)
        console.event(
            "store",
            path=str(output),
            clips=len(store.entries),
            frames=frames,
            sha256=store.sha256,
            rights=store.rights,
        )
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
        console.result(f"{len(store.entries)} clips match the manifest: {store.sha256}")


@data_app.command()
def split(
    folder: Folder,
    output: Out,
    shares: Annotated[
        str, typer.Option("--shares", help="Shares of train, val and test.")
    ] = "80/10/10",
    seed: Seed = 123,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Split clips at random into train.txt, val.txt and test.txt: lists for --list."""
    console = Console(as_json, quiet=False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data.splits import write_split

        try:
            first, second, third = (float(part) for part in shares.split("/"))
        except ValueError:
            raise UsageError(f"--shares {shares}: write three numbers, such as 80/10/10.") from None
        for part in write_split(folder, output, seed, (first, second, third)):
            console.event("split", part=part.name, clips=len(part.clips), path=str(part.path))
            console.result(f"{part.path}: {len(part.clips)} clips")


@data_app.command("harvest")
def harvest_clips(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|LIST", help="Long videos, or a list of them (.txt).")
    ],
    output: Out,
    clip_len: Annotated[int, typer.Option("--clip-len", min=2, help="Frames of a clip.")] = 20,
    height: Annotated[int, typer.Option("--height", min=64, help="Height of the clips.")] = 360,
    rights: Annotated[
        str, typer.Option("--rights", help="Rights to record in the manifest.")
    ] = "unknown",
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Cut clean training clips from long videos, without static, blurred or blocky parts."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data.clip_quality import HarvestSettings
        from sharpreel.data.harvest import harvest
        from sharpreel.data.video_sources import sources_of

        settings = HarvestSettings(clip_len=clip_len, height=height, rights=rights)
        rows = harvest(sources_of(source), output, settings, _source_events(console))
        console.event("harvested", path=str(output), clips=len(rows))
        console.info(f"{len(rows)} clips")
        console.result(str(output))


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="vimeo90k, reds, vid4 or inter4k.")],
    output: Out,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download and unpack a published data set; an interrupted download is resumed."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.data.downloads import fetch_dataset

        path = fetch_dataset(name, output, byte_events(console))
        console.event("fetched", dataset=name, path=str(path))
        console.result(str(path))


def _source_events(console: Console) -> harvest.ProgressCallback:
    """A callback that reports each source."""
    from dataclasses import asdict

    def on_progress(report: HarvestReport) -> None:
        console.event("source", **asdict(report))
        if report.finished:
            why = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
            text = report.problem or f"{report.clips} clips of {report.windows} windows ({why})"
            console.info(f"  {report.source}: {text}")

    return on_progress


def byte_events(console: Console) -> downloads.ProgressCallback:
    """A callback that reports the progress of a download or an archive, at most once a second."""
    next_time = 0.0

    def on_progress(action: str, done: int, total: int | None) -> None:
        nonlocal next_time
        now = time.monotonic()
        if now >= next_time or done == total:
            next_time = now + 1
            console.event("progress", what=action, bytes=done, total=total)
            of = "" if total is None else f" of {total / 1e6:.0f}"
            console.info(f"  {action}: {done / 1e6:.0f}{of} MB")

    return on_progress


def clip_events(console: Console, verb: str) -> store.ProgressCallback:
    """A callback that reports each clip with --json, and every tenth of the clips to people."""

    def on_progress(name: str, done: int, total: int) -> None:
        console.event("clip", what=verb, name=name, done=done, total=total)
        if done == total or done % max(total // 10, 1) == 0:
            console.info(f"  {verb} {done} of {total} clips")

    return on_progress
