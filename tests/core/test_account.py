"""The account of one connection. tests/websocket/test_upkeep.py compares it with what is kept."""

from __future__ import annotations

from echod.core.account import Account


def test_the_total_has_each_entry() -> None:
    account = Account()
    assert account.total == 0
    for number, entry in enumerate(Account.__slots__):
        setattr(account, entry, 1 << number)
    assert account.total == (1 << len(Account.__slots__)) - 1
