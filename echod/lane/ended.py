"""What a lease leaves when it ends, as a value."""

from __future__ import annotations

from typing import NamedTuple

from echod.lane.large import Collected, Octets


class Ended(NamedTuple):
    """What a lease leaves to the connection."""

    unsent: bytes
    """Answers to send first. What a TLS session itself has to send goes before them."""

    rest: Octets
    """Received bytes to process first. What a TLS session itself has received comes after them."""

    is_over: bool
    """Whether the peer sends no more, or the connection is broken."""

    is_lost: bool
    """Whether bytes were lost, so that the connection must be reset."""

    window: bytes = b""
    """The last bytes of what the client's deflated messages inflated to, if the next message may refer to them."""

    fragments: int = 0
    """How many fragments the first frame in `rest` stands for: it has the payload of all of them. 0 if that frame is as
    the client sent it."""

    large: Collected | None = None
    """A large frame that is not complete, or is invalid. `rest` is empty then."""

    is_recalled: bool = False
    """Whether the lease ended because it was wanted back."""
