"""The site's state in the server process."""

from __future__ import annotations

from flask import Flask

from sharpreel.web.context import current_site
from sharpreel.web.jobs.queue import LANES
from tests.support.site_app import site_of


def test_the_current_site_is_that_of_the_application(app: Flask) -> None:
    with app.test_request_context("/"):
        assert current_site() is site_of(app)
    assert set(site_of(app).queues) == set(LANES.values())


def test_ending_the_streams_ends_subscriptions(app: Flask) -> None:
    site = site_of(app)
    changes = site.feed.follow()
    next(changes)
    site.end_streams()
    assert list(changes) == []
