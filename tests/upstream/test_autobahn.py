"""The private names of Autobahn's protocols, and how echod's protocols differ."""

from __future__ import annotations

import inspect
import re
import zlib
from typing import Any, cast

import pytest
from autobahn.twisted import websocket as autobahn_twisted
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket import protocol as autobahn_protocol
from autobahn.websocket.compress import PerMessageDeflate, PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.protocol import connectionDone

from echod.upstream import autobahn
from echod.websocket.compression import TAIL, Deflate
from tests.fakes import Peer, Transport, make_factory
from tests.frames import ACCEPT, CLOSE, PING, TEXT, client_frame, close_payload, handshake, server_frame, split


class Plain(WebSocketServerProtocol):
    """Autobahn's own server protocol, which echoes."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


class PlainTransport(Transport):
    """Counts the writes."""

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
    """Accept the first offer, with a window of 4 KiB if the offer allows it."""
    return PerMessageDeflateOfferAccept(
        offers[0], request_max_window_bits=12 if offers[0].accept_max_window_bits else 0
    )


class TestAutobahnsDeflate:
    """Why `compression.Deflate` takes the place of Autobahn's own class."""

    def opened(self, *offer: str) -> tuple[Plain, PlainTransport]:
        protocol, transport = plain(perMessageCompressionAccept=accept_with_12_bits, failByDrop=False)
        protocol.dataReceived(handshake("/", "Sec-WebSocket-Extensions: " + "; ".join(["permessage-deflate", *offer])))
        assert b"permessage-deflate" in transport.value()
        transport.clear()
        return protocol, transport

    def echoes(self, *messages: bytes) -> list[bytes]:
        """Send deflated messages, and return the inflated payloads of their echoes."""
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
        protocol.dataReceived(
            handshake("/", "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover")
        )
        assert b"client_no_context_takeover" not in transport.value()

    def test_the_value_of_an_offered_window_is_forgotten(self) -> None:
        offer = PerMessageDeflateOffer.parse({"client_max_window_bits": ["10"]})
        assert offer.accept_max_window_bits is True

    def test_the_methods_that_inflate_a_message(self) -> None:
        mine, theirs = (
            [
                getattr(kind, name)
                for name in ("start_decompress_message", "decompress_message_data", "end_decompress_message")
            ]
            for kind in (Deflate, PerMessageDeflate)
        )
        assert [list(inspect.signature(method).parameters) for method in mine] == [
            list(inspect.signature(method).parameters) for method in theirs
        ]


class TestAutobahn:
    """Private names, and faults that echod works around."""

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
        # `__init__` sets attributes for other users, too, and the queue is for chopped writes, which echod never makes.
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
                "Sec-WebSocket-Extensions: x, permessage-deflate; server_no_context_takeover; "
                "server_max_window_bits=10",
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
        plain_factory.setProtocolOptions(
            allowNullOrigin=True, openHandshakeTimeout=0, perMessageCompressionAccept=accept_with_12_bits
        )
        protocol, transport = cast(First, plain_factory.buildProtocol(None)), PlainTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(handshake("/", *headers))
        autobahns = transport.value().split(b"\r\n")
        # RFC 6455 section 4.2.2 has small letters.
        autobahns[autobahns.index(b"Upgrade: WebSocket")] = b"Upgrade: websocket"
        # The order of the fields has no meaning.
        assert sorted(Peer(factory).open("/", *headers).split(b"\r\n")) == sorted(autobahns)

    def test_what_autobahn_sets_when_it_answers_is_there_where_it_does_not(self) -> None:
        autobahns, peer = plain_open()[0], Peer(make_factory())
        peer.open()
        assert not peer.protocol.websocket_extensions_in_use
        assert peer.protocol.subprotocol is None
        for name in ("state", "inside_message", "current_frame", "websocket_version", "websocket_protocol_in_use"):
            assert getattr(autobahns, name) == getattr(peer.protocol, name), name

    def test_private_attributes_are_there(self) -> None:
        peer = Peer(make_factory())
        peer.open("/", "Sec-WebSocket-Protocol: a")
        peer.send(client_frame(TEXT, b"a", fin=False) + client_frame(PING, b"abcdef")[:8])
        attributes = vars(peer.protocol)
        for name in ("_isMessageCompressed", "current_frame", "current_frame_masker"):
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
        assert autobahn.BAD_GATEWAY not in WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED
        assert autobahn.BAD_GATEWAY - 1 in WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED
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
        [
            b"X: a\x85Y: b",
            b"X: a\r\n folded",
            b"X: \x00",
            b"no colon",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        ],
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
    """What `ClientProtocol` replaces, and the private names that it uses."""

    @pytest.mark.parametrize(
        ("url", "host"),
        [("ws://localhost", "localhost:80"), ("wss://localhost", "localhost:443"), ("ws://[::1]:9000", "::1:9000")],
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
            "_onOpen": ["self"],
        }.items():
            assert list(inspect.signature(getattr(WebSocketClientProtocol, name)).parameters) == parameters

    def test_tls_below_another_layer_raises(self) -> None:
        protocol, _ = client(WebSocketClientProtocol)
        protocol._transport_details.is_secure = True
        with pytest.raises(RuntimeError, match="channel ID"):
            protocol._onOpen()

    def test_it_logs_nothing(self) -> None:
        used = set(
            re.findall(
                r"self\.log\.([a-z]+)\(", inspect.getsource(autobahn_protocol) + inspect.getsource(autobahn_twisted)
            )
        )
        assert used
        for name in used:
            getattr(autobahn.ClientProtocol.log, name)("{x}", x=1)

    def test_the_opening_handshake_is_the_users_and_the_answer_is_held_to_its_key(self) -> None:
        protocol, transport = client(autobahn.ClientProtocol)
        assert transport.value() == b""
        protocol.request("dGhlIHNhbXBsZSBub25jZQ==", b"head")
        assert transport.value() == b"head"
        answer = (
            b"HTTP/1.1 101 A\r\nServer: \xe9\x85\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + ACCEPT
            + b"\r\n\r\n"
        )
        # The bytes after the head must stay as they are.
        protocol.feed(answer + server_frame(TEXT, "é".encode()) + server_frame(CLOSE, close_payload(1001, "é")))
        assert protocol.remoteCloseReason == "é"
        assert protocol.why == ""

    def test_why_it_failed_is_told(self) -> None:
        protocol, _ = client(autobahn.ClientProtocol)
        protocol.request("AAAAAAAAAAAAAAAAAAAAAA==", b"")
        protocol.feed(b"HTTP/1.1 101 A\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n\r\n")
        assert protocol.why.startswith("HTTP Sec-WebSocket-Accept bogus value")
        protocol, _ = client(autobahn.ClientProtocol)
        protocol.request("dGhlIHNhbXBsZSBub25jZQ==", b"")
        protocol.feed(
            b"HTTP/1.1 101 A\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n\r\n" + b"\xff\xff"
        )
        assert protocol.why == "RSV = 7 and no extension negotiated"


def test_frames_of_the_oracle_are_understood() -> None:
    """Autobahn checks the oracle itself."""
    protocol, transport = plain_open()
    protocol.dataReceived(client_frame(TEXT, b"x" * 70_000))
    assert split(transport.value())[0][0].payload == b"x" * 70_000
