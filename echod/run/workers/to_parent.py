"""A worker's way to its parent: the link over two pipes, and the log that goes over it.

Before the reactor runs, a worker writes to the pipe itself and waits until everything is written. Knows the pipes. Must
never know what the messages are about.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core.log import FIELDS, UNLIMITED, Limiter
from echod.run.workers import link
from echod.run.workers.link import Link
from echod.run.workers.role import NAMESPACE


def tell_refusal(reason: str) -> None:
    """Tell the parent why this worker can't start: the parent has a log, and this process may have no standard
    error."""
    _tell_and_wait("refused", reason)


def _tell_and_wait(kind: str, value: Any) -> None:
    """Tell the parent something before the reactor runs."""
    octets = link.encode(["tell", kind, value])
    while octets:
        octets = octets[os.write(link.TO_PARENT, octets) :]


def make_log() -> tuple[ParentLog, Limiter]:
    """Return the log that goes to the parent, and the limiter in front of it; the parent limits all workers together
    once more."""
    log = ParentLog()
    return log, Limiter(log)


@implementer(ILogObserver)
class ParentLog:
    """Sends the events of the log to the parent, which writes them to its own log."""

    tell: Callable[[str, Any], object] | None = None
    """The `tell` of the link, once there is a link. Until then the log writes to the pipe and waits."""

    is_full = False
    """Whether the parent is behind: events that it has not read yet must not pile up."""

    _left_out = 0

    def __call__(self, event: LogEvent) -> None:
        """Take an event."""
        if self.is_full:
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        if left_out:
            log = Logger(namespace=NAMESPACE, observer=self)
            log.warn("{count} lines left out, which the log had no time for", count=left_out)
        told = {
            "namespace": event.get("log_namespace", "-"),
            "level": event.get("log_level", LogLevel.info).name,
            "kind": event.get("log_format"),
            "unlimited": bool(event.get(UNLIMITED)),
            "fields": event.get(FIELDS, {}),
            # This text includes a traceback.
            "text": eventAsText(event, includeTimestamp=False, includeSystem=False),
        }
        (self.tell or _tell_and_wait)("log", told)


class LinkToParent(Link):
    """The worker's end of the link."""

    transport: Any

    def __init__(
        self,
        hear: Callable[[str, Any], object],
        answer: Callable[[str, Any], Any],
        lose: Callable[[], object],
        log: ParentLog,
    ) -> None:
        """`lose` is called when the parent is gone."""
        super().__init__(hear, answer)
        self._log = log
        self._lose = lose
        self._lost: Deferred[None] = Deferred()

    def connect(self, reactor: Any) -> None:
        """Let the reactor read and write the pipes."""
        self._log.tell = self.tell
        connect: Any = StandardIO  # mypy looks at Windows, where it takes no descriptors
        connect(self, link.FROM_PARENT, link.TO_PARENT, reactor)

    def connectionMade(self) -> None:
        """Ask the transport to report when the parent is behind."""
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """Leave out lines of the log that the parent would not read in time."""
        self._log.is_full = True

    def resumeProducing(self) -> None:
        """Log again."""
        self._log.is_full = False

    def stopProducing(self) -> None:
        """Do nothing: the transport also reports the loss of the connection."""

    def leave(self) -> Deferred[None]:
        """Fire when everything has been written."""
        if self.transport is None:
            self._lost.callback(None)
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        return self._lost

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End without the parent."""
        super().connectionLost(reason)
        self._lost.callback(None)
        self._lose()
