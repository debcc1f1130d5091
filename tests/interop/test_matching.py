"""Wrong frames are those that others test clients with: the Autobahn testsuite's fuzzing server, and curl's tests.

The bytes are the same as the fuzzing server's, and real clients do the same when it sends them and when echod does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from echod.faults.bad import BAD
from tests.conformance.suite import SuiteMissingError, find_suite
from tests.frames import TEXT, split
from tests.interop.fuzzing_server import FuzzingServer, case_of
from tests.interop.survey import QUIET, Case, Outcome, run, survey
from tests.interop.visitors.programs import Command
from tests.interop.visitors.visit import TEXTS
from tests.tools import give_up

MATCHING = {name: case for name, bad in BAD.items() if (case := case_of(bad.cases)) is not None}
"""The testsuite's case with the same frame, by the name of the frame."""

TRIES = 5
"""Visits of a client to the fuzzing server, which waits only for a second, or for half, until the client fails the
connection. On a busy machine that may be too short."""

Fate = tuple[int | None, list[str]]
"""The code with which the client itself failed the connection, or replied to a Close frame, and what else than its own
messages came."""


@pytest.fixture(scope="module")
def fuzzing_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzingServer]:
    try:
        suite = find_suite()
    except SuiteMissingError as missing:
        give_up(str(missing))
    with FuzzingServer(suite, list(MATCHING.values()), tmp_path_factory.mktemp("wstest")) as server:
        yield server


def octets(name: str) -> bytes:
    """Return the bytes of a wrong frame."""
    begin = b"\x88\x02\x03\xe8" if BAD[name].begins_close else b""
    return begin + BAD[name].make(15, True)


@pytest.fixture(scope="module")
def preceding(fuzzing_server: FuzzingServer) -> dict[str, int]:
    """Return how many good messages the fuzzing server sends before each wrong frame, which is among what it sends."""
    counts = {}
    for name, case in MATCHING.items():
        before, wanted, _ = fuzzing_server.octets(case, octets(name)).partition(octets(name))
        assert wanted, (name, case, before)
        frames, rest = split(before)
        assert all(frame.opcode == TEXT and frame.fin and not frame.rsv for frame in frames), frames
        assert not rest
        counts[name] = len(frames)
    return counts


def test_the_bytes_are_those_of_the_fuzzing_server(preceding: dict[str, int]) -> None:
    assert preceding.keys() == MATCHING.keys()
    assert len(MATCHING) == 17


@pytest.fixture(scope="module")
def at_echod(clients: dict[str, Command]) -> dict[tuple[str, str], Fate]:
    """Return what came of each client's visit to each wrong frame of echod."""
    outcomes = survey(clients, [Case(f"bad={name}", BAD[name].client) for name in MATCHING])[1]
    return {(client, query.removeprefix("bad=")): _fate(one) for (client, query), one in outcomes.items()}


def _fate(one: Outcome) -> Fate:
    # A client that waited until nothing more came has not failed the connection. 1005 stands for no code.
    return None if one.seen.waited or one.code == 1005 else one.code, _others(one.seen.messages)


def _others(messages: list[str]) -> list[str]:
    return [message for message in messages if message not in TEXTS]


@pytest.fixture(scope="module")
def at_the_suite(
    clients: dict[str, Command],
    fuzzing_server: FuzzingServer,
    preceding: dict[str, int],
    at_echod: dict[tuple[str, str], Fate],
) -> dict[tuple[str, str], Fate]:
    """Return what came of each client's visit to each matching case of the fuzzing server."""
    found: dict[tuple[str, str], Fate] = {}
    for client, command in clients.items():
        for attempt in range(TRIES):
            agent = f"{client}-{attempt}"
            names = [name for name in MATCHING if found.get((client, name)) != at_echod[client, name]]
            if not names:
                break
            visits = [
                {"number": number, "url": fuzzing_server.url(MATCHING[name], agent), "deflate": False, "quiet": QUIET}
                for number, name in enumerate(names)
            ]
            seen = {visit.number: visit for visit in run(command, visits)[1]}
            codes = fuzzing_server.codes(agent)
            for number, name in enumerate(names):
                others = _others(seen[number].messages)[preceding[name] :]
                found[client, name] = (codes[MATCHING[name]], others)
    return found


@pytest.mark.parametrize("name", MATCHING)
def test_clients_do_the_same(
    clients: dict[str, Command],
    at_echod: dict[tuple[str, str], Fate],
    at_the_suite: dict[tuple[str, str], Fate],
    name: str,
) -> None:
    assert {client: at_echod[client, name] for client in clients} == {
        client: at_the_suite[client, name] for client in clients
    }


CURL = {
    2701: "8300",
    2702: "8b00",
    2703: "c100",
    2704: "a100",
    2705: "9100",
    2706: "818012345678",
    2713: "897e007e" + 126 * "5f",
    2715: "887e007e03e8" + 124 * "5f",
    2716: "09027031" + "80027032",
    2722: "820162" + "00026d32" + "80026d33",
    2723: "01027431" + "00027432" + "820162",
}
"""What curl's own tests send, by their numbers. In each, curl ends with its error 56 (CURLE_RECV_ERROR)."""


def test_curl_does_the_same_with_the_frames_of_its_own_tests(clients: dict[str, Command]) -> None:
    named = {int(found[1]): name for name, bad in BAD.items() if (found := re.search(r"curl ([0-9]+)", bad.cases))}
    assert named.keys() == CURL.keys()
    queries = {number: (f"bad={name}", f"raw={CURL[number]}") for number, name in named.items()}
    asked = [Case(query, "") for pair in queries.values() for query in pair]
    outcomes = survey({"pycurl": clients["pycurl"]}, asked)[1]
    errors = {query: outcomes["pycurl", query].seen.error for pair in queries.values() for query in pair}
    assert all(error.startswith("error: (56, ") for error in errors.values()), errors
    assert all(not outcomes["pycurl", f"bad={name}"].seen.messages for name in named.values())
