"""The account of one connection. tests/websocket/test_upkeep.py compares it with what is kept."""

from __future__ import annotations

import pytest

from echod.core.account import Account, TracedAccount

ENTRIES = {Account: Account.__slots__, TracedAccount: Account.__slots__ + TracedAccount.__slots__}


@pytest.mark.parametrize("kind", ENTRIES)
def test_the_total_has_each_entry(kind: type[Account]) -> None:
    account, entries = kind(), ENTRIES[kind]
    assert account.total == 0
    for number, entry in enumerate(entries):
        setattr(account, entry, 1 << number)
    assert account.total == (1 << len(entries)) - 1
