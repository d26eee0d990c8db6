"""State of the site in its server process: settings, database, queues and per-client limits."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app

from sharpreel.web.http.live_engines import LiveSlots
from sharpreel.web.http.metrics import Metrics
from sharpreel.web.http.rate_limits import ConcurrencyLimit, RateLimit, SupersededBy
from sharpreel.web.jobs.events import JobFeed
from sharpreel.web.jobs.queue import LANES, JobQueue
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

MAX_CHILDREN = 2  # inspections at a time, and plans at a time
EXTENSION = "sharpreel"  # key in `Flask.extensions`


@dataclass
class SiteContext:
    """One site, as its server process sees it.

    Attributes:
        queues: Lane -> its queue.
        requests, logins: Request rate of a client, and its rate of wrong tokens.
        streams, sockets, analyses: Event streams, live sockets and child processes per client.
        inspection_slots, plan_slots: Child processes at a time, over all clients.
        plans: The newest plan that each client requested for each upload.
        live_slots: Live sockets over all clients, each with an engine.
        receiving: Uploads that a request is writing or checking.
    """

    settings: Settings
    store: JobStore
    queues: dict[str, JobQueue]
    feed: JobFeed
    requests: RateLimit
    logins: RateLimit
    streams: ConcurrencyLimit
    sockets: ConcurrencyLimit
    analyses: ConcurrencyLimit
    live_slots: LiveSlots
    inspection_slots: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(MAX_CHILDREN)
    )
    plan_slots: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(MAX_CHILDREN)
    )
    plans: SupersededBy = field(default_factory=SupersededBy)
    receiving: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(1))
    metrics: Metrics = field(default_factory=Metrics)

    def end_streams(self) -> None:
        """End all event streams and live sockets, so that the server can stop."""
        self.feed.close()
        self.live_slots.close()

    def close(self) -> None:
        """End all event streams and close the files."""
        self.feed.close()
        for queue in self.queues.values():
            queue.close()
        self.store.close()


def open_site(app: Flask, settings: Settings) -> SiteContext:
    """Open a site's database and queues, and attach them to the application."""
    limits, store = settings.limits, JobStore(settings.database)
    site = SiteContext(
        settings=settings,
        store=store,
        queues={lane: JobQueue(settings, lane) for lane in LANES.values()},
        feed=JobFeed(store),
        requests=RateLimit(limits.requests_per_second, limits.burst),
        logins=RateLimit(limits.logins_per_minute / 60, limits.logins_per_minute),
        streams=ConcurrencyLimit(limits.streams_per_client),
        sockets=ConcurrencyLimit(limits.streams_per_client),
        analyses=ConcurrencyLimit(limits.uploads_per_client),
        live_slots=LiveSlots(limits.live_clients),
    )
    app.extensions[EXTENSION] = site
    return site


def current_site() -> SiteContext:
    """The site of the current request."""
    site: SiteContext = current_app.extensions[EXTENSION]
    return site
