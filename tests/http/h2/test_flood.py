"""What a client may do often, and no more often."""

from __future__ import annotations

from echod.http.h2.flood import Allowance


def test_it_may_be_used_up_at_once_and_comes_back_evenly() -> None:
    allowance = Allowance({"pings": 10}, 5.0)
    assert all(allowance.use("pings", 100.0) for _ in range(10))
    assert not allowance.use("pings", 100.0)
    assert [allowance.use("pings", 101.0) for _ in range(3)] == [True, True, False]
    assert all(allowance.use("pings", 1000.0) for _ in range(10))
    assert not allowance.use("pings", 1000.0)


def test_each_kind_has_its_own() -> None:
    allowance = Allowance({"pings": 1, "resets": 1}, 5.0)
    assert allowance.use("pings", 0.0)
    assert allowance.use("resets", 0.0)
    assert not allowance.use("pings", 0.0)
