"""A client of HTTP/2, written with h2, for what well-behaved clients do and for what they don't.

Knows h2's client side. Must never know how octets travel: a test gives it what came, and sends what it says.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from twisted.internet.task import Clock

from echod.http.h2.frames import GOAWAY
from echod.http.h2.session import Session
from echod.websocket.factory import EchoFactory
from tests import frames
from tests.fakes import Peer, Transport, make_factory
from tests.frames import Frame


class Goaway(NamedTuple):
    """A GOAWAY frame."""

    last_stream: int
    code: ErrorCodes
    why: str


class Http2Client:
    """The client's side of one connection. Windows are opened as soon as something has come, unless told otherwise."""

    def __init__(self, opens_windows: bool = True, is_strict: bool = True) -> None:
        """`is_strict`: malformed answers are an error, as h2 has it."""
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_inbound_headers=is_strict,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.initiate_connection()
        self.opens_windows = opens_windows
        self.settings: dict[int, int] = {}
        self.heads: dict[int, dict[str, str]] = {}
        """The heads of the answers, by the number of the stream."""
        self.bodies: dict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        """The error codes of the streams that the server has reset."""
        self.goaways: list[Goaway] = []
        self.events: list[Event] = []
        self._octets = b""

    @property
    def goaway(self) -> Goaway | None:
        """The last GOAWAY that has come."""
        return self.goaways[-1] if self.goaways else None

    def to_send(self) -> bytes:
        """Return what there is to send."""
        return self.h2.data_to_send()

    def take(self, octets: bytes) -> None:
        """Take what has come. h2's client would take nothing after a GOAWAY, so it gets none."""
        self._octets += octets
        while len(self._octets) >= 9:
            size = 9 + int.from_bytes(self._octets[:3])
            if len(self._octets) < size:
                break
            frame, self._octets = self._octets[:size], self._octets[size:]
            if frame[3] == GOAWAY:
                last, code = struct.unpack_from("!LL", frame, 9)
                self.goaways.append(Goaway(last, ErrorCodes(code), frame[17:].decode()))
            else:
                self._take_frame(frame)

    def _take_frame(self, octets: bytes) -> None:
        for event in self.h2.receive_data(octets):
            self.events.append(event)
            match event:
                case RemoteSettingsChanged():
                    self.settings |= {code: change.new_value for code, change in event.changed_settings.items()}
                case ResponseReceived():
                    self.heads[event.stream_id] = {_text(name): _text(value) for name, value in event.headers}
                case DataReceived():
                    self.bodies[event.stream_id] += event.data
                    if self.opens_windows and event.flow_controlled_length:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamEnded():
                    self.ended.add(event.stream_id)
                case StreamReset():
                    self.resets[event.stream_id] = int(event.error_code)

    def request(self, method: str = "GET", path: str = "/", *fields: tuple[str, str], is_whole: bool = True) -> int:
        """Begin a request, and return the number of its stream."""
        number = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        self.h2.send_headers(number, [*pseudo, *fields], end_stream=is_whole)
        return number

    def connect(
        self, path: str = "/", *fields: tuple[str, str], protocol: str = "websocket", version: str = "13"
    ) -> int:
        """Begin the opening handshake of a WebSocket (RFC 8441 section 5), and return the number of its stream."""
        return self.raw(
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":path", path),
            (":authority", "localhost"),
            ("sec-websocket-version", version),
            *fields,
        )

    def raw(self, *fields: tuple[str, str], is_whole: bool = False) -> int:
        """Send these header fields, whatever they are, and return the number of the stream."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, fields, end_stream=is_whole)
        return number

    def send(self, number: int, octets: bytes, is_last: bool = False) -> None:
        """Send octets on a stream, in frames of the size that the server allows. The window must be large enough."""
        most = self.h2.max_outbound_frame_size
        while len(octets) > most:
            self.h2.send_data(number, octets[:most])
            octets = octets[most:]
        self.h2.send_data(number, octets, end_stream=is_last)

    def send_some(self, number: int, octets: bytes) -> bytes:
        """Send as much as the windows allow, and return the rest."""
        size = min(len(octets), self.h2.local_flow_control_window(number))
        if size > 0:
            self.send(number, octets[:size])
        return octets[size:]

    def frames(self, number: int) -> list[Frame]:
        """Return the whole WebSocket frames that have come on a stream since the last call."""
        found, rest = frames.split(bytes(self.bodies[number]))
        self.bodies[number][:] = rest
        return found

    def says_connect(self) -> bool:
        """Tell whether the server takes an extended CONNECT."""
        return self.settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1


def _text(octets: bytes | str) -> str:
    assert isinstance(octets, bytes)  # since h2 decodes nothing here
    return octets.decode(errors="surrogateescape")


class Exchange:
    """A client and a server's transport that is no socket: what one end sends, the other end takes at once."""

    def __init__(self, transport: Transport, turn: Callable[[], None], client: Http2Client | None = None) -> None:
        """`turn` lets put-off work be done."""
        self.transport = transport
        self.turn = turn
        self.client = client or Http2Client()

    @property
    def session(self) -> Session:
        """The server's side, once the preface has come."""
        protocol = self.transport.protocol  # type: ignore[attr-defined]  # the hand-over sets it
        assert isinstance(protocol, Session)
        return protocol

    def lose(self) -> None:
        """End the connection as the real transport would."""
        self.session.connectionLost()

    def opened(self, path: str = "/", *fields: tuple[str, str]) -> int:
        """Open a WebSocket, and return the number of its stream."""
        number = self.client.connect(path, *fields)
        self.go()
        assert self.client.heads[number][":status"] == "200"
        return number

    def refused(self, number: int) -> tuple[str, str]:
        """Return the status and the body of the answer to a request."""
        self.go()
        return self.client.heads[number][":status"], self.client.bodies[number].decode()

    def echo(self, number: int, octets: bytes) -> list[Frame]:
        """Send octets on a stream, and return the frames that come."""
        self.client.send(number, octets)
        self.go()
        return self.client.frames(number)

    def go(self, rounds: int = 20) -> None:
        """Exchange octets until neither end has anything to send."""
        for _ in range(rounds):
            octets = self.client.to_send()
            if octets:
                self.transport.protocol.dataReceived(octets)  # type: ignore[attr-defined]
            self.turn()
            answer = self.transport.take()
            if answer:
                self.client.take(answer)
            elif not octets:
                return


def exchange(
    clock: Clock, factory: EchoFactory | None = None, client: Http2Client | None = None, **settings: Any
) -> Exchange:
    """Return a client whose connection to a factory has begun."""
    peer = Peer(factory or make_factory(clock, **settings))
    peer.transport.protocol = peer.protocol  # type: ignore[attr-defined]  # as a real transport has it
    made = Exchange(peer.transport, lambda: clock.advance(0), client)
    made.go()
    return made
