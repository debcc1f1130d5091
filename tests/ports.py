"""TCP ports of 127.0.0.1 that the kernel gives to nobody else, for tests that need a port without a listener, or for
programs that have to be told their port. And connections from other addresses, if one has not enough ports.

Knows sockets. Must never know what is said over them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

IP_BIND_ADDRESS_NO_PORT = 24
"""From <linux/in.h>: choose the port only in connect(2). To find a free one in bind(2) takes the longer, the more are
taken."""


@contextmanager
def held_port() -> Iterator[int]:
    """Hold a port with a socket that is bound and does not listen.

    Connections to the port are refused until a server listens that sets SO_REUSEADDR, as servers do. Without the socket
    another test that runs at the same time would sometimes take the free port.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def connect_from(source: str, address: tuple[str, int], seconds: float) -> socket.socket:
    """Connect to an address from another one, `source`. `seconds` is the time limit of each call of the socket."""
    client = socket.socket()
    client.settimeout(seconds)
    client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    client.bind((source, 0))
    client.connect(address)
    return client
