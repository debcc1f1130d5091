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
from echod.websocket.connection import Connection

SHOWN = 128
"""How many characters of a path or a subprotocol are shown."""

_STATES = {
    Connection.STATE_CONNECTING: "connecting",
    Connection.STATE_OPEN: "open",
    Connection.STATE_CLOSING: "closing",
    Connection.STATE_CLOSED: "closed",
}


def describe(connection: Connection, now: float) -> dict[str, Any]:
    """Return what the admin site tells of a live connection. `now` is the time by the factory's clock."""
    traffic = connection.traffic
    return {
        "peer": describe_peer(connection.transport.getPeer()),
        "client": connection.address,
        "path": _shown(connection.path),
        "age": round(now - connection.since, 3),
        "state": _STATES[connection.state],
        "received": {"messages": traffic.received_messages, "octets": traffic.received_octets},
        "sent": {"messages": traffic.sent_messages, "octets": traffic.sent_octets},
        "buffered": connection.count(),
        "backpressured": connection.is_backpressured,
        "lane": connection.lane_name,
        "subprotocol": _shown(connection.subprotocol),
        "extensions": connection.extensions,
        "compression": Compression.OFF if connection.terms is None else connection.terms.name,
    }


def describe_peer(peer: Any) -> str:
    """Return the address at the other end of the socket. It may be a proxy's."""
    return ws_url.join(plain_address(peer.host), peer.port) if hasattr(peer, "host") else "unix"


def _shown(words: str | None) -> str | None:
    if words is None or len(words) <= SHOWN:
        return words and escape(words)
    return escape(words[:SHOWN]) + "…"
