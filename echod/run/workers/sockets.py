"""The listening sockets of all workers, which the parent makes and keeps open, and never accepts from.

Each worker has its own socket for a TCP endpoint (SO_REUSEPORT): the kernel divides connections evenly between these
sockets, by a hash of the addresses. Workers share sockets of other kinds, and those from systemd. The parent keeps all
of them open, and passes all of them to each worker, so that another worker can serve the socket of a dead one.

Knows listening sockets. Must never know processes.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory

from echod.run.listening import prepare_socket
from echod.run.process import refuse_to_start
from echod.run.workers import link
from echod.run.workers.role import Role
from echod.upstream import endpoints


class Nobody(Factory):
    """The factory of the parent's listening ports: the parent accepts nothing."""

    noisy = False


class Sockets:
    """The sockets of every endpoint, one for each of `count` workers."""

    def __init__(self, count: int, backlog: int) -> None:
        self._count = count
        self._backlog = backlog
        self._texts: list[str] = []
        self.by_endpoint: list[list[socket.socket]] = []
        """The sockets of each endpoint, one for each worker; it is the same socket if the workers share it."""

    def add(self, text: str, port: IListeningPort) -> None:
        """Divide the port of the endpoint `text` among the workers; raises `CannotStartError`."""
        try:
            first = endpoints.hold(port)
        except ValueError as error:
            refuse_to_start(f"{text} {error}")
        prepare_socket(port, self._backlog)
        self._texts.append(text)
        if is_own_tcp(text, first):
            self.by_endpoint.append([first, *(make_sibling(first, self._backlog) for _ in range(1, self._count))])
        else:
            self.by_endpoint.append([first] * self._count)

    def close_siblings(self) -> None:
        """Close the sockets that are no port's; a port closes its own."""
        for sibling in {sibling for of_endpoint in self.by_endpoint for sibling in of_endpoint[1:]}:
            sibling.close()

    def assign(self, index: int, folder: str) -> tuple[Role, dict[int, int]]:
        """Return the role of a worker, and the descriptor here for each descriptor of the role."""
        passed: dict[int, int] = {}

        def pass_on(found: socket.socket) -> int:
            descriptor = link.FIRST_SOCKET + len(passed)
            passed[descriptor] = found.fileno()
            return descriptor

        own = [of_endpoint[index] for of_endpoint in self.by_endpoint]
        ports = tuple((text, pass_on(found)) for text, found in zip(self._texts, own, strict=True))

        def pass_on_unless_shared(of_endpoint: Sequence[socket.socket], other: int) -> int | None:
            return None if of_endpoint[other] is of_endpoint[index] else pass_on(of_endpoint[other])

        others = tuple(
            (other, tuple(pass_on_unless_shared(of_endpoint, other) for of_endpoint in self.by_endpoint))
            for other in range(self._count)
            if other != index
        )
        return Role(index, ports, others, folder), passed


def is_own_tcp(text: str, found: socket.socket) -> bool:
    """Tell whether `found`, the socket of the endpoint `text`, is a TCP socket that this process made."""
    return "systemd:" not in text and found.family in (socket.AF_INET, socket.AF_INET6)


def make_sibling(first: socket.socket, backlog: int) -> socket.socket:
    """Return another socket that listens where `first` does.

    `first` was bound alone, so that a port in use is an error as ever, and is made to share only now. So no other
    program can share the port.
    """
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sibling = socket.socket(first.family, socket.SOCK_STREAM)
    for level, option in ((socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT)):
        sibling.setsockopt(level, option, 1)
    if first.family == socket.AF_INET6:
        sibling.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        )
    sibling.bind(first.getsockname())
    sibling.listen(backlog)
    return sibling
