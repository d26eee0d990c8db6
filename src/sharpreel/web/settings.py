"""Settings of a site, with defaults for one person on one machine, and its folders on disk."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sharpreel.errors import ResumableError, UsageError, did_you_mean
from sharpreel.system.files import atomic_write
from sharpreel.system.text import parse_bytes, parse_settings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
GIB = 1 << 30


def default_data_dir() -> Path:
    """Folder of a site's files: $SHARPREEL_DATA_DIR, or a folder in the user's data directory."""
    if own := os.environ.get("SHARPREEL_DATA_DIR"):
        return Path(own).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "sharpreel" / "site"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "sharpreel/site"


def default_job_bytes() -> int | None:
    """32 GiB, or no limit on a machine with an NVIDIA GPU: CUDA reserves far more than it uses."""
    return None if Path("/dev/nvidiactl").exists() else 32 * GIB


@dataclass(frozen=True)
class Limits:
    """Resource limits of one client, one upload and one job.

    Attributes:
        upload_bytes: Maximum size of one upload.
        upload_seconds: Maximum duration of one video.
        frame_pixels: Maximum number of pixels of one frame of an upload.
        result_pixels: Maximum number of pixels of all frames of a result together.
        disk_bytes: Quota of all uploads and results; None: the disk except `spare_bytes`.
        spare_bytes: Bytes that always stay free on the disk, whatever the quota allows.
        chunk_bytes: Recommended size of one PATCH; more than four times as much is rejected.
        uploads_per_client: Unfinished uploads at a time.
        jobs_per_client: Queued, running and paused jobs at a time.
        streams_per_client: Event streams at a time, and live sockets at a time.
        live_clients: Live sockets at a time, over all clients.
        connections_per_client: TCP connections at a time.
        requests_per_second: Average request rate of one client; `burst` requests at once.
        logins_per_minute: Wrong tokens per minute.
        request_seconds: Time in which a request must arrive; for an upload chunk, its header.
        idle_seconds: A connection without traffic is closed after this time.
        keep_hours: Finished jobs and unused uploads are deleted after this time.
        unfinished_hours: Abandoned uploads are deleted after this time.
        play_seconds: How much of a video is converted for playback in the page, if it must be.
        stall_seconds: A job without progress is stopped after this time.
        sniff_seconds, sniff_bytes: CPU time and address space for inspecting an upload.
        job_bytes: Address space of a job's process; None: unlimited.
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


def parse_limits(assignments: list[str] | None) -> Limits:
    """Limits from NAME=VALUE texts: upload_bytes=4G, keep_hours=24, disk_bytes=none.

    Raises:
        UsageError: A name is unknown, or a value is not a number.
    """
    kinds = {field.name: field.type for field in fields(Limits)}
    values: dict[str, Any] = {}
    for name, text in parse_settings(assignments).items():
        if name not in kinds:
            raise UsageError(f"limit={name}: no such limit.{did_you_mean(name, kinds)}")
        try:
            if text.lower() == "none" and "None" in str(kinds[name]):
                values[name] = None
            elif name.endswith("_bytes") and not text.isdecimal():
                values[name] = parse_bytes(text)
            else:
                values[name] = float(text) if kinds[name] == "float" else int(text)
        except ValueError as e:
            raise UsageError(f"limit={name}={text}: not a number.") from e
    return Limits(**values)


@dataclass(frozen=True)
class Settings:
    """Settings of one site, and the paths of its files.

    Attributes:
        data_dir: Folder of uploads, results, the database and the signing key.
        host, port: Address to listen on.
        workers: Number of concurrent video jobs; samples have a worker of their own.
        token: Access token required from clients; None: no token, on loopback only.
        queue: None: an SQLite file; otherwise redis://HOST.
        cluster: Passed to `sharpreel upscale --cluster`; None: this machine.
        threads: Requests, event streams and live sockets served at a time.
        proxies: Number of trusted reverse proxies (X-Forwarded-*).
        public_hosts: Names of the site besides its own address.
        segment_seconds: Segment length, as for `sharpreel upscale`.
        server: "gunicorn", or "werkzeug": for one person, and the only choice on Windows.
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
        """Is the site reachable from this machine only?"""
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

    @property
    def queue_database(self) -> Path:
        return self.data_dir / "queue.sqlite3"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "site.lock"

    def upload_file(self, upload_id: str, suffix: str) -> Path:
        return self.uploads / f"{upload_id}{suffix}"

    def job_folder(self, job_id: str) -> Path:
        return self.jobs / job_id

    def job_input(self, job_id: str, suffix: str) -> Path:
        return self.job_folder(job_id) / f"input{suffix}"

    def to_json(self) -> str:
        """All settings as one line of JSON, for a process of this site."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str | bytes) -> Settings:
        values = json.loads(text)
        values["data_dir"] = Path(values["data_dir"])
        values["public_hosts"] = tuple(values["public_hosts"])
        values["limits"] = Limits(**values["limits"])
        return cls(**values)

    def prepare(self) -> None:
        """Create the folders, accessible to this user only.

        Raises:
            UsageError: A folder cannot be created, or the site needs a token and has none.
        """
        if not self.private and not self.token:
            raise UsageError("token=None: a site that other machines can reach needs a token.")
        try:
            for folder in (self.data_dir, self.uploads, self.jobs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise UsageError(
                f"{self.data_dir}: this folder cannot be created ({e.strerror})."
            ) from e

    def secret(self) -> str:
        """The key that signs cookies and queue entries; created once per data folder."""
        path = self.data_dir / "secret"
        if not path.exists():
            atomic_write(path, secrets.token_hex(32))
            path.chmod(0o600)
        return path.read_text()


def read_settings() -> Settings:
    """Settings from the first line of standard input, written there by the supervisor.

    Raises:
        ResumableError: Standard input ended first.
    """
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise ResumableError("The supervisor ended before this process started.")
        line += byte
    return Settings.from_json(line)
