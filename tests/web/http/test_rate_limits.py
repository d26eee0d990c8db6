"""Token buckets, concurrency limits, and which addresses are one client."""

from __future__ import annotations

import pytest

from sharpreel.web.http.rate_limits import ConcurrencyLimit, RateLimit, SupersededBy, client_of


def test_token_buckets_refill_and_concurrency_is_counted_per_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    rate = RateLimit(2, 3)
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.5
    assert [rate.take("a"), rate.take("a")] == [0, 0.5]
    limit = ConcurrencyLimit(1)
    assert (limit.enter("a"), limit.enter("a"), limit.enter("b")) == (True, False, True)
    limit.leave("a")
    assert limit.enter("a")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str | None, client: str) -> None:
    assert client_of(address) == client


def test_a_newer_block_supersedes_an_older_one_with_the_same_key() -> None:
    plans = SupersededBy()
    with plans.newest("a") as first, plans.newest("b") as other, plans.newest("a") as second:
        assert (first.is_set(), other.is_set(), second.is_set()) == (True, False, False)
        plans.end("b")
        assert other.is_set()
    plans.end("a")
    assert not second.is_set()  # it had ended already
