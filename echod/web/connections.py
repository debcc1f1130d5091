"""What the admin site tells of one live connection.

A client chose the path and the subprotocol. Both are escaped and cut, so that they can't harm the terminal of the
person who reads them. Must never know how a list of connections is shown: that is `listing.py`.
"""

from __future__ import annotations

from typing import Any

from echod.core.printable import escape
from echod.http import ws_url
from echod.http.client_address import plain_address
from echod.settings import Compression
from echod.websocket.snapshot import Snapshot

SHOWN = 128
"""How many characters of a path or a subprotocol are shown."""


def describe(connection: Snapshot, now: float) -> dict[str, Any]:
    """Return what the admin site tells of a live connection. `now` is the time by the factory's clock."""
    return {
        "number": connection.number,
        "traced": connection.is_traced,
        "peer": describe_peer(connection.peer),
        "client": connection.client,
        "http": connection.http,
        "stream": connection.stream,
        "path": _shown(connection.path),
        "age": round(now - connection.since, 3),
        "state": connection.state,
        "received": {"messages": connection.traffic.received_messages, "octets": connection.traffic.received_octets},
        "sent": {"messages": connection.traffic.sent_messages, "octets": connection.traffic.sent_octets},
        "buffered": connection.buffered,
        "backpressured": connection.is_backpressured,
        "lane": connection.lane,
        "subprotocol": _shown(connection.subprotocol),
        "extensions": connection.extensions,
        "compression": Compression.OFF if connection.terms is None else connection.terms.name,
    }


def describe_peer(peer: tuple[str, int] | None) -> str:
    """Return the address and port at the other end of the socket, which may be a proxy's."""
    return "unix" if peer is None else ws_url.join(plain_address(peer[0]), peer[1])


def _shown(words: str | None) -> str | None:
    if words is None or len(words) <= SHOWN:
        return words and escape(words)
    return escape(words[:SHOWN]) + "…"
