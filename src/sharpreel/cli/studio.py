"""`sharpreel studio`: starts Streamlit on the studio's pages, and MLflow's page goes with it."""

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

STOP_SECONDS = 10.0  # that Streamlit may take to end


def studio(
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0: any free one.")
    ] = 8501,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where runs, searches, tests and uploads lie.")
    ] = Path("studio"),
    debug: Debug = False,
) -> None:
    """Train, tune, test and compare runs in the browser."""
    console = Console(as_json=False, quiet=False)
    with errors_as_exit_codes(console, debug):
        if find_spec("streamlit") is None:
            raise MissingExtra("The studio", "studio")
        if sys.platform == "win32":
            raise UsageError("The studio runs on Linux and macOS; on Windows take WSL.")
        port = usable_port(host, port)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise write_error(folder / "runs", e) from e
        if not is_loopback(host):
            console.info(
                f"note: whoever reaches {host}:{port} can read and write here what you can; there "
                "is no password. A tunnel is safer: ssh -L 8501:127.0.0.1:8501 SERVER"
            )
        console.result(f"http://{host}:{port}")
        raise typer.Exit(serve(host, port, folder.resolve()))


def usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        UsageError: It is taken, or the address is not this machine's.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            return int(one.getsockname()[1])
    except OSError as e:
        raise UsageError(
            f"{host}:{port} cannot be listened at ({e.strerror or e}). Choose another --port."
        ) from e


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(host: str, port: int, folder: Path) -> int:
    """Run Streamlit until it ends or we are told to; what it trains goes on by itself.

    Returns:
        Its exit code.
    """
    from sharpreel.studio import jobs

    app = Path(jobs.__file__).with_name("app.py")
    settings = {
        "server.headless": "true",
        "server.address": host,
        "server.port": str(port),
        "server.maxUploadSize": str(jobs.UPLOAD_MB),
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "logger.level": "warning",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    environment = {**os.environ, **jobs.QUIET, jobs.FOLDER_VARIABLE: str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(app), *words],
        env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr,
    )  # fmt: skip
    try:
        return process.wait()
    except (KeyboardInterrupt, TerminatedError):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        return 0
    finally:
        process.kill()  # nothing, where it has ended
        jobs.mlflow_job(folder).stop()
