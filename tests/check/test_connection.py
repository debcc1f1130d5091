"""The connection of a check, up to the end of the opening handshake: TLS, HTTP and the upgrade."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from echod.check import connection
from echod.check.report import CheckOutcome, Report, Step
from echod.upstream import autobahn
from tests.check.checking import TIMEOUT, Script, against, check, fails, good
from tests.odd_certificate import OddCertificate
from tests.odd_server import OddServer, Peer


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a certificate and returns its file."""
    return lambda *hosts, **values: OddCertificate(tmp_path / "odd.pem", *hosts, **values).path


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that makes a certificate that this machine trusts."""

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
        "the certificate is self-signed, and this machine does not trust it: subject CN=someone, issuer CN=",
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
        ([], "localhost", "for no host: it has no subjectAltName, and not for localhost"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_host(trusted: Any, hosts: list[str], host: str, whose: str) -> None:
    heads = []

    def serve(peer: Peer) -> None:
        heads.append(peer.read_head())

    fails_in_tls(
        await secure(trusted(*hosts), host, serve, fields=(("Authorization", "secret"),)), f"the certificate is {whose}"
    )
    assert not heads, "nothing is sent to a stranger"


@pytest_twisted.ensureDeferred
async def test_insecure_accepts_any_certificate(make: Any) -> None:
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
        refuses(octets, True), Step.HTTP, "status 503 Service Unavailable instead of 101", "body: No room.", "Server: a"
    )


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_WAIT", 10.0)

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        peer.send(b"You ")
        time.sleep(0.05)
        peer.send(b"must not")

    await fails(serve, Step.HTTP, "status 403 Forbidden", "body: You must not")


@pytest_twisted.ensureDeferred
async def test_a_body_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_WAIT", 0.2)
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
        "perhaps: the check does not follow redirects",
    )


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_drops_the_upgrade_is_named() -> None:
    octets = b"HTTP/1.1 426 Upgrade Required\r\nServer: nginx/1.22.1\r\nContent-Length: 0\r\n\r\n"
    await fails(
        refuses(octets), Step.HTTP, "status 426", "does not pass on Upgrade and Connection (nginx/1.22.1 answered)"
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
async def test_an_answer_in_single_bytes() -> None:
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
async def test_a_refusal_after_an_interim_answer() -> None:
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
async def test_a_server_that_is_silent_after_a_few_bytes() -> None:
    script = refuses(b"HTTP/1.1", True)
    await fails(
        script, Step.HTTP, "wasn't answered within", "came: HTTP/1.1", outcome=CheckOutcome.TIMEOUT, timeout=TIMEOUT
    )


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
async def test_an_invalid_upgrade(changes: dict[str, str], what: str, seen: str) -> None:
    await fails(lambda peer: peer.send(peer.answer(**changes)), Step.UPGRADE, what, seen)


@pytest_twisted.ensureDeferred
async def test_a_server_that_chooses_no_subprotocol() -> None:
    what = "the server chose no subprotocol; offered: a, b"
    await fails(Peer.upgrade, Step.UPGRADE, what, "HTTP status: 101", subprotocols=("a", "b"))


@pytest.mark.parametrize("error", [ValueError("\x1b broken"), ValueError()])
@pytest_twisted.ensureDeferred
async def test_an_exception_of_autobahn_becomes_a_fault(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(*_: object) -> None:
        raise error

    monkeypatch.setattr(autobahn.ClientProtocol, "feed", feed)
    text = str(error).replace("\x1b", "\\x1b") or "ValueError"
    await fails(Peer.upgrade, Step.UPGRADE, f"what the server sent is not valid: {text}")
