"""Autobahn's protocols for echod: they offer what the public interface lacks, and leave out what costs each connection.

Knows what is inside an Autobahn connection. Must never know what is between it and the kernel (carriers.py).
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha1
from typing import Any, Protocol, cast

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as Specification
from autobahn.websocket.utf8validator import Utf8Validator


class _NobodyWaits:
    """Takes the place of the Deferreds that fire when a connection is open and when it is closed. A Deferred would
    refer to the connection, which refers to the Deferred, and only the garbage collector would free them."""

    def callback(self, result: object) -> None:
        """Do nothing."""


_NOBODY_WAITS = _NobodyWaits()

_ANSWER = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
"""The part of the answer to an opening handshake that is the same for all."""

BAD_GATEWAY = 1014


class Extension(Protocol):
    """What Autobahn uses of permessage-deflate: it inflates received messages. echod itself deflates what it sends."""

    EXTENSION_NAME: str

    def start_decompress_message(self) -> None:
        """Begin a message."""
        ...

    def decompress_message_data(self, data: bytes, max_output_len: int) -> bytes:
        """Return what `data` inflates to. Raises `PayloadExceededError` if that is over `max_output_len` bytes."""
        ...

    def end_decompress_message(self) -> None:
        """End the message. Raises `PayloadCorruptError` if the message is not complete."""
        ...


class ServerProtocol(WebSocketServerProtocol):
    """Autobahn's server protocol with one way out: every failure and every drop comes through `fail` or `drop`, and
    every answer of HTTP/1.1 through `send_answer`."""

    # Autobahn would copy some thirty options into each connection and format them for a debug line: three quarters of
    # the cost of a connection. `options_of` makes the options attributes of the class instead.
    CONFIG_ATTRS: list[str] = []  # noqa: RUF012  # Autobahn's declaration

    transport: Any  # set from `connectionMade` to `forget`
    is_open: Any = _NOBODY_WAITS
    is_closed: Any = _NOBODY_WAITS
    maxMessagePayloadSize: int
    _isMessageCompressed: bool

    def __init__(self) -> None:
        """Make nothing. Autobahn would make Deferreds, observers and transport details, which echod never uses."""

    # Autobahn sets these attributes on each connection in `_connectionMade`, between debug lines nobody reads. Here
    # they are attributes of the class, and a connection sets only those that differ. tests/upstream/test_autobahn.py
    # compares the two.
    state = WebSocketProtocol.STATE_CONNECTING
    send_state = WebSocketProtocol.SEND_STATE_GROUND
    data = b""
    trackedTimings = cast(Any, None)
    # One object for all connections, because nobody reads its counts either.
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
    websocket_protocol_in_use: str | None = None
    websocket_version = 13

    _is_bad_gateway = False

    autobahn_is_frozen = False
    """While this is set, Autobahn processes nothing of what it was fed. Whoever clears it must call `feed` again, if
    only with no bytes."""

    @cached_property
    def utf8validator(self) -> Any:  # type: ignore[override]  # an attribute of Autobahn's
        """The validator, made when Autobahn meets the first text."""
        return Utf8Validator()

    def open(self, key: str, subprotocol: str | None, extension: Extension | None, headers: Mapping[str, str]) -> None:
        """Answer an opening handshake that has been checked, and agree on `subprotocol` and `extension`.

        The answer also has these `headers`. Autobahn's own `succeedHandshake` writes `Upgrade: WebSocket`, while RFC
        6455 section 4.2.2 has `websocket`. It would also choose an extension by itself, make it of its own class,
        forget the value of `client_max_window_bits`, and take twice the time. In everything else its answer is the same
        as this one; tests/upstream/test_autobahn.py compares the two.
        """
        if extension is not None:
            self._perMessageCompress = extension
        if subprotocol is not None:
            self.websocket_protocol_in_use = subprotocol
            headers = {**headers, "Sec-WebSocket-Protocol": subprotocol}
        self.send_opening(key, headers)
        self.state = self.STATE_OPEN
        self.inside_message = False
        self.current_frame = cast(Any, None)
        self.onOpen()

    def send_opening(self, key: str, headers: Mapping[str, str]) -> None:
        """Send the answer to an opening handshake over HTTP/1.1."""
        fields = [f"{name}: {value}\r\n" for name, value in headers.items()]
        accept = self.accept_value(key)
        self.send_answer(f"{_ANSWER}{''.join(fields)}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())

    def send_answer(self, octets: bytes) -> None:
        """Send an answer of HTTP/1.1."""
        raise NotImplementedError

    def accept_value(self, key: str) -> str:
        """Return the value of Sec-WebSocket-Accept that answers a key (RFC 6455 section 4.2.2)."""
        return b2a_base64(sha1(key.encode() + self._WS_MAGIC, usedforsecurity=False).digest(), newline=False).decode()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Take a Close frame. Autobahn's list lacks 1014 (IANA: bad gateway), so Autobahn gets 1013 in its place, and
        the reply has 1014."""
        if code != BAD_GATEWAY:
            # Autobahn's annotation forgets its None
            return super().onCloseFrame(code, reasonRaw)  # type: ignore[arg-type]
        self._is_bad_gateway = True
        # Autobahn's annotation forgets its None
        is_over = super().onCloseFrame(BAD_GATEWAY - 1, reasonRaw)  # type: ignore[arg-type]
        self.remoteCloseCode = code
        return is_over

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame; a reply has the code that the peer sent."""
        super().sendCloseFrame(BAD_GATEWAY if isReply and self._is_bad_gateway else code, reasonUtf8, isReply)

    def fail(self, code: int, reason: str) -> None:
        """Fail the WebSocket connection (RFC 6455 section 7.1.7)."""
        raise NotImplementedError

    def drop(self) -> None:
        """Let go of the transport: the closing handshake is over, or there was none."""
        raise NotImplementedError

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        self.fail(code, reason)

    def _protocol_violation(self, reason: str) -> bool:
        # True: stop. With False, unless it drops the connection, Autobahn would go on with the faulty frame and collect
        # the payload that the frame claims.
        self._fail_connection(1002, reason)
        return True

    def _invalid_payload(self, reason: str) -> bool:
        # The sizes of the reads decide how much is inflated at a time, and so which fault is seen first: bytes that
        # can't be inflated, or text that is not UTF-8. One reason for both does not depend on the reads.
        self._fail_connection(1007, "invalid deflated message" if self.is_in_compressed_message else reason)
        return True

    # Autobahn passes it
    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:  # noqa: ARG002
        self._fail_connection(1009, f"message longer than {max_msg_size} octets when inflated")

    def _closeConnection(self, abort: bool = False) -> None:  # noqa: ARG002  # Autobahn passes it
        # Autobahn sets `abort` when the peer has replied to our Close frame; a reset would be pointless then.
        self.drop()

    def open_frame_rest(self) -> int:
        """Return how many bytes of the current frame's payload are still to come; 0 outside a frame."""
        frame = self.current_frame
        return int(frame.length - self.current_frame_masker.pointer()) if frame is not None else 0

    def feed(self, data: bytes) -> None:
        """Give Autobahn received bytes, without the debug line that its `dataReceived` builds for each read."""
        self._dataReceived(data)

    def processData(self) -> bool:
        """Let Autobahn process one frame's header or some of its payload, unless it is frozen."""
        return not self.autobahn_is_frozen and super().processData()

    @property
    def unparsed_size(self) -> int:
        """How many bytes have been fed and not been processed."""
        return len(self.data)

    def note_inflated(self, octets: int) -> None:
        """Say how many bytes of the current message there are. Autobahn derives the limit of the next inflation from
        this number."""
        self.message_data_total_length = octets

    def forget_rest(self) -> None:
        """Drop the bytes that have been fed and come after the current message."""
        self.data = b""

    def ignore_frames(self) -> None:
        """Let Autobahn process nothing of what it is fed from now on, and send nothing."""
        self.state = self.STATE_CLOSED

    def forget(self) -> None:
        """Drop the references to the transport and to zlib's objects, so that a closed connection is freed at once and
        does not wait for the garbage collector."""
        self.state = self.STATE_CLOSED
        self._perMessageCompress = None
        self.transport = None

    @property
    def extension(self) -> Any:
        """The extension that was given to `open`, until the connection is gone."""
        return self._perMessageCompress

    @property
    def is_message_compressed(self) -> bool:
        """Whether the current message came deflated."""
        return self._isMessageCompressed

    @property
    def is_in_compressed_message(self) -> bool:
        """Whether a message that comes deflated has begun and is not complete."""
        return self.inside_message and self._isMessageCompressed

    @property
    def is_between_frames(self) -> bool:
        """Whether no part of an incomplete frame has arrived."""
        return not self.data and self.current_frame is None

    @property
    def is_between_messages(self) -> bool:
        """Whether no part of an incomplete message or frame has arrived."""
        return not self.inside_message and self.is_between_frames


class _NoLog:
    """Takes the place of Autobahn's logger and drops every line: `ClientProtocol.why` tells the reason, too."""

    def trace(self, *_: object, **__: object) -> None:
        """Drop the line."""

    debug = info = warn = error = critical = failure = trace


class ClientProtocol(WebSocketClientProtocol):
    """Autobahn's client protocol, but its user writes the opening handshake.

    Autobahn itself writes the port into the Host field even if it is the default port, leaves out the brackets of an
    IPv6 address, and accepts each field only once.
    """

    log = _NoLog()
    transport: Any

    def startHandshake(self) -> None:
        """Write nothing yet, unlike Autobahn: `request` writes once TLS has been verified."""

    def request(self, key: str, head: bytes) -> None:
        """Send the opening handshake `head`. The answer must match its `key`."""
        self.websocket_key = key.encode()
        self.sendData(head)

    def feed(self, data: bytes) -> None:
        """Give Autobahn received bytes; the first call must have the whole head of the answer.

        Autobahn decodes the head as UTF-8 for a debug line, and raises an exception if the head is not UTF-8. So every
        byte above ASCII is replaced in the head.
        """
        if self.state == self.STATE_CONNECTING:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = head.decode("ascii", errors="replace").encode("ascii", errors="replace") + end + rest
        self._dataReceived(data)

    def _onOpen(self) -> None:
        # Autobahn's own looks up an identifier of the TLS session, which nobody asks for here. It raises an exception
        # if the client's transport is something else on TLS, such as HTTP/2.
        self.onOpen()

    @property
    def why(self) -> str:
        """Why Autobahn failed the connection; empty if the server ended it."""
        return (
            (self.wasNotCleanReason or "").removeprefix("I dropped the WebSocket TCP connection: ")
            if self.droppedByMe
            else ""
        )


def options_of(factory: object) -> dict[str, Any]:
    """Return the protocol options that Autobahn keeps on `factory`, as attributes for a protocol class."""
    return {name: getattr(factory, name) for name in Specification.CONFIG_ATTRS}
