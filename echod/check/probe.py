"""The check of one WebSocket server: connect, have messages echoed, close; and at which step it failed, and what was
seen there.

Knows the steps in their order, and the one deadline that all of them share. Must never print, read a command line or
end the process: a `Plan` comes in, a `Report` goes out.
"""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from threading import Thread
from time import perf_counter
from typing import Any, cast

from autobahn.exception import Disconnected
from autobahn.twisted.websocket import WebSocketClientFactory
from autobahn.websocket.compress_deflate import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echod import __version__
from echod.check import http_answer
from echod.check.client_tls import UntrustedError, Verifier
from echod.check.http_answer import Answer, NotHttpError
from echod.core.counts import NO_CODE
from echod.core.printable import describe_message, escape
from echod.core.quantities import KIB, MIB, format_duration, format_size
from echod.http import ws_url
from echod.http.ws_url import Target
from echod.upstream import autobahn, tls_sessions

CLOSE_WAIT = 5.0
"""Seconds for the closing handshake at most, as the daemon takes itself."""

BODY_WAIT = 1.0
"""Seconds to wait for the rest of a refusal's body, which only explains it."""

GREETING_WAIT = 1.0
"""Seconds to wait for an echo behind a message that is none: some servers send one of their own first."""

MAX_SIZE = 256 * MIB
"""Octets of the longest message that is sent: it is held several times over."""

MAX_LINE = 200
"""Characters of a line that a server may bring about."""

_SHOWN = 32
"""Octets of an answer or a message that are shown."""


class Step(StrEnum):
    """What a check goes through, in this order. TLS is for `wss:` alone."""

    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    HTTP = "HTTP"
    UPGRADE = "upgrade"
    ECHO = "echo"
    CLOSE = "close"


class CheckOutcome(IntEnum):
    """How a check ended; the number is the exit status."""

    OK = 0
    WRONG_ECHO = 1
    NO_CONNECTION = 2
    TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be checked, and how."""

    target: Target
    count: int = 5
    """Messages of each type."""
    size: int = KIB
    """Octets of each message."""
    timeout: float = 10.0
    """Seconds for all of it."""
    is_insecure: bool = False
    """Take any certificate."""
    subprotocols: tuple[str, ...] = ()
    """Offered, and one of them has to be chosen."""
    fields: tuple[tuple[str, str], ...] = ()
    """More fields for the opening handshake; a Host or User-Agent replaces our own."""
    offers_compression: bool = False


class Fault(Exception):
    """A step that failed: what happened, and lines of what was seen. All of it can be printed as it is."""

    def __init__(self, step: Step, what: str, seen: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.step = step
        self.what = printable(what)
        self.seen = [printable(line) for line in seen if line]


@dataclass(slots=True)
class Report:
    """What came of it; of the texts each can be printed as it is."""

    plan: Plan
    outcome: CheckOutcome = CheckOutcome.OK
    step: Step = Step.DNS
    """The step that failed, or else the last."""
    what: str = ""
    """What failed; empty where nothing did."""
    seen: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    """What is odd, but no failure."""
    addresses: list[str] = field(default_factory=list)
    """What the host resolved to."""
    peer: str = ""
    """The address that took the connection."""
    tls: str = ""
    subprotocol: str = ""
    extensions: list[str] = field(default_factory=list)
    times: dict[Step, float] = field(default_factory=dict)
    """Seconds that each finished step took."""
    round_trips: list[float] = field(default_factory=list)
    """Seconds of each message's round trip, in the order of their sending."""


def printable(text: str) -> str:
    """Return `text` escaped and cut: a server can't reach the terminal, nor fill it."""
    text = escape(text[: MAX_LINE + 1])
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"


def make_text(size: int) -> bytes:
    """Return `size` octets of random UTF-8 with characters of one to four octets, as far as they fit in."""
    # Random UTF-16 has hardly a character that takes four octets, so that one leads the way.
    octets = ("é😀☕" + os.urandom(size).decode("utf-16-le", errors="ignore")).encode()[:size]
    octets = octets.decode(errors="ignore").encode()
    return octets + b"." * (size - len(octets))


def difference(sent: bytes, sent_binary: bool, got: bytes, got_binary: bool) -> str:
    """Return how an echo differs from what was sent; empty if it doesn't."""
    kinds = ("text", "binary")
    found = [f"type: {kinds[sent_binary]} sent, {kinds[got_binary]} came back"] if sent_binary != got_binary else []
    if len(sent) != len(got):
        found.append(f"length: {len(sent)} octets sent, {len(got)} came back")
    if (at := _first_difference(sent, got)) < min(len(sent), len(got)):
        found.append(f"octet {at}: {sent[at]:02x} sent, {got[at]:02x} came back")
    return "; ".join(found)


def _first_difference(one: bytes, other: bytes) -> int:
    piece = 64 * KIB
    start = next((at for at in range(0, len(one), piece) if one[at : at + piece] != other[at : at + piece]), len(one))
    pairs = enumerate(zip(one[start : start + piece], other[start : start + piece], strict=False), start)
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def request_head(plan: Plan, key: str) -> bytes:
    """Return the client's opening handshake (RFC 6455 section 4.1)."""
    fields = [("Host", plan.target.host_field), ("User-Agent", f"echod/{__version__}")]
    names = {name.lower() for name, _ in plan.fields}
    fields = [(name, value) for name, value in fields if name.lower() not in names]
    fields += [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if plan.subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(plan.subprotocols)))
    if plan.offers_compression:
        fields.append(("Sec-WebSocket-Extensions", PerMessageDeflateOffer().get_extension_string()))
    lines = [f"GET {plan.target.resource} HTTP/1.1", *(f"{name}: {value}" for name, value in [*fields, *plan.fields])]
    return "\r\n".join([*lines, "", ""]).encode()


# What a connection brings about, in the order in which the check meets it.


@dataclass(frozen=True, slots=True)
class _Opened:
    """The opening handshake is over."""


@dataclass(frozen=True, slots=True)
class _Message:
    """The server sent a message."""

    payload: bytes
    is_binary: bool


@dataclass(frozen=True, slots=True)
class _Closed:
    """The server sent a Close frame."""

    code: int | None
    reason: bytes | None

    def __str__(self) -> str:
        return f"Close {self.code or NO_CODE} {(self.reason or b'').decode(errors='replace')}".rstrip()


@dataclass(frozen=True, slots=True)
class _Lost:
    """There is no connection any more."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class _Silence:
    """It took too long."""


_Event = _Opened | _Message | _Closed | _Lost | _Silence


async def run(
    reactor: Any,
    plan: Plan,
    tell: Callable[[str], None] = lambda _: None,
    getaddrinfo: Callable[..., Any] = socket.getaddrinfo,
) -> Report:
    """Check, and report; `tell` gets a line at each step."""
    return await _Check(reactor, plan, tell, getaddrinfo).run()


class _Check:
    """One check. What its connection brings about comes through the methods, and waits in `_events`."""

    def __init__(self, reactor: Any, plan: Plan, tell: Callable[[str], None], getaddrinfo: Callable[..., Any]) -> None:
        self._reactor = reactor
        self.plan = plan
        self._tell = tell
        self._report = Report(plan)
        self._began = perf_counter()
        self._resolver = _Resolver(reactor, plan.target, getaddrinfo, self._resolved)
        self._verifier = Verifier(plan.target, plan.is_insecure) if plan.target.is_secure else None
        self._events: DeferredQueue[_Event] = DeferredQueue()
        self._client: _Client | None = None
        self._ended: Deferred[None] = Deferred()
        self._calls: list[IDelayedCall] = []
        self._is_late = False
        self._received = b""
        self._answer: Answer | None = None
        self._sending = ""

    # The steps.

    async def run(self) -> Report:
        work = Deferred.fromCoroutine(self._check())
        self._calls.append(self._reactor.callLater(self.plan.timeout, self._give_up, work))
        try:
            await work
        except Exception as error:
            if not self._is_late and not isinstance(error, Fault):
                raise
            self._take(self._late_fault() if self._is_late else cast(Fault, error))
        finally:
            for call in self._calls:
                if call.active():
                    call.cancel()
            if self._client is not None and self._client.transport is not None:
                self._client.transport.abortConnection()
                await self._ended
        return self._report

    async def _check(self) -> None:
        await self._connect()
        opened = await self._events.get()
        if isinstance(opened, _Lost):
            raise opened.fault
        self._next(Step.ECHO)
        for number in range(self.plan.count):
            await self._echo(2 * number + 1, make_text(self.plan.size), False)
            await self._echo(2 * number + 2, os.urandom(self.plan.size), True)
        self._next(Step.CLOSE)
        await self._close()

    async def _connect(self) -> None:
        factory = _Factory(self)
        # HostnameEndpoint takes no name with an underscore in it, which those of containers may have; the resolver
        # knows the real one. The check's own deadline comes first.
        endpoint: Any = HostnameEndpoint(
            self._reactor, "target.invalid", self.plan.target.port, timeout=self.plan.timeout + 1
        )
        if self._verifier is not None:
            endpoint = wrapClientTLS(self._verifier, endpoint)
        previous = self._reactor.installNameResolver(self._resolver)
        try:
            await endpoint.connect(factory)
        except DNSLookupError as error:
            raise Fault(
                Step.DNS, f"{self.plan.target.host} doesn't resolve: {self._resolver.why or 'it has no address'}"
            ) from error
        except ConnectError as error:
            why = os.strerror(error.osError) if (error.osError or 0) > 0 else str(error).rstrip(".")
            raise Fault(Step.TCP, f"{why}, at {self._addresses()}") from error
        finally:
            self._reactor.installNameResolver(previous)

    async def _echo(self, number: int, payload: bytes, is_binary: bool) -> None:
        kind = "binary" if is_binary else "text"
        self._sending = f"message {number} of {2 * self.plan.count} ({kind}, {format_size(len(payload))})"
        self._tell(self._sending)
        assert self._client is not None
        began = perf_counter()
        with suppress(Disconnected):  # why it is gone has come already
            self._client.sendMessage(payload, is_binary)
        match await self._events.get():
            case _Message() as got:
                if number == 1 and difference(payload, is_binary, got.payload, got.is_binary):
                    got = await self._behind_greeting(got, payload, is_binary)
                round_trip = perf_counter() - began
                if differs := difference(payload, is_binary, got.payload, got.is_binary):
                    seen = describe_message(got.payload, got.is_binary, _SHOWN)
                    raise Fault(Step.ECHO, f"{self._sending} came back wrong: {differs}", [f"came back: {seen}"])
                self._report.round_trips.append(round_trip)
            case _Closed() as closed:
                raise Fault(Step.ECHO, f"{closed} came instead of an echo of {self._sending}")
            case end:
                raise cast(_Lost, end).fault

    async def _behind_greeting(self, first: _Message, payload: bytes, is_binary: bool) -> _Message:
        """Return the echo that comes behind the server's first message, which is none; without an echo, that
        message."""
        call = self._reactor.callLater(GREETING_WAIT, self._events.put, _Silence())
        second = await self._events.get()
        if call.active():
            call.cancel()
        if not isinstance(second, _Message) or difference(payload, is_binary, second.payload, second.is_binary):
            return first
        self._note(
            "the server greets: before the first echo it sent "
            f"{describe_message(first.payload, first.is_binary, _SHOWN)}"
        )
        return second

    async def _close(self) -> None:
        assert self._client is not None
        with suppress(Disconnected):
            self._client.sendClose(1000)
        self._calls.append(self._reactor.callLater(CLOSE_WAIT, self._events.put, _Silence()))
        answer: _Closed | None = None
        while True:
            match await self._events.get():
                case _Message() as more:
                    seen = describe_message(more.payload, more.is_binary, _SHOWN)
                    raise Fault(Step.ECHO, "the server sent a message more than it got", [f"came: {seen}"])
                case _Closed() as answer:
                    if answer.code != 1000:
                        self._note(f"{answer} answered our Close 1000")
                case end:
                    how = "the connection ended" if isinstance(end, _Lost) else "the server kept silent"
                    if answer is None:
                        self._note(f"{how} with no answer to our Close frame")
                    elif isinstance(end, _Silence):
                        self._note("the server didn't close the connection after the closing handshake")
                    else:
                        self._next(Step.CLOSE)
                    return

    # What the connection brings about.

    def _resolved(self, addresses: Sequence[str]) -> None:
        self._report.addresses = list(addresses)
        self._next(Step.TCP)

    def connected(self, client: _Client) -> None:
        """TCP has a connection."""
        self._client = client
        peer = client.transport.getPeer()
        self._report.peer = ws_url.join(peer.host, peer.port)
        if self._verifier is not None:
            self._next(Step.TLS)
        else:
            self._request()

    def secured(self) -> None:
        """The TLS handshake is over."""
        assert self._verifier is not None
        self._report.tls = printable(self._verifier.describe())
        try:
            self._verifier.check_name()
        except UntrustedError as error:
            self._lose(Fault(Step.TLS, str(error)))
        else:
            self._request()

    def _request(self) -> None:
        self._next(Step.HTTP)
        key = b64encode(os.urandom(16)).decode()
        assert self._client is not None
        self._client.request(key, request_head(self.plan, key))

    def received(self, data: bytes) -> None:
        """Octets came."""
        assert self._client is not None
        if self._report.step not in (Step.TLS, Step.HTTP):
            self._feed(data)
            return
        try:
            self._received = http_answer.skip_interim(self._received + data)
            if http_answer.split_head(self._received):
                self._judge(http_answer.parse(self._received))
        except NotHttpError as error:
            self._lose(Fault(Step.HTTP, str(error), [self._begin()]))

    def _judge(self, answer: Answer) -> None:
        is_first, self._answer = self._answer is None, answer
        if answer.status == 101:
            self._next(Step.UPGRADE)
            self._feed(self._received)
        elif answer.is_whole:
            self._refused()
        elif is_first:
            self._calls.append(self._reactor.callLater(BODY_WAIT, self._refused))

    def _feed(self, data: bytes) -> None:
        assert self._client is not None
        try:
            self._client.feed(data)
        except (
            Exception
        ) as error:  # Autobahn raises bare ones for some of what a server may send, such as deflate that is none
            self._lose(
                Fault(self._report.step, f"what the server sent is not valid: {str(error) or type(error).__name__}")
            )

    def _refused(self) -> None:
        self._lose(self._refusal())

    def _refusal(self) -> Fault:
        assert self._answer is not None
        return Fault(Step.HTTP, f"status {self._answer.line}, and not 101", self._seen_in_answer())

    def _no_upgrade(self, why: str) -> Fault:
        assert self._answer is not None
        return Fault(Step.UPGRADE, why, [f"HTTP status: {self._answer.line}", *self._seen_in_answer()])

    def _seen_in_answer(self) -> list[str]:
        assert self._answer is not None
        hint = self._answer.hint()
        return [*self._answer.describe(), f"perhaps: {hint}" if hint else ""]

    def opened(self, subprotocol: str | None, extensions: Sequence[str]) -> None:
        """The opening handshake is over, and right."""
        self._report.subprotocol = printable(subprotocol or "")
        self._report.extensions = list(extensions)
        if self.plan.subprotocols and not subprotocol:
            offered = ", ".join(self.plan.subprotocols)
            self._lose(self._no_upgrade(f"the server chose no subprotocol; offered: {offered}"))
            return
        if self.plan.offers_compression and not extensions:
            self._note("the server didn't accept permessage-deflate")
        self._events.put(_Opened())

    def happened(self, event: _Message | _Closed) -> None:
        """A message or a Close frame came."""
        self._events.put(event)

    def lost(self, reason: Failure) -> None:
        """The connection has ended."""
        self._events.put(_Lost(self._loss(reason)))
        self._ended.callback(None)

    def _loss(self, reason: Failure) -> Fault:
        step, why = self._report.step, self._end_of(reason)
        match step:
            case Step.TLS:
                assert self._verifier is not None
                is_mute = not self._verifier.why and not isinstance(reason.value, SSL.Error)
                hint = "perhaps: the server doesn't speak TLS on this port; then it is ws://" if is_mute else ""
                return Fault(step, self._verifier.why or f"{why} in the TLS handshake", [hint])
            case Step.HTTP if self._answer is not None:
                return self._refusal()
            case Step.HTTP:
                # What most TLS servers make of plain HTTP.
                hint = "" if self._received else "perhaps: the server speaks TLS on this port; then it is wss://"
                return Fault(step, f"{why} before it had answered the opening handshake", [self._begin(), hint])
            case Step.UPGRADE:
                return self._no_upgrade(why)
        is_ours = self._client is not None and self._client.why
        return Fault(step, f"{self._sending}: {why}" if is_ours else f"{why} instead of an echo of {self._sending}")

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

    def _lose(self, fault: Fault) -> None:
        """Let the check know before the connection's end brings a lesser reason."""
        self._events.put(_Lost(fault))

    # The deadline.

    def _give_up(self, work: Deferred[None]) -> None:
        if self._report.step is Step.CLOSE:
            # Every echo was right.
            self._events.put(_Silence())
        else:
            self._is_late = True
            work.cancel()

    def _late_fault(self) -> Fault:
        step, seen = self._report.step, []
        match step:
            case Step.DNS:
                what = f"{self.plan.target.host} didn't resolve"
            case Step.TCP:
                what = f"no connection to {self._addresses()}"
            case Step.TLS:
                what = f"the TLS handshake with {self._report.peer} wasn't over"
            case Step.HTTP:
                what, seen = "the opening handshake wasn't answered", [self._begin()]
            case _:
                what = f"no echo of {self._sending}"
        return Fault(step, f"{what} within {format_duration(self.plan.timeout)}", seen)

    # Helpers.

    def _take(self, fault: Fault) -> None:
        self._report.step, self._report.what, self._report.seen = fault.step, fault.what, fault.seen
        if self._is_late:
            self._report.outcome = CheckOutcome.TIMEOUT
        else:
            self._report.outcome = CheckOutcome.WRONG_ECHO if fault.step is Step.ECHO else CheckOutcome.NO_CONNECTION

    def _next(self, step: Step) -> None:
        """Enter a step; the last one's end is this one's begin."""
        now = perf_counter()
        self._report.times[self._report.step] = now - self._began
        self._began = now
        self._report.step = step
        self._tell(step)

    def _note(self, text: str) -> None:
        self._report.notes.append(printable(text))

    def _addresses(self) -> str:
        shown = ", ".join(self._report.addresses[:4])
        return shown + (", …" if len(self._report.addresses) > 4 else "") + f", port {self.plan.target.port}"

    def _begin(self) -> str:
        return f"came: {describe_message(self._received, True, _SHOWN)}" if self._received else ""


@implementer(IHandshakeListener)
class _Client(autobahn.ClientProtocol):
    """Tells its check what happens."""

    factory: _Factory

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.check.connected(self)

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        self.factory.check.secured()

    def dataReceived(self, data: bytes) -> None:
        self.factory.check.received(data)

    def onConnect(self, response: Any) -> None:
        self.factory.check.opened(response.protocol, [extension.EXTENSION_NAME for extension in response.extensions])

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.check.happened(_Message(payload, isBinary))

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        self.factory.check.happened(_Closed(code, reasonRaw))
        # Autobahn's annotation forgets the None that it passes for what there is none of.
        return super().onCloseFrame(cast(int, code), cast(bytes, reasonRaw))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.check.lost(reason)
        self.transport = None


class _Factory(WebSocketClientFactory):
    """Makes the client of one check."""

    noisy = False

    def __init__(self, check: _Check) -> None:
        plan = check.plan
        super().__init__(protocols=list(plan.subprotocols), reactor=check._reactor)
        self.check = check
        self.protocol = _Client
        # A longer echo is wrong anyway; its length is still told where it is not absurd.
        limit = 2 * plan.size + 64 * KIB
        self.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            maxFramePayloadSize=limit,
            maxMessagePayloadSize=limit,
            perMessageCompressionOffers=[PerMessageDeflateOffer()] if plan.offers_compression else [],
            perMessageCompressionAccept=_accept if plan.offers_compression else lambda _: None,
        )


def _accept(response: object) -> PerMessageDeflateResponseAccept | None:
    return PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None


@implementer(IHostResolution)
class _Resolution:
    """A resolution that can't be cancelled; its thread is a daemon."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Let it be."""


@implementer(IHostnameResolver)
class _Resolver:
    """Resolves the target's host with the system's resolver.

    The reactor's own uses its thread pool, for whose threads the process waits at its end, and so for a name server
    that is silent for half a minute; and it keeps the reason of a failure to itself.
    """

    def __init__(
        self, reactor: Any, target: Target, getaddrinfo: Callable[..., Any], tell: Callable[[Sequence[str]], None]
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._getaddrinfo = getaddrinfo
        self._tell = tell
        self.why = ""
        """What the resolver said of a name that doesn't resolve."""

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,  # noqa: ARG002
        transportSemantics: str = "TCP",  # noqa: ARG002
    ) -> IHostResolution:
        """See `IHostnameResolver`."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        Thread(target=self._look_up, args=(resolutionReceiver, portNumber), daemon=True).start()
        return resolution

    def _look_up(self, receiver: IResolutionReceiver, port: int) -> None:
        try:
            found = self._getaddrinfo(self._target.host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.why = str(getattr(error, "strerror", None) or error)
            found = []
        self._reactor.callFromThread(self._resolved, receiver, [(entry[0], entry[4]) for entry in found])

    def _resolved(self, receiver: IResolutionReceiver, found: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
        if found:
            self._tell([str(address[0]) for _, address in found])
        for family, address in found:
            receiver.addressResolved(
                IPv6Address("TCP", *address) if family == socket.AF_INET6 else IPv4Address("TCP", *address[:2])
            )
        receiver.resolutionComplete()
