"""`sharpreel studio`: start Streamlit on the studio's pages, and stop MLflow's UI with it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from sharpreel.cli.console import Console, errors_as_exit_codes
from sharpreel.cli.options import Debug
from sharpreel.errors import MissingExtra, TerminatedError, UsageError, write_error

STOP_SECONDS = 10.0  # for Streamlit to end


def studio(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free one.")
    ] = 8501,
    folder: Annotated[
        Path, typer.Option("--folder", help="Folder of runs, searches, tests and uploads.")
    ] = Path("studio"),
    debug: Debug = False,
) -> None:
    """Train, tune, test and compare runs in the browser."""
    console = Console(as_json=False, quiet=False)
    with errors_as_exit_codes(console, debug):
        if find_spec("streamlit") is None:
            raise MissingExtra("The studio", "studio")
        if sys.platform == "win32":
            raise UsageError("The studio runs on Linux and macOS; on Windows use WSL.")
        port = usable_port(host, port)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise write_error(folder / "runs", e) from e
        if not is_loopback(host):
            console.info(
                f"note: whoever can reach {host}:{port} can read and write everything that you "
                "can; there is no password. A tunnel is safer: ssh -L 8501:127.0.0.1:8501 SERVER"
            )
        console.result(f"http://{host}:{port}")
        raise typer.Exit(serve(host, port, folder.resolve()))


def usable_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0.

    Raises:
        UsageError: The port is in use, or the address is not this machine's.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            return int(one.getsockname()[1])
    except OSError as e:
        raise UsageError(
            f"Cannot listen on {host}:{port} ({e.strerror or e}). Choose another --port."
        ) from e


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(host: str, port: int, folder: Path) -> int:
    """Run Streamlit until it ends or this process is interrupted; jobs keep running.

    Returns:
        Its exit code.
    """
    from sharpreel import studio as package
    from sharpreel.studio.folder import FOLDER_VARIABLE, UPLOAD_MB, mlflow_job
    from sharpreel.studio.jobs import QUIET_ENVIRONMENT

    app = Path(package.__path__[0]) / "app.py"
    settings = {
        "server.headless": "true",
        "server.address": host,
        "server.port": str(port),
        "server.maxUploadSize": str(UPLOAD_MB),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "logger.level": "warning",
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", value)]
    environment = {**os.environ, **QUIET_ENVIRONMENT, FOLDER_VARIABLE: str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(app), *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )
    try:
        return process.wait()
    except (KeyboardInterrupt, TerminatedError):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        return 0
    finally:
        process.kill()  # no effect when it has ended
        mlflow_job(folder).stop()
