"""What the server process knows of its site: settings, table, queues, and who is inside."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app

from sharpreel.web.feed import Feed
from sharpreel.web.gates import Gate, Latest, Rate
from sharpreel.web.metrics import Metrics
from sharpreel.web.queue import Queue, lanes
from sharpreel.web.settings import Settings
from sharpreel.web.store import Store

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
    store: Store
    queues: dict[str, Queue]
    feed: Feed
    requests: Rate
    logins: Rate
    streams: Gate
    sockets: Gate
    looking: Gate
    looks: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOKS))
    plans: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(LOOKS))
    planning: Latest = field(default_factory=Latest)
    receiving: Gate = field(default_factory=lambda: Gate(1))
    metrics: Metrics = field(default_factory=Metrics)

    def close(self) -> None:
        """End all streams and let go of the files."""
        self.feed.close()
        for queue in self.queues.values():
            queue.close()
        self.store.close()


def open_site(app: Flask, settings: Settings) -> Site:
    """Open a site's table and queues, and let the application know it."""
    limits, store = settings.limits, Store(settings.database)
    here = Site(
        settings=settings,
        store=store,
        queues={lane: Queue(settings, lane) for lane in lanes()},
        feed=Feed(store),
        requests=Rate(limits.requests_per_second, limits.burst),
        logins=Rate(limits.logins_per_minute / 60, limits.logins_per_minute),
        streams=Gate(limits.streams_per_client),
        sockets=Gate(limits.streams_per_client),
        looking=Gate(limits.uploads_per_client),
    )
    app.extensions[KEY] = here
    return here


def site() -> Site:
    """The site of the request that is being answered."""
    found: Site = current_app.extensions[KEY]
    return found
