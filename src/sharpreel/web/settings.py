"""What whoever runs the site may set, with defaults for one person on one machine."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sharpreel.errors import UsageError, did_you_mean
from sharpreel.system.files import atomic_write
from sharpreel.system.text import parse_bytes, parse_settings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
GIB = 1 << 30


def default_data_dir() -> Path:
    """Where a site keeps its files: $SHARPREEL_DATA_DIR, else below the user's data folder."""
    if own := os.environ.get("SHARPREEL_DATA_DIR"):
        return Path(own).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "sharpreel" / "site"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "sharpreel/site"


def default_job_bytes() -> int | None:
    """No limit where there is an NVIDIA GPU: CUDA reserves addresses far beyond what it uses."""
    return None if Path("/dev/nvidiactl").exists() else 32 * GIB


@dataclass(frozen=True)
class Limits:
    """What one client, one upload and one job may take.

    Attributes:
        upload_bytes: Size of one upload.
        upload_seconds: Length of one video.
        frame_pixels: Pixels of one frame of an upload.
        result_pixels: Pixels of all frames of a result together.
        disk_bytes: What all uploads and results together may take; None: all but `spare_bytes`.
        spare_bytes: What is left free on the disk whatever the quota says.
        chunk_bytes: What a client should send in one PATCH; four times as much is refused.
        uploads_per_client: Unfinished uploads at a time.
        jobs_per_client: Jobs that wait or run at a time.
        streams_per_client: Event streams and live sockets at a time, each.
        live_clients: Live sockets at a time, of all clients.
        connections_per_client: TCP connections at a time.
        requests_per_second: Of one client on average; `burst` at once.
        logins_per_minute: Tries at the token.
        request_seconds: In which a request must be here; a piece of an upload is one by its head.
        idle_seconds: A connection on which nothing moves for so long is closed.
        keep_hours: Finished jobs, and uploads that no job uses, go after this time.
        unfinished_hours: Uploads that nobody goes on with go after this time.
        play_seconds: How much of a video is made playable in the page where it is not already.
        stall_seconds: A job that tells nothing for so long is stopped.
        sniff_seconds, sniff_bytes: Processor time and address space of looking at an upload.
        job_bytes: Address space of a job's process; None: not limited.
    """

    upload_bytes: int = 20 * GIB
    upload_seconds: float = 4 * 3600.0
    frame_pixels: int = 3840 * 2160
    result_pixels: int = 4 * 3600 * 60 * 3840 * 2160
    disk_bytes: int | None = None
    spare_bytes: int = GIB
    chunk_bytes: int = 8 << 20
    uploads_per_client: int = 8
    jobs_per_client: int = 16
    streams_per_client: int = 8
    live_clients: int = 12
    connections_per_client: int = 64
    requests_per_second: float = 30.0
    burst: int = 120
    logins_per_minute: int = 10
    request_seconds: float = 20.0
    idle_seconds: float = 30.0
    keep_hours: float = 72.0
    unfinished_hours: float = 24.0
    play_seconds: float = 600.0
    stall_seconds: float = 1800.0
    sniff_seconds: float = 20.0
    sniff_bytes: int = 4 * GIB
    job_bytes: int | None = field(default_factory=default_job_bytes)


def limits_of(words: list[str] | None) -> Limits:
    """Limits of the words of --limit: upload_bytes=4G, keep_hours=24, disk_bytes=none.

    Raises:
        UsageError: One is not known, or is no number.
    """
    kinds = {field.name: field.type for field in fields(Limits)}
    values: dict[str, Any] = {}
    for name, word in parse_settings(words).items():
        if name not in kinds:
            raise UsageError(f"--limit {name}: no such limit.{did_you_mean(name, kinds)}")
        try:
            if word.lower() == "none" and "None" in str(kinds[name]):
                values[name] = None
            elif name.endswith("_bytes") and not word.isdecimal():
                values[name] = parse_bytes(word)
            else:
                values[name] = float(word) if kinds[name] == "float" else int(word)
        except ValueError as e:
            raise UsageError(f"--limit {name}={word}: not a number.") from e
    return Limits(**values)


@dataclass(frozen=True)
class Settings:
    """One site.

    Attributes:
        data_dir: Uploads, results, the job table and the signing key.
        host, port: Where it listens.
        workers: Films made at a time; samples have a worker of their own.
        token: What a client must know; None: nothing, on loopback only.
        queue: None: a table beside the jobs; else redis://HOST.
        cluster: Handed to `sharpreel upscale --cluster`; None: this machine.
        threads: Requests, event streams and live sockets served at a time.
        proxies: How many proxies in front of the site may say who the client is.
        public_hosts: Names under which the site is reached besides its own address.
        segment_seconds: As of `sharpreel upscale`.
        server: "gunicorn", or "werkzeug", which is for one person and all that Windows has.
        limits: See `Limits`.
    """

    data_dir: Path = field(default_factory=default_data_dir)
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str | None = None
    queue: str | None = None
    cluster: str | None = None
    threads: int = 128
    proxies: int = 0
    public_hosts: tuple[str, ...] = ()
    segment_seconds: float = 10.0
    server: str = "werkzeug" if os.name == "nt" else "gunicorn"
    limits: Limits = field(default_factory=Limits)

    @property
    def private(self) -> bool:
        """Can only this machine reach the site?"""
        return self.host in LOOPBACK and not self.public_hosts and not self.proxies

    @property
    def uploads(self) -> Path:
        return self.data_dir / "uploads"

    @property
    def jobs(self) -> Path:
        return self.data_dir / "jobs"

    @property
    def database(self) -> Path:
        return self.data_dir / "site.sqlite3"

    def to_json(self) -> str:
        """All of it in one line, for a process of this site."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str | bytes) -> Settings:
        values = json.loads(text)
        values["data_dir"] = Path(values["data_dir"])
        values["public_hosts"] = tuple(values["public_hosts"])
        values["limits"] = Limits(**values["limits"])
        return cls(**values)

    def prepare(self) -> None:
        """Make the folders, for this user alone.

        Raises:
            UsageError: They cannot be made, or the settings make no site.
        """
        if not self.private and not self.token:
            raise UsageError("A site that others can reach needs a token: give --token.")
        try:
            for folder in (self.data_dir, self.uploads, self.jobs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise UsageError(f"{self.data_dir}: this folder cannot be made ({e.strerror}).") from e

    def secret(self) -> str:
        """The key that cookies and queue entries are signed with, made once for a data folder."""
        path = self.data_dir / "secret"
        if not path.exists():
            atomic_write(path, secrets.token_hex(32))
            path.chmod(0o600)
        return path.read_text()
