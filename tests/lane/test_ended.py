"""What a lease leaves: mostly nothing."""

from __future__ import annotations

from echod.lane.ended import Ended


def test_a_lease_that_was_between_messages() -> None:
    """What only few leases leave has a default."""
    ended = Ended(unsent=b"", rest=b"", is_over=False, is_lost=False)
    assert (ended.window, ended.fragments, ended.large, ended.is_recalled) == (b"", 0, None, False)
