"""What docs/url.md promises, as libraries see it that others wrote: closes, resets, stalls, refusals, late messages,
and lost messages.

A client reports events in its own words: 1005 for a Close frame without a code, 1006 for a missing Close frame (RFC
6455 section 7.1.5). A library's deviations are noted where they matter.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.frames import TEXT, client_frame, handshake, server_frame
from tests.interop.clients import PATIENCE, Target
from tests.interop.watchers import MISSING, WATCHERS, Seen, Watch
from tests.tls import Certificate
from tests.tools import give_up

CODES = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
"""All codes below 2000 that may be sent (RFC 6455 section 7.4, and later registrations at IANA), and samples of the
others."""

QUIET = 2.0
"""Seconds without a message after which a client gives up waiting for one."""


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon over TCP and TLS."""

    daemon: Daemon
    certificate: Path

    def target(self, path: str, is_tls: bool = False, compression: bool = False) -> Target:
        tcp, tls = self.daemon.urls
        if is_tls:
            return Target(
                f"wss://localhost:{tls.rpartition(':')[2]}{path}", certificate=self.certificate, compression=compression
            )
        return Target(f"{tcp}{path}", compression=compression)


@pytest.fixture(scope="module")
def served(certificate: Certificate) -> Iterator[Served]:
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}:certKey={certificate.path}"
    with Daemon(ports=["tcp:0:interface=127.0.0.1", tls]) as daemon:
        yield Served(daemon, certificate.path)


@pytest.fixture(params=WATCHERS)
def watch(request: pytest.FixtureRequest) -> Callable[[Watch], Seen]:
    """Return the function that watches with one client, for each client that is installed."""
    missing = MISSING[request.param]()
    if missing is not None:
        give_up(missing)
    return WATCHERS[request.param]


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def is_tls(request: pytest.FixtureRequest) -> bool:
    is_so: bool = request.param
    return is_so


@pytest.mark.parametrize("code", CODES)
def test_a_close_code_and_its_reason(served: Served, watch: Callable[[Watch], Seen], code: int) -> None:
    for query, reason in (("", ""), ("&reason=gr%C3%BC%C3%9F+dich", "grüß dich"), (f"&reason={123 * 'x'}", 123 * "x")):
        seen = watch(Watch(served.target(f"/?close={code}&after=2{query}"), ["one", "two"]))
        assert seen.messages == ["one", "two"]
        assert (seen.code, seen.reason) == (code, reason)


def test_a_close_as_soon_as_it_is_open(served: Served, watch: Callable[[Watch], Seen], is_tls: bool) -> None:
    seen = watch(Watch(served.target("/?close=1001&reason=bye", is_tls)))
    assert (seen.status, seen.messages, seen.code, seen.reason) == (None, [], 1001, "bye")


@pytest.mark.parametrize(("query", "code"), [("close=1005", 1005), ("close=1006", 1006), ("abort", 1006)])
def test_an_end_without_a_code(
    served: Served, watch: Callable[[Watch], Seen], is_tls: bool, query: str, code: int
) -> None:
    seen = watch(Watch(served.target(f"/?{query}&after=2", is_tls), ["one", "two"]))
    assert seen.messages == ["one", "two"]
    assert (seen.code, seen.reason) == (code, "")


def test_a_reset_behind_a_close_frame(served: Served, watch: Callable[[Watch], Seen]) -> None:
    seen = watch(Watch(served.target("/?close=4000&abort")))
    assert seen.code == 4000


def test_a_stall(served: Served, watch: Callable[[Watch], Seen], is_tls: bool) -> None:
    began = time.monotonic()
    seen = watch(Watch(served.target("/?stall&after=2", is_tls), ["one", "two", "three", "four"], QUIET))
    assert seen.messages == ["one", "two"]
    assert seen.code is None, "the connection is still open"
    # The client closes and gets no answer. It must not wait for ever.
    assert time.monotonic() - began < PATIENCE


def test_a_stall_behind_a_close_frame(served: Served, watch: Callable[[Watch], Seen]) -> None:
    seen = watch(Watch(served.target("/?close=1001&stall")))
    assert seen.code == 1001


@pytest.mark.parametrize(
    ("status", "header"),
    [(401, "www-authenticate"), (404, None), (429, "retry-after"), (499, None), (503, "retry-after")],
)
def test_a_status(
    served: Served, watch: Callable[[Watch], Seen], is_tls: bool, status: int, header: str | None
) -> None:
    seen = watch(Watch(served.target(f"/?status={status}", is_tls)))
    assert seen.status == status
    assert seen.opened is None
    values = {"www-authenticate": 'Basic realm="echod"', "retry-after": "5"}
    assert {name: seen.headers.get(name) for name in values} == {
        name: value if name == header else None for name, value in values.items()
    }


def test_a_wrong_value_is_400(served: Served, watch: Callable[[Watch], Seen]) -> None:
    assert watch(Watch(served.target("/?close=1004"))).status == 400


def test_a_late_handshake(served: Served, watch: Callable[[Watch], Seen], is_tls: bool) -> None:
    seen = watch(Watch(served.target("/?handshake-delay=1s", is_tls), ["one"], QUIET))
    assert seen.opened is not None
    assert seen.opened >= 0.99
    assert seen.messages == ["one"]


def test_a_late_refusal(served: Served, watch: Callable[[Watch], Seen]) -> None:
    began = time.monotonic()
    assert watch(Watch(served.target("/?handshake-delay=1s&status=503"))).status == 503
    assert time.monotonic() - began >= 1


def test_a_handshake_that_is_later_than_the_client_waits(served: Served, watch: Callable[[Watch], Seen]) -> None:
    seen = watch(Watch(served.target("/?handshake-delay=30s"), open_timeout=0.5))
    assert seen.gave_up
    assert seen.opened is None


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("size", [1, 7, 126, 65536])
def test_fragments(served: Served, watch: Callable[[Watch], Seen], size: int, compression: bool) -> None:
    # websockets accepts at most 4,096 frames of a message.
    messages = ["", "Grüße aus 東京 😀", 1000 * "ü", "".join(map(chr, range(0x20, 0xD800)))[: 1000 * size]]
    seen = watch(
        Watch(served.target(f"/?fragment={size}&close=1000&after={len(messages)}", compression=compression), messages)
    )
    assert seen.messages == messages
    assert seen.code == 1000


def test_lost_messages(served: Served, watch: Callable[[Watch], Seen]) -> None:
    for _ in range(2):
        seen = watch(Watch(served.target("/?drop=0.5&seed=7"), list("ABCDEFGH"), QUIET))
        assert seen.messages == ["C", "E", "H"]
        assert seen.code is None


def test_late_messages(served: Served, watch: Callable[[Watch], Seen], is_tls: bool) -> None:
    messages = [str(number) for number in range(100)]
    seen = watch(Watch(served.target("/?delay=500ms&close=1000&after=100", is_tls), messages))
    assert seen.messages == messages
    assert seen.opened is not None
    assert seen.times[0] - seen.opened >= 0.49
    assert seen.code == 1000


def test_pings(served: Served, watch: Callable[[Watch], Seen]) -> None:
    seen = watch(Watch(served.target("/?ping=100ms&delay=1500ms&close=1000&after=1"), ["one"]))
    assert seen.messages == ["one"]
    # websockets answers pings without reporting them.
    assert seen.pings is None or 2 <= seen.pings <= seen.times[0] / 0.1 + 1


def test_info(served: Served, watch: Callable[[Watch], Seen], is_tls: bool) -> None:
    seen = watch(Watch(served.target("/info?fragment=1&close=1000&after=1", is_tls, compression=True), ["one"]))
    first, second = seen.messages
    info = json.loads(first)
    assert info["peer"]["address"] == "127.0.0.1"
    assert info["process"] == served.daemon.pid
    assert info["faults"] == {"are_on": True, "fragment": 1, "close": 1000, "after": 1}
    assert info["extensions"] == ["permessage-deflate"]
    assert (info["tls"] or {}).get("sni") == ("localhost" if is_tls else None)
    assert (info["tls"] or {"version": "TLSv1.3"})["version"] == "TLSv1.3"
    assert second == "one"


def test_no_faults(watch: Callable[[Watch], Seen]) -> None:
    with Daemon("--no-faults") as daemon:
        seen = watch(Watch(Target(f"{daemon.url}/info?status=nonsense&delay=1s"), ["one"], QUIET))
        assert json.loads(seen.messages[0])["faults"] == {"are_on": False}
        assert seen.messages[1:] == ["one"]


def test_a_drain_ends_connections_with_faults_too() -> None:
    """Late, stalled, aborting, and half-open connections: none keeps a daemon from ending."""
    with Daemon("--drain-timeout", "5s", "--close-timeout", "1s") as daemon:
        queries = ["delay=60s", "stall", "close=1001&stall", "ping=100ms", "close=1006", "handshake-delay=60s"]
        sockets = [open_raw(daemon, query) for query in queries]
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 5 + 20
        for sock in sockets:
            sock.close()


def open_raw(daemon: Daemon, query: str) -> socket.socket:
    """Return the socket of a client that sends one message, and does nothing more."""
    sock = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
    sock.sendall(handshake(f"/?{query}") + client_frame(TEXT, b"x"))
    return sock


@pytest.mark.parametrize(("query", "is_reset"), [("abort", True), ("close=1006", False)])
def test_the_end_of_tcp_under_tls(served: Served, query: str, is_reset: bool) -> None:
    """A reset is a RST, without TLS's close_notify before it. Python's own TLS socket can't tell a RST from a FIN, so
    this test runs TLS in memory."""
    _, url = served.daemon.urls
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=served.certificate).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    received = b""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE) as sock:

        def exchange() -> None:
            sock.sendall(outgoing.read())
            octets = sock.recv(65536)
            assert octets, "a FIN without close_notify"
            incoming.write(octets)

        while tls.version() is None or outgoing.pending:
            try:
                tls.do_handshake()
                tls.write(handshake(f"/?{query}&after=1") + client_frame(TEXT, b"x"))
                sock.sendall(outgoing.read())
            except ssl.SSLWantReadError:
                exchange()
        has_ended = False
        try:
            while not has_ended:
                try:
                    octets = tls.read()
                except ssl.SSLWantReadError:
                    exchange()
                else:
                    received += octets
                    has_ended = not octets
        except ConnectionResetError:
            assert is_reset
        else:
            assert not is_reset
    assert received.endswith(server_frame(TEXT, b"x"))
