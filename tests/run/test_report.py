"""The start report: addresses as a client would write them, the express lane, and the limits."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import capturedLogs, formatEvent

from echod import __version__
from echod.run.report import (
    describe_address,
    describe_for_client,
    describe_lane,
    describe_limits,
    describe_start,
    log_throwaway,
)
from echod.settings import Compression, Http2Mode, Settings
from tests.fakes import make_factory


@pytest.mark.parametrize(
    ("address_", "text"),
    [
        (IPv4Address("TCP", "0.0.0.0", 8080), "ws://0.0.0.0:8080"),
        (IPv6Address("TCP", "::1", 8080), "ws://[::1]:8080"),
        (UNIXAddress(b"/run/echod"), "unix:/run/echod"),
        (SimpleNamespace(name="text"), "unix:text"),
        (SimpleNamespace(), "namespace()"),
    ],
)
def test_addresses(address_: Any, text: str) -> None:
    assert describe_address(address_) == text


def test_an_address_with_tls() -> None:
    assert describe_address(IPv4Address("TCP", "0.0.0.0", 8443), is_tls=True) == "wss://0.0.0.0:8443"


@pytest.mark.parametrize(
    ("address_", "url"),
    [
        (IPv4Address("TCP", "0.0.0.0", 8080), "ws://127.0.0.1:8080"),
        (IPv4Address("TCP", "192.0.2.7", 8080), "ws://192.0.2.7:8080"),
        (IPv6Address("TCP", "::", 8080), "ws://[::1]:8080"),
        (UNIXAddress(b"/run/echod"), "unix:/run/echod"),
    ],
)
def test_a_client_on_this_machine_gets_an_address_that_it_can_connect_to(address_: Any, url: str) -> None:
    port = cast(Any, SimpleNamespace(getHost=lambda: address_))
    assert describe_for_client(port, "ws") == url


@pytest.mark.parametrize("file", [None, "/run/ca.pem"])
def test_what_a_client_of_a_throwaway_endpoint_trusts(file: str | None) -> None:
    with capturedLogs() as events:
        log_throwaway("throwaway:0", cast(Any, SimpleNamespace(names=["a", "b"], fault=None)), file)
    where = file or "/authority.pem"
    (event,) = events
    assert formatEvent(event) == f"throwaway:0 has a throwaway certificate for a, b; trust {where}"


def test_what_a_program_is_told_that_waits_for_the_start() -> None:
    port = cast(Any, SimpleNamespace(getHost=lambda: IPv4Address("TCP", "127.0.0.1", 8080)))
    told = {"urls": ["ws://127.0.0.1:8080"], "admin_urls": [], "authority": "PEM", "http2": "off", "pid": os.getpid()}
    assert describe_start([port], [], "PEM", Http2Mode.OFF) == {**told, "version": __version__}
    assert describe_start([], [port], "", Http2Mode.ON)["authority"] is None


@pytest.mark.parametrize(
    ("lane", "compression", "text"),
    [
        (None, Compression.MIRROR, "codec alone (avx2)"),
        ((True, True), Compression.MIRROR, "pump and codec (avx2)"),
        ((False, True), Compression.MIRROR, "pump and codec (avx2), TLS by the codec alone"),
        ((True, False), Compression.OFF, "pump and codec (avx2)"),
        (
            (True, False),
            Compression.DEFLATE,
            "pump and codec (avx2), permessage-deflate by Autobahn (no libz.so.1: apt-get install zlib1g)",
        ),
    ],
)
def test_the_express_lane(lane: tuple[bool, bool] | None, compression: Compression, text: str) -> None:
    native: Any = SimpleNamespace(isa="avx2")
    factory: Any = SimpleNamespace(
        lane=lane and SimpleNamespace(takes_tls=lane[0], takes_deflate=lane[1]),
        settings=Settings(compression=compression),
        wants_each=[],
    )
    assert describe_lane(native, factory) == text
    assert describe_lane(None, factory) == "off, Autobahn serves everything"


def test_what_python_has_to_know_of() -> None:
    with_door: Any = make_factory(log_messages=True, max_connections_per_address=3)
    with_door.lane = SimpleNamespace(takes_tls=True, takes_deflate=True)
    assert describe_lane(cast(Any, SimpleNamespace(isa="avx2")), with_door) == (
        "pump and codec (avx2), connections stay in Python because of --log-messages and --max-connections-per-address"
    )


def test_the_limits() -> None:
    text = describe_limits(Settings(max_connections_per_address=3), 500)
    assert text.startswith("max-message-size 16MiB, max-buffered 256MiB, ")
    assert ", max-connections 500, max-connections-per-address 3, compression mirror, " in text
    assert ", http2 on, max-streams 100, " in text
    assert text.endswith(", http2-idle 1m")
    assert describe_limits(Settings(), 1).count("max-connections-per-address none") == 1
