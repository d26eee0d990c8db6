"""`sharpreel serve` and `remote`: words into arguments, one call, and words again."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sharpreel.errors import MissingExtra
from sharpreel.voice import Debug, Voice, errors_as_exit_codes


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
    voice = Voice(False, False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel.web.settings import Settings, default_data_dir, limits_of

        try:
            from sharpreel.web.serve import serve as run
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
            voice.say(f"Token, made for this run: {settings.token}")
        if settings.server == "werkzeug":
            voice.say(
                "This system has a server for one person only; do not put it on the internet."
            )
        run(settings, lambda address: voice.result(f"sharpreel listens at {address}"))


def register(app: typer.Typer) -> None:
    """Add these commands to `sharpreel`."""
    app.command()(serve)
