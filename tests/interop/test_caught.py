"""Each fault reaches real clients, and at least one of them does what docs/faults.md says a conforming client does.

Some clients visit each fault once, as for docs/clients.md, which also has those that do something else. One that
changes its behaviour fails nothing here while another one still catches the fault. Over TLS each client does the same,
and undici comes over HTTP/2.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from echod.faults.bad import BAD
from echod.faults.heads import HEADS
from echod.faults.table import PARAMETERS
from tests.interop.survey import PLACE, QUERIES, Case, Outcome, survey
from tests.interop.visitors.programs import Command
from tests.interop.visitors.visit import TEXTS, Visit
from tests.tls import Certificate
from tests.tools import give_up

SECURE = (
    *("accept=wrong", "head=status-200", "head=nul", "status=503", "greeting=hello", "burst=3&size=8", "fragment=4"),
    *("mutate=2&seed=7", "slice=1", "cut=3", "raw=8a0474656121", "bad=masked", "bad=rsv1", "bad=utf8", "bad=close-999"),
    *("bad=behind-close", "bad=deflate-garbage", "close=1001&reason=bye", "auth=basic:tea:green"),
)
"""Faults of all kinds that are also met over TLS. tests/test_faults_daemon.py has the bytes of all others."""


@pytest.fixture(scope="module")
def outcomes(clients: dict[str, Command]) -> dict[tuple[str, str], Outcome]:
    return survey(clients, tuple(QUERIES.values()))[1]


@pytest.fixture(scope="module")
def secure_outcomes(clients: dict[str, Command], certificate: Certificate) -> dict[tuple[str, str], Outcome]:
    return survey(clients, [QUERIES[query] for query in SECURE], certificate.path)[1]


OVER_HTTP2 = {
    query: case
    for query, case in QUERIES.items()
    if query in SECURE or query.startswith(("bad=", "head=", "cut=", "abort", "close=", "subprotocol=", "extension="))
}
"""Faults that undici meets over HTTP/2. No client needs luck to show that it has met one of them."""

IGNORED = "head=nul"
"""nghttp2, which is in Node, leaves out a field with a NUL, and the client goes on. RFC 9113 section 8.2.1 has it end
the stream."""


@pytest.fixture(scope="module")
def outcomes_over_http2(clients: dict[str, Command], certificate: Certificate) -> dict[str, Outcome]:
    if "undici" not in clients:
        give_up("no undici: npm ci --prefix tests/interop")
    found = survey({"undici": clients["undici"]}, tuple(OVER_HTTP2.values()), certificate.path)[1]
    return {query: one for (_, query), one in found.items()}


def goes_on(one: Outcome) -> bool:
    """Tell whether all messages came back."""
    return tuple(one.seen.messages) == TEXTS and one.code in (1000, 1005)


def gets(*messages: str) -> Callable[[Outcome], bool]:
    """Return what tells whether these messages came, and no others."""
    return lambda one: tuple(one.seen.messages) == messages


def reports(code: int) -> Callable[[Outcome], bool]:
    """Return what tells whether the library reports this close code."""
    return lambda one: one.seen.code == code


def opens(one: Outcome) -> bool:
    """Tell whether the connection was open."""
    return one.seen.opened


def waits(one: Outcome) -> bool:
    """Tell whether the client gave up waiting for an answer, or for a message."""
    return one.seen.waited


CATCHES: dict[str, Callable[[Outcome], bool]] = {
    "status=302&location=/": lambda one: opens(one) or one.fails,
    "drop=0.5&seed=7": gets("three"),
    "mutate=2&seed=7": gets("one", "uwo", "three"),
    "greeting=hello": gets("hello", *TEXTS),
    "greeting=hello&greeting-delay=500ms": lambda one: sorted(one.seen.messages) == sorted(("hello", *TEXTS)),
    "every=200ms&count=3": lambda one: [text for text in one.seen.messages if text.isdecimal()] == ["1", "2", "3"],
    "burst=3&size=8": gets("1 xxxxxx", "2 xxxxxx", "3 xxxxxx", *TEXTS),
    "cut=3": lambda one: reports(1006)(one) and not one.seen.messages,
    "read-rate=100": opens,
    "close=1001&reason=bye&after=3": lambda one: reports(1001)(one) and gets(*TEXTS)(one),
    "close=1001&reason=bye": reports(1001),
    "close=1001&after=3": lambda one: reports(1001)(one) and gets(*TEXTS)(one),
    "abort&after=1": lambda one: reports(1006)(one) and gets("one")(one),
    "stall&after=1": lambda one: waits(one) and gets("one")(one),
    "head=no-blank-line": waits,
    "head=folded": opens,
    "head=non-ascii": opens,
    # On a busy machine a client that would send 1009 gave up before; one without a limit of 16 MiB delivers the zeros.
    "bomb=16MiB": lambda one: one.code == 1009 or any(message.startswith("\0") for message in one.seen.messages),
    "bad=unfinished": lambda one: waits(one) and not one.seen.messages,
    "bad=behind-close": lambda one: reports(1000)(one) and not one.seen.messages,
}
"""How a client shows that it has met a fault, where it neither fails nor goes on."""


def catches(case: Case, one: Outcome) -> bool:
    """Tell whether a client does what a conforming client does."""
    if case.query in CATCHES:
        return CATCHES[case.query](one)
    if case.client.startswith("Fails the connection, with"):
        return one.code in [int(code) for code in re.findall(r"\b1[0-9]{3}\b", case.client)]
    if case.client.startswith(("Fails", "Repeats", "Opens, or fails")):
        return one.fails
    return goes_on(one)


@pytest.mark.parametrize("query", QUERIES)
def test_a_client_catches_it(clients: dict[str, Command], outcomes: dict[tuple[str, str], Outcome], query: str) -> None:
    found = {name: outcomes[name, query] for name in clients}
    assert any(catches(QUERIES[query], one) for one in found.values()), {
        name: (str(one), one.seen.error) for name, one in found.items()
    }


def documented() -> dict[tuple[str, str], str]:
    """Return what docs/clients.md says that each client did, by the client and the query."""
    found: dict[tuple[str, str], str] = {}
    for table in re.findall(r"(?:^\|.*\n)+", PLACE.read_text(), re.MULTILINE):
        (_, _, *names), _, *rows = (line.strip("| ").split(" | ") for line in table.splitlines())
        for fault, _, *cells in rows:
            found |= {(name, fault.strip("`?")): cell for name, cell in zip(names, cells, strict=True)}
    return found


def test_a_client_that_misses_a_fault_is_seen(
    clients: dict[str, Command], outcomes: dict[tuple[str, str], Outcome]
) -> None:
    """docs/clients.md has clients that go on where a conforming client fails. At least one of them still does."""
    written = documented()
    missed = [
        (name, query)
        for query, case in QUERIES.items()
        for name in clients
        if case.client.startswith("Fails the connection") and written[name, query] == "goes on"
    ]
    assert missed
    found = {pair: outcomes[pair] for pair in missed}
    assert any(goes_on(one) and not catches(QUERIES[query], one) for (_, query), one in found.items()), {
        pair: str(one) for pair, one in found.items()
    }


@pytest.mark.parametrize("query", SECURE)
def test_it_is_the_same_over_tls(
    clients: dict[str, Command],
    outcomes: dict[tuple[str, str], Outcome],
    secure_outcomes: dict[tuple[str, str], Outcome],
    query: str,
) -> None:
    names = clients.keys() - {"undici"}
    assert {name: _told(secure_outcomes[name, query]) for name in names} == {
        name: _told(outcomes[name, query]) for name in names
    }, {name: secure_outcomes[name, query].seen.error for name in names}


def _told(one: Outcome) -> tuple[bool, bool, bool, list[str]]:
    # nhooyr resets TCP behind its Close frame, and the reset may overtake the frame. So codes are not compared.
    return one.seen.opened, one.seen.waited, one.fails, one.seen.messages


@pytest.mark.parametrize("query", OVER_HTTP2)
def test_it_is_the_same_over_http2(
    outcomes: dict[tuple[str, str], Outcome], outcomes_over_http2: dict[str, Outcome], query: str
) -> None:
    one, other = outcomes_over_http2[query], outcomes["undici", query]
    assert one.is_http2
    if not over_http2(query):
        assert one.fails
        assert not one.seen.opened
    elif query == IGNORED:
        assert goes_on(one)
    else:
        # undici ends its stream without the Close frame that it sends over HTTP/1.1, so codes are not compared.
        assert (one.fails, one.seen.messages) == (other.fails, other.seen.messages), one.seen.error


def over_http2(query: str) -> bool:
    """Tell whether HTTP/2 has a fault."""
    name, _, value = query.partition("=")
    return PARAMETERS[name.partition("&")[0]].version != "1.1" and (
        name != "head" or HEADS[value].on_stream is not None
    )


def test_every_fault_is_visited() -> None:
    asked = "&".join(QUERIES)
    # What only HTTP/2 has is in test_http2.py.
    assert all(re.search(rf"(?:^|&){name}\b", asked) for name, row in PARAMETERS.items() if row.version != "2")
    assert {f"bad={name}" for name in BAD} | {f"head={name}" for name in HEADS} <= QUERIES.keys()


def test_the_page_has_each_fault_as_the_table_has_it() -> None:
    text = PLACE.read_text()
    for case in QUERIES.values():
        assert f"| `?{case.query}` | {case.client} | " in text, f"{case.query}: run `make clients`"


@pytest.mark.parametrize(
    ("opened", "waited", "messages", "code", "text", "fails"),
    [
        (False, True, [], None, "waits", False),
        (False, False, [], None, "no connection", True),
        (False, False, [], 1002, "1002 []", True),
        (True, True, [*TEXTS], 1000, "goes on", False),
        (True, True, [*TEXTS], None, "waits", False),
        (True, True, ["a"], 1005, "goes on [a]", False),
        (True, False, [], 1002, "1002 []", True),
        (True, False, [], 1000, "an error []", True),
        (True, False, ["a"] * 6, None, "ends [a a a a a …]", True),
    ],
)
def test_words(opened: bool, waited: bool, messages: list[str], code: int | None, text: str, fails: bool) -> None:
    one = Outcome(Visit(1, "ws://localhost/", False, 1, opened, messages, waited, "an error" if fails else ""), code)
    assert str(one) == text
    assert one.fails == fails
