"""What the visitors share that have a loop of their own, Qt's and GLib's, and that run with Debian's Python."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.interop.visitors.visit import Visit

PACE = 0.002
"""Seconds between two turns of the other loop."""


class Events:
    """What a client's callbacks tell a visit."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        """Set for anything that has come: the open connection, a message, or the end."""
        self.is_over = False

    def over(self) -> None:
        """Note the end of the connection."""
        self.is_over = True
        self.came.set()


async def follow(seen: Visit, events: Events, close: Callable[[], None]) -> None:
    """Wait until the connection ends. If nothing comes for too long, close it."""
    while not events.is_over:
        try:
            await asyncio.wait_for(events.came.wait(), seen.patience if seen.opened else seen.open_timeout)
        except TimeoutError:
            break
        events.came.clear()
    if not events.is_over:
        seen.waited = True
        close()
        try:
            async with asyncio.timeout(seen.close_timeout):
                while not events.is_over:
                    await events.came.wait()
                    events.came.clear()
        except TimeoutError:
            pass


async def turn(other: Callable[[], object]) -> None:
    """Let the other loop have a turn, over and over."""
    while True:
        other()
        await asyncio.sleep(PACE)
