"""The table of uploads and jobs: one SQLite file, the truth that every process of a site reads.

A job belongs to the worker whose name and running lease stand in its row. Every change is one
transaction that names the state it starts from, so two processes cannot both make it:

    queued ──claim──> running ──> done | failed | cancelled | paused
       ^                 │ the lease ran out, or its worker is known to be dead
       └─────────────────┘

Each change of a job takes the next number of `revision`, by which event streams find what is new.
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
    touched REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, suffix TEXT NOT NULL,
    upload TEXT NOT NULL, options TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'queued',
    wish TEXT NOT NULL DEFAULT '', created REAL NOT NULL, started REAL, finished REAL,
    stage TEXT NOT NULL DEFAULT '', frames INTEGER NOT NULL DEFAULT 0, total INTEGER,
    fps REAL NOT NULL DEFAULT 0, eta_seconds REAL, segment INTEGER NOT NULL DEFAULT 0,
    segments INTEGER, error TEXT, notes TEXT NOT NULL DEFAULT '[]',
    result TEXT NOT NULL DEFAULT 'null', results TEXT NOT NULL DEFAULT '[]',
    worker TEXT, lease REAL, touched REAL NOT NULL, client TEXT NOT NULL,
    deaths INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_revision ON jobs (revision);
CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
"""
JSON_COLUMNS = frozenset({"info", "options", "notes", "result", "results"})


@dataclass(frozen=True)
class Upload:
    """A file that comes or has come; `state` is receiving, ready or refused, times are epoch s."""

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
    touched: float


@dataclass(frozen=True)
class Job:
    """A film ("upscale") or some seconds of it by several networks ("sample").

    `wish` is what the user wants of a running one: "cancel", "pause" or nothing; `deaths` counts
    workers that died over it; `result` is of a film, `results` of a sample; times are epoch s.
    """

    id: str
    kind: str
    name: str
    suffix: str
    upload: str
    options: dict[str, Any]
    state: str
    wish: str
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
    touched: float
    deaths: int
    client: str
    revision: int


def new_id() -> str:
    """A name nobody can guess; files are called by it."""
    return secrets.token_hex(16)


class _Opened:
    """A thread's connection, which is closed when the thread has ended and so nobody holds this."""

    def __init__(self, tables: sqlite3.Connection) -> None:
        self.tables = tables

    def __del__(self) -> None:
        self.tables.close()


class JobStore:
    """The tables of one site; usable from any thread."""

    def __init__(self, path: Path) -> None:
        self._path, self._local = path, threading.local()
        self._opened: weakref.WeakSet[_Opened] = weakref.WeakSet()
        with self.changing() as tables:
            for statement in SCHEMA.split(";"):
                tables.execute(statement)

    def _tables(self) -> sqlite3.Connection:
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is None:
            tables = sqlite3.connect(
                self._path, timeout=30, isolation_level=None, check_same_thread=False
            )
            tables.row_factory = sqlite3.Row
            tables.execute("PRAGMA journal_mode = WAL")
            tables.execute("PRAGMA synchronous = NORMAL")
            opened = self._local.opened = _Opened(tables)
            self._opened.add(opened)  # each thread has its own; `close` is for all
        return opened.tables

    def close(self) -> None:
        """Let go of the file, when no thread uses it any more."""
        for opened in list(self._opened):
            opened.tables.close()
        self._local = threading.local()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that nobody else writes beside."""
        tables = self._tables()
        tables.execute("BEGIN IMMEDIATE")
        try:
            yield tables
        except BaseException:
            tables.execute("ROLLBACK")
            raise
        tables.execute("COMMIT")

    def add_upload(self, **values: Any) -> Upload:
        now = time.time()
        row = {"id": new_id(), "created": now, "touched": now, **values}
        self._insert("uploads", row)
        found = self.upload(row["id"])
        assert found is not None
        return found

    def upload(self, upload_id: str) -> Upload | None:
        return next(iter(self.uploads("id = ?", upload_id)), None)

    def uploads(self, where: str = "1", *values: Any) -> list[Upload]:
        """Uploads that a condition of SQL holds for, oldest first."""
        rows = self._tables().execute(
            f"SELECT * FROM uploads WHERE {where} ORDER BY created, rowid", values
        )
        return [_record(Upload, row) for row in rows]

    def update_upload(self, upload_id: str, **values: Any) -> None:
        with self.changing() as tables:
            _update(tables, "uploads", {"touched": time.time(), **values}, "id = ?", [upload_id])

    def remove_upload(self, upload_id: str) -> None:
        with self.changing() as tables:
            tables.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))

    def add_job(self, **values: Any) -> Job:
        now = time.time()
        row = {"id": new_id(), "created": now, "touched": now, **values}
        with self.changing() as tables:
            row["revision"] = _next_revision(tables)
            _insert(tables, "jobs", row)
        found = self.job(row["id"])
        assert found is not None
        return found

    def job(self, job_id: str) -> Job | None:
        return next(iter(self.jobs("id = ?", job_id)), None)

    def jobs(self, where: str = "1", *values: Any) -> list[Job]:
        """Jobs that a condition of SQL holds for, oldest first."""
        rows = self._tables().execute(
            f"SELECT * FROM jobs WHERE {where} ORDER BY created, rowid", values
        )
        return [_record(Job, row) for row in rows]

    def change_job(self, job_id: str, states: Iterable[str], **values: Any) -> bool:
        """Change a job that is in one of these states; False when it is not."""
        states = list(states)
        marks = ", ".join("?" for _ in states)
        return self._change(values, f"id = ? AND state IN ({marks})", [job_id, *states])

    def cancel_as_wished(self, job_id: str) -> bool:
        """Cancel a paused job of which that was wished before it stood; False: it was not."""
        cancelled = {"state": "cancelled", "finished": time.time(), "wish": ""}
        return self._change(cancelled, "id = ? AND state = 'paused' AND wish = 'cancel'", [job_id])

    def change_mine(self, job_id: str, me: str, /, **values: Any) -> bool:
        """Change a running job as its worker, which renews the lease; False when it is not its."""
        values.setdefault("lease", time.time() + LEASE_SECONDS)
        return self._change(values, "id = ? AND worker = ? AND state = 'running'", [job_id, me])

    def renew(self, job_id: str, worker: str) -> Job | None:
        """Renew the lease and read the job; None when it is not this worker's any more."""
        with self.changing() as tables:
            lease = {"lease": time.time() + LEASE_SECONDS}
            mine = "id = ? AND worker = ? AND state = 'running'"
            if not _update(tables, "jobs", lease, mine, [job_id, worker]):
                return None
        return self.job(job_id)

    def claim(self, job_id: str, worker: str) -> Job | None:
        """Make a waiting job this worker's; None when it waits no more.

        What was wished while it ran before still holds: its worker, or the site, had ended first.
        """
        now, job = time.time(), self.job(job_id)
        began = (job and job.started) or now  # not anew after a pause
        taken = self.change_job(
            job_id, ["queued"], state="running", worker=worker, error=None,
            lease=now + LEASE_SECONDS, started=began,
        )  # fmt: skip
        return self.job(job_id) if taken else None

    def release_lost(self, dead: str | None = None) -> list[Job]:
        """Put running jobs back whose lease ran out, or whose worker is known to be dead.

        Returns:
            The jobs, as they are now.
        """
        lost = (
            self.jobs("state = 'running' AND lease < ?", time.time())
            if dead is None
            else self.jobs("state = 'running' AND worker = ?", dead)
        )
        for job in lost:
            self._change(
                {"state": "queued", "worker": None, "lease": None, "deaths": job.deaths + 1},
                "id = ? AND worker IS ? AND state = 'running' AND lease = ?",
                [job.id, job.worker, job.lease],
            )
        return [found for job in lost if (found := self.job(job.id)) is not None]

    def remove_job(self, job_id: str) -> None:
        with self.changing() as tables:
            tables.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def revision(self) -> int:
        """The number of the last change of any job."""
        return int(self._tables().execute("SELECT n FROM counter").fetchone()[0])

    def _change(self, values: Mapping[str, Any], where: str, having: list[Any]) -> bool:
        with self.changing() as tables:
            revision = _next_revision(tables)
            row = {**values, "touched": time.time(), "revision": revision}
            return _update(tables, "jobs", row, where, having)

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        with self.changing() as tables:
            _insert(tables, table, row)


def _next_revision(tables: sqlite3.Connection) -> int:
    return int(tables.execute("UPDATE counter SET n = n + 1 RETURNING n").fetchone()[0])


def _insert(tables: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    marks = ", ".join("?" for _ in row)
    values = [_stored(name, value) for name, value in row.items()]
    tables.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", values)


def _update(
    tables: sqlite3.Connection, table: str, row: Mapping[str, Any], where: str, having: list[Any]
) -> bool:
    changes = ", ".join(f"{name} = ?" for name in row)
    values = [_stored(name, value) for name, value in row.items()]
    return tables.execute(
        f"UPDATE {table} SET {changes} WHERE {where}", [*values, *having]
    ).rowcount > 0  # fmt: skip


def _stored(column: str, value: Any) -> Any:
    return json.dumps(value) if column in JSON_COLUMNS else value


def _record(kind: Any, row: sqlite3.Row) -> Any:
    values = {f.name: row[f.name] for f in fields(kind)}
    for name in JSON_COLUMNS & values.keys():
        values[name] = json.loads(values[name])
    return kind(**values)
