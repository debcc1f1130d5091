"""What the parent and a worker say to each other, over two pipes: messages of JSON, each behind its length.

Either end tells the other something, or asks it and gets an answer. Knows messages, and an answer's way back. Must
never know what they are about, nor what carries them.
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
"""The worker's descriptor for what it says to the parent."""

FROM_PARENT = 4
"""The worker's descriptor for what the parent says to it."""

FIRST_SOCKET = 5
"""The worker's first listening socket; the others follow."""


def encode(message: Any) -> bytes:
    """Return the octets of a message."""
    text = json.dumps(message).encode()
    return len(text).to_bytes(4, "big") + text


class Link(Int32StringReceiver):
    """One end. `hear` is told what comes, `answer` asked; what `answer` returns is the answer."""

    # The largest is a page of 1,000 connections, some 400 KiB; a worker is our own code, and this its slip of the hand.
    MAX_LENGTH = 2**26

    def __init__(self, hear: Callable[[str, Any], object], answer: Callable[[str, Any], Any]) -> None:
        self._hear = hear
        self._answer = answer
        self._asked: dict[int, Deferred[Any]] = {}
        self._last = 0
        self.is_lost = False
        """Whether the other end has gone."""

    def tell(self, kind: str, value: Any = None) -> None:
        """Tell the other end; nobody answers."""
        self._send(["tell", kind, value])

    def ask(self, kind: str, value: Any = None) -> Deferred[Any]:
        """Ask the other end, and fire with its answer, or fail when there is nobody any more."""
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
            self.transport.write(encode(message))  # type: ignore[union-attr]

    def stringReceived(self, string: bytes) -> None:
        """Take a message."""
        match json.loads(string):
            case ["tell", kind, value]:
                self._hear(kind, value)
            case ["ask", number, kind, value]:
                self._send(["answer", number, self._answer(kind, value)])
            case ["answer", number, value] if number in self._asked:
                self._asked.pop(number).callback(value)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note that the other end has gone; whatever it was asked fails."""
        self.is_lost = True
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(reason)
