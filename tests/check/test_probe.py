"""A check against servers that do what a script says: at each step what is right, what goes wrong, and what takes too
long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from echod.check import probe
from echod.check.probe import CheckOutcome, Plan, Report, Step
from echod.http.ws_url import parse
from echod.upstream import autobahn
from tests.frames import BINARY, CLOSE, PING, TEXT, close_payload, server_frame
from tests.odd_certificate import OddCertificate
from tests.odd_server import DEADLINE, OddServer, Peer
from tests.ports import held_port

Script = Callable[[Peer], object]

TIMEOUT = 3.0
"""Seconds for what comes too late, in which all that is before it has to be over on a busy machine."""


async def check(
    url: str, tell: Callable[[str], None] = lambda _: None, getaddrinfo: Any = socket.getaddrinfo, **plan: Any
) -> Report:
    """Run a check in this process; 2 messages, of which the first is text."""
    values = {"count": 1, "size": 100, "timeout": 10.0, **plan}
    began = time.monotonic()
    report = await probe.run(reactor, Plan(parse(url), **values), tell, getaddrinfo)
    # Less than an odd server waits, which would end it otherwise.
    assert time.monotonic() - began < values["timeout"] + DEADLINE / 2, "it outlived its deadline"
    return report


async def against(script: Script, certificate: Path | None = None, **plan: Any) -> Report:
    with OddServer(script, certificate) as server:
        return await check(server.url, **plan)


async def fails(
    script: Script, step: Step, what: str, *seen: str, outcome: CheckOutcome = CheckOutcome.NO_CONNECTION, **plan: Any
) -> Report:
    """Check, and assert where it failed, with texts that are in what is told."""
    report = await against(script, **plan)
    assert (report.outcome, report.step) == (outcome, step), report
    assert what in report.what
    for text in seen:
        assert any(text in line for line in report.seen), report.seen
    return report


def good(peer: Peer) -> None:
    peer.upgrade()
    peer.echo(2)
    peer.close()


# What is right.


@pytest_twisted.ensureDeferred
async def test_an_echo_server_is_right() -> None:
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
async def test_the_opening_handshake_is_that_of_the_rfc() -> None:
    fields = (("Origin", "https://a.example"), ("Cookie", "a=b"), ("Cookie", "c=d"))
    with OddServer(good) as server:
        await check(f"ws://localhost:{server.port}/a?b=c", fields=fields)
    lines = server.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b=c HTTP/1.1"
    assert f"Host: localhost:{server.port}" in lines
    assert {"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"} < set(lines)
    assert lines[-3:] == [f"{name}: {value}" for name, value in fields]
    assert [line.partition("/")[0] for line in lines if line.startswith("User-Agent: ")] == ["User-Agent: echod"]
    assert "Sec-WebSocket-Extensions" not in server.heads[0].decode()


@pytest_twisted.ensureDeferred
async def test_host_and_user_agent_can_be_others() -> None:
    with OddServer(good) as server:
        await check(server.url, fields=(("host", "a.example"), ("User-Agent", "b")))
    lines = server.heads[0].decode().lower().split("\r\n")
    assert [line for line in lines if line.startswith(("host:", "user-agent:"))] == ["host: a.example", "user-agent: b"]


@pytest_twisted.ensureDeferred
async def test_ipv6() -> None:
    with OddServer(good, host="::1") as server:
        report = await check(server.url)
    assert report.outcome is CheckOutcome.OK
    assert report.peer == f"[::1]:{server.port}"
    assert f"Host: [::1]:{server.port}" in server.heads[0].decode()


@pytest_twisted.ensureDeferred
async def test_an_address_that_refuses_is_no_obstacle_where_another_answers() -> None:
    def resolve(_host: str, port: int, *_: object) -> list[Any]:
        return [(socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    with OddServer(good) as server:
        report = await check(f"ws://my_service:{server.port}", getaddrinfo=resolve)
    assert report.outcome is CheckOutcome.OK
    assert report.addresses == ["::1", "127.0.0.1"]
    assert report.peer == f"127.0.0.1:{server.port}"


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


def test_texts_are_utf_8_of_all_lengths_and_of_the_exact_size() -> None:
    for size in (*range(1, 40), 1000, 70_000):
        text = probe.make_text(size)
        assert len(text) == size
        text.decode()
    lengths = {len(char.encode()) for char in probe.make_text(1000).decode()}
    assert lengths in ({1, 2, 3, 4}, {2, 3, 4}), "ASCII is rare there"
    assert probe.make_text(1000) != probe.make_text(1000)


# DNS and TCP.


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_resolve() -> None:
    report = await check("ws://nothing.invalid")
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.DNS)
    assert report.what.startswith("nothing.invalid doesn't resolve: ")
    assert report.addresses == []


@pytest_twisted.ensureDeferred
async def test_a_name_without_an_address() -> None:
    report = await check("ws://a.example", getaddrinfo=lambda *_: [])
    assert report.what == "a.example doesn't resolve: it has no address"


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_is_silent() -> None:
    go_on = threading.Event()

    def resolve(*_: object) -> list[Any]:
        go_on.wait(30)
        return []

    try:
        report = await check("ws://a.example", getaddrinfo=resolve, timeout=0.2)
    finally:
        go_on.set()
    assert (report.outcome, report.step, report.what) == (
        CheckOutcome.TIMEOUT,
        Step.DNS,
        "a.example didn't resolve within 200ms",
    )


@pytest_twisted.ensureDeferred
async def test_a_closed_port() -> None:
    with held_port() as port:
        report = await check(f"ws://127.0.0.1:{port}")
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.TCP)
    assert report.what == f"Connection refused, at 127.0.0.1, port {port}"


@pytest_twisted.ensureDeferred
async def test_an_address_that_nothing_comes_back_from() -> None:
    """A listener whose queue is full: Linux drops the next SYN."""
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
async def test_an_error_without_a_number_is_told_in_its_words() -> None:
    report = await check("ws://a.example", getaddrinfo=lambda *_: [(socket.AF_INET, 1, 6, "", ("not an address", 80))])
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.TCP)
    assert report.what.startswith("An error occurred while connecting")


@pytest_twisted.ensureDeferred
async def test_a_fault_of_ours_is_not_taken_for_the_servers() -> None:
    def tell(_: str) -> None:
        raise ZeroDivisionError

    with OddServer(good) as server, pytest.raises(ZeroDivisionError):
        await check(server.url, tell=lambda line: tell(line) if line.startswith("message") else None)


# TLS.


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Make a certificate; its file."""
    return lambda *hosts, **values: OddCertificate(tmp_path / "odd.pem", *hosts, **values).path


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]) -> Callable[..., Path]:
    """Make one that this machine trusts."""

    def make_trusted(*hosts: str, **values: Any) -> Path:
        path = make(*hosts, **values)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        return path

    return make_trusted


async def secure(certificate: Path, host: str = "localhost", script: Script = good, **plan: Any) -> Report:
    with OddServer(script, certificate) as server:
        return await check(f"wss://{host}:{server.port}", **plan)


def fails_in_tls(report: Report, what: str) -> None:
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.TLS), report
    assert what in report.what


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_trusted(trusted: Any) -> None:
    report = await secure(trusted("localhost"))
    assert (report.outcome, report.what) == (CheckOutcome.OK, "")
    assert report.tls.startswith("TLSv1.3, TLS_")
    assert ", certificate until 20" in report.tls
    assert list(report.times)[2:4] == [Step.TLS, Step.HTTP]


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_an_address(trusted: Any) -> None:
    assert (await secure(trusted("127.0.0.1"), "127.0.0.1")).outcome is CheckOutcome.OK


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_self_signed(make: Any) -> None:
    report = await secure(make("localhost"))
    fails_in_tls(
        report,
        "the certificate is self-signed, and not among those that this machine trusts: subject CN=someone, issuer CN=",
    )


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_has_expired(trusted: Any) -> None:
    fails_in_tls(
        await secure(trusted("localhost", days=(-3, -1))),
        "the certificate has expired: subject CN=someone, issuer CN=someone, valid 20",
    )


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_not_valid_yet(trusted: Any) -> None:
    fails_in_tls(await secure(trusted("localhost", days=(1, 3))), "the certificate is not valid yet: ")


@pytest.mark.parametrize(
    ("hosts", "host", "whose"),
    [
        (["a.example"], "localhost", "for a.example, and not for localhost"),
        (["localhost"], "127.0.0.1", "for localhost, and not for 127.0.0.1"),
        (["192.0.2.1"], "127.0.0.1", "for 192.0.2.1, and not for 127.0.0.1"),
        ([], "localhost", "for nobody: it has no subjectAltName, and not for localhost"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another(trusted: Any, hosts: list[str], host: str, whose: str) -> None:
    heads = []

    def serve(peer: Peer) -> None:
        heads.append(peer.read_head())

    fails_in_tls(
        await secure(trusted(*hosts), host, serve, fields=(("Authorization", "secret"),)), f"the certificate is {whose}"
    )
    assert not heads, "nothing is sent to a stranger"


@pytest_twisted.ensureDeferred
async def test_any_certificate_will_do_where_that_was_asked_for(make: Any) -> None:
    wrong = make("a.example", days=(-3, -1))
    assert (await secure(wrong, is_insecure=True)).outcome is CheckOutcome.OK


@pytest_twisted.ensureDeferred
async def test_a_server_that_speaks_no_tls() -> None:
    with OddServer(lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        fails_in_tls(await check(server.url.replace("ws://", "wss://")), "the server doesn't speak TLS on this port (")


@pytest_twisted.ensureDeferred
async def test_a_server_that_speaks_another_tls() -> None:
    with OddServer(lambda peer: peer.send(b"\x15\x03\x01\x00\x02\x02\x28")) as server:
        fails_in_tls(await check(server.url.replace("ws://", "wss://")), "TLS failed (")


@pytest_twisted.ensureDeferred
async def test_a_server_that_closes_in_the_tls_handshake() -> None:
    with OddServer(lambda _: None) as server:
        report = await check(server.url.replace("ws://", "wss://"))
    assert report.step is Step.TLS
    assert report.what.endswith("in the TLS handshake")
    assert report.seen == ["perhaps: the server doesn't speak TLS on this port; then it is ws://"]


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_in_the_tls_handshake() -> None:
    with OddServer(Peer.wait) as server:
        report = await check(server.url.replace("ws://", "wss://"), timeout=TIMEOUT)
    assert (report.outcome, report.step) == (CheckOutcome.TIMEOUT, Step.TLS)
    assert report.what == f"the TLS handshake with 127.0.0.1:{server.port} wasn't over within 3s"


# HTTP.


def refuses(octets: bytes, is_left_open: bool = False) -> Script:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(octets)
        if is_left_open:
            peer.wait()

    return serve


@pytest_twisted.ensureDeferred
async def test_503_with_a_body() -> None:
    octets = b"HTTP/1.1 503 Service Unavailable\r\nServer: a\r\nContent-Length: 22\r\n\r\n\r\nNo room.\r\nCome later"
    await fails(
        refuses(octets, True), Step.HTTP, "status 503 Service Unavailable, and not 101", "body: No room.", "Server: a"
    )


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BODY_WAIT", 10.0)

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        peer.send(b"You ")
        time.sleep(0.05)
        peer.send(b"must not")

    await fails(serve, Step.HTTP, "status 403 Forbidden", "body: You must not")


@pytest_twisted.ensureDeferred
async def test_a_body_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BODY_WAIT", 0.2)
    octets = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nYou must not"
    await fails(refuses(octets, True), Step.HTTP, "status 403 Forbidden", "body: You must not")


@pytest_twisted.ensureDeferred
async def test_301() -> None:
    octets = b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://a.example/\x1b[2J\r\nContent-Length: 0\r\n\r\n"
    await fails(
        refuses(octets),
        Step.HTTP,
        "status 301",
        "Location: https://a.example/\\x1b[2J",
        "perhaps: a redirect is not followed",
    )


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_drops_the_upgrade_is_named() -> None:
    octets = b"HTTP/1.1 426 Upgrade Required\r\nServer: nginx/1.22.1\r\nContent-Length: 0\r\n\r\n"
    await fails(
        refuses(octets), Step.HTTP, "status 426", "doesn't pass Upgrade and Connection on (nginx/1.22.1 answered)"
    )


@pytest_twisted.ensureDeferred
async def test_garbage() -> None:
    await fails(
        refuses(b"\x1b[2Jgarbage|\xff" * 100, True),
        Step.HTTP,
        "the answer is not HTTP",
        "came: \\\\x1b[2Jgarbage|\\\\xff",
    )


@pytest_twisted.ensureDeferred
async def test_an_answer_in_single_octets() -> None:
    def serve(peer: Peer) -> None:
        for octet in peer.answer(fields="Server: \xe9\x85"):
            peer.send(bytes([octet]))
            time.sleep(0.0005)
        peer.echo(2)
        peer.close()

    assert (await against(serve)).outcome is CheckOutcome.OK


@pytest_twisted.ensureDeferred
async def test_interim_answers_are_skipped() -> None:
    def serve(peer: Peer) -> None:
        answer = peer.answer()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nServer: none\r\n\r\n")
        time.sleep(0.05)
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" + answer)
        peer.echo(2)
        peer.close()

    assert (await against(serve)).outcome is CheckOutcome.OK


@pytest_twisted.ensureDeferred
async def test_a_refusal_behind_an_interim_answer() -> None:
    octets = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    await fails(refuses(octets), Step.HTTP, "status 403 Forbidden")


@pytest_twisted.ensureDeferred
async def test_half_an_answer() -> None:
    await fails(
        refuses(b"HTTP/1.1 101 Sw"), Step.HTTP, "before it had answered the opening handshake", "came: HTTP/1.1 101 Sw"
    )


@pytest_twisted.ensureDeferred
async def test_no_answer() -> None:
    report = await fails(Peer.read_head, Step.HTTP, "the server closed the connection before it had answered")
    assert report.seen == ["perhaps: the server speaks TLS on this port; then it is wss://"]


@pytest_twisted.ensureDeferred
async def test_a_reset() -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.reset()

    await fails(serve, Step.HTTP, "the connection was reset before it had answered")


@pytest.mark.parametrize(
    "text",
    [
        "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
        "Client sent an HTTP request to an HTTPS server.\n",
        "You're speaking plain HTTP to an SSL-enabled server port.\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_tls_server_that_answers_in_plain_http(text: str) -> None:
    octets = f"HTTP/1.0 400 Bad Request\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
    await fails(
        refuses(octets),
        Step.HTTP,
        "status 400 Bad Request",
        "perhaps: the server speaks TLS on this port; then it is wss://",
    )


@pytest_twisted.ensureDeferred
async def test_a_tls_server() -> None:
    await fails(refuses(b"\x15\x03\x01\x00\x02\x02\x46"), Step.HTTP, "the server speaks TLS on this port: use wss://")


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent() -> None:
    await fails(
        Peer.wait,
        Step.HTTP,
        "the opening handshake wasn't answered within 3s",
        outcome=CheckOutcome.TIMEOUT,
        timeout=TIMEOUT,
    )


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_after_a_few_octets() -> None:
    script = refuses(b"HTTP/1.1", True)
    await fails(
        script, Step.HTTP, "wasn't answered within", "came: HTTP/1.1", outcome=CheckOutcome.TIMEOUT, timeout=TIMEOUT
    )


# The upgrade.


@pytest.mark.parametrize(
    ("changes", "what", "seen"),
    [
        ({"accept": "AAAA"}, "Sec-WebSocket-Accept bogus value", "Upgrade: websocket"),
        ({"without": "Sec-WebSocket-Accept"}, "Sec-WebSocket-Accept header missing", "HTTP status: 101"),
        (
            {"without": "Upgrade", "fields": "Via: 1.1 squid"},
            "Upgrade header missing",
            "dropped Upgrade and Connection from the answer (1.1 squid",
        ),
        ({"without": "Connection"}, "Connection header missing", "dropped Upgrade and Connection from the answer"),
        ({"fields": "Sec-WebSocket-Protocol: x"}, 'subprotocol selected by server "x" not in', "HTTP status: 101"),
        ({"fields": "Sec-WebSocket-Extensions: permessage-deflate"}, "denied by client", "HTTP status: 101"),
        ({"fields": "Sec-WebSocket-Extensions: a\x1bb"}, 'extension "a\\x1bb"', "HTTP status: 101"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_upgrade_that_is_none(changes: dict[str, str], what: str, seen: str) -> None:
    await fails(lambda peer: peer.send(peer.answer(**changes)), Step.UPGRADE, what, seen)


@pytest_twisted.ensureDeferred
async def test_no_subprotocol_where_one_was_offered() -> None:
    what = "the server chose no subprotocol; offered: a, b"
    await fails(Peer.upgrade, Step.UPGRADE, what, "HTTP status: 101", subprotocols=("a", "b"))


# The echo.


def answers(*answer: Callable[[int, bytes], bytes]) -> Script:
    """A server that answers each message in its own way."""

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
async def test_another_octet() -> None:
    def change(opcode: int, payload: bytes) -> bytes:
        return server_frame(opcode, payload[:70] + bytes([payload[70] ^ 1]) + payload[71:])

    script = answers(server_frame, change)
    report = await fails_in_echo(script, "message 2 of 2 (binary, 100) came back wrong: octet 70: ", "came back: ")
    assert len(report.round_trips) == 1


@pytest_twisted.ensureDeferred
async def test_another_length_and_a_message_that_reaches_no_terminal() -> None:
    greeting = b"\x1b]0;title\x07 | hello"
    report = await fails_in_echo(
        answers(lambda opcode, _: server_frame(opcode, greeting)), "length: 100 octets sent, 18 came back; octet 0: "
    )
    assert report.seen == ["came back: \\\\x1b]0;title\\\\x07 | hello"]


@pytest.mark.parametrize("size", [1, 100, 65536, 65537, 200_000])
def test_the_first_octet_that_differs(size: int) -> None:
    sent = bytes(size)
    assert probe.difference(sent, True, sent, True) == ""
    for at in {0, size // 2, size - 1}:
        got = sent[:at] + b"\xff" + sent[at + 1 :]
        assert probe.difference(sent, True, got, True) == f"octet {at}: 00 sent, ff came back"
        assert probe.difference(sent, True, sent[:at], True) == f"length: {size} octets sent, {at} came back"
    longer = probe.difference(sent, False, sent + b"\x00", True)
    assert longer == f"type: text sent, binary came back; length: {size} octets sent, {size + 1} came back"


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
async def test_a_frame_that_is_none() -> None:
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
async def test_a_message_more_than_was_sent() -> None:
    script = answers(server_frame, lambda opcode, payload: 2 * server_frame(opcode, payload))
    await fails_in_echo(script, "the server sent a message more than it got", "came: ")


@pytest.mark.parametrize("error", [ValueError("\x1b broken"), ValueError()])
@pytest_twisted.ensureDeferred
async def test_what_autobahn_raises_is_no_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(*_: object) -> None:
        raise error

    monkeypatch.setattr(autobahn.ClientProtocol, "feed", feed)
    text = str(error).replace("\x1b", "\\x1b") or "ValueError"
    await fails(Peer.upgrade, Step.UPGRADE, f"what the server sent is not valid: {text}")


# permessage-deflate.

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest_twisted.ensureDeferred
async def test_compression_that_is_declined_is_noted() -> None:
    with OddServer(good) as server:
        report = await check(server.url, offers_compression=True)
    assert report.outcome is CheckOutcome.OK
    assert report.notes == ["the server didn't accept permessage-deflate"]
    assert (
        b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; client_max_window_bits"
        in server.heads[0]
    )


@pytest_twisted.ensureDeferred
async def test_deflate_that_is_none() -> None:
    def serve(peer: Peer) -> None:
        peer.upgrade(DEFLATE)
        peer.read_frame()
        peer.send(server_frame(TEXT, b"\xff" * 20, rsv=4))
        peer.wait()

    await fails_in_echo(
        serve, "message 1 of 2 (text, 100): received WebSocket message cannot be decompressed", offers_compression=True
    )


@pytest_twisted.ensureDeferred
async def test_an_extension_that_was_not_offered_in_return() -> None:
    await fails(
        lambda peer: peer.upgrade("Sec-WebSocket-Extensions: permessage-bzip2; x"),
        Step.UPGRADE,
        "permessage-bzip2",
        offers_compression=True,
    )


# The close: the echoes were right, whatever it is like.


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
async def test_the_deadline_is_that_of_the_close_too() -> None:
    report = await against(closes(Peer.wait), timeout=TIMEOUT)
    assert report.outcome is CheckOutcome.OK
    assert report.notes == ["the server kept silent with no answer to our Close frame"]


def test_what_is_printed_is_escaped_and_cut() -> None:
    assert probe.printable("a\x1b\u202e\n\\b") == "a\\x1b\\u202e\\n\\\\b"
    assert probe.printable("x" * probe.MAX_LINE) == "x" * probe.MAX_LINE
    assert probe.printable("x" * 10**6) == "x" * (probe.MAX_LINE - 1) + "…"
