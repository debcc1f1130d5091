"""What all visitors in Python share: they read from standard input what to visit, and write what they saw.

The first line of output is the library's name and version. Then each line of input is one visit, as JSON: `number`,
`url`, `deflate` (whether to offer permessage-deflate), and `quiet` (the seconds without an answer or a message after
which the client gives up). A visitor connects, sends three texts, takes what comes, and closes. Each visit ends with a
line of output, also JSON: the fields of `Visit`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

TEXTS = ("one", "two", "three")
"""What each client sends."""

AT_ONCE = 25
"""Visits of one client at a time."""

SETTLED = 1.0
"""Seconds in which a message may follow when the client's own have come back."""

SHOWN = 24
"""Characters of a message that are told."""


@dataclass(slots=True)
class Visit:
    """What to visit, and what came of it."""

    number: int
    url: str
    deflate: bool
    quiet: float
    opened: bool = False
    """Whether the library has said that the connection is open."""
    messages: list[str] = field(default_factory=list)
    """The messages that the library has delivered, each cut."""
    waited: bool = False
    """Whether the client gave up waiting: for the answer to its handshake, or for one more message."""
    error: str = ""
    """What the library said of the end, in its own words."""
    code: int | None = None
    """The close code that the library reports."""

    @property
    def open_timeout(self) -> float:
        """Seconds after which the client gives up on the opening handshake."""
        return self.quiet

    @property
    def patience(self) -> float:
        """Seconds after which the client gives up on the next message: fewer when its own have come back."""
        return min(SETTLED, self.quiet) if TEXTS[-1] in self.messages else self.quiet

    @property
    def close_timeout(self) -> float:
        """Seconds after which the client gives up on the closing handshake."""
        return self.quiet / 2

    def take(self, message: str | bytes) -> None:
        """Note a message that was delivered."""
        text = message if isinstance(message, str) else message[: 4 * SHOWN].decode(errors="replace")
        self.messages.append(text if len(message) <= SHOWN else f"{text[:SHOWN]}…")

    def fail(self, error: BaseException) -> None:
        """Note what the library raised."""
        self.error = f"{type(error).__name__}: {error}"[:200]


def serve(package: str, visit: Callable[[Visit], Awaitable[None]], number: str = "") -> None:
    """Make all visits. `package` is what the library is called where it was installed from, and `number` its version
    if it is no Python package."""
    print(f"{package} {number or version(package)}", flush=True)
    asyncio.run(_serve(visit))


async def _serve(visit: Callable[[Visit], Awaitable[None]]) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(AT_ONCE))
    gate = asyncio.Semaphore(AT_ONCE)

    async def make(line: str) -> None:
        seen = Visit(**json.loads(line))
        async with gate:
            try:
                async with asyncio.timeout(20 * seen.quiet):
                    await visit(seen)
            except TimeoutError as error:
                seen.waited = True
                seen.fail(error)
            except Exception as error:  # whatever a library raises is what is to be seen
                seen.fail(error)
        print(json.dumps(asdict(seen)), flush=True)

    await asyncio.gather(*(make(line) for line in sys.stdin))
