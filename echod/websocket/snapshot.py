"""What there is to tell of one connection at one moment, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from echod.core.counts import Traffic
from echod.http.extensions import Terms

PATH_CUT = 256
"""Characters of a path that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection at one moment. What a client chose in it is as the client sent it."""

    peer: Any
    """The address of the other end of the socket, as Twisted has it. It may be a proxy's."""

    client: str | None
    """The client's IP address; None before the request head is there, and over a Unix socket."""

    path: str

    since: float
    """When the opening handshake was over, by the factory's clock; before that, when the connection was accepted."""

    state: str
    """`connecting`, `open`, `closing` or `closed`, as in RFC 6455."""

    traffic: Traffic

    buffered: int
    """The octets that are held for it."""

    is_backpressured: bool
    """Whether it is not read because of its client, its URL, or want of room."""

    lane: str
    """What serves it: `pump`, `codec` or `autobahn`."""

    subprotocol: str | None

    extensions: list[str]
    """The names of those in use."""

    terms: Terms | None
    """What was agreed on for permessage-deflate; None without it."""
