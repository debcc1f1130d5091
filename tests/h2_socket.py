"""A client of HTTP/2 on a real socket, which waits for what it asks for.

Knows sockets, and `h2_client`. Must never know who is at the other end.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from tests.client import family
from tests.frames import Frame
from tests.h2_client import Http2Client
from tests.tls import trusting


class Connection:
    """A blocking client on a real socket."""

    def __init__(self, target: Any, is_tls: bool, first: bytes = b"", client: Http2Client | None = None) -> None:
        """`first` is sent before anything else, TLS included."""
        plain = socket.socket(family(target))
        plain.settimeout(60)
        plain.connect(target)
        plain.sendall(first)
        self.socket = plain
        if is_tls:
            context = trusting()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2", "http/1.1"])
            secure = context.wrap_socket(plain, server_hostname="localhost")
            assert secure.selected_alpn_protocol() == "h2"
            self.socket = secure
        self.client = client or Http2Client()

    def until(self, condition: Callable[[], object]) -> None:
        """Send and receive until the condition holds."""
        while not condition():
            self.socket.sendall(self.client.to_send())
            octets = self.socket.recv(65536)
            assert octets, "the connection has ended"
            self.client.take(octets)
        self.socket.sendall(self.client.to_send())

    def open(self, path: str = "/") -> int:
        """Open a WebSocket."""
        number = self.client.connect(path)
        self.until(lambda: number in self.client.heads)
        return number

    def send(self, number: int, octets: bytes) -> None:
        """Send octets on a stream as its windows open."""
        while octets:
            self.until(lambda: self.client.h2.local_flow_control_window(number) > 0)
            octets = self.client.send_some(number, octets)
            self.socket.sendall(self.client.to_send())

    def frame(self, number: int) -> Frame:
        """Return the next frame on a stream, which is the only one."""
        found: list[Frame] = []
        self.until(lambda: found.extend(self.client.frames(number)) or found)  # type: ignore[func-returns-value]
        (frame,) = found
        return frame
