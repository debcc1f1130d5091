"""The servers that are measured: one ``Server`` for each, with its version and the command that starts it.

Knows: how to start each server, and what it can do. Must never know: cores, loads, figures.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import build
from benchmarks.columns import PING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.columns import Column, Deflate

NO_DEFLATE: frozenset[Deflate] = frozenset({"off"})
NO_TAKEOVER: frozenset[Deflate] = frozenset({"off", "no-takeover", "browser"})
ANY_DEFLATE: frozenset[Deflate] = frozenset({"off", "no-takeover", "takeover", "browser"})


@dataclass(frozen=True)
class Server:
    """A measured server. ``command`` makes its command line for a port and a column. ``version`` asks for the installed
    version."""

    key: str
    title: str
    version: Callable[[], str]
    command: Callable[[int, Column], list[str]]
    deflate: frozenset[Deflate] = ANY_DEFLATE
    plain: bool = True
    """Whether it is measured on columns without compression, too."""
    tls: bool = True
    pings: bool = False
    """Whether it can ping silent connections by itself, and is told how often."""
    quick: bool = True
    exclusive: bool = True
    """Whether it is measured with a core of its own."""
    shared: bool = False
    """Whether it is measured on cores that it shares with the load generator."""
    ready: str = ""
    """The log message with which it begins to serve, if that is later than when it listens."""
    environment: Callable[[], dict[str, str]] = field(default=dict)

    def serves(self, column: Column) -> bool:
        """Tell whether this server supports that traffic."""
        has_cores = self.shared if column.shared else self.exclusive
        return (
            has_cores
            and column.deflate in self.deflate
            and (self.plain or column.deflate != "off")
            and (self.tls or not column.tls)
            and (self.pings or column.mode != "pinged")
        )


def words(column: Column) -> list[str]:
    """Return the words that every peer takes after its port."""
    options = [] if column.deflate == "off" else ["-deflate"]
    if column.tls:
        options += ["-tls", *map(str, build.certificate())]
    if column.mode == "pinged":
        options += ["-pings", str(PING_SECONDS)]
    return options


@cache
def python_versions(python: str, *packages: str) -> str:
    """Return the versions of packages that an interpreter has."""
    script = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{p} {v(p)}' for p in sys.argv[1:]))"
    )
    return build.run([python, "-c", script, *packages], f"cannot ask {python} for versions")


def python_peer(key: str, title: str, deflate: frozenset[Deflate], *, quick: bool) -> Server:
    """Return a Python library on uvloop, from the environment that ``build`` makes."""
    return Server(
        key=key,
        title=title,
        version=lambda: python_versions(str(build.peers_python()), key, "uvloop"),
        command=lambda port, column: [
            str(build.peers_python()),
            "-m",
            f"benchmarks.peers.{key}_echo",
            str(port),
            *words(column),
        ],
        deflate=deflate,
        pings=True,
        quick=quick,
    )


def gorilla_version() -> str:
    """Return Debian's version number and Go's."""
    build.gorilla()
    library = build.run(
        ["dpkg-query", "-W", "-f", "${Version}", "golang-github-gorilla-websocket-dev"], "gorilla: a Debian package"
    )
    return f"{library}, {build.run(['go', 'env', 'GOVERSION'], 'gorilla: needs Go')}"


def ws_version() -> str:
    """Return the versions of `ws` and Node."""
    script = "console.log(require('ws/package.json').version + ', Node ' + process.version)"
    return build.run(["node", "-e", script], "ws: needs Node", NODE_PATH=str(build.node_modules()))


def bun_version() -> str:
    """Return the version of Bun."""
    return build.run([str(build.bun()), "--version"], "Bun does not run here")


def uwebsockets_version() -> str:
    """Return the version of the package that brings uWebSockets, which tells no version of its own."""
    build.uwebsockets()
    return f"in {build.UWEBSOCKETS.read_text().split()[-1].replace('==', ' ')}"


def floor_version() -> str:
    """Its compiler."""
    build.floor()
    return build.run(["cc", "--version"], "the floor needs a C compiler").splitlines()[0]


def autobahn_version() -> str:
    """Return the versions of this interpreter's Autobahn and Twisted, on which echod runs, too."""
    return f"{metadata.version('autobahn')}, Twisted {metadata.version('Twisted')}, Python {sys.version.split()[0]}"


def echod_version() -> str:
    """Return the version of the installed echod or of the source tree."""
    import echod  # noqa: PLC0415 # only if echod is measured: the peers can be measured without it

    return f"{echod.__version__}, Autobahn {autobahn_version()}"


def echod_command(port: int, column: Column, compression: str, workers: int) -> list[str]:
    """Return the command line for ``twistd`` in this interpreter's environment."""
    twistd = Path(sys.executable).with_name("twistd")
    if column.tls:
        pem, key = build.certificate()
        endpoint = f"ssl:{port}:privateKey={key}:certKey={pem}:interface=127.0.0.1"
    else:
        endpoint = f"tcp:{port}:interface=127.0.0.1"
    options = ["--port", endpoint, "--compression", compression, "--workers", str(workers)]
    if column.mode == "pinged":
        options += ["--ping-interval", f"{PING_SECONDS}s"]
    return [str(twistd), "-n", "--pidfile=", "echod", *options]


def echod_server(
    key: str,
    title: str,
    native: str = "1",
    compression: str = "mirror",
    *,
    workers: int = 1,
    packed_only: bool = False,
    shared: bool = False,
    quick: bool = True,
) -> Server:
    """Return echod with the express lane on or off. With workers it is measured only on more than one core."""
    return Server(
        key=key,
        title=title,
        version=echod_version,
        command=lambda port, column: echod_command(port, column, compression, workers),
        plain=not packed_only,
        exclusive=workers == 1,
        shared=shared or workers > 1,
        pings=True,
        ready="max-message-size",
        environment=lambda: {"ECHOD_NATIVE": native},
        quick=quick,
    )


SERVERS = [
    Server(
        "floor",
        "bare C epoll echo",
        floor_version,
        lambda port, _column: [str(build.floor()), str(port)],
        NO_DEFLATE,
        tls=False,
    ),
    echod_server("echod", "echod", shared=True),
    echod_server("echod-2", "echod, `--workers 2`", workers=2, quick=False),
    echod_server("echod-deflate", "echod, `--compression deflate`", compression="deflate", packed_only=True),
    echod_server("echod-off", "echod, `ECHOD_NATIVE=0`", native="0", quick=False),
    Server(
        "autobahn",
        "plain Autobahn",
        autobahn_version,
        lambda port, column: [sys.executable, "-m", "benchmarks.peers.autobahn_echo", str(port), *words(column)],
        pings=True,
    ),
    # gorilla keeps no context: it accepts only "no takeover", whatever the client offers.
    Server(
        "gorilla",
        "gorilla/websocket",
        gorilla_version,
        lambda port, column: [str(build.gorilla()), str(port), *words(column)],
        NO_TAKEOVER,
        shared=True,
    ),
    # One compressor and one inflater for all connections, so there is no takeover.
    Server(
        "uwebsockets",
        "uWebSockets",
        uwebsockets_version,
        lambda port, column: [str(build.uwebsockets()), str(port), *words(column)],
        NO_TAKEOVER,
        pings=True,
    ),
    Server(
        "bun",
        "Bun",
        bun_version,
        lambda port, column: [str(build.bun()), str(build.PEERS / "bun.js"), str(port), *words(column)],
        NO_TAKEOVER,
        pings=True,
        quick=False,
    ),
    Server(
        "ws",
        "ws",
        ws_version,
        lambda port, column: ["node", str(build.PEERS / "ws.js"), str(port), *words(column)],
        pings=True,
        quick=False,
        environment=lambda: {"NODE_PATH": str(build.node_modules())},
    ),
    python_peer("picows", "picows + uvloop", NO_DEFLATE, quick=True),
    python_peer("aiohttp", "aiohttp + uvloop", ANY_DEFLATE, quick=False),
    python_peer("websockets", "websockets + uvloop", ANY_DEFLATE, quick=False),
]
