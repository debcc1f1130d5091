"""The link between the parent and a worker: JSON messages over two pipes, each after its length.

Either end can tell the other something, or ask it and get an answer. Knows messages, and which answer belongs to which
question. Must never know what they are about, or what carries them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure

TO_PARENT = 3
"""The worker's descriptor for messages to the parent."""

FROM_PARENT = 4
"""The worker's descriptor for messages from the parent."""

FIRST_SOCKET = 5
"""The worker's descriptor of its first listening socket; the others follow."""


def encode(message: Any) -> bytes:
    """Return the bytes of a message, with the length before it."""
    text = json.dumps(message).encode()
    return len(text).to_bytes(4, "big") + text


class Link(Int32StringReceiver):
    """One end of the link. It calls `hear` for what the other end tells, and sends back what `answer` returns."""

    # The largest message is a page of 1,000 connections, some 400 KiB. The limit is for a mistake in our own code.
    MAX_LENGTH = 2**26

    def __init__(self, hear: Callable[[str, Any], object], answer: Callable[[str, Any], Any]) -> None:
        self._hear = hear
        self._answer = answer
        self._asked: dict[int, Deferred[Any]] = {}
        self._last = 0
        self.is_lost = False
        """Whether the other end has gone."""

    def tell(self, kind: str, value: Any = None) -> None:
        """Tell the other end something; there is no answer."""
        self._send(["tell", kind, value])

    def ask(self, kind: str, value: Any = None) -> Deferred[Any]:
        """Ask the other end; fires with its answer, or fails if the other end has gone."""
        asked: Deferred[Any] = Deferred()
        if self.is_lost:
            asked.errback(ConnectionDone())
            return asked
        self._last += 1
        self._asked[self._last] = asked
        self._send(["ask", self._last, kind, value])
        return asked

    def _send(self, message: list[Any]) -> None:
        if not self.is_lost:
            # Until it is lost, the link has a transport.
            self.transport.write(encode(message))  # type: ignore[union-attr]

    def stringReceived(self, string: bytes) -> None:
        """Handle a message."""
        match json.loads(string):
            case ["tell", kind, value]:
                self._hear(kind, value)
            case ["ask", number, kind, value]:
                self._send(["answer", number, self._answer(kind, value)])
            case ["answer", number, value] if number in self._asked:
                self._asked.pop(number).callback(value)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note that the other end has gone; every open question fails."""
        self.is_lost = True
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(reason)
