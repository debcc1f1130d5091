"""The client's IP address: behind proxies, in its plain form, and as it is counted."""

from __future__ import annotations

import pytest

from echod.http.client_address import client_address, place_of, plain_address
from echod.http.request import Request
from tests.frames import handshake
from tests.http.heads import verdict


@pytest.mark.parametrize(
    ("headers", "hops", "address"),
    [
        ([], 1, "192.0.2.1"),
        (["X-Forwarded-For: 10.0.0.1"], 0, "192.0.2.1"),
        (["X-Forwarded-For: 10.0.0.1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, 10.0.0.1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, 10.0.0.1, 10.0.0.2"], 2, "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2"], 2, "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1"], 3, "10.0.0.1"),
        (["X-Forwarded-For: 2001:DB8::1"], 1, "2001:db8::1"),
        (["X-Forwarded-For: ::ffff:10.0.0.1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: ::FFFF:a00:1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: <script>"], 1, "192.0.2.1"),
        (["X-Forwarded-For: fe80::1%eth0"], 1, "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6:1, 10.0.0.1:4711"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1:4711, 10.0.0.2"], 2, "10.0.0.1"),
        (["X-Forwarded-For: [2001:DB8::1]:4711"], 1, "2001:db8::1"),
        (["X-Forwarded-For: [2001:DB8::1]"], 1, "2001:db8::1"),
        (["X-Forwarded-For: [::ffff:10.0.0.1]:4711"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 2001:db8::1:4711"], 1, "2001:db8::1:4711"),  # nobody can tell it from an address
        *(
            ([f"X-Forwarded-For: {hop}"], 1, "192.0.2.1")
            for hop in (
                *(
                    "10.0.0.1:",
                    "10.0.0.1:port",
                    "10.0.0.1:123456",
                    "10.0.0.1:-1",
                    "10.0.0.1:1:2",
                    "10.0.0.1 :1",
                    "10.0.256.1:1",
                ),
                *(
                    "[10.0.0.1]",
                    "[10.0.0.1]:1",
                    "[2001:db8::1",
                    "2001:db8::1]",
                    "[2001:db8::1]1",
                    "[2001:db8::1]:",
                    "[[2001:db8::1]]:1",
                ),
                *(
                    "[fe80::1%eth0]:1",
                    "[]:1",
                    ":1",
                    '"[2001:db8::1]:1"',
                    "unknown",
                    "unknown:1",
                    "localhost:1",
                    "10.0.0.1:\xb2",
                ),
            )
        ),
        (["X-Forwarded-For: ,"], 1, "192.0.2.1"),
    ],
)
def test_the_client_behind_proxies(headers: list[str], hops: int, address: str) -> None:
    request = verdict(handshake("/", *headers))
    assert isinstance(request, Request)
    assert client_address(request.fields, "192.0.2.1", hops) == address


@pytest.mark.parametrize(("hops", "address"), [(0, None), (1, "10.0.0.1"), (2, "6.6.6.6")])
def test_the_client_behind_a_proxy_that_calls_over_a_unix_socket(hops: int, address: str | None) -> None:
    request = verdict(handshake("/", "X-Forwarded-For: 6.6.6.6, 10.0.0.1"))
    assert isinstance(request, Request)
    assert client_address(request.fields, None, hops) == address


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("::ffff:0:c000:201", "::ffff:0:c000:201"),
        ("::192.0.2.1", "::192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_an_address_of_ipv4_is_written_as_one(address: str, plain: str) -> None:
    assert plain_address(address) == plain


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::2", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_network_of_ipv6_counts_as_one_client(address: str, place: str) -> None:
    assert place_of(address) == place
