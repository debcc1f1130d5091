"""What one connection keeps in memory: each byte is entered where it is kept, and taken out where it is let go.

Knows numbers. Must never know what the bytes say. Two things are in no account: what the kernel has not taken yet,
which the carrier tells, and what every connection of a kind has at rest (its objects, and the window of its deflated
messages).
"""

from __future__ import annotations


class Account:
    """The bytes that one connection keeps, by what they are."""

    __slots__ = ("answer", "deflated", "delayed", "head", "message", "put_off", "read_ahead", "tasks", "unparsed")

    def __init__(self) -> None:
        self.head = 0
        """A request head that is not whole yet."""
        self.message = 0
        """A message that is not whole yet."""
        self.unparsed = 0
        """What Autobahn was fed and has not looked at."""
        self.put_off = 0
        """What was read and has to wait. A view counts with all of its buffer."""
        self.read_ahead = 0
        """What was read after that."""
        self.tasks = 0
        """The messages that tasks work on, and what is to be sent after them."""
        self.answer = 0
        """A deflated answer that is being sent in frames."""
        self.deflated = 0
        """A deflated message that is being inflated, its inflater, and what its answer is made of."""
        self.delayed = 0
        """Messages whose echo is sent later, because the URL asks for it."""

    @property
    def total(self) -> int:
        """All of it."""
        return (
            self.head
            + self.message
            + self.unparsed
            + self.put_off
            + self.read_ahead
            + self.tasks
            + self.answer
            + self.deflated
            + self.delayed
        )
