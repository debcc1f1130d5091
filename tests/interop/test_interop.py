"""Every message comes back as it was sent, with every client and over every kind of connection."""

from __future__ import annotations

import json
import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.interop.clients import CLIENTS, Client, Connection, Message, Target
from tests.tls import Certificate

LIMIT = 16 * 2**20
"""The default of `--max-message-size`: the longest message that comes back."""

CHAOS = random.Random(6455).randbytes(LIMIT)
"""Noise, which deflate makes longer."""

UNICODE = "".join(map(chr, [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]))
"""All code points except the surrogates, which UTF-8 can't encode (RFC 3629 section 3)."""

MESSAGES: dict[str, Message] = {
    "text": "hello",
    "binary": b"\x00\xff\x80hello",
    "empty text": "",
    "empty binary": b"",
    "1-octet text": "a",
    "1-octet binary": b"\xff",
    "all of Unicode": UNICODE,
    "16 MiB text": LIMIT // 8 * "16 MiB, ",
    "16 MiB of noise": CHAOS,
    # Sizes around those where the form of the length changes (RFC 6455 section 5.2); deflated, their lengths differ
    # again.
    **{f"{size}-octet text": (size * "x") for size in (125, 126, 127, 65535, 65536)},
    **{f"{size}-octet noise": CHAOS[:size] for size in (125, 126, 127, 65535, 65536)},
}

FRAGMENTED: tuple[tuple[Message, ...], ...] = (
    ("hel", "lo"),
    (b"\xff", b"\x00\xfe", b"\xfd"),
    ("", "a", "", "b", ""),
    (b"", b"", b""),
    tuple(CHAOS[at : at + 100_000] for at in range(0, 1_000_000, 100_000)),
    tuple(str(number) for number in range(300)),
)

CLOSES = [(1000, ""), (1000, "done"), (3000, ""), (3000, "grüß dich"), (4999, ""), (4999, 123 * "x")]


@dataclass(frozen=True, slots=True)
class Served:
    """A daemon with one endpoint of each kind."""

    daemon: Daemon
    unix: Path
    certificate: Certificate

    def target(
        self, kind: str = "tcp", *, path: str = "/", compression: bool = False, subprotocols: tuple[str, ...] = ()
    ) -> Target:
        tcp, tcp6, _, tls = (url.rpartition(":")[2] for url in self.daemon.urls)
        return Target(
            {
                "tcp": f"ws://127.0.0.1:{tcp}{path}",
                "tcp6": f"ws://[::1]:{tcp6}{path}",
                "unix": f"ws://localhost{path}",
                "ssl": f"wss://localhost:{tls}{path}",
            }[kind],
            unix=self.unix if kind == "unix" else None,
            certificate=self.certificate.path if kind == "ssl" else None,
            compression=compression,
            subprotocols=subprotocols,
        )


@pytest.fixture(scope="module")
def served(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("interop") / "socket"
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}:certKey={certificate.path}"
    with Daemon(ports=["tcp:0:interface=127.0.0.1", r"tcp:0:interface=\:\:1", f"unix:{path}", tls]) as daemon:
        yield Served(daemon, path, certificate)


def those_that(**can: bool) -> pytest.MarkDecorator:
    """Run with each client that has these abilities."""
    return pytest.mark.parametrize("client", _names(**can), indirect=True)


def both_ways(**can: bool) -> pytest.MarkDecorator:
    """Run with each client that has these abilities, and with compression, too, if the client supports it."""
    ways = [(name, way) for name in _names(**can) for way in (False, True) if CLIENTS[name].compresses or not way]
    ids = [f"{name}-{'deflate' if way else 'plain'}" for name, way in ways]
    return pytest.mark.parametrize(("client", "compression"), ways, ids=ids, indirect=["client"])


def _names(**can: bool) -> list[str]:
    return [
        name for name, client in CLIENTS.items() if all(getattr(client, what) == value for what, value in can.items())
    ]


def echo(connection: Connection, message: Message) -> None:
    """Assert that `message` comes back with the same type and the same bytes."""
    (answer,) = connection.exchange([message])
    # Don't compare with `==` in an assert, because pytest would explain a difference in 16 MiB.
    assert type(answer) is type(message)
    assert len(answer) == len(message)
    is_same = answer == message
    assert is_same


@both_ways()
def test_messages(served: Served, client: Client, compression: bool) -> None:
    with client.open(served.target(compression=compression)) as connection:
        assert connection.is_compressed == compression
        for name, message in MESSAGES.items():
            try:
                echo(connection, message)
            except Exception as error:
                error.add_note(f"the message: {name}")
                raise


@both_ways()
def test_10000_pipelined_messages_in_order(served: Served, client: Client, compression: bool) -> None:
    messages = [f"message {number}" + number % 100 * "." for number in range(10_000)]
    with client.open(served.target(compression=compression)) as connection:
        assert connection.exchange(messages) == messages


@both_ways()
def test_text_and_binary_do_not_mix(served: Served, client: Client, compression: bool) -> None:
    messages = [b"same" if number % 3 else "same" for number in range(100)]
    with client.open(served.target(compression=compression)) as connection:
        assert connection.exchange(messages) == messages


@both_ways(fragments=True)
def test_fragments_with_pings_between_them(served: Served, client: Client, compression: bool) -> None:
    with client.open(served.target(compression=compression)) as connection:
        for pieces in FRAGMENTED:
            empty = "" if isinstance(pieces[0], str) else b""
            assert connection.exchange_fragments(pieces) == empty.join(pieces)  # type: ignore[arg-type]
        echo(connection, "and on")


@pytest.mark.parametrize("kind", ["tcp6", "unix", "ssl"])
@both_ways()
def test_ways_to_the_daemon(served: Served, client: Client, kind: str, compression: bool) -> None:
    if kind == "tcp6" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6: run where ::1 is available")
    with client.open(served.target(kind, compression=compression)) as connection:
        assert connection.is_compressed == compression
        for name in ("text", "empty binary", "65536-octet noise", "16 MiB of noise"):
            echo(connection, MESSAGES[name])
        assert_close_comes_back(client, connection, 4000, "bye")


def assert_close_comes_back(client: Client, connection: Connection, code: int, reason: str) -> None:
    """Assert that the answer to a Close frame has its code and, if the client reports it, its reason."""
    assert connection.close(code, reason) == (code, reason if client.tells_reason else "")


@pytest.mark.parametrize(("code", "reason"), CLOSES)
@those_that()
def test_close_code_and_reason_come_back(served: Served, client: Client, code: int, reason: str) -> None:
    with client.open(served.target()) as connection:
        echo(connection, "hello")
        assert_close_comes_back(client, connection, code, reason)


@those_that(closes_without_code=True)
def test_a_close_without_a_code_is_answered_without_one(served: Served, client: Client) -> None:
    with client.open(served.target()) as connection:
        assert connection.close(None) == (1005, "")


@those_that(chooses_subprotocols=True)
def test_the_first_subprotocol_offered_is_chosen(served: Served, client: Client) -> None:
    for offered in (("mqtt",), ("soap", "wamp"), ("wamp", "soap")):
        with client.open(served.target(subprotocols=offered)) as connection:
            assert connection.subprotocol == offered[0]
    with client.open(served.target()) as connection:
        assert connection.subprotocol is None


@those_that()
def test_any_path_echoes(served: Served, client: Client) -> None:
    for path in ("/", "/chat", "/a/b%20c;d?e=f&g", "/?" + 2000 * "x"):
        with client.open(served.target(path=path)) as connection:
            echo(connection, "hello")


@both_ways()
def test_json(served: Served, client: Client, compression: bool) -> None:
    texts = [
        '{ "a" : [ 1.50, 12345678901234567890123, "\\ud83d\\ude00\\u0000" ] }',
        " null ",
        '" "',
        json.dumps([list(range(10_000))]),
    ]
    with client.open(served.target(path="/json", compression=compression)) as connection:
        for text, answer in zip(texts, connection.exchange(texts), strict=True):
            assert json.loads(answer) == json.loads(text)
            assert " " not in str(answer).replace('" "', "")


@those_that(compresses=True)
def test_no_compression_if_the_daemon_has_it_off(client: Client) -> None:
    with Daemon("--compression", "off") as daemon, client.open(Target(daemon.url, compression=True)) as connection:
        assert not connection.is_compressed
        echo(connection, MESSAGES["65536-octet text"])
