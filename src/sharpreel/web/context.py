"""What the server process knows of its site: settings, table, queues, and who is inside."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app

from sharpreel.web.http.metrics import Metrics
from sharpreel.web.http.rate_limits import ConcurrencyLimit, RateLimit, SupersededBy
from sharpreel.web.jobs.events import Feed
from sharpreel.web.jobs.queue import Queue, lanes
from sharpreel.web.jobs.store import JobStore
from sharpreel.web.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

LOOKS = 2  # uploads looked at, and as many plans made, at a time
KEY = "sharpreel"


@dataclass
class Site:
    """One site, as its server process sees it.

    Attributes:
        queues: A queue for each lane of workers.
        requests, logins: How often a client may come, and try a token.
        streams, sockets, looking: How many of them a client has open.
        looks, plans: Places for children that look at uploads, and for those that plan.
        planning: The newest plan that each client wants of each upload.
        receiving: Uploads that a request is writing now.
    """

    settings: Settings
    store: JobStore
    queues: dict[str, Queue]
    feed: Feed
    requests: RateLimit
    logins: RateLimit
    streams: ConcurrencyLimit
    sockets: ConcurrencyLimit
    looking: ConcurrencyLimit
    looks: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOKS))
    plans: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOKS))
    planning: SupersededBy = field(default_factory=SupersededBy)
    receiving: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(1))
    metrics: Metrics = field(default_factory=Metrics)

    def close(self) -> None:
        """End all streams and let go of the files."""
        self.feed.close()
        for queue in self.queues.values():
            queue.close()
        self.store.close()


def open_site(app: Flask, settings: Settings) -> Site:
    """Open a site's table and queues, and let the application know it."""
    limits, store = settings.limits, JobStore(settings.database)
    here = Site(
        settings=settings,
        store=store,
        queues={lane: Queue(settings, lane) for lane in lanes()},
        feed=Feed(store),
        requests=RateLimit(limits.requests_per_second, limits.burst),
        logins=RateLimit(limits.logins_per_minute / 60, limits.logins_per_minute),
        streams=ConcurrencyLimit(limits.streams_per_client),
        sockets=ConcurrencyLimit(limits.streams_per_client),
        looking=ConcurrencyLimit(limits.uploads_per_client),
    )
    app.extensions[KEY] = here
    return here


def site() -> Site:
    """The site of the request that is being answered."""
    found: Site = current_app.extensions[KEY]
    return found
