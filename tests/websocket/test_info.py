"""`/info`: the first message describes the connection as the server sees it, and hides what a page must not learn."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from echod import __version__
from echod.lane.native import Native
from echod.settings import Settings
from echod.websocket.info import LIMITS, SHOWN
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, TEXT, Frame, client_frame, close_payload, handshake, split
from tests.loop import bed
from tests.tls import Certificate


@pytest.fixture
def clock() -> Clock:
    return Clock()


def told(octets: bytes) -> tuple[dict[str, Any], list[Frame]]:
    """Return the message of `/info` that follows a 101, and the frames after it."""
    head, _, rest = octets.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), octets
    (first, *others), rest = split(rest)
    assert not rest
    assert (first.opcode, first.fin, first.rsv) == (TEXT, True, 0)
    return json.loads(first.payload), others


def ask(clock: Clock, target: str = "/info", *headers: str, **settings: Any) -> dict[str, Any]:
    return told(Peer(make_factory(clock, **settings)).send(handshake(target, *headers)))[0]


def test_what_is_told(clock: Clock) -> None:
    headers = ["Sec-WebSocket-Protocol: b, a", "user-AGENT:  kept \t", "Via: 1", "via: caf\xc3\xa9", "VIA: \xff"]
    info = ask(clock, "/info?token=%20", *headers)
    assert info.pop("limits").keys() == set(LIMITS)
    assert info == {
        "number": "1",
        "peer": {"address": "192.0.2.1", "port": 1234},
        "path": "/info",
        "query": "token=%20",
        "headers": [
            ["Host", "localhost"],
            ["Upgrade", "websocket"],
            ["Connection", "Upgrade"],
            ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
            ["Sec-WebSocket-Version", "13"],
            ["Sec-WebSocket-Protocol", "b, a"],
            ["user-AGENT", "kept"],
            ["Via", "1"],
            ["via", "café"],
            ["VIA", "\\xff"],
        ],
        "subprotocol": "b",
        "extensions": [],
        "compression": {"mode": "off"},
        "http": {"version": "1.1"},
        "tls": None,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "version": __version__,
        "lane": "autobahn",
        "faults": {"are_on": True},
    }


def test_the_limits_are_those_in_force(clock: Clock) -> None:
    limits = ask(clock, max_message_size=1000, max_buffered=1000, max_delay=5)["limits"]
    assert (limits["max_message_size"], limits["max_buffered"], limits["max_delay"]) == (500, 1000, 5)
    assert ask(clock)["limits"]["close_timeout"] == Settings().close_timeout


def test_then_it_echoes(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    info, rest = told(
        peer.send(handshake("/info", "Sec-WebSocket-Extensions: permessage-deflate") + client_frame(TEXT, b"early"))
    )
    assert info["extensions"] == ["permessage-deflate"]
    # The echo that is mirrored refers as far back as the client's message.
    windows = {"client_window_bits": 15, "server_window_bits": 15}
    contexts = {"client_keeps_context": True, "server_keeps_context": True}
    assert info["compression"] == {"mode": "mirror", **windows, **contexts}
    assert rest == [Frame(TEXT, b"early")]
    assert peer.frames(client_frame(TEXT, b"x")) == [Frame(TEXT, b"x")]


@pytest.mark.parametrize(
    ("target", "offer", "windows"),
    [
        ("/info", "", (15, 15)),
        ("/info", "; client_max_window_bits", (12, 12)),
        ("/info", "; client_max_window_bits=10", (10, 12)),
        ("/info", "; client_max_window_bits; server_max_window_bits=10", (10, 10)),
        ("/info?compression=deflate", "", (15, 12)),
    ],
)
def test_how_far_back_messages_refer(clock: Clock, target: str, offer: str, windows: tuple[int, int]) -> None:
    compression = ask(clock, target, f"Sec-WebSocket-Extensions: permessage-deflate{offer}")["compression"]
    assert (compression["client_window_bits"], compression["server_window_bits"]) == windows


# What browsers hide from scripts, and what OAuth2 Proxy, Cloudflare Access, Google's IAP, AWS's ALB, Azure's App
# Service, Envoy, Tailscale and Authelia add for the server behind them.
SECRETS = [
    *(
        "Cookie",
        "authorization",
        "Proxy-Authorization",
        "X-Api-Key",
        "X-Forwarded-Access-Token",
        "X-Forwarded-User",
        "X-Forwarded-Email",
    ),
    *(
        "X-Auth-Request-Access-Token",
        "Cf-Access-Jwt-Assertion",
        "Cf-Access-Authenticated-User-Email",
        "X-Goog-IAP-JWT-Assertion",
    ),
    *(
        "x-amzn-oidc-data",
        "X-Amzn-Oidc-Accesstoken",
        "X-MS-CLIENT-PRINCIPAL",
        "X-MS-TOKEN-AAD-ACCESS-TOKEN",
        "X-Forwarded-Client-Cert",
    ),
    *("Tailscale-User-Login", "Remote-User", "X-SSL-Client-Cert", "X-Original-URL", "X-Nobody-Has-Heard-Of"),
]


@pytest.mark.parametrize("name", SECRETS)
def test_what_a_page_must_not_see_is_not_told(clock: Clock, name: str) -> None:
    info = ask(clock, "/info", f"{name}: secret=1")
    assert [name, "(8 octets, not shown)"] in info["headers"]
    assert "secret" not in json.dumps(info)


def test_what_a_tester_needs_is_told(clock: Clock) -> None:
    own = {b"host", b"upgrade", b"connection", b"content-length"} | {
        name for name in SHOWN if name.startswith(b"sec-websocket-")
    }
    names = [name.decode().title() for name in sorted(SHOWN - own)]
    info = ask(clock, "/info", "Content-Length: 0", *(f"{name}: a value" for name in names))
    assert len(names) > 50
    assert info["headers"] == [
        *(["Host", "localhost"], ["Upgrade", "websocket"], ["Connection", "Upgrade"]),
        *(["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="], ["Sec-WebSocket-Version", "13"], ["Content-Length", "0"]),
        *([name, "a value"] for name in names),
    ]


def test_the_peer_is_the_one_the_trusted_proxy_tells(clock: Clock) -> None:
    info = ask(clock, "/info", "X-Forwarded-For: 10.0.0.1", trust_proxy=1)
    assert info["peer"] == {"address": "10.0.0.1", "port": None}
    assert ask(clock, "/info", "X-Forwarded-For: 10.0.0.1")["peer"] == {"address": "192.0.2.1", "port": 1234}


def test_a_unix_socket_has_no_address(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    peer.transport.peerAddr = UNIXAddress(None)
    assert told(peer.send(handshake("/info")))[0]["peer"] == {"address": None, "port": None}


def test_faults_are_told_and_shape_what_follows(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    info, rest = told(peer.send(handshake("/info?fragment=1&close=1001&handshake-delay=0&drop=0.5&seed=7")))
    assert info["faults"] == {"are_on": True, "fragment": 1, "close": 1001, "drop": 0.5, "seed": 7}
    assert rest == [Frame(CLOSE, close_payload(1001))]
    assert 0 <= ask(clock, "/info?drop=1")["faults"]["seed"] < 2**32
    assert ask(clock, "/info?delay=secret", has_faults=False)["faults"] == {"are_on": False}


def test_the_lane(native: Native) -> None:
    with bed(native) as made:
        for target, headers, lane in (
            ("/info", (), "pump"),
            ("/info", ("Sec-WebSocket-Extensions: permessage-deflate",), "pump"),
            # Its compressor refers to earlier answers.
            ("/info?compression=deflate", ("Sec-WebSocket-Extensions: permessage-deflate",), "codec"),
            ("/info?ping=1m", (), "autobahn"),
        ):
            link = made.link(*headers, target=target)
            made.loop.until(lambda link=link: len(split(bytes(link.take()))[0]) == 1)  # type: ignore[misc]
            (first,), _ = split(bytes(link.received))
            assert json.loads(first.payload)["lane"] == lane
            assert (link.protocol.lease is not None) == (lane == "pump")


@pytest_twisted.inlineCallbacks
def test_tls(certificate: Certificate) -> Generator[Any, Any, None]:
    kept: Any = reactor
    factory = make_factory(kept)
    port = kept.listenSSL(0, factory, certificate.server_options(), interface="127.0.0.1")
    context = certificate.client()

    def talk(name: str | None) -> tuple[dict[str, Any], str | None, str]:
        context.check_hostname = name is not None
        with (
            socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=name) as client,
        ):
            client.sendall(handshake("/info") + client_frame(CLOSE, close_payload(1000)))
            octets = b""
            while piece := client.recv(65536):
                octets += piece
            cipher = client.cipher()
            assert cipher is not None
            info, rest = told(octets)
            assert rest == [Frame(CLOSE, close_payload(1000))]
            return info, client.version(), cipher[0]

    info, version, cipher = yield deferToThread(talk, "localhost")
    assert info["tls"] == {"version": version, "cipher": cipher, "sni": "localhost"}
    info, version, cipher = yield deferToThread(talk, None)
    assert info["tls"] == {"version": version, "cipher": cipher, "sni": None}
    yield port.stopListening()
    yield factory.drain()
