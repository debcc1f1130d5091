"""What tests on the real reactor share: waiting for a condition, and a protocol that announces its connection."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure


class Kept(Protocol):
    """A protocol that fires `made` when its connection is made."""

    made: Deferred[Kept]

    def connectionMade(self) -> None:
        Kept.made.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Ignore the handshake's bytes."""


def until(condition: Any, deadline: float = 60) -> Deferred[None]:
    """Return a Deferred that fires once `condition()` is true."""
    done: Deferred[None] = Deferred()
    clock: Any = reactor
    end = clock.seconds() + deadline

    def look() -> None:
        if condition():
            done.callback(None)
        elif clock.seconds() > end:
            done.errback(Failure(TimeoutError()))
        else:
            clock.callLater(0.01, look)

    look()
    return done
