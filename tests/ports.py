"""TCP ports of 127.0.0.1 that the kernel gives to nobody else, for tests that need a port without a listener, or for
programs that have to be told their port.

Knows sockets. Must never know who connects or listens.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


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
