"""A TCP server in a thread that follows a script. It plays the broken servers and proxies that a client may meet.

    with OddServer(lambda peer: peer.send(b"HTTP/1.1 503 Service Unavailable\\r\\n\\r\\n")) as server:
        ...  # connect to server.url

Knows sockets, and as much of WebSocket as tests/frames.py does. Must never import echod or Autobahn.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.frames import BINARY, CLOSE, TEXT, server_frame, take

DEADLINE = 20.0
"""Time limit in seconds for each read of a script."""


class Peer:
    """The script's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self.head = b""

    def send(self, octets: bytes) -> None:
        """Send bytes."""
        self._connection.sendall(octets)

    def _receive(self) -> None:
        octets = self._connection.recv(2**16)
        if not octets:
            raise ConnectionError("the client has gone")
        self._received += octets

    def read_head(self) -> bytes:
        """Read and return the request head."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        self.head, _, self._received = self._received.partition(b"\r\n\r\n")
        return self.head

    def read_until(self, octets: bytes) -> None:
        """Read until these bytes have come."""
        while octets not in self._received:
            self._receive()

    def answer(
        self, *, without: str = "", status: str = "101 Switching Protocols", fields: str = "", accept: str = ""
    ) -> bytes:
        """Read the opening handshake, and return an answer to it. The answer lacks the field named by `without`, and
        has further `fields`."""
        head = self.read_head().decode("latin-1")
        keys = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key: ")]
        # RFC 6455 section 4.2.2, item 5.
        digest = hashlib.sha1(keys[0].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        lines = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept or base64.b64encode(digest).decode()}",
        ]
        kept = [line for line in lines if not without or not line.startswith(without)]
        return "\r\n".join([f"HTTP/1.1 {status}", *kept, *fields.splitlines(), "", ""]).encode("latin-1")

    def upgrade(self, fields: str = "") -> None:
        """Make the opening handshake."""
        self.send(self.answer(fields=fields))

    def read_frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        while (taken := take(self._received, is_masked=True)) is None:
            self._receive()
        frame, size = taken
        self._received = self._received[size:]
        return frame.opcode, frame.payload

    def echo(self, times: int) -> None:
        """Echo messages."""
        for _ in range(times):
            opcode, payload = self.read_frame()
            assert opcode in (TEXT, BINARY)
            self.send(server_frame(opcode, payload))

    def read_close(self) -> bytes:
        """Return the payload of the next frame, which must be a Close frame."""
        opcode, payload = self.read_frame()
        assert opcode == CLOSE
        return payload

    def close(self) -> None:
        """Answer the next frame, which must be a Close frame."""
        self.send(server_frame(CLOSE, self.read_close()))

    def reset(self) -> None:
        """Reset the connection: a socket with a linger time of 0 sends a RST instead of a FIN."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def wait(self) -> None:
        """Wait silently until the client ends the connection."""
        with suppress(OSError):
            while self._connection.recv(2**16):
                pass


class OddServer:
    """A context manager that serves one connection after the other. `certificate` is a PEM file that turns TLS on."""

    def __init__(
        self, script: Callable[[Peer], object], certificate: Path | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._script = script
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ws{'s' if certificate else ''}://{f'[{host}]' if ':' in host else host}:{self.port}/"
        self.heads: list[bytes] = []
        """The request heads that the server has read."""
        self.connections = 0
        """The number of connections that the server has accepted."""
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # shutdown() wakes the thread from accept(); close() alone does not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(2 * DEADLINE)
        self._listener.close()
        assert not self._thread.is_alive()
        if self._fault is not None and error is None:
            raise self._fault

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(DEADLINE)
            try:
                with connection:
                    self._serve_one(connection)
            except OSError:
                # The client may end the connection at any time.
                pass
            except BaseException as fault:
                self._fault = fault

    def _serve_one(self, connection: socket.socket) -> None:
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
        with connection:
            peer = Peer(connection)
            try:
                self._script(peer)
            finally:
                self.heads.append(peer.head)
