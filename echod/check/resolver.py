"""Looks up the target's addresses with the system's resolver.

The reactor's own resolver uses its thread pool. The process waits for these threads when it ends, so it would wait
for a name server that is silent for half a minute. It also keeps the reason of a failure to itself. Must never know
what the addresses are for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from echod.http.ws_url import Target


@implementer(IHostResolution)
class _Resolution:
    """A resolution that can't be cancelled. Its thread is a daemon thread."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing."""


@implementer(IHostnameResolver)
class Resolver:
    """Resolves the target's host, whatever name it is asked for."""

    def __init__(
        self, reactor: Any, target: Target, getaddrinfo: Callable[..., Any], tell: Callable[[Sequence[str]], None]
    ) -> None:
        """`tell` is called with the addresses that were found."""
        self._reactor = reactor
        self._target = target
        self._getaddrinfo = getaddrinfo
        self._tell = tell
        self.why = ""
        """What the system's resolver said about a name that does not resolve."""

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,  # noqa: ARG002
        transportSemantics: str = "TCP",  # noqa: ARG002
    ) -> IHostResolution:
        """See `IHostnameResolver`."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        Thread(target=self._look_up, args=(resolutionReceiver, portNumber), daemon=True).start()
        return resolution

    def _look_up(self, receiver: IResolutionReceiver, port: int) -> None:
        try:
            found = self._getaddrinfo(self._target.host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self.why = str(getattr(error, "strerror", None) or error)
            found = []
        self._reactor.callFromThread(self._resolved, receiver, [(entry[0], entry[4]) for entry in found])

    def _resolved(self, receiver: IResolutionReceiver, found: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
        if found:
            self._tell([str(address[0]) for _, address in found])
        for family, address in found:
            receiver.addressResolved(
                IPv6Address("TCP", *address) if family == socket.AF_INET6 else IPv4Address("TCP", *address[:2])
            )
        receiver.resolutionComplete()
