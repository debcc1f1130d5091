"""Offers of permessage-deflate: which are taken, and with what memory."""

from __future__ import annotations

import pytest

from echod.compression import make_accept, usable_offers
from echod.settings import Settings
from tests.fakes import Peer, make_factory

BITS = 12


@pytest.mark.parametrize(
    ("offered", "usable"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("Permessage-Deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits"),
        ("permessage-deflate; client_max_window_bits=15", "permessage-deflate; client_max_window_bits=15"),
        # A window smaller than ours would be, which we must not widen.
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=8", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9"),
        ('permessage-deflate; server_max_window_bits="10"', "permessage-deflate; server_max_window_bits=10"),
        # Valid (RFC 7692 section 7.1.2.1), but zlib can't.
        ("permessage-deflate; server_max_window_bits=8", ""),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits", ""),
        ("permessage-deflate; server_max_window_bits=16", ""),
        ("permessage-deflate; client_max_window_bits=abc", ""),
        ("permessage-deflate; unknown", ""),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", ""),
        ("permessage-deflate; server_no_context_takeover=1", ""),
        ("permessage-bzip2", ""),
        ("foo; bar=1, permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
    ],
)
def test_only_offers_that_can_be_taken_are_handed_on(offered: str, usable: str) -> None:
    assert usable_offers(offered, BITS) == usable


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        ("permessage-deflate", b"permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", b"permessage-deflate; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=10", b"permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=15", b"permessage-deflate; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=9", b"permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; server_no_context_takeover", b"permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", b"permessage-deflate"),
        ("permessage-bzip2", None),
    ],
)
def test_what_is_answered(offered: str, answer: bytes | None) -> None:
    lines = Peer(make_factory()).open("/", f"Sec-WebSocket-Extensions: {offered}").split(b"\r\n")
    found = [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"sec-websocket-extensions")]
    assert found == ([answer] if answer else [])


def test_nothing_else_is_accepted() -> None:
    assert make_accept(Settings())(["an offer of something else"]) is None
