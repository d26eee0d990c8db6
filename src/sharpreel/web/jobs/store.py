"""Database of uploads and jobs: one SQLite file, read and written by every process of a site.

A running job belongs to the worker whose name and unexpired lease are in its row. Every change is
one transaction that names the state it starts from, so two processes cannot both make it:

    queued ──claim──> running ──> done | failed | cancelled | paused
       ^                 │ the lease expired, or its worker is known to have died
       └─────────────────┘

Each change of a job increments `revision`, by which event streams find what is new.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

LEASE_SECONDS = 20.0
ACTIVE = ("queued", "running", "paused")
ENDED = ("done", "failed", "cancelled")
SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, suffix TEXT NOT NULL, size INTEGER NOT NULL,
    offset INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'receiving', sha256 TEXT,
    info TEXT NOT NULL DEFAULT 'null', client TEXT NOT NULL, created REAL NOT NULL,
    updated_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, suffix TEXT NOT NULL,
    upload TEXT NOT NULL, options TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'queued',
    requested_state TEXT NOT NULL DEFAULT '', created REAL NOT NULL, started REAL, finished REAL,
    stage TEXT NOT NULL DEFAULT '', frames INTEGER NOT NULL DEFAULT 0, total INTEGER,
    fps REAL NOT NULL DEFAULT 0, eta_seconds REAL, segment INTEGER NOT NULL DEFAULT 0,
    segments INTEGER, error TEXT, notes TEXT NOT NULL DEFAULT '[]',
    result TEXT NOT NULL DEFAULT 'null', results TEXT NOT NULL DEFAULT '[]',
    worker TEXT, lease REAL, updated_at REAL NOT NULL, client TEXT NOT NULL,
    crash_count INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_revision ON jobs (revision);
CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
"""
JSON_COLUMNS = frozenset({"info", "options", "notes", "result", "results"})


@dataclass(frozen=True)
class Upload:
    """A file that is uploaded or being uploaded.

    `state` is "receiving", "ready" or "refused"; times are seconds since 1970.
    """

    id: str
    name: str
    suffix: str
    size: int
    offset: int
    state: str
    sha256: str | None
    info: dict[str, Any] | None
    client: str
    created: float
    updated_at: float


@dataclass(frozen=True)
class Job:
    """Upscaling a video (kind "upscale") or a few seconds of it by several models ("sample").

    `requested_state` is what the user requested of a running job: "paused", "cancelled" or "";
    `crash_count` counts workers that died while they ran it; `result` is for a video, `results`
    for a sample; `lease` is when the worker's claim expires; times are seconds since 1970.
    """

    id: str
    kind: str
    name: str
    suffix: str
    upload: str
    options: dict[str, Any]
    state: str
    requested_state: str
    created: float
    started: float | None
    finished: float | None
    stage: str
    frames: int
    total: int | None
    fps: float
    eta_seconds: float | None
    segment: int
    segments: int | None
    error: str | None
    notes: list[str]
    result: dict[str, Any] | None
    results: list[dict[str, Any]]
    worker: str | None
    lease: float | None
    updated_at: float
    crash_count: int
    client: str
    revision: int


def new_id() -> str:
    """A random id that cannot be guessed; files are named after it."""
    return secrets.token_hex(16)


class _ThreadConnection:
    """A thread's connection; it is closed when the thread has ended and drops this object."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class JobStore:
    """The database of one site; usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._local = path, threading.local()
        self._opened: weakref.WeakSet[_ThreadConnection] = weakref.WeakSet()
        with self.transaction() as connection:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)

    def close(self) -> None:
        """Close the file, when no thread uses it any more."""
        for opened in list(self._opened):
            opened.connection.close()
        self._local = threading.local()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction, exclusive among all processes."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def add_upload(self, **values: Any) -> Upload:
        now = time.time()
        row = {"id": new_id(), "created": now, "updated_at": now, **values}
        with self.transaction() as connection:
            _insert(connection, "uploads", row)
        added = self.upload(row["id"])
        assert added is not None
        return added

    def upload(self, upload_id: str) -> Upload | None:
        return next(iter(self._select_uploads("id = ?", [upload_id])), None)

    def uploads(self) -> list[Upload]:
        """All uploads except refused ones, oldest first."""
        return self._select_uploads("state != 'refused'", [])

    def unfinished_uploads(self, client: str | None = None) -> list[Upload]:
        """Uploads that still receive bytes, of all clients or of one."""
        if client is None:
            return self._select_uploads("state = 'receiving'", [])
        return self._select_uploads("state = 'receiving' AND client = ?", [client])

    def expired_uploads(self, ready_before: float, unfinished_before: float) -> list[Upload]:
        """Uploads not updated since these times: finished ones, and all others."""
        return self._select_uploads(
            "(state = 'ready' AND updated_at < ?) OR (state != 'ready' AND updated_at < ?)",
            [ready_before, unfinished_before],
        )

    def update_upload(self, upload_id: str, **values: Any) -> None:
        row = {"updated_at": time.time(), **values}
        with self.transaction() as connection:
            _update(connection, "uploads", row, "id = ?", [upload_id])

    def remove_upload(self, upload_id: str) -> None:
        with self.transaction() as connection:
            connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))

    def add_job(self, **values: Any) -> Job:
        now = time.time()
        row = {"id": new_id(), "created": now, "updated_at": now, **values}
        with self.transaction() as connection:
            row["revision"] = _next_revision(connection)
            _insert(connection, "jobs", row)
        added = self.job(row["id"])
        assert added is not None
        return added

    def job(self, job_id: str) -> Job | None:
        return next(iter(self._select_jobs("id = ?", [job_id])), None)

    def jobs(
        self, *, states: Iterable[str] = (*ACTIVE, *ENDED), client: str | None = None
    ) -> list[Job]:
        """Jobs in these states, of all clients or of one, oldest first; without deleted ones."""
        condition, values = _in_states(states)
        if client is not None:
            condition, values = f"{condition} AND client = ?", [*values, client]
        return self._select_jobs(condition, values)

    def jobs_changed_since(self, revision: int, job_id: str | None = None) -> list[Job]:
        """Jobs, or one job, changed after a revision; includes jobs in state "deleted"."""
        if job_id is None:
            return self._select_jobs("revision > ?", [revision])
        return self._select_jobs("revision > ? AND id = ?", [revision, job_id])

    def idle_jobs(self, before: float) -> list[Job]:
        """Paused and ended jobs that were not updated since a time."""
        condition, values = _in_states(["paused", *ENDED])
        return self._select_jobs(f"{condition} AND updated_at < ?", [*values, before])

    def change_job(self, job_id: str, states: Iterable[str], **values: Any) -> bool:
        """Change a job that is in one of these states; False: it is not."""
        condition, parameters = _in_states(states)
        return self._change(values, f"id = ? AND {condition}", [job_id, *parameters])

    def cancel_if_requested(self, job_id: str) -> bool:
        """Cancel a paused job whose cancellation was requested while it stopped; was it?"""
        return self._change(
            {"state": "cancelled", "finished": time.time(), "requested_state": ""},
            "id = ? AND state = 'paused' AND requested_state = 'cancelled'",
            [job_id],
        )

    def change_own_job(self, job_id: str, worker: str, /, **values: Any) -> bool:
        """Change a running job as its worker and renew the lease; False: it has another worker."""
        values.setdefault("lease", time.time() + LEASE_SECONDS)
        return self._change(values, "id = ? AND worker = ? AND state = 'running'", [job_id, worker])

    def renew_lease(self, job_id: str, worker: str) -> Job | None:
        """Renew the lease and return the job; None: it does not belong to this worker any more."""
        with self.transaction() as connection:
            lease = {"lease": time.time() + LEASE_SECONDS}
            condition = "id = ? AND worker = ? AND state = 'running'"
            if not _update(connection, "jobs", lease, condition, [job_id, worker]):
                return None
        return self.job(job_id)

    def claim(self, job_id: str, worker: str) -> Job | None:
        """Claim a queued job for a worker; None: it is not queued any more.

        A state requested in an earlier run still counts: the worker or the site ended first.
        """
        now, job = time.time(), self.job(job_id)
        claimed = self.change_job(
            job_id,
            ["queued"],
            state="running",
            worker=worker,
            error=None,
            lease=now + LEASE_SECONDS,
            started=(job and job.started) or now,  # unchanged after a pause
        )
        return self.job(job_id) if claimed else None

    def requeue_lost(self, dead_worker: str | None = None) -> list[Job]:
        """Requeue running jobs whose lease expired, or whose worker is known to have died.

        Returns:
            The jobs, as they are now.
        """
        lost = (
            self._select_jobs("state = 'running' AND lease < ?", [time.time()])
            if dead_worker is None
            else self._select_jobs("state = 'running' AND worker = ?", [dead_worker])
        )
        for job in lost:
            crashes = job.crash_count + 1
            self._change(
                {"state": "queued", "worker": None, "lease": None, "crash_count": crashes},
                "id = ? AND worker IS ? AND state = 'running' AND lease = ?",
                [job.id, job.worker, job.lease],
            )
        return [now for job in lost if (now := self.job(job.id)) is not None]

    def remove_job(self, job_id: str) -> None:
        with self.transaction() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def revision(self) -> int:
        """Number of the last change of any job."""
        return int(self._connection().execute("SELECT n FROM counter").fetchone()[0])

    def _connection(self) -> sqlite3.Connection:
        opened: _ThreadConnection | None = getattr(self._local, "opened", None)
        if opened is None:
            connection = sqlite3.connect(
                self._path, timeout=30, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            opened = self._local.opened = _ThreadConnection(connection)
            self._opened.add(opened)  # each thread has its own; `close` closes all
        return opened.connection

    def _select_uploads(self, condition: str, values: list[Any]) -> list[Upload]:
        sql = f"SELECT * FROM uploads WHERE {condition} ORDER BY created, rowid"
        return [_record(Upload, row) for row in self._connection().execute(sql, values)]

    def _select_jobs(self, condition: str, values: list[Any]) -> list[Job]:
        sql = f"SELECT * FROM jobs WHERE {condition} ORDER BY created, rowid"
        return [_record(Job, row) for row in self._connection().execute(sql, values)]

    def _change(self, values: Mapping[str, Any], condition: str, parameters: list[Any]) -> bool:
        with self.transaction() as connection:
            revision = _next_revision(connection)
            row = {**values, "updated_at": time.time(), "revision": revision}
            return _update(connection, "jobs", row, condition, parameters)


def _in_states(states: Iterable[str]) -> tuple[str, list[Any]]:
    """SQL condition that a row is in one of these states, and its parameters."""
    names: list[Any] = list(states)
    return f"state IN ({', '.join('?' for _ in names)})", names


def _next_revision(connection: sqlite3.Connection) -> int:
    return int(connection.execute("UPDATE counter SET n = n + 1 RETURNING n").fetchone()[0])


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    values = [_to_column(name, value) for name, value in row.items()]
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", values)


def _update(
    connection: sqlite3.Connection,
    table: str,
    row: Mapping[str, Any],
    condition: str,
    parameters: list[Any],
) -> bool:
    changes = ", ".join(f"{name} = ?" for name in row)
    values = [_to_column(name, value) for name, value in row.items()]
    sql = f"UPDATE {table} SET {changes} WHERE {condition}"
    return connection.execute(sql, [*values, *parameters]).rowcount > 0


def _to_column(column: str, value: Any) -> Any:
    return json.dumps(value) if column in JSON_COLUMNS else value


def _record(kind: Any, row: sqlite3.Row) -> Any:
    values = {f.name: row[f.name] for f in fields(kind)}
    for name in JSON_COLUMNS & values.keys():
        values[name] = json.loads(values[name])
    return kind(**values)
