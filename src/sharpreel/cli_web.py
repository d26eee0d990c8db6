"""`sharpreel serve` and `remote`: words into arguments, one call, and words again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpreel.errors import MissingExtra
from sharpreel.voice import Debug, Voice, errors_as_exit_codes


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Films at a time.")] = 1,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where uploads and results are kept.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SHARPREEL_TOKEN", help="What clients must know."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Run the web site: upload films and watch them get sharp; a webcam, live."""
    voice = Voice(False, False)
    with errors_as_exit_codes(voice, debug):
        from sharpreel.web import settings as site

        try:
            from sharpreel.web.serve import serve as run
        except ImportError as e:
            raise MissingExtra("The web site", "web") from e
        run(
            site.Settings(
                data_dir=data_dir or site.default_data_dir(), host=host, port=port,
                workers=workers, token=token,
            )
        )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add these commands to `sharpreel`."""
    app.command()(serve)
