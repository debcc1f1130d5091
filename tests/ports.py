"""TCP ports of 127.0.0.1 that the kernel gives to nobody else: where nobody listens, or a program that has to be told
its port will.

Knows sockets. Must never know who connects, or listens.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """Hold a port, by a socket that is bound and doesn't listen: it refuses, until one listens that sets SO_REUSEADDR,
    as servers do.

    A port that is looked for and left free again is another's by the time that it is wanted, now and then: tests run
    beside each other.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
