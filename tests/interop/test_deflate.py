"""permessage-deflate with clients that others wrote: each message comes back, mirrored or deflated anew, with the lane
and without it.

Each client's own inflater keeps what was negotiated: its window, and whether it keeps its context. If the mirror is
wrong, the inflater fails at the next message that refers to earlier data.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.interop.clients import CLIENTS, Client, Connection, Message, Offer, Target
from tests.loop import needed_native

MODES = ("mirror", "deflate")

TAKEOVERS = [
    Offer(server_no_context_takeover=server, client_no_context_takeover=client, threshold=threshold)
    for server in (False, True)
    for client in (False, True)
    for threshold in (0, 64)
]

WINDOWS = [
    Offer(server_max_window_bits=bits, client_max_window_bits=asked, threshold=threshold)
    for bits in range(9, 16)
    for asked, threshold in ((True, 0), (False, 100))
] + [Offer(client_max_window_bits=bits) for bits in range(9, 16)]

WORDS = [word.strip() for word in Path(__file__).parents[1].joinpath("daemon.py").read_text().split()]


def messages(seed: int, count: int) -> list[Message]:
    """Return messages with text that refers to itself and to earlier messages, and with noise. The sizes include the
    special ones, and others up to 300 KiB."""
    chance = random.Random(seed)
    found: list[Message] = []
    for _ in range(count):
        size = chance.choice(
            [0, 1, 63, 64, 125, 126, chance.randrange(2000), chance.randrange(2000), int(300 * 1024 ** chance.random())]
        )
        if chance.random() < 0.7:
            text = " ".join(chance.choices(WORDS, k=size // 4 + 1))[:size] + chance.choice(["", "é€😀"])
            found.append(text if chance.random() < 0.5 else text.encode())
        else:
            found.append(chance.randbytes(size))
    return found


@pytest.fixture(scope="module", params=["1", "0"], ids=["lane", "no-lane"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    if request.param == "1":
        needed_native()
    with Daemon(env={"ECHOD_NATIVE": request.param}) as daemon:
        yield daemon


def can_offer(name: str, offer: Offer) -> bool:
    """Tell whether a client can make an offer. `Offer` names those that can't."""
    if name == "aiohttp":
        return replace(offer, server_max_window_bits=None, threshold=0) == Offer()
    return name != "autobahn" or isinstance(offer.client_max_window_bits, bool)


def with_each_client(offers: list[Offer]) -> pytest.MarkDecorator:
    """Run with each offer, in each mode, with each client that can make the offer."""
    ways = [
        (name, offer)
        for name, client in CLIENTS.items()
        if client.compresses
        for offer in offers
        if can_offer(name, offer)
    ]
    return pytest.mark.parametrize(("client", "offer"), ways, ids=map(str, ways), indirect=["client"])


def expected_mode(mode: str, offer: Offer) -> str:
    """Return the mode that docs/compression.md promises."""
    is_understood = not offer.server_no_context_takeover or offer.client_no_context_takeover
    has_window = bool(offer.client_max_window_bits) or offer.server_max_window_bits in (None, 15)
    return mode if is_understood and has_window else "deflate"


def echo(connection: Connection, batch: list[Message]) -> None:
    answers = connection.exchange(batch)
    for message, answer in zip(batch, answers, strict=True):
        is_same = type(message) is type(answer) and message == answer
        assert is_same, (len(message), len(answer), message[:50], answer[:50])


def run(daemon: Daemon, client: Client, offer: Offer, mode: str, count: int) -> None:
    target = Target(f"{daemon.url}/info?compression={mode}", compression=True, offer=offer)
    with client.open(target) as connection:
        ((info,), _) = connection.exchange(["x"]), connection.close()
    told = json.loads(info)["compression"]
    assert told["mode"] == expected_mode(mode, offer)
    assert told["client_keeps_context"] is not offer.client_no_context_takeover
    assert told["server_keeps_context"] is not offer.server_no_context_takeover
    with client.open(replace(target, url=f"{daemon.url}/?compression={mode}")) as connection:
        assert connection.is_compressed
        chance, left = random.Random(5), messages(count, count)
        while left:
            # One message after the other, and many at once, with fragments and pings between them.
            size = chance.choice([1, 1, 5, 40])
            batch, left = left[:size], left[size:]
            echo(connection, batch)
            if client.fragments and chance.random() < 0.2:
                pieces = [f"{word} " * 50 for word in chance.choices(WORDS, k=chance.randrange(2, 6))]
                assert connection.exchange_fragments(pieces) == "".join(pieces)


@pytest.mark.parametrize("mode", MODES)
@with_each_client(TAKEOVERS)
def test_context_takeover(daemon: Daemon, client: Client, offer: Offer, mode: str) -> None:
    run(daemon, client, offer, mode, 120)


@pytest.mark.parametrize("mode", MODES)
@with_each_client(WINDOWS)
def test_windows(daemon: Daemon, client: Client, offer: Offer, mode: str) -> None:
    run(daemon, client, offer, mode, 30)
