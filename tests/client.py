"""A blocking WebSocket client on a real socket, which sends and returns single frames.

Knows frames and sockets. Must never import the code that it tests.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from tests.frames import CLOSE, TEXT, Frame, client_frame, close_payload, handshake, take


class Client:
    """A connection whose opening handshake was answered with 101."""

    def __init__(self, target: Any, context: ssl.SSLContext | None = None, path: str = "/", first: bytes = b"") -> None:
        """Connect to `target` and make the opening handshake.

        `target` is a pair of host and port, or the path of a Unix socket. `first` is sent before anything else. With
        `context`, a TLS handshake follows `first`.
        """
        plain = socket.socket(family(target))
        plain.settimeout(60)
        plain.connect(target)
        plain.sendall(first)
        self.socket = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
        upgrade(self.socket, path=path)
        self._octets = b""

    def _receive(self) -> None:
        octets = self.socket.recv(65536)
        assert octets, "the connection has ended"
        self._octets += octets

    def frame(self) -> Frame:
        """Return the next frame."""
        while (taken := take(self._octets, is_masked=False)) is None:
            self._receive()
        frame, size = taken
        self._octets = self._octets[size:]
        return frame

    def echo(self, text: bytes = b"hello") -> bytes:
        """Send a text message, and return the payload of the next frame."""
        self.socket.sendall(client_frame(TEXT, text))
        return self.frame().payload

    def close(self, code: int = 1000) -> None:
        """Send a Close frame."""
        self.socket.sendall(client_frame(CLOSE, close_payload(code)))

    def is_lost(self) -> bool:
        """Wait for the next data, and tell whether the connection has ended instead, by a FIN or a reset."""
        try:
            return self._octets + self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def leave(self) -> bytes:
        """Answer a Close frame, and return what still comes. That is nothing if the server ends the connection
        cleanly."""
        with self.socket:
            self.close(1001)
            return self._octets + self.socket.recv(1)


def upgrade(connected: socket.socket, *headers: str, path: str = "/") -> None:
    """Make the opening handshake on a connected socket, and read nothing of what follows it."""
    connected.sendall(handshake(path, *headers))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connected.recv(1)
        assert piece, head
        head += piece
    assert head.startswith(b"HTTP/1.1 101 "), head


def family(target: Any) -> socket.AddressFamily:
    """Return the address family of a socket that connects to `target`."""
    if isinstance(target, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET
