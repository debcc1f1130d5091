"""The start report: addresses as a client would write them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from echod.run.report import describe_address


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
