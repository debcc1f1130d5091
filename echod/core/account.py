"""What one connection keeps in memory: each byte is entered where it is kept, and taken out where it is let go.

Knows numbers. Must never know what the bytes say. Two things are in no account: bytes that the kernel has not taken
yet, which the carrier counts, and what every connection has at rest (its objects, and the window of its deflated
messages).
"""

from __future__ import annotations


class Account:
    """The bytes that one connection keeps, by what they are."""

    __slots__ = (
        "answer",
        "deflated",
        "delayed",
        "head",
        "message",
        "put_off",
        "read_ahead",
        "replies",
        "tasks",
        "unparsed",
    )

    def __init__(self) -> None:
        self.head = 0
        """An incomplete request head."""
        self.message = 0
        """An incomplete message."""
        self.unparsed = 0
        """Bytes that were fed to Autobahn and are not processed yet."""
        self.put_off = 0
        """Bytes that were read and have to wait. A view counts with the whole of its buffer."""
        self.read_ahead = 0
        """Bytes that were read after the put-off ones."""
        self.tasks = 0
        """The messages that tasks work on, and bytes to send after them."""
        self.answer = 0
        """A deflated answer that is being sent in frames."""
        self.deflated = 0
        """A deflated message that is being inflated, its inflater, and the deflated bytes for its answer."""
        self.delayed = 0
        """Messages whose echo is sent later, because the URL asks for it."""
        self.replies = 0
        """Pongs that are sent later, because the URL asks for it."""

    @property
    def total(self) -> int:
        """The sum of all entries."""
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
            + self.replies
        )


class TracedAccount(Account):
    """The bytes that a traced connection keeps."""

    __slots__ = ("frames",)

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        """The last frames, for whoever wants to see them."""

    @property
    def total(self) -> int:
        """The sum of all entries."""
        return super().total + self.frames
