"""HTTP/2 below the check's client: what it writes as an upgrade of HTTP/1.1 becomes an extended CONNECT (RFC 8441), and
what the server answers becomes an answer of HTTP/1.1. So everything that a check says of an answer holds for both.

Knows h2's client side. Must never know what a check does with an answer, nor what a WebSocket carries.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from hashlib import sha1
from http import HTTPStatus
from typing import Any, Protocol

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
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from echod.http.h2.frames import GOAWAY, HEADER_SIZE, MAX_STREAM, Frame, FrameError, FrameReader

ALPN = b"h2"
"""HTTP/2's name (RFC 9113 section 3.2)."""

WINDOW = 2**20
"""Bytes that the server may send ahead."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3

_OF_HTTP1 = frozenset(("upgrade", "connection", "sec-websocket-key", "host"))
"""Fields of the opening handshake that HTTP/2 does not have (RFC 8441 section 5)."""

_KNOWN_CODES = frozenset(ErrorCodes)

LAST_AND_CODE = struct.Struct("!LL")
"""The beginning of the payload of GOAWAY: the last stream, and the error code (RFC 9113 section 6.8)."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Listener(Protocol):
    """What a tunnel calls, in the order in which a connection lives."""

    def announced(self) -> None:
        """The server takes an extended CONNECT, and it has been sent."""

    def came(self, octets: bytes) -> None:
        """Bytes came, as over HTTP/1.1."""

    def noted(self, what: str) -> None:
        """Something has come that is worth a note, and is no failure."""

    def tunnel_failed(self, why: str, hint: str = "") -> None:
        """There is no way to go on."""


class Tunnel:
    """Stands between Autobahn's client and its transport."""

    def __init__(self, transport: Any, scheme: str, listener: Listener) -> None:
        """`scheme` is `http` or `https`."""
        self._transport = transport
        self._scheme = scheme
        self._listener = listener
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        self._reader = FrameReader(self._h2.max_inbound_frame_size, preface=b"")
        self._head: list[tuple[str, str]] = []
        self._key = b""
        self._stream = 0
        self._queue = bytearray()
        self._has_failed = self._has_ended = False

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has: the tunnel replaces only what is below."""
        return getattr(self._transport, name)

    # What Autobahn's client does.

    def write(self, octets: bytes) -> None:
        """Write. The first bytes are the whole head of the opening handshake."""
        if self._head:
            self._queue += octets
            self._flush()
            return
        request, *lines = octets.decode().split("\r\n")[:-2]
        fields = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
        told = dict(fields)
        self._key = told["sec-websocket-key"].encode()
        pseudo = {"method": "CONNECT", "protocol": "websocket", "scheme": self._scheme, "path": request.split(" ")[1]}
        self._head = [(f":{name}", value) for name, value in {**pseudo, "authority": told["host"]}.items()]
        self._head += [field for field in fields if field[0] not in _OF_HTTP1]
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)
        self._flush()

    def loseConnection(self) -> None:
        """End the stream, and then the connection."""
        if self._stream and not (self._has_failed or self._has_ended):
            self._has_ended = True
            self._h2.end_stream(self._stream)
            self._flush()
        self._transport.loseConnection()

    # What the server does.

    def received(self, octets: bytes) -> None:
        """Take bytes of the transport's."""
        if self._has_failed:
            return
        if not self._stream and octets.startswith(b"HTTP/1."):
            self._fail("the server answers with HTTP/1.1", "perhaps: it speaks HTTP/1.1 alone on this port")
            return
        self._reader.feed(octets)
        try:
            while not self._has_failed and (frame := self._reader.next()) is not None:
                self._take(frame)
        except (FrameError, ProtocolError) as error:
            self._fail(f"what the server sent is not valid in HTTP/2: {error}")
        else:
            self._flush()

    def _take(self, frame: Frame) -> None:
        """Let h2 take one frame: in answer to it something may be sent that the next frame, a reset, forbids."""
        if frame.kind == GOAWAY and frame.payload_size >= LAST_AND_CODE.size:
            self._take_goaway(frame.octets)
        else:
            for event in self._h2.receive_data(frame.octets):
                self._handle(event)

    def _take_goaway(self, octets: bytes) -> None:
        """The streams that are open go on if the code is NO_ERROR (RFC 9113 section 6.8). h2 would end them all."""
        last, code = LAST_AND_CODE.unpack_from(octets, HEADER_SIZE)
        why = octets[HEADER_SIZE + LAST_AND_CODE.size :].decode(errors="replace")
        told = f"the server sent GOAWAY with {_name_of(code)} {why}".rstrip()
        if code or not 0 < self._stream <= last & MAX_STREAM:
            self._fail(told)
        else:
            self._listener.noted(f"{told}, last stream {last & MAX_STREAM}")

    def _handle(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged():
                self._connect()
            case ResponseReceived():
                self._take_head({str(name): str(value) for name, value in event.headers})
            case DataReceived():
                if event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if event.data:
                    self._listener.came(event.data)
            case StreamEnded():
                self.loseConnection()
            case StreamReset():
                self._fail(f"the server reset the stream with {_name_of(event.error_code)}")

    def _connect(self) -> None:
        if self._stream:
            return
        if not self._h2.remote_settings.enable_connect_protocol:
            self._fail("the server does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL")
            return
        self._stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(self._stream, self._head)
        self._listener.announced()

    def _take_head(self, head: dict[str, str]) -> None:
        status = int(head.pop(":status"))
        if status == HTTPStatus.OK:
            accept = b64encode(sha1(self._key + _GUID, usedforsecurity=False).digest()).decode()
            head = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-accept": accept, **head}
            status = HTTPStatus.SWITCHING_PROTOCOLS
        lines = [
            f"HTTP/1.1 {status:d} {_PHRASES.get(status, '')}",
            *(f"{name}: {value}" for name, value in head.items()),
        ]
        self._listener.came("\r\n".join([*lines, "", ""]).encode())

    def _fail(self, why: str, hint: str = "") -> None:
        self._has_failed = True
        self._listener.tunnel_failed(why, hint)

    def _flush(self) -> None:
        while self._stream and self._queue and not (self._has_failed or self._has_ended):
            size = min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size)
            if size <= 0:
                break
            self._h2.send_data(self._stream, bytes(self._queue[:size]))
            del self._queue[:size]
        self._transport.write(self._h2.data_to_send())


def _name_of(code: int | None) -> str:
    return ErrorCodes(code).name if code in _KNOWN_CODES else str(code)
