"""HTTP/2 over real sockets, plain and with TLS: what a fake transport can't show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.errors import ErrorCodes

from echod.core.counts import Outcome
from echod.http.h2.session import Session
from echod.upstream.carriers import Carrier
from tests.frames import CLOSE, TEXT, Frame, client_frame, close_payload, handshake
from tests.h2_client import Http2Client
from tests.loop import Bed, Link, SecureLink, bed
from tests.tls import Certificate

MIB = 2**20


class Http2Link(Link):
    """A client of HTTP/2 at the other end of a real socket."""

    def _begin(self, target: str, headers: tuple[str, ...]) -> None:  # noqa: ARG002  # as the base class has it
        self.client = Http2Client()
        self.until(self.client.says_connect)

    def go(self) -> None:
        """Send what there is to send, let the server do a turn, and take what has come."""
        self.send(self.client.to_send())
        self.loop.turn(0.001)
        octets = bytes(self.take())
        self.received.clear()
        self.client.take(octets)

    def until(self, condition: Callable[[], object]) -> None:
        """Go on until the condition holds."""

        def is_so() -> object:
            self.go()
            return condition()

        self.loop.until(is_so)

    def open(self, path: str = "/") -> int:
        """Open a WebSocket, and return the number of its stream."""
        number = self.client.connect(path)
        self.until(lambda: number in self.client.heads)
        assert self.client.heads[number] == {":status": "200"}
        return number

    def send_all(self, number: int, octets: bytes) -> None:
        """Send octets on a stream as its windows open."""
        while octets:
            octets = self.client.send_some(number, octets)
            self.go()

    def frame(self, number: int) -> Frame:
        """Return the next frame on a stream, which is the only one."""
        found: list[Frame] = []
        self.until(lambda: found.extend(self.client.frames(number)) or found)  # type: ignore[func-returns-value]
        assert len(found) == 1
        return found[0]

    @property
    def session(self) -> Session:
        """The server's side."""
        (session,) = self.protocol.factory.sessions._live
        return session


class SecureHttp2Link(Http2Link, SecureLink):
    """The same over TLS."""


@pytest.fixture(params=["plain", "TLS"])
def link(request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[Http2Link]:
    """Return a client of a server without the express lane."""
    with bed(None, ping_interval=0) as made:
        yield connect(made, None if request.param == "plain" else certificate)


def connect(made: Bed, certificate: Certificate | None = None, **options: Any) -> Http2Link:
    """Return a client of the factory."""
    if certificate is None:
        made.links.append(Http2Link(made.loop, made.factory, **options))
    else:
        context = certificate.client()
        made.links.append(SecureHttp2Link(made.loop, made.factory, certificate.server_options(), context, **options))
    link = made.links[-1]
    assert isinstance(link, Http2Link)
    return link


def test_large_messages_past_a_stream_that_stalls(link: Http2Link) -> None:
    stalled, open_ = link.open("/?stall"), link.open()
    window = link.client.h2.local_flow_control_window(stalled)
    link.client.send_some(stalled, client_frame(2, bytes(2 * window)))
    for size in (3 * MIB, 0, 5):
        link.send_all(open_, client_frame(2, b"x" * size))
        assert link.frame(open_) == Frame(2, b"x" * size)
    assert link.client.h2.local_flow_control_window(stalled) == 0


def test_the_buffers_of_tls_shrink_again(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    with bed(None, ping_interval=0) as made:
        link = connect(made, certificate)
        number = link.open()
        link.send_all(number, client_frame(2, bytes(MIB)))
        link.frame(number)
        before = link.session.carrier.tls._into_ssl
        made.loop.advance(2)
        made.loop.turn()
        assert link.session.carrier.tls._into_ssl != before
        # A buffer that is in use is looked at again later.
        monkeypatch.setattr(Carrier, "renew_buffers", lambda _: False)
        link.session.shrink()
        assert link.session in made.factory._grown


class Impolite(SecureLink):
    """A client that sends a request of HTTP/1.1 whatever was agreed on."""

    def _begin(self, target: str, headers: tuple[str, ...]) -> None:
        self.send(handshake(target, *headers))


@pytest.mark.parametrize(("offered", "begin"), [("h2", b"\0\0"), ("http/1.1", b"HTTP/1.1 101 ")])
def test_what_was_agreed_on_holds(certificate: Certificate, offered: str, begin: bytes) -> None:
    with bed(None, ping_interval=0) as made:
        context = certificate.client()
        context.set_alpn_protocols([offered])
        link = Impolite(made.loop, made.factory, certificate.server_options(), context)
        made.links.append(link)
        link.loop.until(lambda: len(link.take()) >= len(begin))
        assert link.received.startswith(begin)


def test_a_client_that_does_not_read_its_socket_is_not_read(link: Http2Link) -> None:
    """The windows are wide open, and the socket is full: the server reads no more, and keeps little."""
    number = link.open()
    link.client.h2.increment_flow_control_window(2**30)
    link.client.h2.increment_flow_control_window(2**30, number)
    link.go()
    session, sent, octets = link.session, 0, b""
    while sent < 64 * MIB:
        if not octets and link.client.h2.local_flow_control_window(number) > 20_000:
            link.client.send(number, client_frame(2, bytes(16_000)))
            octets = link.client.to_send()
        taken = link.push(octets)
        sent += taken
        octets = octets[taken:]
        if not taken:
            break
        link.loop.turn()
    for _ in range(10):
        link.loop.turn(0.001)
    held = session.count() + sum(stream.held for stream in session.streams.values())
    assert held < 4 * MIB
    link.send(octets)
    count: list[int] = []

    def is_whole() -> bool:
        count.extend(len(frame.payload) for frame in link.client.frames(number))
        return sum(count) >= sent * 0.98

    link.until(is_whole)
    assert set(count) == {16_000}


def test_a_reset_stream(link: Http2Link) -> None:
    number, other = link.open("/?abort&after=1"), link.open()
    link.send_all(number, client_frame(TEXT, b"one"))

    def is_reset() -> bool:
        link.loop.advance(0.02)
        return number in link.client.resets

    link.until(is_reset)
    assert link.client.resets == {number: ErrorCodes.CANCEL}
    assert link.client.frames(number) == [Frame(TEXT, b"one")]
    link.send_all(other, client_frame(TEXT, b"two"))
    assert link.frame(other) == Frame(TEXT, b"two")


def test_the_socket_ends(link: Http2Link) -> None:
    factory = link.protocol.factory
    number = link.open()
    link.send_all(number, client_frame(TEXT, b"one"))
    assert link.frame(number) == Frame(TEXT, b"one")
    link.end()
    link.loop.until(lambda: (link.take(), link.has_ended)[1])
    link.loop.until(lambda: not factory.count)


def test_the_socket_is_reset(link: Http2Link) -> None:
    factory = link.protocol.factory
    link.open()
    link.open()
    link.reset()
    link.loop.until(lambda: not factory.count)
    assert factory.counts.outcomes[Outcome.LOST] == 2


def test_a_whole_life(link: Http2Link) -> None:
    """Close frames both ways, the end of the stream, and GOAWAY at the end of the daemon."""
    number, other = link.open(), link.open()
    link.client.send(number, client_frame(CLOSE, close_payload(1000)), is_last=True)
    link.until(lambda: number in link.client.ended)
    assert link.client.frames(number) == [Frame(CLOSE, close_payload(1000))]
    drained = link.protocol.factory.drain()
    assert link.frame(other).payload[:2] == close_payload(1001)
    assert link.client.goaway is not None
    link.client.send(other, client_frame(CLOSE, close_payload(1001)), is_last=True)
    link.until(lambda: link.has_ended)
    link.end()
    link.socket.close()
    link.loop.until(lambda: drained.called)
    assert link.protocol.factory.counts.outcomes == {Outcome.CLEAN: 2}
