"""A check, step by step: what is right, what goes wrong, and what takes too long."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted

from echod.check import probe
from echod.check.report import CheckOutcome, Report, Step
from tests.check.checking import TIMEOUT, Script, against, check, fails, good
from tests.frames import BINARY, CLOSE, PING, TEXT, close_payload, server_frame
from tests.odd_server import OddServer, Peer
from tests.ports import held_port


@pytest_twisted.ensureDeferred
async def test_an_echo_server_passes() -> None:
    lines: list[str] = []
    with OddServer(good) as server:
        report = await check(server.url, tell=lines.append)
    assert (report.outcome, report.step, report.what, report.notes, report.seen) == (
        CheckOutcome.OK,
        Step.CLOSE,
        "",
        [],
        (),
    )
    assert report.addresses == ["127.0.0.1"]
    assert report.peer == f"127.0.0.1:{server.port}"
    assert list(report.times) == [Step.DNS, Step.TCP, Step.HTTP, Step.UPGRADE, Step.ECHO, Step.CLOSE]
    assert len(report.round_trips) == 2
    assert all(0 < seconds < 10 for seconds in [*report.round_trips, *report.times.values()])
    echoes = ["message 1 of 2 (text, 100)", "message 2 of 2 (binary, 100)"]
    assert lines == ["TCP", "HTTP", "upgrade", "echo", *echoes, "close", "close"]


@pytest_twisted.ensureDeferred
async def test_ipv6() -> None:
    with OddServer(good, host="::1") as server:
        report = await check(server.url)
    assert report.outcome is CheckOutcome.OK
    assert report.peer == f"[::1]:{server.port}"
    assert f"Host: [::1]:{server.port}" in server.heads[0].decode()


@pytest_twisted.ensureDeferred
async def test_a_large_message_and_a_ping_in_between() -> None:
    def serve(peer: Peer) -> None:
        peer.upgrade()
        peer.echo(1)
        peer.send(server_frame(PING, b"?"))
        _, payload = peer.read_frame()
        opcode, pong = peer.read_frame()
        assert (opcode, pong) == (10, b"?")
        half = len(payload) // 2
        peer.send(server_frame(BINARY, payload[:half], fin=False) + server_frame(0, payload[half:]))
        peer.close()

    assert (await against(serve, size=2**20 + 1)).outcome is CheckOutcome.OK


@pytest_twisted.ensureDeferred
async def test_a_subprotocol_that_was_chosen() -> None:
    def serve(peer: Peer) -> None:
        peer.upgrade("Sec-WebSocket-Protocol: b")
        peer.echo(2)
        peer.close()

    with OddServer(serve) as server:
        report = await check(server.url, subprotocols=("a", "b"))
    assert (report.outcome, report.subprotocol) == (CheckOutcome.OK, "b")
    assert b"Sec-WebSocket-Protocol: a, b" in server.heads[0]


@pytest_twisted.ensureDeferred
async def test_a_closed_port() -> None:
    with held_port() as port:
        report = await check(f"ws://127.0.0.1:{port}")
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.TCP)
    assert report.what == f"Connection refused, at 127.0.0.1, port {port}"


@pytest_twisted.ensureDeferred
async def test_an_address_that_never_answers() -> None:
    """The queue of the listener is full, so Linux drops the next SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        addresses = [(socket.AF_INET, 1, 6, "", address)] * 5
        try:
            report = await check(f"ws://a.example:{address[1]}", getaddrinfo=lambda *_: addresses, timeout=2.0)
        finally:
            for filler in fillers:
                filler.close()
    assert (report.outcome, report.step) == (CheckOutcome.TIMEOUT, Step.TCP)
    assert report.what == f"no connection to {', '.join(['127.0.0.1'] * 4)}, …, port {address[1]} within 2s"


@pytest_twisted.ensureDeferred
async def test_an_error_without_a_number_is_reported_in_its_own_words() -> None:
    report = await check("ws://a.example", getaddrinfo=lambda *_: [(socket.AF_INET, 1, 6, "", ("not an address", 80))])
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.TCP)
    assert report.what.startswith("An error occurred while connecting")


@pytest_twisted.ensureDeferred
async def test_a_fault_of_our_own_is_not_blamed_on_the_server() -> None:
    def tell(_: str) -> None:
        raise ZeroDivisionError

    with OddServer(good) as server, pytest.raises(ZeroDivisionError):
        await check(server.url, tell=lambda line: tell(line) if line.startswith("message") else None)


def answers(*answer: Callable[[int, bytes], bytes]) -> Script:
    """Return a server that answers each message with the next function."""

    def serve(peer: Peer) -> None:
        peer.upgrade()
        for make in answer:
            peer.send(make(*peer.read_frame()))
        peer.wait()

    return serve


async def fails_in_echo(script: Script, what: str, *seen: str, **plan: Any) -> Report:
    return await fails(script, Step.ECHO, what, *seen, outcome=CheckOutcome.WRONG_ECHO, **plan)


@pytest_twisted.ensureDeferred
async def test_another_type() -> None:
    what = "message 1 of 2 (text, 100) came back wrong: type: text sent, binary came back"
    await fails_in_echo(answers(lambda _, payload: server_frame(BINARY, payload)), what)


@pytest_twisted.ensureDeferred
async def test_another_byte() -> None:
    def change(opcode: int, payload: bytes) -> bytes:
        return server_frame(opcode, payload[:70] + bytes([payload[70] ^ 1]) + payload[71:])

    script = answers(server_frame, change)
    report = await fails_in_echo(script, "message 2 of 2 (binary, 100) came back wrong: byte 70: ", "came back: ")
    assert len(report.round_trips) == 1


@pytest_twisted.ensureDeferred
async def test_another_length_and_a_message_with_terminal_escapes() -> None:
    greeting = b"\x1b]0;title\x07 | hello"
    report = await fails_in_echo(
        answers(lambda opcode, _: server_frame(opcode, greeting)), "length: 100 bytes sent, 18 came back; byte 0: "
    )
    assert report.seen == ["came back: \\\\x1b]0;title\\\\x07 | hello"]


@pytest_twisted.ensureDeferred
async def test_an_echo_that_is_absurdly_long() -> None:
    what = "message 1 of 2 (text, 100): received WebSocket message size 100000 exceeds"
    await fails_in_echo(answers(lambda opcode, _: server_frame(opcode, b"x" * 100_000)), what)


@pytest_twisted.ensureDeferred
async def test_a_close_instead_of_an_echo() -> None:
    script = answers(lambda *_: server_frame(CLOSE, close_payload(1008, "no \x1b[2J")))
    await fails_in_echo(script, "Close 1008 no \\x1b[2J came instead of an echo of message 1 of 2 (text, 100)")


@pytest_twisted.ensureDeferred
async def test_a_close_without_a_code() -> None:
    await fails_in_echo(answers(lambda *_: server_frame(CLOSE)), "Close 1005 came instead of")


@pytest_twisted.ensureDeferred
async def test_a_close_with_the_opening_handshake() -> None:
    def serve(peer: Peer) -> None:
        peer.send(peer.answer() + server_frame(CLOSE, close_payload(1013, "full")))

    await fails_in_echo(serve, "Close 1013 full came instead of an echo of message 1 of 2")


@pytest_twisted.ensureDeferred
async def test_an_end_instead_of_an_echo() -> None:
    def serve(peer: Peer) -> None:
        peer.upgrade()
        peer.read_frame()

    await fails_in_echo(serve, "the server closed the connection instead of an echo of message 1 of 2")


@pytest_twisted.ensureDeferred
async def test_an_invalid_frame() -> None:
    await fails_in_echo(answers(lambda *_: b"\xff\xff\xff\xff"), "message 1 of 2 (text, 100): RSV = 7")


@pytest_twisted.ensureDeferred
async def test_text_that_is_not_utf_8() -> None:
    await fails_in_echo(
        answers(lambda *_: server_frame(TEXT, b"\xff")), "message 1 of 2 (text, 100): encountered invalid UTF-8"
    )


@pytest_twisted.ensureDeferred
async def test_an_echo_that_does_not_come() -> None:
    what = "no echo of message 1 of 2 (text, 100) within 3s"
    await fails(answers(lambda *_: b""), Step.ECHO, what, outcome=CheckOutcome.TIMEOUT, timeout=TIMEOUT)


@pytest.mark.parametrize("is_late", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_server_that_greets_first(is_late: bool) -> None:
    def serve(peer: Peer) -> None:
        answer, greeting = peer.answer(), server_frame(TEXT, b"Request served by \x1b[2J")
        if is_late:
            peer.send(answer)
            _, payload = peer.read_frame()
            peer.send(greeting + server_frame(TEXT, payload))
            peer.echo(1)
        else:
            peer.send(answer + greeting)
            peer.echo(2)
        peer.close()

    report = await against(serve)
    assert (report.outcome, len(report.round_trips)) == (CheckOutcome.OK, 2), report
    (note,) = report.notes
    assert note.startswith("the server greets: before the first echo it sent ")
    assert "Request served by " in note
    assert "\x1b" not in note


@pytest.mark.parametrize(
    "then", [lambda _: None, lambda peer: peer.send(server_frame(TEXT, b"no echo, too")), Peer.wait]
)
@pytest_twisted.ensureDeferred
async def test_a_wrong_echo_is_no_greeting(then: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "GREETING_WAIT", 0.1)

    def serve(peer: Peer) -> None:
        peer.upgrade()
        peer.read_frame()
        peer.send(server_frame(TEXT, b"no echo"))
        then(peer)

    await fails_in_echo(serve, "came back wrong", "no echo")


@pytest_twisted.ensureDeferred
async def test_one_message_too_many() -> None:
    script = answers(server_frame, lambda opcode, payload: 2 * server_frame(opcode, payload))
    await fails_in_echo(script, "the server sent one message more than it received", "came: ")


def closes(close: Script) -> Script:
    def serve(peer: Peer) -> None:
        peer.upgrade()
        peer.echo(2)
        close(peer)

    return serve


@pytest.mark.parametrize(
    ("close", "note"),
    [
        (
            lambda peer: peer.send(server_frame(CLOSE, close_payload(1001, "bye"))),
            "Close 1001 bye answered our Close 1000",
        ),
        (lambda peer: peer.read_close(), "the connection ended with no answer to our Close frame"),
        (lambda _: None, "the connection ended with no answer to our Close frame"),
        (Peer.wait, "the server kept silent with no answer to our Close frame"),
        (
            lambda peer: (peer.close(), peer.wait()),
            "the server didn't close the connection after the closing handshake",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_close_that_is_odd_is_noted(close: Script, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CLOSE_WAIT", TIMEOUT)
    report = await against(closes(close))
    assert (report.outcome, report.step) == (CheckOutcome.OK, Step.CLOSE)
    assert report.notes == [note]


@pytest_twisted.ensureDeferred
async def test_the_deadline_also_holds_for_the_close() -> None:
    report = await against(closes(Peer.wait), timeout=TIMEOUT)
    assert report.outcome is CheckOutcome.OK
    assert report.notes == ["the server kept silent with no answer to our Close frame"]
