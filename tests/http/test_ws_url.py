"""WebSocket URLs: the parts of valid ones, and the faults of others."""

from __future__ import annotations

import pytest

from echod.http.ws_url import parse


@pytest.mark.parametrize(
    ("url", "is_secure", "host", "port", "resource", "host_field"),
    [
        ("ws://example.com", False, "example.com", 80, "/", "example.com"),
        ("wss://example.com", True, "example.com", 443, "/", "example.com"),
        ("WSS://Example.COM:8443/A/b?c=D", True, "example.com", 8443, "/A/b?c=D", "example.com:8443"),
        ("ws://example.com:443", False, "example.com", 443, "/", "example.com:443"),
        ("wss://example.com:80", True, "example.com", 80, "/", "example.com:80"),
        ("ws://example.com:80/", False, "example.com", 80, "/", "example.com"),
        ("ws://example.com.?x", False, "example.com.", 80, "/?x", "example.com."),
        ("ws://example.com?", False, "example.com", 80, "/?", "example.com"),
        ("ws://127.0.0.1:9000", False, "127.0.0.1", 9000, "/", "127.0.0.1:9000"),
        ("ws://[::1]", False, "::1", 80, "/", "[::1]"),
        ("wss://[2001:DB8:0:0::1]:8443/x", True, "2001:db8::1", 8443, "/x", "[2001:db8::1]:8443"),
        ("ws://my_service_1:8080", False, "my_service_1", 8080, "/", "my_service_1:8080"),
        (
            "ws://bücher.example/ä?ö=%20&x=[1]",
            False,
            "xn--bcher-kva.example",
            80,
            "/%C3%A4?%C3%B6=%20&x=[1]",
            "xn--bcher-kva.example",
        ),
        ("ws://straße.example", False, "xn--strae-oqa.example", 80, "/", "xn--strae-oqa.example"),
    ],
)
def test_valid_urls(url: str, is_secure: bool, host: str, port: int, resource: str, host_field: str) -> None:
    target = parse(url)
    assert (target.is_secure, target.host, target.port, target.resource) == (is_secure, host, port, resource)
    assert target.host_field == host_field


def test_an_address_is_distinguished_from_a_name() -> None:
    assert parse("ws://127.0.0.1").is_address
    assert parse("ws://[::1]").is_address
    assert not parse("ws://localhost").is_address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com", "must begin with ws://"),
        ("example.com", "must begin with ws://"),
        ("ws:example.com", "must begin with ws://"),
        ("", "must begin with ws://"),
        ("ws://", "no valid host"),
        ("ws://:80", "no valid host"),
        ("ws://a..b", "no valid host"),
        ("ws://-a", "no valid host"),
        ("ws://" + "a" * 64, "no valid host"),
        ("ws://" + "a." * 126 + "aa", "no valid host"),
        ("ws://ex%61mple.com", "no valid host"),
        ("ws://☕.example", "no valid host"),
        ("ws://user:password@example.com", "user information"),
        ("ws://@example.com", "user information"),
        ("ws://example.com/#top", "fragment"),
        ("ws://example.com#", "fragment"),
        ("ws://example.com:0", "port 0"),
        ("ws://example.com:65536", "not a URL"),
        ("ws://example.com:http", "not a URL"),
        ("ws://[::1", "not a URL"),
        ("ws://[fe80::1%25eth0]", "zone"),
        ("ws://example.com/a b", "space"),
        ("ws://exa\tmple.com", "space"),
        ("ws://example.com/\r\nX: y", "control"),
        ("ws://example.com/\x1b[2J", "control"),
    ],
)
def test_invalid_urls(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(url)
