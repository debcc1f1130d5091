"""The connection of one check, from TCP to its end: what the server does becomes events, and a failure an explanation.

Knows TLS, the answer to the opening handshake, and Autobahn's client. Must never know what is echoed, nor in which
order a check does things.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from autobahn.exception import Disconnected
from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from echod.check import http2, http_answer
from echod.check.client import Client, ClientFactory, request_head
from echod.check.client_tls import UntrustedError, Verifier
from echod.check.http2 import Tunnel
from echod.check.http_answer import Answer, NotHttpError
from echod.check.messages import SHOWN
from echod.check.report import Fault, Plan, Report, Step, printable
from echod.core.counts import NO_CODE
from echod.core.printable import describe_message
from echod.http import ws_url
from echod.upstream import tls_sessions

BODY_WAIT = 1.0
"""Seconds to wait for the rest of a refusal's body, which only explains the refusal."""


# The events, in the order in which a check meets them.


@dataclass(frozen=True, slots=True)
class Opened:
    """The opening handshake is over."""


@dataclass(frozen=True, slots=True)
class Message:
    """The server sent a message."""

    payload: bytes
    is_binary: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The server sent a Close frame."""

    code: int | None
    reason: bytes | None

    def __str__(self) -> str:
        return f"Close {self.code or NO_CODE} {(self.reason or b'').decode(errors='replace')}".rstrip()


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection has ended, or can't be used any more."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Silence:
    """A wait is over, and nothing came. The check puts this event into the queue."""


Event = Opened | Message | Closed | Lost | Silence


class Connection:
    """The connection of one check. It is the `Listener` of its client."""

    def __init__(self, reactor: Any, plan: Plan, report: Report, enter: Callable[[Step], None]) -> None:
        """`enter` begins a step of the check."""
        self._reactor = reactor
        self._plan = plan
        self._report = report
        self._enter = enter
        self.events: DeferredQueue[Event] = DeferredQueue()
        protocols = [http2.ALPN] if plan.is_http2 else []
        self.verifier = Verifier(plan.target, plan.is_insecure, protocols) if plan.target.is_secure else None
        self.factory = ClientFactory(reactor, plan, self)
        self.sending = ""
        """The message whose echo is awaited, in words."""
        self._client: Client | None = None
        self._ended: Deferred[None] = Deferred()
        self._body_wait: IDelayedCall | None = None
        self._received = b""
        self._answer: Answer | None = None
        self._tunnel: Tunnel | None = None

    # What the check does.

    def send(self, payload: bytes, is_binary: bool) -> None:
        """Send a message. If there is no connection any more, the event that says why has come already."""
        assert self._client is not None
        with suppress(Disconnected):
            self._client.sendMessage(payload, is_binary)

    def close(self) -> None:
        """Begin the closing handshake."""
        assert self._client is not None
        with suppress(Disconnected):
            self._client.sendClose(1000)

    async def end(self) -> None:
        """Reset the connection if it has not ended, and wait for its end."""
        if self._body_wait is not None and self._body_wait.active():
            self._body_wait.cancel()
        if self._client is not None and self._client.transport is not None:
            self._client.transport.abortConnection()
            await self._ended

    def describe_begin(self) -> str:
        """Return the first bytes of the answer to the opening handshake, in a line; empty if none came."""
        return f"came: {describe_message(self._received, True, SHOWN)}" if self._received else ""

    # The way to an open connection.

    def connected(self, client: Client) -> None:
        """There is a TCP connection: begin TLS, or ask for the upgrade."""
        self._client = client
        peer = client.transport.getPeer()
        self._report.peer = ws_url.join(peer.host, peer.port)
        if self.verifier is not None:
            self._enter(Step.TLS)
        else:
            self._request()

    def secured(self) -> None:
        """The TLS handshake is over: check the certificate's names, and ask for the upgrade."""
        assert self.verifier is not None
        self._report.tls = printable(self.verifier.describe())
        try:
            self.verifier.check_name()
        except UntrustedError as error:
            self._lose(Fault(Step.TLS, str(error)))
            return
        if self._plan.is_http2:
            self._enter(Step.ALPN)
            if self.verifier.protocol != http2.ALPN.decode():
                self._lose(Fault(Step.ALPN, f"the server agreed on {self.verifier.protocol or 'no protocol'}, not h2"))
                return
        self._request()

    def _request(self) -> None:
        assert self._client is not None
        if self._plan.is_http2:
            self._enter(Step.SETTINGS)
            scheme = "https" if self._plan.target.is_secure else "http"
            self._client.transport = self._tunnel = Tunnel(self._client.transport, scheme, self)
        else:
            self._enter(Step.HTTP)
        key = b64encode(os.urandom(16)).decode()
        self._client.request(key, request_head(self._plan, key))

    def announced(self) -> None:
        """The server takes an extended CONNECT, and it has been sent."""
        self._enter(Step.CONNECT)

    def noted(self, what: str) -> None:
        """Note what came, though it is no failure."""
        self._report.note(printable(what))

    def tunnel_failed(self, why: str, hint: str = "") -> None:
        """HTTP/2 can't go on."""
        self._lose(Fault(self._report.step, why, [hint]))

    def received(self, data: bytes) -> None:
        """Take bytes of the connection's."""
        if self._tunnel is None:
            self.came(data)
        else:
            self._tunnel.received(data)

    def came(self, data: bytes) -> None:
        """Collect the answer to the opening handshake. Pass on to Autobahn what is more."""
        if self._report.step not in (Step.TLS, self._asking):
            self._feed(data)
            return
        try:
            self._received = http_answer.skip_interim(self._received + data)
            if http_answer.split_head(self._received):
                self._judge(http_answer.parse(self._received))
        except NotHttpError as error:
            self._lose(Fault(self._asking, str(error), [self.describe_begin()]))

    @property
    def _asking(self) -> Step:
        """The step in which the server answers the opening handshake."""
        return Step.CONNECT if self._plan.is_http2 else Step.HTTP

    def _judge(self, answer: Answer) -> None:
        is_first, self._answer = self._answer is None, answer
        if answer.status == 101:
            self._enter(Step.UPGRADE)
            self._feed(self._received)
        elif answer.is_whole:
            self._refused()
        elif is_first:
            self._body_wait = self._reactor.callLater(BODY_WAIT, self._refused)

    def _refused(self) -> None:
        self._lose(self._refusal())

    def _feed(self, data: bytes) -> None:
        assert self._client is not None
        try:
            self._client.feed(data)
        except Exception as error:
            # Autobahn raises any kind of exception for some invalid bytes, such as a malformed deflated message.
            why = str(error) or type(error).__name__
            self._lose(Fault(self._report.step, f"what the server sent is not valid: {why}"))

    def opened(self, subprotocol: str | None, extensions: Sequence[str]) -> None:
        """The opening handshake is over, and correct: check that the server chose what the plan needs."""
        self._report.subprotocol = printable(subprotocol or "")
        self._report.extensions = list(extensions)
        if self._plan.subprotocols and not subprotocol:
            offered = ", ".join(self._plan.subprotocols)
            self._lose(self._no_upgrade(f"the server chose no subprotocol; offered: {offered}"))
            return
        if self._plan.offers_compression and not extensions:
            self._report.note("the server didn't accept permessage-deflate")
        self.events.put(Opened())

    # An open connection.

    def message_came(self, payload: bytes, is_binary: bool) -> None:
        """Put the event into the queue."""
        self.events.put(Message(payload, is_binary))

    def close_came(self, code: int | None, reason: bytes | None) -> None:
        """Put the event into the queue."""
        self.events.put(Closed(code, reason))

    # The end, and its reason.

    def lost(self, reason: Failure) -> None:
        """Put the event into the queue, with an explanation."""
        self._lose(self._loss(reason))
        self._ended.callback(None)

    def _lose(self, fault: Fault) -> None:
        """Tell the check what is wrong. The connection's end comes later, with a less exact reason."""
        self.events.put(Lost(fault))

    def _refusal(self) -> Fault:
        assert self._answer is not None
        wanted = 200 if self._plan.is_http2 else 101
        return Fault(self._asking, f"status {self._answer.line} instead of {wanted}", self._seen_in_answer())

    def _no_upgrade(self, why: str) -> Fault:
        assert self._answer is not None
        return Fault(Step.UPGRADE, why, [f"HTTP status: {self._answer.line}", *self._seen_in_answer()])

    def _seen_in_answer(self) -> list[str]:
        assert self._answer is not None
        hint = self._answer.hint(self._plan.is_http2)
        return [*self._answer.describe(), f"perhaps: {hint}" if hint else ""]

    def _loss(self, reason: Failure) -> Fault:
        step, why = self._report.step, self._end_of(reason)
        match step:
            case Step.TLS:
                assert self.verifier is not None
                is_mute = not self.verifier.why and not isinstance(reason.value, SSL.Error)
                hint = "perhaps: the server doesn't speak TLS on this port; then it is ws://" if is_mute else ""
                step = Step.ALPN if "application protocol" in why else step
                return Fault(step, self.verifier.why or f"{why} in the TLS handshake", [hint])
            case Step.HTTP | Step.CONNECT if self._answer is not None:
                return self._refusal()
            case Step.SETTINGS:
                hint = "perhaps: the server speaks HTTP/1.1 alone on this port, or TLS"
                return Fault(step, f"{why} before its SETTINGS came", [hint])
            case Step.HTTP | Step.CONNECT:
                # Most TLS servers answer plain HTTP with silence and a close.
                hint = "" if self._received else "perhaps: the server speaks TLS on this port; then it is wss://"
                return Fault(step, f"{why} before it had answered the opening handshake", [self.describe_begin(), hint])
            case Step.UPGRADE:
                return self._no_upgrade(why)
        is_ours = self._client is not None and self._client.why
        return Fault(step, f"{self.sending}: {why}" if is_ours else f"{why} instead of an echo of {self.sending}")

    def _end_of(self, reason: Failure) -> str:
        assert self._client is not None
        if self._client.why:
            return self._client.why
        error = reason.value
        reasons = tls_sessions.tls_fault(error)
        if reasons is not None:
            is_plain = "wrong version number" in reasons or "packet length too long" in reasons
            return f"the server doesn't speak TLS on this port ({reasons})" if is_plain else f"TLS failed ({reasons})"
        if isinstance(error, ConnectionDone) or not isinstance(error, ConnectionClosed):
            return "the server closed the connection"
        return "the connection was reset"
