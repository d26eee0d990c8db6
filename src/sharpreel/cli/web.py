"""`sharpreel serve` and `remote`: parse arguments, call one function, print the result."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import (
    AsJson,
    Codec,
    Crf,
    Debug,
    Height,
    Overwrite,
    Preset,
    Quiet,
    Scale,
)
from sharpreel.errors import MissingExtra, UsageError
from sharpreel.system.text import format_duration

REPORT_SECONDS = 1.0  # between two lines of the same kind
JOB_FIELDS = ("id", "state", "stage", "frames", "total", "fps", "eta_seconds", "error")

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port; 0 chooses any free one.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Number of concurrent jobs.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of uploads, results and the database.")
]
RequiredToken = Annotated[
    str | None,
    typer.Option("--token", envvar="SHARPREEL_TOKEN", help="Access token required from clients."),
]
QueueUrl = Annotated[
    str | None, typer.Option("--queue", help="redis://HOST; for sites too large for SQLite.")
]
ClusterAddress = Annotated[
    str | None, typer.Option("--cluster", help="Run jobs on a Ray cluster, as for `upscale`.")
]
Proxies = Annotated[
    int,
    typer.Option("--proxies", min=0, help="Number of trusted reverse proxies (X-Forwarded-*)."),
]
PublicHosts = Annotated[
    list[str] | None,
    typer.Option("--public-host", help="A host name of the site; can be repeated."),
]
LimitValues = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="NAME=VALUE", help="Such as upload_bytes=4G; see web.md."),
]
JobSegmentSeconds = Annotated[
    float, typer.Option("--segment-seconds", help="Segment length, as for `upscale`.")
]
Threads = Annotated[
    int,
    typer.Option("--threads", min=8, help="Requests, streams and live views served at a time."),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="SHARPREEL_TOKEN", help="Access token of the site."),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    data_dir: DataDir = None,
    token: RequiredToken = None,
    queue: QueueUrl = None,
    cluster: ClusterAddress = None,
    proxies: Proxies = 0,
    public_host: PublicHosts = None,
    limit: LimitValues = None,
    segment_seconds: JobSegmentSeconds = 10.0,
    threads: Threads = 128,
    debug: Debug = False,
) -> None:
    """Run the web site: upload videos and watch them being upscaled, or upscale a webcam live."""
    console = Console(False, False)
    with errors_as_exit_codes(console, debug):
        from sharpreel.web.settings import Settings, default_data_dir, parse_limits

        try:
            from sharpreel.web.supervisor import serve as run
        except ImportError as e:
            raise MissingExtra("The web site", "web") from e
        settings = Settings(
            data_dir=(data_dir or default_data_dir()).absolute(),
            host=host,
            port=port,
            workers=workers,
            token=token,
            queue=queue,
            cluster=cluster,
            proxies=proxies,
            public_hosts=tuple(public_host or ()),
            segment_seconds=segment_seconds,
            threads=threads,
            limits=parse_limits(limit),
        )
        if not settings.private and not settings.token:
            settings = replace(settings, token=secrets.token_urlsafe(24))
            console.info(f"Token for this run: {settings.token}")
        if settings.server == "werkzeug":
            console.info("The server of this system is for one person; keep it off the internet.")
        run(settings, lambda address: console.result(f"sharpreel listens at {address}"))


def remote(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="http(s)://HOST[:PORT] of a site.")],
) -> None:
    """Upscale videos on a sharpreel web site."""
    context.obj = url


def remote_upscale(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A video.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Output file or folder.")
    ] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="A model of the site.")] = None,
    scale: Scale = None,
    height: Height = None,
    codec: Codec = None,
    crf: Crf = None,
    preset: Preset = None,
    token: Token = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Upload a video, wait for the job, download the result; resumes after an interruption."""
    console = Console(as_json, quiet)
    with errors_as_exit_codes(console, debug):
        from sharpreel.web.client import SiteClient, upscale

        given = {
            "model": model,
            "scale": scale,
            "height": height,
            "codec": codec,
            "crf": crf,
            "preset": preset,
        }
        options: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
        if output is not None and not output.is_dir():
            if output.exists() and not overwrite:
                raise UsageError(f"{output} exists. Give --overwrite or another -o.")
            options["container"] = output.suffix.lower().removeprefix(".")
        site = SiteClient(context.obj, token)
        result = upscale(site, source, output, options, _reporter(console), overwrite=overwrite)
        console.event("done", input=str(source), output=str(result))
        console.result(str(result))


def _reporter(console: Console) -> Callable[[str, Mapping[str, Any]], None]:
    """A progress callback that prints objects with --json, and short lines otherwise."""
    last_time = 0.0
    last_kind = ""

    def on_progress(event: str, values: Mapping[str, Any]) -> None:
        nonlocal last_time, last_kind
        now = time.monotonic()
        kind = f"{event} {values.get('state', '')}"
        complete = event != "job" and values["bytes"] == values["total"]
        if now < last_time + REPORT_SECONDS and kind == last_kind and not complete:
            return
        if event == "job":
            console.event("job", **{name: values[name] for name in JOB_FIELDS})
            console.info(f"  {_job_line(values)}")
        else:
            console.event(event, **values)
            percent = 100 * values["bytes"] / max(values["total"], 1)
            console.info(f"  {event} {values['bytes'] / 1e6:.1f} MB, {percent:.0f} %")
        last_time, last_kind = now, kind

    return on_progress


def _job_line(job: Mapping[str, Any]) -> str:
    if not job["frames"]:
        return str(job["state"])
    return (
        f"{job['state']} {job['frames']}/{job['total'] or '?'} frames, {job['fps']:.1f} fps, "
        f"ETA {format_duration(job['eta_seconds'])}"
    )


def register(app: typer.Typer) -> None:
    """Add these commands to `sharpreel`."""
    app.command()(serve)
    remote_app = typer.Typer(no_args_is_help=True)
    remote_app.callback()(remote)
    remote_app.command("upscale")(remote_upscale)
    app.add_typer(remote_app, name="remote")
