"""Two network namespaces, and a wire between them that can be cut, so that a peer vanishes silently.

Knows iproute2 and setns(2). Must never touch an interface that it did not create.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

SERVER_ADDRESS, CLIENT_ADDRESS = "10.99.0.1", "10.99.0.2"

_NOBODY = "02:00:00:00:00:99"
_CLONE_NEWNET = 0x40000000


def missing() -> str | None:
    """Return what namespaces need that is missing, and how to get it, or None."""
    if not shutil.which("ip"):
        return "half-open peers need the ip command: apt-get install iproute2"
    if os.geteuid() != 0:
        return "half-open peers need network namespaces: run as root"
    if subprocess.run(["ip", "netns", "add", _name("probe")], check=False, capture_output=True).returncode:
        return "half-open peers need network namespaces: run where `ip netns add` is allowed (CAP_SYS_ADMIN)"
    _ip("netns", "delete", _name("probe"))
    return None


def _name(role: str) -> str:
    return f"echod-{role}-{os.getpid()}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Wire:
    """The two namespaces and the link between them."""

    prefix = ("ip", "netns", "exec", _name("server"))
    """A command that executes another one at the server's end, in the same process."""

    def at_client(self, function: Callable[[], T]) -> T:
        """Call a function in a thread at the client's end. Sockets that it creates belong to that end."""

        def call() -> T:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{_name('client')}") as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return function()

        # The thread ends with the executor, and leaves the namespace.
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(call).result()

    def cut(self) -> None:
        """Silently drop every packet in both directions: each side then sends to a hardware address that nobody has."""
        for role, other in (("server", CLIENT_ADDRESS), ("client", SERVER_ADDRESS)):
            _ip("-n", _name(role), "neighbour", "replace", other, "lladdr", _NOBODY, "dev", role, "nud", "permanent")


@contextmanager
def wire() -> Iterator[Wire]:
    """Create two namespaces with a wire between them, and remove them at the end."""
    roles = {"server": SERVER_ADDRESS, "client": CLIENT_ADDRESS}
    try:
        for role in roles:
            _ip("netns", "add", _name(role))
        _ip(
            "-n",
            _name("server"),
            "link",
            "add",
            "name",
            "server",
            "type",
            "veth",
            "peer",
            "name",
            "client",
            "netns",
            _name("client"),
        )
        for role, address in roles.items():
            _ip("-n", _name(role), "address", "add", f"{address}/24", "dev", role)
            _ip("-n", _name(role), "link", "set", role, "up")
        yield Wire()
    finally:
        for role in roles:
            subprocess.run(["ip", "netns", "delete", _name(role)], check=False, capture_output=True)
