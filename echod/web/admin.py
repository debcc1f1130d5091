"""The admin site, `--admin`: whether the daemon is alive and ready, its metrics, its live connections, its settings.

The site has limits of its own, so that nobody who can reach it does harm. It keeps few connections, and resets the
oldest if there are too many. Each answer has a deadline. It keeps no request body.

Knows what is shown where, and how its own connections end. Must never touch a WebSocket connection: it only looks.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from echod.core.deadlines import Deadlines, Ticker
from echod.web import listing, overview, traced
from echod.web.answers import JSON, Answer, accepts_gzip, text
from echod.web.metrics.exposition import make_registry
from echod.web.metrics.values import AllValues
from echod.web.resources import QuietRequest, Render, make_site, send
from echod.web.sources import Source
from echod.websocket.factory import State

LAST_WORDS = 1.0
"""Seconds that clients have at the end to take their answers."""


_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]*?)\.?)(?::[0-9]*)?")
"""A host with or without a port (RFC 9110 section 7.2). The first group is an IPv6 address, the second is an IPv4
address or a name."""

MISDIRECTED = text(
    HTTPStatus.MISDIRECTED_REQUEST,
    "The admin site answers to IP addresses, to localhost, and to names given by --admin-host NAME; this "
    "request is for none of them.",
)


def is_own_host(authority: bytes, names: Sequence[str]) -> bool:
    """Tell whether a request for this host, perhaps with a port, is answered. `names` are those that the operator
    allows.

    An IP address, `localhost`, or no host at all is always allowed. A page of another site can't make a browser send
    one of these: that page has a name of its own.
    """
    host = _HOST.fullmatch(authority.decode("latin-1"))
    if host is None:
        return False
    if host[1]:
        return _is_address(IPv6Address, host[1])
    name = host[2].lower()
    return name in ("", "localhost", *names) or name.endswith(".localhost") or _is_address(IPv4Address, name)


def _is_address(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


class AdminRequest(QuietRequest):
    """A request. It must be for one of the site's own hosts, and its body is not kept."""

    def __init__(self, names: Sequence[str], *arguments: Any) -> None:
        """`names` are the hosts that the operator allows. The other arguments are those of `QuietRequest`."""
        super().__init__(*arguments)
        self._names = names

    def process(self) -> None:
        """Answer a request for one of the site's own hosts; refuse any other."""
        hosts = self.hosts()
        # With more than one Host field, nobody knows which one counts (RFC 9112 section 3.2).
        if len(hosts) <= 1 and all(is_own_host(host, self._names) for host in hosts):
            super().process()
        else:
            send(MISDIRECTED, self)

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002  # twisted.web passes it
        """Reserve no memory for the body, however large it is."""
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Drop a part of the body."""


class AdminConnection(ProtocolWrapper):
    """A connection with a deadline. It runs from the accept, or from the last answer, to the end of the next answer."""

    factory: AdminSite

    def write(self, data: bytes) -> None:
        """Write a part of an answer."""
        self.factory.answered(self)
        super().write(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:
        """Write the parts of an answer."""
        self.factory.answered(self)
        super().writeSequence(data)


class AdminSite(WrappingFactory):
    """The site, as the factory of its listening ports. Close these before `stop`."""

    noisy = False
    protocol = AdminConnection

    def __init__(self, source: Source, clock: Any) -> None:
        """`clock` is the reactor."""
        below = {"/connections": lambda number: _squeezed(lambda _: traced.render(source, number))}
        site = make_site(_pages(source, clock), "There is no such page; see /.", clock, None, below)
        # Twisted calls the attribute as it would call the class.
        site.requestFactory = partial(AdminRequest, source.settings.admin_hosts)  # type: ignore[assignment]
        super().__init__(site)
        self._clock = clock
        self._most = source.settings.max_admin_connections
        self._ticker = Ticker(clock)
        # The connections that may stay, the oldest first.
        self._open: dict[AdminConnection, None] = {}
        self._deadlines: Deadlines[AdminConnection] = Deadlines(self._ticker, source.settings.admin_timeout, _reset)
        self._stopped: Deferred[None] | None = None
        self._last_call: IDelayedCall | None = None

    def registerProtocol(self, p: AdminConnection) -> None:
        """Take in a connection. If there are too many, reset the oldest."""
        super().registerProtocol(p)
        self._open[p] = None
        self._deadlines.add(p)
        if len(self._open) > self._most:
            oldest = next(iter(self._open))
            del self._open[oldest]
            _reset(oldest)

    def answered(self, p: AdminConnection) -> None:
        """Restart the deadline of a connection."""
        if p in self._deadlines:
            self._deadlines.add(p)

    def unregisterProtocol(self, p: AdminConnection) -> None:
        """Forget a connection."""
        super().unregisterProtocol(p)
        self._open.pop(p, None)
        self._deadlines.discard(p)
        if self._stopped is not None and not self.protocols:
            self._finish()

    def stop(self) -> Deferred[None]:
        """Close all connections. The Deferred fires when the last one has ended."""
        self._stopped = Deferred()
        stopped = self._stopped
        self._last_call = self._clock.callLater(LAST_WORDS, self._for_each, _reset)
        self._for_each(ProtocolWrapper.loseConnection)
        if not self.protocols:
            self._finish()
        return stopped

    def _for_each(self, end: Callable[[AdminConnection], object]) -> None:
        for connection in list(self.protocols):
            end(connection)

    def _finish(self) -> None:
        stopped, self._stopped = self._stopped, None
        assert stopped is not None
        assert self._last_call is not None
        if self._last_call.active():
            self._last_call.cancel()
        self._ticker.stop()
        stopped.callback(None)


def _reset(connection: AdminConnection) -> None:
    # A connection has a transport from its first event on.
    connection.transport.abortConnection()  # type: ignore[union-attr]


# The pages.


def _pages(source: Source, clock: Any) -> dict[str, Render]:
    latest: AllValues = {}
    registry = make_registry(lambda: latest, source.processes)

    def exposition(request: Any) -> Deferred[Answer]:
        encode, content_type = _choose_encoder(request.getHeader(b"Accept") or b"")

        def answer(values: AllValues) -> Answer:
            latest.clear()
            latest.update(values)
            return Answer(HTTPStatus.OK, content_type, encode(registry))

        return source.values().addCallback(answer)

    return {
        "/": _squeezed(overview.Overview(source, clock).render),
        "/healthz": lambda _: text(HTTPStatus.OK, "ok"),
        "/readyz": lambda _: describe_readiness(source.state),
        "/metrics": _squeezed(exposition),
        "/connections": _squeezed(lambda request: listing.render(source, request.args)),
        "/settings": lambda _: source.values().addCallback(lambda values: describe_settings(source, values)),
    }


def _choose_encoder(accept: bytes) -> tuple[Callable[[Any], bytes], str]:
    """Return the format for the value of Accept. A malformed value counts as none (RFC 9110 section 12.5.1)."""
    try:
        return choose_encoder(accept.decode())
    except (TypeError, ValueError):  # prometheus_client compares versions, which may not be numbers
        return choose_encoder("")


def describe_readiness(state: State) -> Answer:
    """Answer whether connections are accepted."""
    return text(HTTPStatus.OK if state is State.SERVING else HTTPStatus.SERVICE_UNAVAILABLE, state.value)


def describe_settings(source: Source, values: AllValues) -> Answer:
    """Answer with every setting as it is in force, under the name of its option. Sizes are in bytes, durations in
    seconds."""
    in_force = {
        "max_message_size": source.settings.message_limit,
        "max_connections": values["echod_connections_limit"].get((), 0),
    }
    settings = {name.replace("_", "-"): value for name, value in (asdict(source.settings) | in_force).items()}
    return Answer(HTTPStatus.OK, JSON, json.dumps(settings, indent=2).encode() + b"\n")


def _squeezed(render: Render) -> Render:
    """Return `render` with its answer compressed, if the client accepts that."""

    def squeezed(request: Any) -> Answer | Deferred[Answer]:
        answer = render(request)
        return (
            squeeze(request, answer)
            if isinstance(answer, Answer)
            else answer.addCallback(lambda answer: squeeze(request, answer))
        )

    def squeeze(request: Any, answer: Answer) -> Answer:
        vary = (*answer.headers, ("Vary", "Accept, Accept-Encoding"))
        if not accepts_gzip(request.getHeader(b"Accept-Encoding") or b""):
            return replace(answer, headers=vary)
        return replace(
            answer, body=gzip.compress(answer.body, 1, mtime=0), headers=(*vary, ("Content-Encoding", "gzip"))
        )

    return squeezed
