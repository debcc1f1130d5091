"""Each private name that `upstream` touches, and each fault it works around, as they are today: a change upstream fails here."""

from __future__ import annotations

import ctypes
import inspect
import os
import re
import select
import socket
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_twisted
from autobahn.twisted import websocket as autobahn_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import protocol as autobahn_protocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, _SystemdParser, serverFromString
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.tcp import Connection, Port, Server
from twisted.internet.threads import deferToThread
from twisted.protocols._sni import autoReloadingDirectoryOfPEMs
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath
from twisted.python.systemd import ListenFDs

from echod import upstream
from echod.compression import TAIL, Deflate
from tests.fakes import Peer, Transport, make_factory
from tests.frames import ACCEPT, CLOSE, PING, TEXT, client_frame, close_payload, handshake, server_frame, split
from tests.tls import Certificate, Client


class Plain(WebSocketServerProtocol):
    """Autobahn as it comes, echoing."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


class PlainTransport(Transport):
    """Counts what is written."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)


def plain(**options: Any) -> tuple[Plain, PlainTransport]:
    factory = WebSocketServerFactory()
    factory.protocol = Plain
    factory.setProtocolOptions(allowNullOrigin=True, openHandshakeTimeout=0, closeHandshakeTimeout=0, **options)
    protocol, transport = cast(Plain, factory.buildProtocol(None)), PlainTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def plain_open(**options: Any) -> tuple[Plain, PlainTransport]:
    protocol, transport = plain(**options)
    protocol.dataReceived(handshake())
    assert transport.value().startswith(b"HTTP/1.1 101 ")
    transport.clear()
    return protocol, transport


def accept_with_12_bits(offers: Any) -> PerMessageDeflateOfferAccept:
    """Take what is offered, with a window of 4 KiB where that may be."""
    return PerMessageDeflateOfferAccept(offers[0], request_max_window_bits=12 if offers[0].accept_max_window_bits else 0)


class TestAutobahnsDeflate:
    """Why `compression.Deflate` stands where Autobahn has its own."""

    def opened(self, *offer: str) -> tuple[Plain, PlainTransport]:
        protocol, transport = plain(perMessageCompressionAccept=accept_with_12_bits, failByDrop=False)
        protocol.dataReceived(handshake("/", "Sec-WebSocket-Extensions: " + "; ".join(["permessage-deflate", *offer])))
        assert b"permessage-deflate" in transport.value()
        transport.clear()
        return protocol, transport

    def echoes(self, *messages: bytes) -> list[bytes]:
        """The payloads of the echoes of deflated messages, inflated."""
        protocol, transport = self.opened()
        for message in messages:
            protocol.dataReceived(client_frame(TEXT, message, rsv=4))
        inflate = zlib.decompressobj(-15)
        return [inflate.decompress(frame.payload + TAIL) for frame in split(transport.value())[0] if frame.rsv]

    def test_the_beginning_of_a_message_is_echoed_for_the_whole(self) -> None:
        deflate = zlib.compressobj(wbits=-15)
        octets = deflate.compress(b"some text") + deflate.flush(zlib.Z_SYNC_FLUSH)
        assert self.echoes(octets[:-7]) == [b"some te"]

    def test_what_comes_behind_a_last_block_is_lost(self) -> None:
        deflate = zlib.compressobj(wbits=-15)
        octets = deflate.compress(b"some text") + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
        last = b"\xf3\x48\xcd\xc9\xc9\x07\x00"  # RFC 7692 section 7.2.3.4: "Hello"
        assert self.echoes(last + octets, octets) == [b"Hello", b""]

    def test_an_inflater_and_a_compressor_are_kept_for_each_connection(self) -> None:
        protocol, _ = self.opened("server_no_context_takeover", "client_no_context_takeover")
        protocol.dataReceived(client_frame(TEXT, b"\0", rsv=4))
        kept = vars(protocol._perMessageCompress)
        assert kept["_compressor"] is not None
        assert kept["_decompressor"] is not None

    def test_what_a_client_can_do_without_is_not_in_the_answer(self) -> None:
        protocol, transport = plain(perMessageCompressionAccept=accept_with_12_bits)
        protocol.dataReceived(handshake("/", "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover"))
        assert b"client_no_context_takeover" not in transport.value()

    def test_the_value_of_an_offered_window_is_forgotten(self) -> None:
        offer = PerMessageDeflateOffer.parse({"client_max_window_bits": ["10"]})
        assert offer.accept_max_window_bits is True

    def test_the_methods_that_inflate_a_message(self) -> None:
        mine, theirs = (
            [getattr(kind, name) for name in ("start_decompress_message", "decompress_message_data", "end_decompress_message")]
            for kind in (Deflate, PerMessageDeflate)
        )
        assert [list(inspect.signature(method).parameters) for method in mine] == [
            list(inspect.signature(method).parameters) for method in theirs
        ]


class TestAutobahn:
    """Names, and faults for which there is a way around."""

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("_fail_connection", ["self", "code", "reason"]),
            ("_protocol_violation", ["self", "reason"]),
            ("_invalid_payload", ["self", "reason"]),
            ("_max_message_size_exceeded", ["self", "msg_size", "max_msg_size", "reason"]),
            ("_closeConnection", ["self", "abort"]),
            ("_dataReceived", ["self", "data"]),
            ("_onOpen", ["self"]),
        ],
    )
    def test_private_methods_are_there(self, name: str, parameters: list[str]) -> None:
        assert list(inspect.signature(getattr(WebSocketServerProtocol, name)).parameters) == parameters

    def test_what_autobahn_sets_on_each_connection_is_on_the_class(self) -> None:
        protocol, _ = plain()
        # What __init__ sets is for others, too, and a queue is for writes that echod never chops.
        own = {"factory", "transport", "connected", "peer", "send_queue"} | vars(Plain()).keys()
        names = vars(protocol).keys() - own - set(WebSocketServerProtocol.CONFIG_ATTRS)
        assert len(names) > 20
        echod = make_factory().buildProtocol(None)
        for name in names:
            assert type(getattr(echod, name)) is type(getattr(protocol, name)), name
            if name not in ("trafficStats", "utf8validator"):
                assert getattr(echod, name) == getattr(protocol, name), name

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            ["Sec-WebSocket-Protocol: b, a"],
            ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
            [
                "Sec-WebSocket-Protocol: c",
                "Sec-WebSocket-Extensions: x, permessage-deflate; server_no_context_takeover; server_max_window_bits=10",
            ],
        ],
    )
    def test_the_answer_is_the_one_that_autobahns_own_parser_leads_to(self, headers: list[str]) -> None:
        factory = make_factory()

        class First(Plain):
            def onConnect(self, request: Any) -> str | None:
                return request.protocols[0] if request.protocols else None

        plain_factory = WebSocketServerFactory(server="")
        plain_factory.protocol = First
        plain_factory.setProtocolOptions(allowNullOrigin=True, openHandshakeTimeout=0, perMessageCompressionAccept=accept_with_12_bits)
        protocol, transport = cast(First, plain_factory.buildProtocol(None)), PlainTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(handshake("/", *headers))
        # The order of a header's fields says nothing.
        assert sorted(Peer(factory).open("/", *headers).split(b"\r\n")) == sorted(transport.value().split(b"\r\n"))

    def test_what_autobahn_sets_when_it_answers_is_there_where_it_does_not(self) -> None:
        peers = [Peer(make_factory()), Peer(make_factory())]
        peers[0].open("/", "Sec-WebSocket-Protocol: a")
        peers[1].open()
        autobahns, ours = (vars(peer.protocol) for peer in peers)
        # What was asked for, and what its own test suite looks at.
        asked = {"websocket_protocols", "websocket_extensions", "_wskey", "http_response_data"}
        assert autobahns.keys() - ours.keys() == asked | {"websocket_extensions_in_use"}
        assert not peers[1].protocol.websocket_extensions_in_use
        assert peers[1].protocol.subprotocol is None
        for name in ("state", "inside_message", "current_frame", "websocket_version"):
            assert autobahns[name] == ours[name], name

    def test_private_attributes_are_there(self) -> None:
        peer = Peer(make_factory())
        peer.open("/", "Sec-WebSocket-Protocol: a")
        peer.send(client_frame(TEXT, b"a", fin=False) + client_frame(PING, b"abcdef")[:8])
        attributes = vars(peer.protocol)
        for name in ("_wskey", "_isMessageCompressed", "current_frame", "current_frame_masker"):
            assert name in attributes, name
        assert attributes["inside_message"] is True
        assert attributes["data"] == b""
        assert peer.protocol.open_frame_rest() == 4
        assert not peer.protocol.is_between_messages

    def test_options_are_copied_into_each_connection(self) -> None:
        protocol, _ = plain()
        assert vars(protocol).keys() > set(WebSocketServerProtocol.CONFIG_ATTRS)

    def test_nagle_stays_on(self) -> None:
        assert not plain()[1].no_delay

    def test_a_violation_does_not_end_the_frame(self) -> None:
        protocol, _ = plain_open(failByDrop=False)
        protocol.dataReceived(client_frame(PING, b"", claim=2**20))
        assert protocol.current_frame.length == 2**20
        assert protocol.state == protocol.STATE_CLOSING

    def test_small_pieces_are_kept_one_by_one(self) -> None:
        protocol, _ = plain_open()
        for octet in client_frame(TEXT, b"x" * 100)[:-1]:
            protocol.dataReceived(bytes([octet]))
        assert len(protocol.frame_data) == 99

    def test_each_ping_is_a_write(self) -> None:
        protocol, transport = plain_open()
        before = transport.writes
        protocol.dataReceived(client_frame(PING) * 100)
        assert transport.writes - before == 100

    def test_the_reply_to_a_close_of_ours_leads_to_a_reset(self) -> None:
        protocol, transport = plain_open(failByDrop=False)
        protocol.sendCloseFrame(1000)
        protocol.dataReceived(client_frame(CLOSE, close_payload(1000)))
        assert transport.aborted

    def test_1001_is_not_for_applications(self) -> None:
        with pytest.raises(Exception, match="invalid close code 1001"):
            plain_open()[0].sendClose(1001)

    def test_a_connection_that_is_gone_refers_to_itself(self) -> None:
        protocol, _ = plain_open()
        protocol.connectionLost(connectionDone)
        assert protocol.is_closed.result is protocol

    def test_a_deflated_answer_is_held_against_the_limit_for_messages_received(self) -> None:
        source = inspect.getsource(WebSocketProtocol.sendMessage)
        assert "self.maxMessagePayloadSize < payload_len" in source

    def test_1014_is_refused(self) -> None:
        assert upstream.BAD_GATEWAY not in WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED
        assert upstream.BAD_GATEWAY - 1 in WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED
        protocol, transport = plain_open(failByDrop=False)
        protocol.dataReceived(client_frame(CLOSE, close_payload(1014)))
        assert split(transport.value())[0][0].payload[:2] == (1002).to_bytes(2, "big")

    @pytest.mark.parametrize("is_ours_out", [False, True])
    @pytest.mark.parametrize(("code", "reason"), [(1012, "a"), (1013, ""), (1014, ""), (1014, "bad gateway")])
    def test_registered_codes_come_back(self, code: int, reason: str, is_ours_out: bool) -> None:
        peer = Peer(make_factory())
        peer.open()
        if is_ours_out:
            peer.protocol.go_away()
        peer.take()
        (*answer,) = peer.frames(client_frame(CLOSE, close_payload(code, reason)))
        assert [frame.payload for frame in answer] == ([] if is_ours_out else [close_payload(code, reason)])
        assert peer.protocol.remoteCloseCode == code
        assert peer.transport.disconnecting

    def test_1014_with_a_reason_that_is_not_utf_8(self) -> None:
        peer = Peer(make_factory())
        peer.open()
        (answer,) = peer.frames(client_frame(CLOSE, close_payload(1014) + b"\xff"))
        assert answer.payload[:2] == (1007).to_bytes(2, "big")

    def test_a_message_of_a_multiple_of_the_fragments_size_ends_with_an_empty_one(self) -> None:
        protocol, transport = plain_open()
        protocol.sendMessage(b"abcd", True, fragmentSize=2)
        assert [frame.payload for frame in split(transport.value())[0]] == [b"ab", b"cd", b""]

    @pytest.mark.parametrize(
        "line",
        [b"X: a\x85Y: b", b"X: a\r\n folded", b"X: \x00", b"no colon", b"Content-Length: 5\r\nTransfer-Encoding: chunked"],
    )
    def test_heads_are_taken_that_are_none(self, line: bytes) -> None:
        protocol, transport = plain()
        protocol.dataReceived(handshake()[:-2] + line + b"\r\n\r\n")
        assert transport.value().startswith(b"HTTP/1.1 101 ")

    def test_version_plus_1_3_is_taken(self) -> None:
        protocol, transport = plain()
        protocol.dataReceived(handshake().replace(b"Version: 13", b"Version: +1_3"))
        assert transport.value().startswith(b"HTTP/1.1 101 ")

    def test_a_request_head_has_no_limit(self) -> None:
        protocol, transport = plain()
        for _ in range(100):
            protocol.dataReceived(b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000)
        assert transport.value() == b""


def client(protocol_class: type[WebSocketClientProtocol], url: str = "ws://localhost") -> tuple[Any, PlainTransport]:
    factory = WebSocketClientFactory(url, protocols=["a"])
    factory.protocol = protocol_class
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, serverConnectionDropTimeout=0)
    protocol, transport = cast(Any, factory.buildProtocol(None)), PlainTransport()
    protocol.makeConnection(transport)
    return protocol, transport


class TestAutobahnsClient:
    """What `ClientProtocol` replaces, and the names that it uses for that."""

    @pytest.mark.parametrize(
        ("url", "host"), [("ws://localhost", "localhost:80"), ("wss://localhost", "localhost:443"), ("ws://[::1]:9000", "::1:9000")]
    )
    def test_the_host_field_has_a_default_port_and_no_brackets(self, url: str, host: str) -> None:
        _, transport = client(WebSocketClientProtocol, url)
        assert f"\r\nHost: {host}\r\n".encode() in transport.value()

    def test_a_head_that_is_not_utf_8_raises(self) -> None:
        protocol, _ = client(WebSocketClientProtocol)
        with pytest.raises(UnicodeDecodeError):
            protocol.dataReceived(b"HTTP/1.1 503 No\r\nServer: \xe9\r\n\r\n")

    def test_names_are_there(self) -> None:
        protocol, _ = client(WebSocketClientProtocol)
        assert {"websocket_key", "wasNotCleanReason", "droppedByMe"} <= vars(protocol).keys()
        for name, parameters in {
            "startHandshake": ["self"],
            "sendData": ["self", "data", "sync", "chopsize"],
            "_dataReceived": ["self", "data"],
            "onCloseFrame": ["self", "code", "reasonRaw"],
        }.items():
            assert list(inspect.signature(getattr(WebSocketClientProtocol, name)).parameters) == parameters

    def test_it_logs_nothing(self) -> None:
        used = set(re.findall(r"self\.log\.([a-z]+)\(", inspect.getsource(autobahn_protocol) + inspect.getsource(autobahn_twisted)))
        assert used
        for name in used:
            getattr(upstream.ClientProtocol.log, name)("{x}", x=1)

    def test_the_opening_handshake_is_the_users_and_the_answer_is_held_to_its_key(self) -> None:
        protocol, transport = client(upstream.ClientProtocol)
        assert transport.value() == b""
        protocol.request("dGhlIHNhbXBsZSBub25jZQ==", b"head")
        assert transport.value() == b"head"
        answer = b"HTTP/1.1 101 A\r\nServer: \xe9\x85\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n\r\n"
        # What follows the head must not be touched.
        protocol.feed(answer + server_frame(TEXT, "é".encode()) + server_frame(CLOSE, close_payload(1001, "é")))
        assert protocol.remoteCloseReason == "é"
        assert protocol.why == ""

    def test_why_it_failed_is_told(self) -> None:
        protocol, _ = client(upstream.ClientProtocol)
        protocol.request("AAAAAAAAAAAAAAAAAAAAAA==", b"")
        protocol.feed(b"HTTP/1.1 101 A\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n\r\n")
        assert protocol.why.startswith("HTTP Sec-WebSocket-Accept bogus value")
        protocol, _ = client(upstream.ClientProtocol)
        protocol.request("dGhlIHNhbXBsZSBub25jZQ==", b"")
        protocol.feed(b"HTTP/1.1 101 A\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n\r\n" + b"\xff\xff")
        assert protocol.why == "RSV = 7 and no extension negotiated"


class Kept(Protocol):
    """Tells that it was made."""

    made: Deferred[Kept]

    def connectionMade(self) -> None:
        Kept.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Ignore the handshake's octets."""


class Early(Protocol):
    """Reads at once, after what `before` does."""

    before: Callable[[Any], object] = staticmethod(bool)
    made: Deferred[Early]

    def connectionMade(self) -> None:
        self.seen: list[bytes] = []
        self.is_lost = False
        self.before(self.transport)
        upstream.read_first(self.transport)
        self.seen_first = list(self.seen)
        self.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self.seen.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        self.is_lost = True


Connect = Callable[[bytes], socket.socket]


class TestEager:
    """A first read before the reactor watches the socket."""

    @pytest.fixture
    def factory(self) -> Factory:
        Early.made = Deferred()
        return Factory.forProtocol(Early)

    @pytest.fixture
    def port(self, factory: Factory) -> Iterator[Any]:
        port = cast(Any, reactor).listenTCP(0, factory, interface="127.0.0.1")
        upstream.make_eager(port, factory)
        yield port
        pytest_twisted.blockon(port.stopListening())

    @pytest.fixture
    def connect(self, port: Any) -> Iterator[Connect]:
        """A function that connects and sends before the reactor has a turn."""
        with ExitStack() as clients:

            def connect(octets: bytes) -> socket.socket:
                client = clients.enter_context(socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10))
                client.sendall(octets)
                return client

            yield connect

    @pytest_twisted.inlineCallbacks
    def test_what_is_there_is_read_at_once_and_the_rest_as_it_comes(self, connect: Connect) -> Generator[Any, Any, None]:
        client = connect(b"early")
        protocol = yield Early.made
        assert protocol.seen_first == [b"early"]
        client.sendall(b"late")
        yield until(lambda: protocol.seen == [b"early", b"late"])
        client.close()
        yield until(lambda: protocol.is_lost)

    @pytest_twisted.inlineCallbacks
    def test_nothing_there_yet(self, connect: Connect) -> Generator[Any, Any, None]:
        client = connect(b"")
        protocol = yield Early.made
        assert protocol.seen_first == []
        client.sendall(b"late")
        yield until(lambda: protocol.seen == [b"late"])
        protocol.transport.pauseProducing()
        assert protocol.transport not in cast(Any, reactor).getReaders()
        protocol.transport.loseConnection()
        yield until(lambda: protocol.is_lost)

    @pytest_twisted.inlineCallbacks
    def test_an_end_is_the_reactors_to_find(self, connect: Connect) -> Generator[Any, Any, None]:
        connect(b"").close()
        protocol = yield Early.made
        assert not protocol.is_lost
        yield until(lambda: protocol.is_lost)

    @pytest_twisted.inlineCallbacks
    def test_who_is_not_to_be_read_is_not(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Generator[Any, Any, None]:
        monkeypatch.setattr(Early, "before", staticmethod(lambda transport: transport.pauseProducing()))
        connect(b"early")
        protocol = yield Early.made
        assert protocol.seen == []
        assert protocol.transport not in cast(Any, reactor).getReaders()
        protocol.transport.resumeProducing()
        yield until(lambda: protocol.seen == [b"early"])
        protocol.transport.abortConnection()
        yield until(lambda: protocol.is_lost)

    @pytest_twisted.inlineCallbacks
    def test_who_changes_his_mind_is_read(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Generator[Any, Any, None]:
        def waver(transport: Any) -> None:
            transport.pauseProducing()
            transport.resumeProducing()

        monkeypatch.setattr(Early, "before", staticmethod(waver))
        connect(b"early")
        protocol = yield Early.made
        assert protocol.seen == [b"early"]
        protocol.transport.abortConnection()
        yield until(lambda: protocol.is_lost)

    @pytest_twisted.inlineCallbacks
    def test_an_error_in_it_leaves_nobody_unwatched(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Generator[Any, Any, None]:
        def fail(protocol: Early, _: bytes) -> None:
            monkeypatch.undo()
            cast(Any, reactor).callLater(0, Early.made.callback, protocol)
            raise RuntimeError

        monkeypatch.setattr(Early, "dataReceived", fail)
        client = connect(b"early")
        protocol = yield Early.made
        client.sendall(b"late")
        yield until(lambda: protocol.seen == [b"late"])
        client.close()
        yield until(lambda: protocol.is_lost)

    @pytest_twisted.inlineCallbacks
    def test_only_where_nothing_is_between_socket_and_factory(
        self, port: Any, factory: Factory, tmp_path: Path
    ) -> Generator[Any, Any, None]:
        assert port.transport is upstream._EagerServer
        wrapped = cast(Any, reactor).listenTCP(0, WrappingFactory(factory), interface="127.0.0.1")
        local = cast(Any, reactor).listenUNIX(str(tmp_path / "socket"), factory)
        for other in (wrapped, local):
            before = other.transport
            upstream.make_eager(other, factory)
            assert other.transport is before
            yield other.stopListening()

    def test_twisted_begins_to_read_before_it_says_connected(self) -> None:
        source = inspect.getsource(Server.__init__)
        assert source.index("self.startReading()") < source.index("self.connected = 1")
        source = inspect.getsource(Port.doRead)
        assert "transport = self.transport(" in source
        assert "self.factory.buildProtocol(self._buildAddr(addr))" in source

    @pytest_twisted.inlineCallbacks
    def test_what_is_accepted_is_as_python_would_have_it(self, connect: Connect) -> Generator[Any, Any, None]:
        client = connect(b"")
        protocol = yield Early.made
        accepted = protocol.transport.getHandle()
        assert (type(accepted), accepted.family, accepted.type) == (socket.socket, client.family, client.type)
        assert accepted.getpeername() == client.getsockname() == protocol.transport.client
        assert not accepted.getblocking()
        assert not os.get_inheritable(accepted.fileno())
        protocol.transport.abortConnection()
        yield until(lambda: protocol.is_lost)


class TestTwisted:
    """What is read from a real transport."""

    @pytest.fixture(params=["tcp", "ssl"])
    def layers(self, request: pytest.FixtureRequest, certificate: Certificate) -> Iterator[tuple[Any, Any]]:
        """A port of that kind, and a function that connects a blocking socket to it."""
        kept: Any = reactor
        factory = Factory.forProtocol(Kept)
        Kept.made = Deferred()
        if request.param == "tcp":
            port = kept.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = kept.listenSSL(0, factory, certificate.server_options(), interface="127.0.0.1")
        number = port.getHost().port

        def connect() -> socket.socket:
            plain_socket = socket.create_connection(("127.0.0.1", number), timeout=10)
            if request.param == "tcp":
                return plain_socket
            context = certificate.client()
            return context.wrap_socket(plain_socket, server_hostname="localhost")

        yield request.param, connect
        pytest_twisted.blockon(port.stopListening())

    @pytest_twisted.inlineCallbacks
    def test_what_is_unsent_unacknowledged_and_unread_is_counted(self, layers: tuple[Any, Any]) -> Generator[Any, Any, None]:
        kind, connect = layers
        client = yield deferToThread(connect)
        try:
            protocol = yield Kept.made
            transport: ITransport = protocol.transport
            assert isinstance(transport, Connection if kind == "tcp" else BufferingTLSTransport)
            layers_ = upstream.layers(transport)
            yield until(lambda: upstream.unsent(layers_) == 0)
            yield until(lambda: getattr(transport, "_handshakeDone", True))
            protocol.transport.pauseProducing()
            yield deferToThread(client.sendall, b"x" * 1000)
            yield until(lambda: upstream.unread(layers_) >= 1000)
            size = 32 * 2**20
            upstream.write_now(layers_, b"y" * size)
            assert size / 2 < upstream.unsent(layers_) < size * 1.01, "some of it the kernel has at once"
            yield until(lambda: upstream.unacknowledged(layers_) > 0 and upstream.unsent(layers_) < size)
            upstream.set_read_size(layers_, 512)
            assert layers_[-1].bufferSize == 512
            upstream.half_close(transport)
            yield deferToThread(receive_all, client, size)
        finally:
            client.close()
            lost: Deferred[None] = Deferred()
            protocol.connectionLost = lambda _=None: lost.callback(None)
            protocol.transport.abortConnection()
            yield lost
        assert upstream.unread(layers_) == 0

    def test_the_parts_of_a_tls_session_are_where_they_were(self, certificate: Certificate) -> None:
        """`session` reads them, and lends them to the pump; Twisted goes on with `_flushReceiveBIO`."""
        connection: Any = SSL.Connection(certificate.server_options().getContext(), None)
        ffi = cast(Any, SSL)._ffi
        parts = {name: ffi.typeof(getattr(connection, name)).cname for name in ("_ssl", "_into_ssl", "_from_ssl")}
        assert parts == {"_ssl": "SSL *", "_into_ssl": "BIO *", "_from_ssl": "BIO *"}
        source = inspect.getsource(SSL.Connection)
        assert "self._ssl = _ffi.gc(ssl, _lib.SSL_free)" in source, "it lives as long as the connection"
        assert "self._into_ssl = _lib.BIO_new(_lib.BIO_s_mem())" in source, "memory, not a socket"
        attributes = ("_handshakeDone", "_lostTLSConnection", "_aborted", "_appSendBuffer", "disconnecting")
        twisted = inspect.getsource(TLSMemoryBIOProtocol) + inspect.getsource(ProtocolWrapper)
        assert all(f"{name} = " in twisted for name in attributes)
        # All that is there is read before a read is over: so there is nothing but parts of a record when a lease begins.
        assert "while not self._lostTLSConnection:" in inspect.getsource(TLSMemoryBIOProtocol._flushReceiveBIO)

    def test_openssl_is_there_and_is_the_one_that_makes_the_sessions(self) -> None:
        functions = upstream.openssl()
        assert functions is not None
        assert functions["SSL_ERROR_WANT_READ"] == cast(Any, SSL)._lib.SSL_ERROR_WANT_READ
        assert all(functions.values())

    @pytest.mark.parametrize("change", ["gone", "other types", "another library"])
    def test_openssl_is_not_used_when_it_is_not_what_it_was(self, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if change == "gone":
            monkeypatch.setitem(sys.modules, "cryptography.hazmat.bindings._rust", None)
        elif change == "other types":
            monkeypatch.setitem(upstream._OPENSSL_FUNCTIONS, "SSL_read", "int(*)(SSL *, void *, size_t)")
        else:
            monkeypatch.setattr(cast(Any, SSL)._lib, "SSL_read", print)
        assert upstream.openssl.__wrapped__() is None

    def test_zlib_is_the_one_that_python_has(self) -> None:
        functions = upstream.zlib_functions()
        assert functions is not None
        assert functions.keys() == set(upstream._ZLIB_FUNCTIONS)
        version = ctypes.CFUNCTYPE(ctypes.c_char_p)(functions["zlibVersion"])()
        assert version == zlib.ZLIB_RUNTIME_VERSION.encode()

    @pytest.mark.parametrize("change", ["part of the interpreter", "gone", "hidden"])
    def test_zlib_is_not_called_where_it_can_not_be_found(self, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if change == "part of the interpreter":
            monkeypatch.delattr(zlib, "__file__")
        elif change == "gone":
            monkeypatch.setattr(zlib, "__file__", "/nowhere/zlib.so")
        else:
            monkeypatch.setattr(upstream, "_ZLIB_FUNCTIONS", ("inflate", "inflateUnheardOf"))
        assert upstream.zlib_functions.__wrapped__() is None

    def test_a_session_without_its_parts_is_not_lent(self) -> None:
        class Handle:
            _ssl = None

        class TLS(TLSMemoryBIOProtocol):
            _handshakeDone = True
            _appSendBuffer: Any = []  # noqa: RUF012

            def __init__(self) -> None:
                """Have no factory."""

            def getHandle(self) -> Any:
                return Handle()

        class Socket(Connection):
            def __init__(self) -> None:
                """Have no socket."""

        assert upstream.session([TLS(), Socket()]) is None
        assert upstream.session([Socket()]) is None

    @pytest_twisted.inlineCallbacks
    def test_what_waits_for_the_tls_handshake_is_unsent(self, certificate: Certificate) -> Generator[Any, Any, None]:
        kept: Any = reactor
        Kept.made = Deferred()
        port = kept.listenSSL(0, Factory.forProtocol(Kept), certificate.server_options(), interface="127.0.0.1")
        client = yield deferToThread(socket.create_connection, ("127.0.0.1", port.getHost().port))
        with client:
            protocol = yield Kept.made
            layers = upstream.layers(protocol.transport)
            upstream.write_now(layers, b"early")
            assert upstream.unsent(layers) == 5
            lost: Deferred[None] = Deferred()
            protocol.connectionLost = lambda _=None: lost.callback(None)
            protocol.transport.abortConnection()
            yield lost
        yield port.stopListening()

    def test_a_descriptor_that_is_gone_counts_nothing(self) -> None:
        class Gone(Connection):
            connected = True

            def __init__(self) -> None:
                """Have no socket."""

            def fileno(self) -> int:
                return 10**6

        assert upstream.unread([Gone()]) == 0
        assert upstream.unread([Transport()]) == 0

    def test_what_systemd_passed_is_kept_on_the_class(self) -> None:
        assert isinstance(_SystemdParser._sddaemon, ListenFDs)
        assert upstream.passed_descriptors() == _SystemdParser._sddaemon.inheritedDescriptors()

    @pytest.mark.parametrize("names", [{}, {"LISTEN_FDNAMES": ""}, {"LISTEN_FDNAMES": "only-one"}], ids=str)
    def test_sockets_without_names_are_forgotten(self, names: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """By Twisted, and its variables are gone then; the environment that the process began with still has them."""
        variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", **names}
        first = tmp_path / "environ"
        first.write_bytes(b"".join(f"{name}={value}\0".encode() for name, value in variables.items()) + b"\xff=\xff\0nonsense\0")
        monkeypatch.setattr(upstream, "FIRST_ENVIRONMENT", first)
        monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs.fromEnvironment(variables))
        assert "LISTEN_FDS" not in variables
        assert _SystemdParser._sddaemon.inheritedDescriptors() == []
        assert upstream.passed_descriptors() == upstream.passed_descriptors() == [3, 4]
        assert _SystemdParser._sddaemon.inheritedNamedDescriptors() == {"unknown": 4}, "the last of that name, as of one unit's"
        endpoints = [serverFromString(reactor, f"systemd:domain=INET:{which}") for which in ("index=0", "index=1", "name=unknown")]
        assert [upstream.adopted_descriptor(endpoint) for endpoint in endpoints] == [3, 4, 4]

    @pytest.mark.parametrize(
        "environment",
        [
            "",
            "LISTEN_PID={pid}",
            "LISTEN_PID={pid}\0LISTEN_FDS=two",
            "LISTEN_PID={pid}\0LISTEN_FDS=0",
            "LISTEN_PID={pid}\0LISTEN_FDS=-1",
            "LISTEN_PID={another}\0LISTEN_FDS=2",
            "LISTEN_FDS=2",
            None,
        ],
    )
    def test_sockets_of_nobody_and_of_others(self, environment: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        first = tmp_path / "environ"
        if environment is not None:
            first.write_text(environment.format(pid=os.getpid(), another=os.getppid()))
        monkeypatch.setattr(upstream, "FIRST_ENVIRONMENT", first)
        monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs([], ()))
        assert upstream.passed_descriptors() == []

    def test_sockets_with_names_stay_as_they_are(self, monkeypatch: pytest.MonkeyPatch) -> None:
        named = ListenFDs([5], ["a"])
        monkeypatch.setattr(_SystemdParser, "_sddaemon", named)
        assert upstream.passed_descriptors() == [5]
        assert _SystemdParser._sddaemon is named

    def test_the_descriptor_of_an_adopted_socket(self) -> None:
        assert upstream.adopted_descriptor(AdoptedStreamServerEndpoint(reactor, 17, socket.AF_INET)) == 17
        assert upstream.adopted_descriptor(serverFromString(reactor, "tcp:0")) is None

    @pytest.mark.parametrize("is_left", [False, True])
    @pytest_twisted.inlineCallbacks
    def test_an_adopted_unix_socket_is_taken_away_from_who_made_it(self, is_left: bool, tmp_path: Path) -> Generator[Any, Any, None]:
        """By Twisted alone, that is: with `leave_path` it isn't."""
        Kept.made = Deferred()
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as owner:
            owner.bind(str(path))
            owner.listen()
            path.chmod(0o600)
            endpoint = AdoptedStreamServerEndpoint(reactor, os.dup(owner.fileno()), socket.AF_UNIX)
            if is_left:
                upstream.leave_path(endpoint)
            port = yield endpoint.listen(Factory.forProtocol(Kept))
            assert port.getHost() == UNIXAddress(os.fsencode(path))
            assert (path.stat().st_mode & 0o777) == (0o600 if is_left else 0o666)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                protocol = yield Kept.made
                lost: Deferred[None] = Deferred()
                protocol.connectionLost = lambda _=None: lost.callback(None)
            yield lost
            yield port.stopListening()
            assert path.exists() is is_left
            look = select.poll()
            look.register(owner, 0)
            assert look.poll(0) == ([] if is_left else [(owner.fileno(), select.POLLHUP)]), "whether it is shut down"

    @pytest_twisted.inlineCallbacks
    def test_a_held_port_accepts_nothing_and_is_only_closed(self) -> Generator[Any, Any, None]:
        """Twisted would shut its own socket down, for all that have it."""
        port = yield serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Kept))
        assert port._shouldShutdown
        held = upstream.hold(port)
        assert port not in reactor.getReaders()
        with held.dup() as other, socket.create_connection(held.getsockname(), 5):
            yield port.stopListening()
            accepted, _ = other.accept()
            accepted.close()
        with pytest.raises(ValueError, match="is no socket"):
            upstream.hold(cast(Any, object()))

    @pytest_twisted.inlineCallbacks
    def test_a_socket_of_another_process_is_adopted(self) -> Generator[Any, Any, None]:
        with socket.create_server(("127.0.0.1", 0)) as owner:
            port = yield upstream.adopt(reactor, os.dup(owner.fileno())).listen(Factory.forProtocol(Kept))
            assert port.getHost().port == owner.getsockname()[1]
            yield port.stopListening()

    def test_other_endpoints_are_left_as_they_are(self) -> None:
        endpoint = AdoptedStreamServerEndpoint(reactor, 17, socket.AF_INET)
        for left in (endpoint, serverFromString(reactor, "tcp:0")):
            upstream.leave_path(left)
        assert endpoint.reactor is reactor

    def test_a_proxy_header_in_pieces_is_dropped(self) -> None:
        from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory  # noqa: PLC0415

        protocol = HAProxyWrappingFactory(Factory.forProtocol(Protocol)).buildProtocol(UNIXAddress(None))
        transport = Transport()
        assert protocol is not None
        protocol.makeConnection(transport)
        protocol.dataReceived(b"PRO")
        assert transport.disconnecting


class TestTls:
    """What `tls` needs, and why it does without Twisted's own `ssl:` and `tls:`."""

    def test_an_endpoint_string_is_taken_apart_and_unquoted(self) -> None:
        assert upstream.endpoint_arguments(r"ssl:44\:3:a=b\=c:interface=\:\:1") == (["ssl", "44:3"], {"a": "b=c", "interface": "::1"})

    def test_groups_that_openssl_does_not_know_are_passed_over(self) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        upstream.set_groups(context, ["no-such-group", "P-384"])
        # Nothing of the first is left in OpenSSL's queue of errors, where the next call would find it.
        with pytest.raises(SSL.Error, match="no start line"):
            context.use_certificate_chain_file("/dev/null")
        with pytest.raises(ValueError, match="none of the groups"):
            upstream.set_groups(context, ["no-such-group"])

    def test_an_offer_of_alpn_is_answered_with_an_alert(self, certificate: Certificate) -> None:
        """Every browser makes one."""
        options = PrivateCertificate.loadPEM(certificate.path.read_bytes()).options()
        protocol = SimpleNamespace(factory=SimpleNamespace(wrappedFactory=Factory()))
        Client(options, protocol=protocol).shake_hands()
        with pytest.raises(SSL.Error, match="internal error"):
            Client(options, protocol=protocol, protocols=[b"http/1.1"]).shake_hands()

    def test_key_exchanges_without_forward_secrecy_are_taken(self, certificate: Certificate) -> None:
        ciphers = SSL.Connection(PrivateCertificate.loadPEM(certificate.path.read_bytes()).options().getContext()).get_cipher_list()
        assert "AES128-SHA" in ciphers

    @pytest.mark.filterwarnings("ignore:X509.get_(issuer|subject) is deprecated")
    def test_a_renewed_file_is_not_read_again(self, tmp_path: Path) -> None:
        old = Certificate(tmp_path / "a.pem")
        lookup = autoReloadingDirectoryOfPEMs(FilePath(str(tmp_path)))
        before = lookup(b"localhost")
        Certificate(tmp_path / "a.pem", key=old.key)
        assert lookup(b"localhost") is before

    def test_what_follows_the_first_certificate_is_left_out(self, tmp_path: Path) -> None:
        root = Certificate(tmp_path / "root", ["Root"])
        leaf = Certificate(tmp_path / "leaf", issuer=root)
        leaf.path.write_bytes(leaf.path.read_bytes() + root.pem)
        endpoint: Any = serverFromString(reactor, f"ssl:0:privateKey={leaf.path}")
        assert endpoint._sslContextFactory.extraCertChain == []


def receive_all(client: socket.socket, size: int) -> None:
    received = 0
    while received < size:
        piece = client.recv(2**20)
        assert piece
        received += len(piece)


def until(condition: Any, deadline: float = 60) -> Deferred[None]:
    """Fire once `condition()` is true."""
    done: Deferred[None] = Deferred()
    clock: Any = reactor
    end = clock.seconds() + deadline

    def look() -> None:
        if condition():
            done.callback(None)
        elif clock.seconds() > end:
            done.errback(Failure(TimeoutError()))
        else:
            clock.callLater(0.01, look)

    look()
    return done


def test_frames_of_the_oracle_are_understood() -> None:
    """The oracle itself, held against Autobahn."""
    protocol, transport = plain_open()
    protocol.dataReceived(client_frame(TEXT, b"x" * 70_000))
    assert split(transport.value())[0][0].payload == b"x" * 70_000
