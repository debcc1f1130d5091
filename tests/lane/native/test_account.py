"""The accounts of leases, compared with the allocator. account.c brings leases into each state that holds memory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from echod.lane.native import build
from tests.lane.native.fuzz import run
from tests.tools import needed

pytestmark = pytest.mark.usefixtures("native")

HERE = Path(__file__).parent

INSIDE = ("buffer_pool", "deflate", "lease", "mixed_read", "partial", "pump", "send")
"""The C files that account.c contains."""


class Account(NamedTuple):
    """One state, in bytes."""

    held: int
    spare: int
    at_rest: int
    allocated: int


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Account]:
    """The figures of each state."""
    program = tmp_path_factory.mktemp("account") / "account"
    sources = [source for source in build.sources() if source.stem not in INSIDE]
    command = [
        needed("cc", "gcc"),
        *run.CFLAGS,
        "-g",
        f"-I{build.HERE}",
        Path(__file__).with_name("account.c"),
        *sources,
    ]
    subprocess.run([*map(str, command), "-l:libz.so.1", "-o", program], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    return {name: Account(*map(int, figures)) for name, *figures in map(str.split, lines)}


HOLDING = {
    "partial-small": 7,
    "partial-large": 20_000,
    "gathered": 10_300,
    "partial-ping": 106,
    "gathered-ping": 406,
    "unsent-ping": 3,
    "deflated": 2_000,
    "put-off": 26,
    "unsent": 1,
    "unsent-later": 60_010,
    "spare-taken": 300_000,
}
"""States in which something is held, and the least number of bytes."""

EMPTY = ("idle", "window", "deflated-over", "put-off-over", "unsent-over", "unsent-later-over", "spare")


def test_each_state_is_judged(accounts: dict[str, Account]) -> None:
    assert accounts.keys() == {*HOLDING, *EMPTY}


@pytest.mark.parametrize("state", [*HOLDING, *EMPTY])
def test_all_that_is_allocated_is_in_an_account(accounts: dict[str, Account], state: str) -> None:
    """Each buffer counts with what the allocator gave for it, from its allocation until it is released."""
    account = accounts[state]
    assert account.held + account.spare + account.at_rest == account.allocated
    least = HOLDING.get(state)
    assert account.held >= least if least is not None else account.held == 0


def test_spare_buffers_are_in_no_account(accounts: dict[str, Account]) -> None:
    """A buffer leaves the account when its message is over, and the pool when the next message takes it."""
    assert accounts["spare"].spare == accounts["spare-taken"].held
    assert accounts["spare-taken"].spare == 0
