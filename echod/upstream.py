"""The only file that touches private names of Autobahn and Twisted, and those of their attributes that no documentation promises.

Each is named in tests/test_upstream.py, which fails when upstream changes it. Knows what is inside a connection of theirs; must
never know echod's rules: it offers what is missing from their public interfaces, and `protocol` decides.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import os
import socket
import struct
import termios
import zlib
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from hashlib import sha1
from typing import Any, NamedTuple, cast

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.websocket.compress_base import PerMessageCompress
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as Specification
from autobahn.websocket.utf8validator import Utf8Validator
from OpenSSL import SSL
from OpenSSL._util import lib as binding
from twisted.internet import endpoints
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, _SystemdParser
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, ISSLTransport, IStreamServerEndpoint, ITransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection, Port, Server
from twisted.internet.unix import Port as UnixPort
from twisted.protocols.tls import TLSMemoryBIOProtocol

RECORD_SIZE = 2**14
"""Octets that one TLS record holds at most (RFC 8446 section 5.1)."""


class _NobodyWaits:
    """Stands for the Deferreds that fire when a connection is open and closed. They would hold the connection, which holds them."""

    def callback(self, result: object) -> None:
        """Tell nobody."""


_NOBODY_WAITS = _NobodyWaits()

_ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
"""Autobahn's answer to an opening handshake, up to what depends on the key, where there is no extension and no subprotocol."""

BAD_GATEWAY = 1014


class ServerProtocol(WebSocketServerProtocol):
    """Autobahn's server protocol with one way out: every failure and every drop comes through `fail` or `drop`."""

    # Copying some thirty options into each connection, and formatting them for a debug line, is three quarters of what a
    # connection costs. `options_of` makes them attributes of the class.
    CONFIG_ATTRS: list[str] = []  # noqa: RUF012  # Autobahn's declaration

    transport: Any  # is there from `connectionMade` to `forget`
    is_open: Any = _NOBODY_WAITS
    is_closed: Any = _NOBODY_WAITS
    maxMessagePayloadSize: int
    _isMessageCompressed: bool

    def __init__(self) -> None:
        """Make none of what only other users of Autobahn look at: Deferreds, observers, details of the transport."""

    # What Autobahn sets on each connection in `_connectionMade`, with debug lines around it that nobody reads: here it is on the
    # class, and a connection has of its own what differs from it. tests/test_upstream.py compares the two.
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
    wasServerConnectionDropTimeout = wasOpenHandshakeTimeout = wasCloseHandshakeTimeout = wasServingFlashSocketPolicyFile = False
    localCloseCode = localCloseReason = remoteCloseCode = remoteCloseReason = None
    openHandshakeTimeoutCall = closeHandshakeTimeoutCall = autoPingTimeoutCall = autoPingPendingCall = None
    autoPingPending = autoPingPendingSent = None
    autoPingPendingSeq = 0
    _perMessageCompress: Any = None
    websocket_extensions_in_use: Any = ()

    _is_bad_gateway = False

    @cached_property
    def utf8validator(self) -> Any:  # type: ignore[override]
        """The validator, from the first text that Autobahn takes on."""
        return Utf8Validator()

    def open(self, key: str, subprotocols: Sequence[str], extension: PerMessageCompress | None, headers: Mapping[str, str]) -> None:
        """Answer an opening handshake that has been checked already, past Autobahn's own parser; the first subprotocol is chosen.

        Autobahn would choose an extension by itself, make it of its own class, and forget the value of `client_max_window_bits`: it sees
        no offer, and `extension` is put where its own would be. `headers` go into the answer.
        """
        self.websocket_version = 13
        if not subprotocols and extension is None:
            self._open_plainly(key)
            return
        self.websocket_protocols = list(subprotocols)
        self.websocket_extensions = []
        if extension is not None:
            self._perMessageCompress = extension
        self._wskey = key
        self.succeedHandshake((subprotocols[0] if subprotocols else None, headers))

    def _open_plainly(self, key: str) -> None:
        """Do what Autobahn does where there is nothing to agree on, in half of the time. tests/test_upstream.py compares the two."""
        accept = b2a_base64(sha1(key.encode() + self._WS_MAGIC, usedforsecurity=False).digest(), newline=False)
        self.sendData(b"%b%b\r\n\r\n" % (_ANSWER, accept))
        self.websocket_protocol_in_use = None
        self.state = self.STATE_OPEN
        self.inside_message = False
        self.current_frame = cast(Any, None)
        self.onOpen()

    def _onOpen(self) -> None:
        self.onOpen()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        """Take a Close frame; 1014 (IANA: bad gateway), which Autobahn's list lacks, is judged as 1013 and answered as itself."""
        if code != BAD_GATEWAY:
            return super().onCloseFrame(code, reasonRaw)  # type: ignore[arg-type]
        self._is_bad_gateway = True
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
        # True: stop. Autobahn would go on with the frame at fault, and gather what it claims, unless it drops the connection.
        self._fail_connection(1002, reason)
        return True

    def _invalid_payload(self, reason: str) -> bool:
        # How much is inflated at a time depends on how it comes, and so does which is seen first: what can't be inflated, or what
        # is not UTF-8.
        self._fail_connection(1007, "invalid deflated message" if self.inside_message and self._isMessageCompressed else reason)
        return True

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:  # noqa: ARG002
        self._fail_connection(1009, f"message longer than {max_msg_size} octets when inflated")

    def _closeConnection(self, abort: bool = False) -> None:  # noqa: ARG002
        # `abort` is set where Autobahn got the peer's reply to a Close of ours: a reset then would be for nothing.
        self.drop()

    def open_frame_rest(self) -> int:
        """Return the octets of the current frame's payload that are still to come; 0 outside a frame."""
        frame = self.current_frame
        return int(frame.length - self.current_frame_masker.pointer()) if frame is not None else 0

    def feed(self, data: bytes) -> None:
        """Let Autobahn have octets, past the debug line that its `dataReceived` builds for each read."""
        self._dataReceived(data)

    def forget_rest(self) -> None:
        """Drop what has been fed and comes behind the current message."""
        self.data = b""

    def forget(self) -> None:
        """Let go of the transport and of zlib's objects: a closed connection is freed at once, not by the garbage collector."""
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

    Autobahn writes the Host field with the port even where it is the default one, without the brackets of an IPv6 address, and takes
    each field once.
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
        return (self.wasNotCleanReason or "").removeprefix("I dropped the WebSocket TCP connection: ") if self.droppedByMe else ""


def options_of(factory: object) -> dict[str, Any]:
    """Return the protocol options that Autobahn keeps on `factory`, as attributes for a protocol class."""
    return {name: getattr(factory, name) for name in Specification.CONFIG_ATTRS}


def endpoint_arguments(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of an endpoint string, those without a name and those with, after unquoting; the first is the prefix."""
    arguments, named = endpoints._parse(text)
    return arguments, named


def set_groups(context: SSL.Context, choices: Sequence[str]) -> None:
    """Allow these groups alone for the key exchange: the first of `choices` that the OpenSSL in use knows every one of.

    pyOpenSSL has a way to set a single elliptic curve; OpenSSL's own default has others that are slower and hardly looked at (X448).
    """
    for groups in choices:
        if binding.SSL_CTX_set1_curves_list(context._context, groups.encode()):
            return
        binding.ERR_clear_error()  # else the next call that looks there finds it
    raise ValueError("OpenSSL knows none of the groups for the key exchange")


def passed_descriptors() -> list[int]:
    """Return the descriptors of what systemd passed: Twisted takes the environment variables as it is imported."""
    return _SystemdParser._sddaemon.inheritedDescriptors()


def adopted_descriptor(endpoint: object) -> int | None:
    """Return the descriptor of a `systemd:` endpoint, or None for another."""
    return endpoint.fileno if isinstance(endpoint, AdoptedStreamServerEndpoint) else None


class _AdoptedUnixPort(UnixPort):
    """Leaves the socket to who made it, who goes on to listen there. Twisted would shut it down in the end, which ends it for all that
    have it, and remove its path; at the start it would set the path's mode, which takes its owner."""

    # As Twisted has it for an adopted TCP socket.
    _shouldShutdown = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # An abstract name, by its NUL, which Twisted leaves alone; the address itself is asked of the socket.
        self._bindPath = b"\0" + self._bindPath


class _UnixAdopter:
    """Stands where an adopted endpoint has the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def adoptStreamPort(self, fileno: int, _: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen on a Unix socket that is there."""
        port = _AdoptedUnixPort._fromListeningDescriptor(self._reactor, fileno, factory)
        port.startListening()
        return cast(IListeningPort, port)


def leave_path(endpoint: object) -> None:
    """Let a `systemd:` endpoint for a Unix socket leave its path alone; another is as it was."""
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and endpoint.addressFamily == socket.AF_UNIX:
        endpoint.reactor = _UnixAdopter(endpoint.reactor)


def adopt(reactor: Any, descriptor: int) -> IStreamServerEndpoint:
    """Return an endpoint for a listening socket that another process made and goes on to listen on; `descriptor` is closed."""
    with socket.socket(fileno=os.dup(descriptor)) as passed:
        return cast(IStreamServerEndpoint, AdoptedStreamServerEndpoint(reactor, descriptor, passed.family))


def hold(port: IListeningPort) -> socket.socket:
    """Accept nothing at `port`, which other processes are to do, and return its socket; raises `ValueError` when there is none.

    In the end it is only closed: Twisted would shut it down, which ends it for all that have it.
    """
    held: Any = port
    if not isinstance(getattr(held, "socket", None), socket.socket):
        raise ValueError("is no socket that workers could share")
    held.stopReading()
    held._shouldShutdown = False
    return cast(socket.socket, held.socket)


class _EagerServer(Server):
    """A socket that the reactor is told of only after a first read, which mostly finds the request head.

    A client sends it right behind its part of the TCP handshake. For the reactor to watch the socket, to say that there is something, and
    to watch it no longer because it is leased, is 7 µs.
    """

    _is_watched: bool | None = None
    """None: to be watched after the first read; False: not to be."""

    def startReading(self) -> None:
        """Have the reactor watch the socket, or after the first read; the first to call is Twisted's `__init__`."""
        if self._is_watched:
            cast(Any, super()).startReading()
        else:
            self._is_watched = None

    def stopReading(self) -> None:
        """Undo that."""
        if self._is_watched:
            cast(Any, super()).stopReading()
        else:
            self._is_watched = False

    def read_first(self) -> None:
        """Read what has come already. An end, or an error, is the reactor's to find."""
        octets = b""
        if self._is_watched is None:  # it may have been aborted already
            with suppress(OSError):
                octets = self.socket.recv(self.bufferSize)
        try:
            if octets:
                self.protocol.dataReceived(octets)
        finally:  # an error is logged by Twisted, which keeps the connection
            is_wanted, self._is_watched = self._is_watched is None, True
            if is_wanted:
                self.startReading()


class _Listener(socket.socket):
    """A listening socket that tells each that it accepts its family and type as numbers: Python's own makes enums of them, in 1.5 µs."""

    __slots__ = ()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a new socket and the address of its peer."""
        descriptor, address = cast(Any, self)._accept()
        return socket.socket(_FAMILY(self), socket.SOCK_STREAM, 0, descriptor), address


def _no_address(_: object) -> None:
    """Build no address object for `buildProtocol`, which makes nothing of it: a microsecond."""


_FAMILY = cast(Any, socket.SocketType).family.__get__


def make_eager(port: Any, factory: IProtocolFactory) -> None:
    """Have each connection that `port` accepts read at once by `read_first`, if there is nothing between its socket and `factory`."""
    if type(port) is Port and getattr(port, "factory", None) is factory:
        eager = cast(Any, port)
        eager.transport, eager._buildAddr = _EagerServer, _no_address
        eager.socket.__class__ = _Listener


def read_first(transport: Any) -> None:
    """Read what a new connection has brought along; to be called at the end of `connectionMade`."""
    if isinstance(transport, _EagerServer):
        transport.read_first()


def tls_fault(error: BaseException | None) -> str | None:
    """Return what OpenSSL has against what the peer did, as pyOpenSSL tells it; None if that is not what ended a connection."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return ", ".join(str(entry[-1]) for entry in error.args[0]) or None
    return None


def layers(transport: ITransport) -> tuple[Any, ...]:
    """Return `transport` and what it wraps (TLS, the PROXY protocol), down to the socket's own; of a connection they stay the same."""
    found: list[Any] = [transport]
    while not isinstance(found[-1], Connection) and getattr(found[-1], "transport", None) is not None:
        found.append(found[-1].transport)
    return tuple(found)


def is_plain(layers: Sequence[Any]) -> bool:
    """Tell whether there is nothing but the socket: what is on it is what is read and written."""
    return len(layers) == 1 and isinstance(layers[0], Connection)


def is_tls(layers: Sequence[Any]) -> bool:
    """Tell whether there is TLS on the socket, and nothing else."""
    return len(layers) == 2 and isinstance(layers[0], TLSMemoryBIOProtocol) and isinstance(layers[1], Connection)


def unsent(layers: Sequence[Any]) -> int:
    """Return the octets written that the kernel has not taken yet."""
    octets = 0
    for layer in layers:
        if isinstance(layer, Connection):
            octets += len(layer.dataBuffer) - layer.offset + layer._tempDataLen
        elif isinstance(layer, TLSMemoryBIOProtocol) and layer._appSendBuffer:
            octets += sum(map(len, layer._appSendBuffer))
    return octets


def unacknowledged(layers: Sequence[Any]) -> int:
    """Return the octets that the kernel has taken but the peer's has not confirmed; 0 where that can't be told."""
    return _ioctl(layers[-1], termios.TIOCOUTQ)


def unread(layers: Sequence[Any]) -> int:
    """Return the octets that wait in the kernel to be read; 0 where that can't be told."""
    return _ioctl(layers[-1], termios.FIONREAD)


def _ioctl(connection: Any, request: int) -> int:
    if isinstance(connection, Connection) and connection.connected:
        with suppress(OSError):
            return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), request, bytes(4)))[0])
    return 0


def write_now(layers: Sequence[Any], octets: bytes) -> None:
    """Write, and let the kernel have at once what it takes.

    Twisted's own `write` waits for the reactor's next turn, and over TLS for one more, in which small writes are put together:
    that is done before this is called. All that a connection writes must come this way, for it overtakes what waits in there.
    """
    top, bottom = layers[0], layers[-1]
    if is_tls(layers):
        sealed, rest = _seal(top, octets)
        if sealed:
            _send_now(bottom, sealed)
        if rest:
            TLSMemoryBIOProtocol.write(top, rest)
    elif is_plain(layers) or (isinstance(bottom, Connection) and not any(isinstance(layer, TLSMemoryBIOProtocol) for layer in layers)):
        _send_now(bottom, octets)
    else:
        top.write(octets)


def _seal(tls: Any, octets: bytes) -> tuple[bytes, bytes]:
    """Encrypt; return the records, and the octets that are Twisted's to write: during a handshake, after the end, or in error.

    Twisted itself hands each record of 16 KiB to the transport by itself, which costs the reactor two system calls beside the write.
    """
    records: list[bytes] = []
    start = 0
    if tls._handshakeDone and not (tls._lostTLSConnection or tls.disconnecting or tls._appSendBuffer):
        connection = tls.getHandle()
        with suppress(SSL.Error):  # what it is, Twisted finds out with the rest
            while start < len(octets):
                start += connection.send(octets[start : start + RECORD_SIZE])
                records.append(connection.bio_read(2 * RECORD_SIZE))
    return b"".join(records), octets[start:]


def _send_now(connection: Connection, octets: bytes) -> None:
    sent = 0
    if connection.connected and not connection.dataBuffer and not connection._tempDataLen:
        try:
            sent = connection.socket.send(octets)
        except OSError:  # it would block, or the write below meets the error again
            sent = 0
    if sent < len(octets):
        connection.write(octets[sent:] if sent else octets)


_ZLIB_FUNCTIONS = (
    "zlibVersion",
    "inflateInit2_",
    "inflate",
    "inflateReset",
    "inflateSetDictionary",
    "inflateEnd",
    "deflateInit2_",
    "deflate",
    "deflateReset",
    "deflateEnd",
)


@cache
def zlib_functions() -> dict[str, int] | None:
    """Return the functions (their addresses) of the zlib that Python's own module uses, so that the same octets come of it.

    They are public, but not to be had where zlib is part of the interpreter, and hidden in it: then None.
    """
    try:
        library = ctypes.CDLL(zlib.__file__)
        addresses = {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _ZLIB_FUNCTIONS}
    except (AttributeError, OSError):
        return None
    return {name: address for name, address in addresses.items() if address is not None}


class Session(NamedTuple):
    """An open TLS session by the addresses of its parts, which live as long as the connection."""

    ssl: int
    incoming: int
    outgoing: int


_OPENSSL_FUNCTIONS = {
    "SSL_read": "int(*)(SSL *, void *, int)",
    "SSL_peek": "int(*)(SSL *, void *, int)",
    "SSL_write": "int(*)(SSL *, void *, int)",
    "SSL_get_error": "int(*)(SSL *, int)",
    "BIO_read": "int(*)(BIO *, void *, int)",
    "BIO_write": "int(*)(BIO *, void *, int)",
    "BIO_get_mem_data": "long(*)(BIO *, char * *)",
    "ERR_clear_error": "void(*)()",
}


@cache
def openssl() -> dict[str, int] | None:
    """Return, of the OpenSSL that makes Twisted's TLS sessions, the functions (their addresses) and constants that serve one.

    They are in cryptography's binding, which promises neither them nor their types to anybody but pyOpenSSL: None, if they are not
    what they were.
    """
    try:
        binding = importlib.import_module("cryptography.hazmat.bindings._rust")._openssl
        ffi, lib = binding.ffi, binding.lib
        functions = {name: ffi.addressof(lib, name) for name in _OPENSSL_FUNCTIONS}
        is_known = {name: ffi.typeof(function).cname for name, function in functions.items()} == _OPENSSL_FUNCTIONS
        if not is_known or cast(Any, SSL)._lib.SSL_read is not lib.SSL_read:
            return None
        addresses = {name: int(ffi.cast("uintptr_t", function)) for name, function in functions.items()}
        return addresses | {"SSL_ERROR_WANT_READ": lib.SSL_ERROR_WANT_READ}
    except (ImportError, AttributeError):
        return None


def session(layers: Sequence[Any]) -> Session | None:
    """Return the TLS session between two reads, if that is all there is on the socket, with nothing under way but octets."""
    if not is_tls(layers) or openssl() is None:
        return None
    tls = layers[0]
    if not tls._handshakeDone or tls._lostTLSConnection or tls._aborted or tls.disconnecting or tls._appSendBuffer:
        return None
    connection = tls.getHandle()
    try:
        return Session(
            *(int(cast(Any, SSL)._ffi.cast("uintptr_t", part)) for part in (connection._ssl, connection._into_ssl, connection._from_ssl))
        )
    except (AttributeError, TypeError):
        return None


def flush_session(layers: Sequence[Any]) -> None:
    """Write what a TLS session that was in other hands has left to be sent."""
    with suppress(SSL.Error):  # there is no more
        while True:
            _send_now(layers[-1], layers[0].getHandle().bio_read(2 * RECORD_SIZE))


def read_session(layers: Sequence[Any]) -> None:
    """Take what a TLS session that was in other hands has left to be received, and whatever else is to be met there."""
    layers[0]._flushReceiveBIO()


def close_now(connection: Connection) -> None:
    """Close a socket that has nothing to send, as the reactor would in its next turn."""
    connection.connectionLost(connectionDone)


def set_read_size(layers: Sequence[Any], octets: int) -> None:
    """Set how many octets are read at a time, and how many may wait unsent before the producer is paused."""
    if isinstance(layers[-1], Connection):
        layers[-1].bufferSize = octets


def half_close(transport: ITransport) -> None:
    """Send what was written and then a FIN, and go on reading; over TLS, which has no half-close, a close_notify."""
    if ISSLTransport.providedBy(transport):
        transport.loseConnection()
    else:
        cast(Any, transport).loseWriteConnection()  # as IHalfCloseableDescriptor has it
