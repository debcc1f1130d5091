"""The role of a worker process: which worker it is, and which descriptors are its listening sockets.

The parent writes the role into an environment variable; the worker takes it out again. Knows that variable. Must never
know what a worker does.
"""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from echod.net.tls.throwaway import Issued

VARIABLE = "ECHOD_WORKER"
"""The environment variable that makes a process a worker. Only the parent sets it."""

NAMESPACE = "echod.worker"
"""The namespace of a worker's own lines in the log."""


@dataclass(frozen=True, slots=True)
class Role:
    """Which worker a process is."""

    index: int
    """The number of the worker, counted from 0."""
    ports: tuple[tuple[str, int], ...]
    """The endpoint string and the descriptor of each listening socket."""
    others: tuple[tuple[int, tuple[int | None, ...]], ...] = ()
    """The index of each other worker, with the descriptors of its sockets, one for each of `ports`; None stands for a
    socket that all workers share."""
    folder: str = "."
    """The folder for the relative paths of the command line; the parent may have left it (`--rundir`)."""

    issued: Issued = field(default_factory=Issued)
    """The certificates of the `throwaway:` endpoints, with their keys. A process that can read this variable of another
    can read its memory, too (proc_pid_environ(5))."""

    def encode(self) -> str:
        """Return the value of the variable."""
        issued = [self.issued.authority, dict(self.issued.identities)]
        return json.dumps([self.index, self.ports, self.others, self.folder, issued])


def take_role(environment: MutableMapping[str, str]) -> Role | None:
    """Return the role that the environment gives, and remove it there; None: this process is no worker."""
    if (text := environment.pop(VARIABLE, None)) is None:
        return None
    index, ports, others, folder, issued = json.loads(text)
    return Role(
        index,
        tuple((text, descriptor) for text, descriptor in ports),
        tuple((other, tuple(descriptors)) for other, descriptors in others),
        folder,
        Issued(*issued),
    )
