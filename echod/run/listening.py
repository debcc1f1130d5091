"""Listening: an endpoint becomes a listening port, and is closed again, with one line for what goes wrong.

Knows endpoints and listening sockets. Must never know what is served on them.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from echod.core.log import SERVICE
from echod.run.process import refuse_to_start

_log = Logger(namespace=SERVICE)


def listen_on(text: str, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> IListeningPort:
    """Listen on the endpoint that was made from `text`; raises `CannotStartError`."""
    ports: list[IListeningPort] = []
    failures: list[Failure] = []
    # Every endpoint of Twisted has listened, or failed to, when `listen` returns.
    maybeDeferred(endpoint.listen, factory).addCallbacks(ports.append, failures.append)
    if failures:
        refuse_to_start(f"can't listen on {text}: {describe_failure(failures[0].value)}")
    return ports[0]


def prepare_socket(port: IListeningPort, backlog: int) -> None:
    """Let the kernel hold `backlog` connections until they are accepted, and send data without delay.

    A second listen(2) changes the backlog. Each accepted socket inherits the other option (no Nagle), which saves a
    system call per connection.
    """
    listener = getattr(port, "socket", None)
    if isinstance(listener, socket.socket):
        listener.listen(backlog)
        if listener.family != socket.AF_UNIX:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close_ports(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]], ports: Sequence[IListeningPort]
) -> list[Deferred[Any]]:
    """Stop listening on `ports`, which belong to the first of `endpoints`.

    Each Deferred fires when its port is closed or can't be closed. A port that can't be closed is a line in the log: a
    failure would end the wait for the other ports. One reason is the path of a Unix socket in a folder that the user of
    the daemon may not write.
    """
    # A start that failed has left some endpoints without a port.
    pairs = zip(endpoints, ports, strict=False)
    return [maybeDeferred(port.stopListening).addErrback(_log_not_closed, text) for (text, _), port in pairs]


def _log_not_closed(failure: Failure, text: str) -> None:
    _log.warn("{endpoint} could not be closed: {reason}", endpoint=text, reason=describe_failure(failure.value))


def describe_failure(error: BaseException | None) -> str:
    """Return, on one line, why a socket can't be listened on or closed."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
