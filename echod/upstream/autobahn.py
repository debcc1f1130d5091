"""Autobahn's protocols, with what echod needs and their public interface lacks, and without what each connection would
pay for.

Knows what is inside a connection of Autobahn's. Must never know what its octets go through: that is the transport's.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha1
from typing import Any, cast

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.websocket.compress_base import PerMessageCompress
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as Specification
from autobahn.websocket.utf8validator import Utf8Validator


class _NobodyWaits:
    """Stands for the Deferreds that fire when a connection is open and closed. They would hold the connection, which
    holds them."""

    def callback(self, result: object) -> None:
        """Tell nobody."""


_NOBODY_WAITS = _NobodyWaits()

_ANSWER = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
"""The answer to an opening handshake, up to what is different from one to the next."""

BAD_GATEWAY = 1014


class ServerProtocol(WebSocketServerProtocol):
    """Autobahn's server protocol with one way out: every failure and every drop comes through `fail` or `drop`."""

    # Copying some thirty options into each connection, and formatting them for a debug line, is three quarters of what
    # a connection costs. `options_of` makes them attributes of the class.
    CONFIG_ATTRS: list[str] = []  # noqa: RUF012  # Autobahn's declaration

    transport: Any  # is there from `connectionMade` to `forget`
    is_open: Any = _NOBODY_WAITS
    is_closed: Any = _NOBODY_WAITS
    maxMessagePayloadSize: int
    _isMessageCompressed: bool

    def __init__(self) -> None:
        """Make none of what only other users of Autobahn look at: Deferreds, observers, details of the transport."""

    # What Autobahn sets on each connection in `_connectionMade`, with debug lines around it that nobody reads: here it
    # is on the class, and a connection has of its own what differs from it. tests/upstream/test_autobahn.py compares
    # the two.
    state = WebSocketProtocol.STATE_CONNECTING
    send_state = WebSocketProtocol.SEND_STATE_GROUND
    data = b""
    trackedTimings = cast(Any, None)
    # Counts for all connections together, which nobody reads either.
    trafficStats = TrafficStats()
    triggered = False
    wasMaxFramePayloadSizeExceeded = wasMaxMessagePayloadSizeExceeded = False
    closedByMe = failedByMe = droppedByMe = wasClean = False
    wasNotCleanReason = cast(str, None)
    wasServerConnectionDropTimeout = wasOpenHandshakeTimeout = wasCloseHandshakeTimeout = (
        wasServingFlashSocketPolicyFile
    ) = False
    localCloseCode = localCloseReason = remoteCloseCode = remoteCloseReason = None
    openHandshakeTimeoutCall = closeHandshakeTimeoutCall = autoPingTimeoutCall = autoPingPendingCall = None
    autoPingPending = autoPingPendingSent = None
    autoPingPendingSeq = 0
    _perMessageCompress: Any = None
    websocket_extensions_in_use: Any = ()

    _is_bad_gateway = False

    is_held = False
    """While this is set, Autobahn takes nothing of what it was fed. Who unsets it has to feed it again, be it with
    nothing."""

    @cached_property
    def utf8validator(self) -> Any:  # type: ignore[override]  # an attribute of Autobahn's
        """The validator, from the first text that Autobahn takes on."""
        return Utf8Validator()

    def open(
        self, key: str, subprotocol: str | None, extension: PerMessageCompress | None, headers: Mapping[str, str]
    ) -> None:
        """Answer an opening handshake that has been checked, and agree on `subprotocol` and `extension`; `headers` go
        into the answer.

        Autobahn's own `succeedHandshake` says `Upgrade: WebSocket`, where RFC 6455 section 4.2.2 has `websocket`. It
        would also choose an extension by itself, make it of its own class, forget the value of
        `client_max_window_bits`, and take twice the time. In all else its answer is this one;
        tests/upstream/test_autobahn.py compares the two.
        """
        self.websocket_version = 13
        if extension is not None:
            self._perMessageCompress = extension
        self.websocket_protocol_in_use = subprotocol
        fields = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if subprotocol is not None:
            fields.append(f"Sec-WebSocket-Protocol: {subprotocol}\r\n")
        accept = b2a_base64(sha1(key.encode() + self._WS_MAGIC, usedforsecurity=False).digest(), newline=False).decode()
        self.sendData(f"{_ANSWER}{''.join(fields)}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
        self.state = self.STATE_OPEN
        self.inside_message = False
        self.current_frame = cast(Any, None)
        self.onOpen()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Take a Close frame; 1014 (IANA: bad gateway), which Autobahn's list lacks, is judged as 1013 and answered as
        itself."""
        if code != BAD_GATEWAY:
            # Autobahn's annotation forgets its None
            return super().onCloseFrame(code, reasonRaw)  # type: ignore[arg-type]
        self._is_bad_gateway = True
        # Autobahn's annotation forgets its None
        is_over = super().onCloseFrame(BAD_GATEWAY - 1, reasonRaw)  # type: ignore[arg-type]
        self.remoteCloseCode = code
        return is_over

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame; a reply has the code that came."""
        super().sendCloseFrame(BAD_GATEWAY if isReply and self._is_bad_gateway else code, reasonUtf8, isReply)

    def fail(self, code: int, reason: str) -> None:
        """Fail the WebSocket connection (RFC 6455 section 7.1.7)."""
        raise NotImplementedError

    def drop(self) -> None:
        """Let go of the transport: the closing handshake is over, or there was none."""
        raise NotImplementedError

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        self.failedByMe = True
        self.fail(code, reason)

    def _protocol_violation(self, reason: str) -> bool:
        # True: stop. Autobahn would go on with the frame at fault, and gather what it claims, unless it drops the
        # connection.
        self._fail_connection(1002, reason)
        return True

    def _invalid_payload(self, reason: str) -> bool:
        # How much is inflated at a time depends on how it comes, and so does which is seen first: what can't be
        # inflated, or what is not UTF-8.
        self._fail_connection(
            1007, "invalid deflated message" if self.inside_message and self._isMessageCompressed else reason
        )
        return True

    # Autobahn passes it
    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:  # noqa: ARG002
        self._fail_connection(1009, f"message longer than {max_msg_size} octets when inflated")

    def _closeConnection(self, abort: bool = False) -> None:  # noqa: ARG002  # Autobahn passes it
        # `abort` is set where Autobahn got the peer's reply to a Close of ours: a reset then would be for nothing.
        self.drop()

    def open_frame_rest(self) -> int:
        """Return the octets of the current frame's payload that are still to come; 0 outside a frame."""
        frame = self.current_frame
        return int(frame.length - self.current_frame_masker.pointer()) if frame is not None else 0

    def feed(self, data: bytes) -> None:
        """Let Autobahn have octets, past the debug line that its `dataReceived` builds for each read."""
        self._dataReceived(data)

    def processData(self) -> bool:
        """Let Autobahn take one frame's header or some of its payload, unless it is held."""
        return not self.is_held and super().processData()

    def forget_rest(self) -> None:
        """Drop what has been fed and comes behind the current message."""
        self.data = b""

    def forget(self) -> None:
        """Let go of the transport and of zlib's objects: a closed connection is freed at once, not by the garbage
        collector."""
        self.state = self.STATE_CLOSED
        self._perMessageCompress = None
        self.transport = None

    @property
    def extension(self) -> Any:
        """The one that was given to `open`, until the connection is gone."""
        return self._perMessageCompress

    @property
    def is_message_compressed(self) -> bool:
        """Whether the current message came deflated."""
        return self._isMessageCompressed

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing of a frame has come that is not whole."""
        return not self.data and self.current_frame is None

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing of a message or a frame has come that is not whole."""
        return not self.inside_message and self.is_between_frames


class _NoLog:
    """Stands where Autobahn keeps its logger, and drops everything: `ClientProtocol.why` has it, too."""

    def trace(self, *_: object, **__: object) -> None:
        """Drop it."""

    debug = info = warn = error = critical = failure = trace


class ClientProtocol(WebSocketClientProtocol):
    """Autobahn's client protocol whose opening handshake is written by its user.

    Autobahn writes the Host field with the port even where it is the default one, without the brackets of an IPv6
    address, and takes each field once.
    """

    log = _NoLog()
    transport: Any

    def startHandshake(self) -> None:
        """Write nothing yet, unlike Autobahn: that is `request`'s, once TLS has been verified."""

    def request(self, key: str, head: bytes) -> None:
        """Send the opening handshake `head`, to whose `key` the answer will be held."""
        self.websocket_key = key.encode()
        self.sendData(head)

    def feed(self, data: bytes) -> None:
        """Let Autobahn have octets; the first ones must hold the whole head of the answer.

        For a debug line it decodes the head as UTF-8, and raises where that can't be done.
        """
        if self.state == self.STATE_CONNECTING:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = head.decode("ascii", errors="replace").encode("ascii", errors="replace") + end + rest
        self._dataReceived(data)

    @property
    def why(self) -> str:
        """Why Autobahn failed the connection; empty where it was the server's doing."""
        return (
            (self.wasNotCleanReason or "").removeprefix("I dropped the WebSocket TCP connection: ")
            if self.droppedByMe
            else ""
        )


def options_of(factory: object) -> dict[str, Any]:
    """Return the protocol options that Autobahn keeps on `factory`, as attributes for a protocol class."""
    return {name: getattr(factory, name) for name in Specification.CONFIG_ATTRS}
