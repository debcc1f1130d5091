"""The bytes of an HTTP answer."""

from __future__ import annotations

from echod.http.answer import Answer


def test_fields_keep_the_order_of_the_caller() -> None:
    octets = Answer(404, [("B", "1"), ("A", "2")], b"body").octets
    assert octets == b"HTTP/1.1 404 Not Found\r\nB: 1\r\nA: 2\r\n\r\nbody"


def test_a_status_that_is_not_registered_has_no_phrase() -> None:
    assert Answer(599, []).octets == b"HTTP/1.1 599 \r\n\r\n"
