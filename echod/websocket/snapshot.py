"""The state of one connection at one moment, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from echod.core.counts import ServedBy, Traffic
from echod.http.extensions import Terms

PATH_CUT = 256
"""Characters of a path that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A connection at one moment. Text that the client chose is as the client sent it."""

    number: str

    peer: tuple[str, int] | None
    """The IP address and port at the other end of the socket, which may be a proxy's; None for a Unix socket."""

    client: str | None
    """The client's IP address; None before the request head has arrived, and over a Unix socket."""

    path: str

    since: float
    """When the opening handshake ended, by the factory's clock; before that, when the connection was accepted."""

    state: str
    """`connecting`, `open`, `closing` or `closed`, as in RFC 6455."""

    traffic: Traffic

    buffered: int
    """How many bytes of memory are held for it."""

    is_backpressured: bool
    """Whether it is not read because of its client, its URL, or a lack of room."""

    lane: ServedBy

    subprotocol: str | None

    extensions: list[str]
    """The names of the extensions in use."""

    terms: Terms | None
    """What was agreed on for permessage-deflate; None without it."""

    http: str = "1.1"
    """The version of HTTP over which it came."""

    stream: int | None = None
    """The number of its stream; None over HTTP/1.1."""

    is_traced: bool = False
    """Whether its last frames are kept."""
