"""`sharpreel serve` and `remote`: words into arguments, one call, and words again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import AsJson, Debug, Quiet
from sharpreel.errors import MissingExtra, UsageError
from sharpreel.system.text import format_duration


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Films made at a time.")] = 1,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where uploads and results are kept.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SHARPREEL_TOKEN", help="What clients must know."),
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", help="redis://HOST where SQLite is outgrown.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Have films made there; as of upscale.")
    ] = None,
    proxies: Annotated[
        int, typer.Option("--proxies", min=0, help="Proxies in front that may name the client.")
    ] = 0,
    public_host: Annotated[
        list[str] | None,
        typer.Option("--public-host", help="A name the site is reached by; as often as needed."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="NAME=VALUE", help="Such as upload_bytes=4G; see web.md."),
    ] = None,
    segment_seconds: Annotated[
        float, typer.Option("--segment-seconds", help="As of upscale: what a crash may cost.")
    ] = 10.0,
    threads: Annotated[
        int, typer.Option("--threads", min=8, help="Requests, streams and live views at a time.")
    ] = 128,
    debug: Debug = False,
) -> None:
    """Run the web site: upload films and watch them get sharp; a webcam, live."""
    console = Console(False, False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.web.settings import Settings, default_data_dir, limits_of

        try:
            from sharpreel.web.supervisor import serve as run
        except ImportError as e:
            raise MissingExtra("The web site", "web") from e
        settings = Settings(
            data_dir=(data_dir or default_data_dir()).absolute(), host=host, port=port,
            workers=workers, token=token, queue=queue, cluster=cluster, proxies=proxies,
            public_hosts=tuple(public_host or ()), segment_seconds=segment_seconds,
            threads=threads, limits=limits_of(limit),
        )  # fmt: skip
        if not settings.private and not settings.token:
            settings = replace(settings, token=secrets.token_urlsafe(24))
            console.info(f"Token, made for this run: {settings.token}")
        if settings.server == "werkzeug":
            console.info(
                "This system has a server for one person only; do not put it on the internet."
            )
        run(settings, lambda address: console.result(f"sharpreel listens at {address}"))


def remote(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="http(s)://HOST[:PORT] of a site.")],
) -> None:
    """Have films made by a web site of sharpreel, from here."""
    context.obj = url


def remote_upscale(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A video.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File or folder to make.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="A network that the site has.")
    ] = None,
    scale: Annotated[float | None, typer.Option("-s", "--scale", help="Factor: 2 or 4.")] = None,
    height: Annotated[int | None, typer.Option("--height", help="Height of the output.")] = None,
    codec: Annotated[str | None, typer.Option("-c", "--codec", help="h264, hevc, ...")] = None,
    crf: Annotated[int | None, typer.Option("--crf", help="Quality of the encoder.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Speed of the encoder.")] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SHARPREEL_TOKEN", help="What the site was started with."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("-y", "--overwrite", help="Replace an existing output.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Upload a video, wait until it is made, bring the result; goes on where it was."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.web.client import SiteClient, upscale

        options = {
            "model": model, "scale": scale, "height": height, "codec": codec, "crf": crf,
            "preset": preset,
        }  # fmt: skip
        wanted = {name: value for name, value in options.items() if value is not None}
        if output is not None and not output.is_dir():
            if output.exists() and not overwrite:
                raise UsageError(f"{output} exists. Give --overwrite or another -o.")
            wanted["container"] = output.suffix.lower().removeprefix(".")
        site = SiteClient(context.obj, token)
        made = upscale(site, source, output, wanted, _told(console), overwrite=overwrite)
        console.event("done", input=str(source), output=str(made))
        console.result(str(made))


def _told(console: Console) -> Callable[[str, Mapping[str, Any]], None]:
    """A callback that says what happens: objects with --json, lines that stay short for people."""
    last = 0.0
    state = ""

    def tell(event: str, values: Mapping[str, Any]) -> None:
        nonlocal last, state
        now = time.monotonic()
        name = f"{event} {values.get('state', '')}"
        whole = event != "job" and values["bytes"] == values["total"]
        if now < last + 1 and name == state and not whole:
            return
        if event != "job":
            console.event(event, **values)
            share = 100 * values["bytes"] / max(values["total"], 1)
            words = f"{event} {values['bytes'] / 1e6:.1f} MB, {share:.0f} %"
        else:
            names = ("id", "state", "stage", "frames", "total", "fps", "eta_seconds", "error")
            console.event("job", **{name: values[name] for name in names})
            words = f"{values['state']}"
            if values["frames"]:
                of = values["total"] or "?"
                words += f" {values['frames']}/{of} frames, {values['fps']:.1f} fps"
                words += f", ETA {format_duration(values['eta_seconds'])}"
        console.info(f"  {words}")
        last, state = now, name

    return tell


def register(app: typer.Typer) -> None:
    """Add these commands to `sharpreel`."""
    app.command()(serve)
    there = typer.Typer(no_args_is_help=True)
    there.callback()(remote)
    there.command("upscale")(remote_upscale)
    app.add_typer(there, name="remote")
