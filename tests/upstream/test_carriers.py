"""What carries a connection: all kinds of carriers do the same, and only two kinds can be lent."""

from __future__ import annotations

from typing import Any

import pytest

from echod.upstream.carriers import NO_CARRIER, Carrier, carrier_of
from tests.fakes import Transport
from tests.loop import Bed, bed
from tests.tls import Certificate


@pytest.fixture
def made() -> Any:
    with bed(None) as made:
        yield made


def carriers(made: Bed, certificate: Certificate) -> tuple[Carrier, Carrier, Carrier]:
    plain, secure = made.link(), made.secure_link(certificate)
    return plain.protocol.carrier, secure.protocol.carrier, carrier_of(Transport())


def test_what_the_pump_can_serve(made: Bed, certificate: Certificate) -> None:
    plain, secure, other = carriers(made, certificate)
    assert [carrier.has_session for carrier in (plain, secure, other)] == [False, True, False]
    assert [carrier.can_be_lent(takes_tls=True) for carrier in (plain, secure, other)] == [True, True, False]
    assert [carrier.can_be_lent(takes_tls=False) for carrier in (plain, secure, other)] == [True, False, False]
    made.loop.turn(0.01)
    loan = plain.loan()
    assert loan is not None
    assert (loan[0] > 0, loan[1]) == (True, None)
    loan = secure.loan()
    assert loan is not None
    assert loan[1] is not None
    assert other.loan() is None


def test_facts(made: Bed, certificate: Certificate) -> None:
    plain, secure, other = carriers(made, certificate)
    assert [carrier.peer and carrier.peer[0] for carrier in (plain, secure, other)] == [
        "127.0.0.1",
        "127.0.0.1",
        "192.0.2.1",
    ]
    assert [carrier.tls is None for carrier in (plain, secure, other)] == [True, False, True]
    assert [carrier.tells_client for carrier in (plain, secure, other)] == [False] * 3
    assert [carrier.header_fault for carrier in (plain, secure, other)] == [None] * 3
    loan = plain.loan()
    assert loan is not None
    assert [carrier.descriptor for carrier in (plain, secure, other)] == [loan[0], None, None]
    for carrier in (plain, other):
        carrier.flush_session()  # there is none
        carrier.read_session()
        assert carrier.renew_buffers()


def test_what_was_written_is_sent_before_the_close(made: Bed) -> None:
    link = made.link()
    octets = bytes(32 * 2**20)
    carrier = link.protocol.carrier
    carrier.write(octets)
    assert 0 < carrier.unsent <= len(octets)
    assert carrier.held >= carrier.unsent
    carrier.unregister()
    carrier.close()
    assert link.receive_all() == octets


def test_nothing_is_carried_before_and_after(made: Bed) -> None:
    link = made.link()
    link.protocol.give_up()
    made.loop.until(lambda: not made.factory.live)
    assert link.protocol.carrier is NO_CARRIER
    assert (NO_CARRIER.unsent, NO_CARRIER.held) == (0, 0)
