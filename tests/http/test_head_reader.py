"""The request head: the same verdict however its bytes are cut, its limit, and what comes after it."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from echod.http.head_reader import HeadReader
from echod.http.refusals import Refusal
from echod.http.request import Request
from echod.http.upgrade import HandshakeGuard
from echod.settings import Settings
from tests.http.heads import GOOD, GUARD, verdict


def test_bytes_after_the_head_are_kept() -> None:
    reader = HeadReader(GUARD)
    assert reader.feed(GOOD[:-1]) is None
    assert reader.held == len(GOOD) - 1
    assert isinstance(reader.feed(GOOD[-1:] + b"\x81\x00\x85"), Request)
    assert reader.rest == b"\x81\x00\x85"


def test_the_limit_of_a_head_is_a_setting() -> None:
    guard = HandshakeGuard(Settings(max_request_head=len(GOOD)))
    assert isinstance(verdict(GOOD, guard=guard), Request)
    longer = verdict(GOOD[:-2] + b"X:\r\n\r\n", guard=guard)
    assert isinstance(longer, Refusal)
    assert longer.status == 431


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_get_the_same_verdict_however_they_are_cut(octets: bytes, step: int) -> None:
    octets = b"GET " + octets
    assert verdict(octets, step) == verdict(octets)


def test_a_head_that_comes_byte_by_byte_costs_linear_time() -> None:
    guard = HandshakeGuard(Settings(max_request_head=2**20))
    head = b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000
    began = time.process_time()
    assert verdict(head, 1, guard) is None
    # A search from the start with each byte would read five thousand million bytes.
    assert time.process_time() - began < 5
