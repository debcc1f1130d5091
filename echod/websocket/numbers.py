"""The numbers of connections, by which the log, the admin site and `/info` name them.

A connection gets its number when somebody first asks for it: when a line of the log tells of it, or when it is listed.
A number that each connection got at its accept would have to be kept natively, with each guest of the door. This way a
connection that nobody asks for costs neither time nor memory.

Knows sockets only by what identifies them. Must never know a connection.
"""

from __future__ import annotations

import os
from itertools import count


class Numbers:
    """The numbers of one process. No two connections have the same, and no number comes back."""

    def __init__(self) -> None:
        self.prefix = ""
        """What comes before each number. With workers it makes the numbers differ between processes."""
        self._next = count(1)
        # What has been listed while it was with the door: the number by the descriptor, with the socket's inode. The
        # inode tells whether the descriptor is still the same connection's. There is no more than one entry for each
        # descriptor.
        self._listed: dict[int, tuple[int, str]] = {}

    def new(self) -> str:
        """Return a number that nobody has."""
        return f"{self.prefix}{next(self._next)}"

    def of_socket(self, descriptor: int) -> str:
        """Return the number of the connection on an open socket, always the same one."""
        inode = os.fstat(descriptor).st_ino
        known, number = self._listed.get(descriptor, (None, ""))
        if known != inode:
            number = self.new()
            self._listed[descriptor] = inode, number
        return number

    def take(self, descriptor: int | None) -> str:
        """Return the number of the connection on a socket, or a new one. From now on the caller keeps it.

        `descriptor` is None, or not that of an open socket, if the connection has never been with the door.
        """
        if descriptor is None or descriptor not in self._listed:
            return self.new()
        number = self.of_socket(descriptor)
        del self._listed[descriptor]
        return number
