"""The phases of a connection's life, in order.

Knows no connection. Only `ConnectionBase.enter` changes a connection's phase, and a phase never comes back.

Autobahn keeps a `state` of its own, which decides what Autobahn's code does. The phase follows it: Autobahn changes its
state and then calls a method (`onOpen`, `sendCloseFrame`, `drop`), and that method enters the phase. So the two agree
whenever an event is over:

| phase     | Autobahn's state | what arrives                   | what is sent                              |
| --------- | ---------------- | ------------------------------ | ----------------------------------------- |
| OPENING   | CONNECTING       | a request head                 | an answer                                 |
| OPEN      | OPEN             | frames, which are echoed       | echoes                                    |
| LEAVING   | OPEN             | the same                       | echoes, then a Close frame                |
| CLOSING   | CLOSING          | frames, until the peer's Close | nothing new: the Close frame was the last |
| LINGERING | CLOSED           | bytes that are ignored         | what was written, then a FIN              |
| FINISHED  | CLOSED           | the same                       | what was written, then the socket closes  |
| CLOSED    | CLOSED           | nothing: the transport is gone | nothing                                   |
"""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Where a connection is in its life."""

    OPENING = 0
    """The opening handshake is not answered yet."""
    OPEN = 1
    """Messages are echoed."""
    LEAVING = 2
    """The daemon drains: a Close frame follows as soon as everything received has been echoed."""
    CLOSING = 3
    """Our Close frame is out, and echod waits for the peer's (RFC 6455 section 7.1.3)."""
    LINGERING = 4
    """The connection is failed, refused or dropped. The peer may still be sending, so it is read until its FIN, or not
    at all if a reset follows (`prepare_reset`)."""
    FINISHED = 5
    """Both Close frames have passed, so the socket may be closed (section 7.1.1)."""
    CLOSED = 6
    """The connection is lost."""


OPENING, OPEN, LEAVING, CLOSING, LINGERING, FINISHED, CLOSED = Phase
# Python finds these names in a tenth of the time that `Phase.OPEN` takes, and each read needs several of them.
