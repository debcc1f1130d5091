"""The admin site, `--admin`: whether the daemon is alive and ready, its metrics, its live connections, its settings.

It has limits of its own, so that whoever can reach it does no harm: few connections, of which the oldest goes when
there are too many, a deadline for each answer, no request bodies. Knows what is shown where, and the endings of its own
connections. Must never touch a WebSocket connection: it only looks.
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
from echod.web import listing, overview
from echod.web.answers import JSON, Answer, accepts_gzip, text
from echod.web.metrics.exposition import make_registry
from echod.web.metrics.values import AllValues
from echod.web.resources import QuietRequest, Render, make_site, send
from echod.web.sources import Source
from echod.websocket.factory import State

LAST_WORDS = 1.0
"""Seconds in which, at the end, answers that were given may still be taken."""


_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]*?)\.?)(?::[0-9]*)?")
"""A host with or without a port (RFC 9110 section 7.2): in one group an IPv6 address, in the other an IPv4 address or a
name."""

MISDIRECTED = text(
    HTTPStatus.MISDIRECTED_REQUEST,
    "The admin site answers to IP addresses, to localhost, and to names given by --admin-host NAME; this "
    "request is for none of them.",
)


def is_own_host(authority: bytes, names: Sequence[str]) -> bool:
    """Tell whether a request for this host, perhaps with a port, is answered; `names` are those that the operator
    allows.

    No page of another site can have a browser send an IP address, `localhost`, or no host at all: that page has a name
    of its own.
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
    """A request that must be for a host of the site's own, and whose body, which nobody has asked for, is not kept."""

    def __init__(self, names: Sequence[str], *arguments: Any) -> None:
        """`names` are the hosts that the operator allows; the rest is as with `QuietRequest`."""
        super().__init__(*arguments)
        self._names = names

    def process(self) -> None:
        """Answer what is for a host of the site's own; refuse the rest."""
        hosts = self.hosts()
        # More than one Host field says nothing that could be relied on (RFC 9112 section 3.2).
        if len(hosts) <= 1 and all(is_own_host(host, self._names) for host in hosts):
            super().process()
        else:
            send(MISDIRECTED, self)

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002
        """Make no room for it, be it large."""
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Drop it."""


class AdminConnection(ProtocolWrapper):
    """A connection with a deadline, from its begin or its last answer to the end of the next."""

    factory: AdminSite

    def write(self, data: bytes) -> None:
        """Write some of an answer."""
        self.factory.answered(self)
        super().write(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:
        """Write some of an answer."""
        self.factory.answered(self)
        super().writeSequence(data)


class AdminSite(WrappingFactory):
    """The site as a factory for its listeners; `stop` comes after them."""

    noisy = False
    protocol = AdminConnection

    def __init__(self, source: Source, clock: Any) -> None:
        """`clock` is the reactor."""
        site = make_site(_pages(source, clock), "There is no such page; see /.", clock, None)
        # called as one is
        site.requestFactory = partial(AdminRequest, source.settings.admin_hosts)  # type: ignore[assignment]
        super().__init__(site)
        self._clock = clock
        self._most = source.settings.max_admin_connections
        self._ticker = Ticker(clock)
        # Those that may stay, the oldest first.
        self._open: dict[AdminConnection, None] = {}
        self._deadlines: Deadlines[AdminConnection] = Deadlines(self._ticker, source.settings.admin_timeout, _reset)
        self._stopped: Deferred[None] | None = None
        self._last_call: IDelayedCall | None = None

    def registerProtocol(self, p: AdminConnection) -> None:
        """Take in a connection; who has been there longest makes room for it."""
        super().registerProtocol(p)
        self._open[p] = None
        self._deadlines.add(p)
        if len(self._open) > self._most:
            oldest = next(iter(self._open))
            del self._open[oldest]
            _reset(oldest)

    def answered(self, p: AdminConnection) -> None:
        """Let its deadline begin anew."""
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
        """Close all connections, and fire when the last has gone."""
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
    """Return the format for an Accept header; one that can't be read is taken for none (RFC 9110 section 12.5.1)."""
    try:
        return choose_encoder(accept.decode())
    except (TypeError, ValueError):  # prometheus_client compares versions that are no numbers with some that are
        return choose_encoder("")


def describe_readiness(state: State) -> Answer:
    """Answer whether connections are taken."""
    return text(HTTPStatus.OK if state is State.SERVING else HTTPStatus.SERVICE_UNAVAILABLE, state.value)


def describe_settings(source: Source, values: AllValues) -> Answer:
    """Answer with every setting and what follows from it, with the names of the options; sizes in octets, durations in
    seconds."""
    in_force = {
        "max_message_size": source.settings.message_limit,
        "max_connections": values["echod_connections_limit"].get((), 0),
    }
    settings = {name.replace("_", "-"): value for name, value in (asdict(source.settings) | in_force).items()}
    return Answer(HTTPStatus.OK, JSON, json.dumps(settings, indent=2).encode() + b"\n")


def _squeezed(render: Render) -> Render:
    """Return `render`, compressed for who takes that."""

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
