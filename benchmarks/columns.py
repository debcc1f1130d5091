"""What is measured: one ``Column`` for each kind of traffic.

Knows: kinds of traffic, and the options with which the load generator produces them. Must never know: servers,
processes, figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Mode = Literal["echo", "latency", "opens", "hold", "pings", "pinged", "storm"]
Kind = Literal["ascii", "multibyte", "binary"]
Deflate = Literal["off", "no-takeover", "takeover", "browser"]

KIB = 1024
MIB = 1024 * KIB

PING_SECONDS = 4
"""How often a server pings a silent connection where its own pings are measured. uWebSockets and Bun can't do it more
often."""

COUNTED: dict[Mode, str] = {"opens": "open", "pings": "ping", "pinged": "ping", "storm": "client"}
"""What a rate counts, and what costs CPU time, if it is not a message."""


@dataclass(frozen=True)
class Column:
    """One kind of traffic. ``size`` is the size of a message before compression."""

    key: str
    title: str
    connections: int
    size: int = 16
    in_flight: int = 1
    kind: Kind = "ascii"
    mode: Mode = "echo"
    fragments: int = 1
    deflate: Deflate = "off"
    tls: bool = False
    proxied: bool = False
    """Whether requests have the lines that a proxy adds, which differ from connection to connection."""
    idle: int = 0
    rate: int = 0
    """For ``latency``: messages per second over all connections. For ``storm``: over those that stay."""
    stay: int = 0
    """For ``storm``: connections that send at the fixed rate while the others come back."""
    echo: bool = False
    """For ``opens`` and ``hold``: whether each connection sends one message."""
    rounds: int = 99
    """The most rounds for this column. Columns that take long or hardly vary are repeated less often."""
    longer: int = 1
    """Factor on the duration of a measurement. Some servers read from all of 10,000 connections before they write to
    the first, and pings are rare."""
    quick: bool = True
    shared: bool = False
    """Whether server and load generator share all cores instead of having one each. This shows the gain from several
    processes of a server."""

    @property
    def opened(self) -> int:
        """The number of connections that are open at once."""
        return self.connections + self.idle + self.stay

    @property
    def files(self) -> int:
        """The most sockets that the server has at once."""
        return self.connections * self.files_each + self.idle + self.stay

    @property
    def files_each(self) -> int:
        """The most sockets that one client has at the server. In a storm it may be back before its old connection is
        gone."""
        return 2 if self.mode == "storm" else 1

    @property
    def counted(self) -> str:
        """What the rate counts."""
        return COUNTED.get(self.mode, "message")

    @property
    def unit(self) -> str:
        """The unit of the rate."""
        return f"{self.counted}s/s"

    def arguments(self, seconds: float, warmup: float) -> list[str]:
        """Return the load generator's options."""
        words = {
            "mode": self.mode,
            "kind": self.kind,
            "size": self.size,
            "connections": self.connections,
            "in-flight": self.in_flight,
            "fragments": self.fragments,
            "deflate": self.deflate,
            "idle": self.idle,
            "seconds": seconds * self.longer,
            "warmup": warmup * self.longer,
        }
        options = [part for name, value in words.items() for part in (f"--{name}", str(value))]
        if self.rate:
            options += ["--rate", str(self.rate)]
        if self.stay:
            options += ["--stay", str(self.stay)]
        if self.echo:
            options.append("--echo")
        if self.tls:
            options.append("--tls")
        if self.proxied:
            options.append("--proxied")
        return options


ONE = Column("one", "c1 d1, 16 B text", 1)
TRAFFIC = [
    Column("small", "c64 d1, 16 B text", 64),
    Column("small-1k", "c64 d1, 1 KiB text", 64, KIB),
    Column("deep", "c16 d32, 16 B text", 16, 16, 32),
    Column("deep-1k", "c16 d32, 1 KiB binary", 16, KIB, 32, "binary"),
    Column("medium", "c8 d1, 64 KiB binary", 8, 64 * KIB, 1, "binary"),
    Column("medium-text", "c8 d1, 64 KiB multi-byte text", 8, 64 * KIB, 1, "multibyte", quick=False),
    Column("large", "c4 d1, 1 MiB binary", 4, MIB, 1, "binary", quick=False),
    Column("large-text", "c4 d1, 1 MiB text", 4, MIB),
    Column("large-multibyte", "c4 d1, 1 MiB multi-byte text", 4, MIB, 1, "multibyte", quick=False),
    Column("fragments", "c8 d1, 16 fragments of 1 KiB, binary", 8, 16 * KIB, 1, "binary", fragments=16),
    ONE,
    Column("beside-idle", "c64 d1, 16 B text, beside 10,000 idle", 64, idle=10_000, rounds=2),
]
PACKED = [
    Column("deflate", "deflate, c64 d1, 1 KiB text", 64, KIB, deflate="no-takeover"),
    Column("deflate-64k", "deflate, c8 d1, 64 KiB text", 8, 64 * KIB, deflate="no-takeover", quick=False),
    Column("takeover", "deflate with context takeover, c64 d1, 1 KiB text", 64, KIB, deflate="takeover"),
]
SECURED = [
    Column("tls", "TLS 1.3, c64 d1, 16 B text", 64, tls=True),
    Column("tls-64k", "TLS 1.3, c8 d1, 64 KiB binary", 8, 64 * KIB, 1, "binary", tls=True),
]
OPENS = [
    Column("opens", "open, handshake, drop", 32, mode="opens"),
    Column("opens-proxied", "open, handshake as behind a proxy, drop", 32, mode="opens", proxied=True, quick=False),
    Column("opens-echo", "open, handshake, one message, closing handshake", 32, mode="opens", echo=True),
    Column(
        "opens-browser",
        "open, handshake, one message, closing handshake, deflate offered as by browsers",
        32,
        mode="opens",
        echo=True,
        deflate="browser",
    ),
    Column("opens-tls", "open over TLS 1.3, handshake, drop", 32, mode="opens", tls=True, quick=False, rounds=2),
]
PACED = [
    Column("paced", "c64, 5,000 messages of 16 B a second", 64, mode="latency", rate=5000),
]
STORMS = [
    Column("storm-1000", "storm: 1,000 clients come back", 1000, mode="storm", stay=64, rate=2000),
    Column("storm", "storm: 10,000 clients come back", 10_000, mode="storm", stay=64, rate=2000, rounds=2, quick=False),
]
PINGS = [
    Column("pings", "c64, pings of 16 B from the client", 64, mode="pings"),
]
PINGED = [
    Column(
        "pinged",
        f"c10,000, a ping of the server every {PING_SECONDS} s",
        10_000,
        mode="pinged",
        longer=2 * PING_SECONDS,
        rounds=1,
        quick=False,
    ),
]
MANY = [
    Column("grow-10", "c10 d1, 16 B text", 10, rounds=2, quick=False),
    Column("grow-100", "c100 d1, 16 B text", 100, rounds=2, quick=False),
    Column("grow-1000", "c1,000 d1, 16 B text", 1000, rounds=2),
    Column("grow-10000", "c10,000 d1, 16 B text", 10_000, longer=3, rounds=1, quick=False),
]
GROWTH = [ONE, *MANY]
MEMORY = [
    Column("idle", "idle: 5,000 connections, only opened", 5000, mode="hold", rounds=1),
    Column("idle-50000", "idle: 50,000 connections, only opened", 50_000, mode="hold", rounds=1, quick=False),
    Column(
        "idle-deflate",
        "idle: 1,000 connections with deflate, after one message of 1 KiB",
        1000,
        KIB,
        mode="hold",
        deflate="no-takeover",
        echo=True,
        rounds=1,
        quick=False,
    ),
    Column(
        "idle-takeover",
        "idle: the same with context takeover",
        1000,
        KIB,
        mode="hold",
        deflate="takeover",
        echo=True,
        rounds=1,
        quick=False,
    ),
    Column(
        "idle-tls",
        "idle: 1,000 connections over TLS 1.3, after one message of 16 B",
        1000,
        mode="hold",
        tls=True,
        echo=True,
        rounds=1,
        quick=False,
    ),
]

SHARED = [
    replace(column, key=f"{column.key}-shared", title=f"both cores: {column.title}", shared=True, rounds=2, quick=False)
    for column in (*TRAFFIC, *PACKED, *SECURED, *OPENS)
    if column.key in {"small", "large-multibyte", "deflate", "tls", "opens", "opens-tls"}
]

COLUMNS = TRAFFIC + PACKED + SECURED + OPENS + PINGS + PINGED + STORMS + PACED + MANY + MEMORY + SHARED
