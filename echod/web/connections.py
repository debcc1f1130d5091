"""The list of live connections, a page at a time.

Knows what a connection tells of itself. What a client had a say in (path, subprotocol) is escaped and cut, so that it
does nothing to the terminal of whoever looks. Must never go through all connections for the sake of a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from echod.core.log import escape
from echod.http import ws_url
from echod.http.client_address import plain_address
from echod.settings import Compression
from echod.web.resources import Answer, text
from echod.websocket.protocol import EchoProtocol

if TYPE_CHECKING:
    from echod.web.sources import Source

JSON = "application/json"

PER_PAGE = 100

SHOWN = 128
"""Characters of a path or a subprotocol that are shown."""

_STATES = {
    EchoProtocol.STATE_CONNECTING: "connecting",
    EchoProtocol.STATE_OPEN: "open",
    EchoProtocol.STATE_CLOSING: "closing",
    EchoProtocol.STATE_CLOSED: "closed",
}


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list."""

    number: int = 1
    size: int = PER_PAGE

    @classmethod
    def parse(cls, arguments: Mapping[bytes, list[bytes]], largest: int) -> Page:
        """Read `page` and `per-page`, of which no more than `largest` is given; raises `ValueError`, whose text names
        the parameter."""
        return cls(_parse(arguments, "page", 1), min(_parse(arguments, "per-page", PER_PAGE), largest))


def _parse(arguments: Mapping[bytes, list[bytes]], name: str, default: int) -> int:
    values = arguments.get(name.encode(), [b"%d" % default])
    if len(values) != 1 or not re.fullmatch(rb"[1-9][0-9]{0,8}", values[0]):
        raise ValueError(f"{name} is to be a whole number of at least 1, given once.")
    return int(values[0])


def render(source: Source, arguments: Mapping[bytes, list[bytes]]) -> Answer | Deferred[Answer]:
    """Answer with the page that is asked for."""
    try:
        page = Page.parse(arguments, source.settings.max_page)
    except ValueError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    return source.connections((page.number - 1) * page.size, page.size).addCallback(lambda found: _answer(page, *found))


def _answer(page: Page, total: int, listed: Sequence[dict[str, Any]]) -> Answer:
    about = {"total": total, "page": page.number, "per-page": page.size, "pages": max(1, -(-total // page.size))}
    # A line for each is as good to read as indented JSON, which Python writes at a fifth of the speed.
    lines = ",\n".join(json.dumps(connection) for connection in listed)
    return Answer(HTTPStatus.OK, JSON, f'{json.dumps(about)[:-1]}, "connections": [\n{lines}\n]}}\n'.encode())


def describe(connection: EchoProtocol, now: float) -> dict[str, Any]:
    """Return what there is to tell of a live connection at the time `now` of the factory's clock."""
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
    """Return the address at the other end of the socket, which may be a proxy's."""
    return ws_url.join(plain_address(peer.host), peer.port) if hasattr(peer, "host") else "unix"


def _shown(words: str | None) -> str | None:
    if words is None or len(words) <= SHOWN:
        return words and escape(words)
    return escape(words[:SHOWN]) + "…"
