"""A check over HTTP/2: of a real server, and of servers that misbehave."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.testing import StringTransport

from echod.check.http2 import Tunnel
from echod.check.report import CheckOutcome, Step
from echod.echo import EchoProtocol
from echod.http.h2 import frames
from echod.net.endpoints import parse_endpoint
from echod.settings import Http2Mode, Settings
from echod.websocket.factory import EchoFactory
from tests.check.checking import TIMEOUT, Script, check, fails
from tests.odd_certificate import OddCertificate
from tests.odd_server import OddServer, Peer
from tests.tls import Certificate

SETTINGS = frames.settings({8: 1})
"""The settings of a server that takes an extended CONNECT."""


@asynccontextmanager
async def serving(endpoint: str, **settings: Any) -> AsyncIterator[str]:
    """Run a server in this process, and return its address."""
    factory = EchoFactory(EchoProtocol, Settings(drain_timeout=1, **settings), reactor, 100)
    port = await parse_endpoint(reactor, endpoint).listen(factory)
    try:
        yield f"localhost:{port.getHost().port}"  # type: ignore[attr-defined]  # an IPv4Address
    finally:
        await maybeDeferred(port.stopListening)
        await factory.drain()


@pytest_twisted.ensureDeferred
async def test_a_server() -> None:
    lines: list[str] = []
    async with serving("tcp:0:interface=127.0.0.1") as address:
        report = await check(
            f"ws://{address}/a", lines.append, is_http2=True, subprotocols=("a",), offers_compression=True
        )
    assert (report.outcome, report.what, report.notes) == (CheckOutcome.OK, "", [])
    assert list(report.times)[2:] == [Step.SETTINGS, Step.CONNECT, Step.UPGRADE, Step.ECHO, Step.CLOSE]
    assert (report.subprotocol, report.extensions) == ("a", ["permessage-deflate"])
    assert lines[:4] == ["TCP", "SETTINGS", "CONNECT", "upgrade"]


@pytest_twisted.ensureDeferred
async def test_messages_larger_than_the_windows() -> None:
    async with serving("tcp:0:interface=127.0.0.1") as address:
        report = await check(f"ws://{address}", is_http2=True, size=3 * 2**20, timeout=60.0)
    assert report.outcome is CheckOutcome.OK, report


@pytest_twisted.ensureDeferred
async def test_a_server_with_tls(certificate: Certificate, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}"
    async with serving(endpoint) as address:
        report = await check(f"wss://{address}", is_http2=True)
    assert report.outcome is CheckOutcome.OK, report
    assert list(report.times)[2:6] == [Step.TLS, Step.ALPN, Step.SETTINGS, Step.CONNECT]
    gc.collect()  # only now does Twisted tell of an error that nobody has taken
    assert not [line for line in lines if "Unhandled error" in line]
    async with serving(endpoint, http2=Http2Mode.OFF) as address:
        report = await check(f"wss://{address}", is_http2=True)
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.ALPN), report
    assert "no application protocol" in report.what


@pytest_twisted.ensureDeferred
async def test_a_server_that_agrees_on_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = OddCertificate(tmp_path / "odd.pem", "localhost").path
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with OddServer(Peer.wait, path) as server:
        report = await check(f"wss://localhost:{server.port}", is_http2=True)
    assert (report.step, report.what) == (Step.ALPN, "the server agreed on no protocol, not h2")


@pytest_twisted.ensureDeferred
async def test_a_refusal() -> None:
    async with serving("tcp:0:interface=127.0.0.1") as address:
        report = await check(f"ws://{address}/?status=404", is_http2=True)
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.CONNECT)
    assert report.what == "status 404 Not Found instead of 200"
    assert "body: The URL asks for this status." in report.seen


@pytest_twisted.ensureDeferred
async def test_a_server_that_sends_goaway() -> None:
    """The stream that is open goes on (RFC 9113 section 6.8)."""
    async with serving("tcp:0:interface=127.0.0.1") as address:
        report = await check(f"ws://{address}/?goaway&after=1", is_http2=True)
    assert report.outcome is CheckOutcome.OK, report
    assert report.notes == [f"the server sent GOAWAY with NO_ERROR, last stream {last}" for last in (2**31 - 1, 1)]


@pytest.mark.parametrize("query", ["abort", "cut=0&abort", "abort&after=1"])
@pytest_twisted.ensureDeferred
async def test_a_reset_that_comes_with_the_answer(query: str) -> None:
    async with serving("tcp:0:interface=127.0.0.1") as address:
        report = await check(f"ws://{address}/?{query}", is_http2=True)
    assert (report.outcome, report.step, report.what) == (
        CheckOutcome.WRONG_ECHO,
        Step.ECHO,
        "the server reset the stream with CANCEL",
    ), report


CONNECT = b"\x01\x04\0\0\0\x01"
"""The type, the flags and the stream of the frame that asks for a WebSocket."""


def sends(first: bytes, *others: bytes) -> Script:
    """Return a server that sends these octets, all but the first in answer to the CONNECT, and then nothing."""

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send(first)
        if others:
            peer.read_until(CONNECT)
            peer.send(b"".join(others))
        peer.wait()

    return serve


def answer(*fields: tuple[str, str]) -> bytes:
    return HeadersFrame(1, Encoder().encode(fields), flags=["END_HEADERS"]).serialize()


@pytest.mark.parametrize(
    ("sent", "step", "what", "seen"),
    [
        ([frames.settings({})], Step.SETTINGS, "does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL", ""),
        (
            [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
            Step.SETTINGS,
            "the server answers with HTTP/1.1",
            "HTTP/1.1 alone on this port",
        ),
        ([SETTINGS, bytes(9)], Step.CONNECT, "is not valid in HTTP/2", ""),
        ([SETTINGS, frames.goaway(0, 11, "calm")], Step.CONNECT, "sent GOAWAY with ENHANCE_YOUR_CALM calm", ""),
        ([SETTINGS, frames.goaway(0, 0x99)], Step.CONNECT, "sent GOAWAY with 153", ""),
        ([SETTINGS, frames.goaway(0, 0)], Step.CONNECT, "sent GOAWAY with NO_ERROR", ""),
        ([SETTINGS, bytes((0, 0, 4, frames.GOAWAY)) + bytes(9)], Step.CONNECT, "is not valid in HTTP/2", ""),
        ([SETTINGS, b"\xff" * 9], Step.CONNECT, "is not valid in HTTP/2: a frame of more than 16384 bytes", ""),
        (
            [SETTINGS, SETTINGS, RstStreamFrame(1, ErrorCodes.REFUSED_STREAM).serialize()],
            Step.CONNECT,
            "reset the stream with REFUSED_STREAM",
            "",
        ),
        (
            [SETTINGS, answer((":status", "403")), DataFrame(1, b"").serialize(), DataFrame(1, b"No.").serialize()],
            Step.CONNECT,
            "status 403 Forbidden instead of 200",
            "body: No.",
        ),
        (
            [SETTINGS, answer((":status", "200"), ("sec-websocket-protocol", "x"))],
            Step.UPGRADE,
            "subprotocol",
            "",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_server_that_misbehaves(sent: list[bytes], step: Step, what: str, seen: str) -> None:
    await fails(sends(*sent), step, what, *([seen] if seen else []), is_http2=True)


@pytest.mark.parametrize(
    ("sent", "step", "what"),
    [
        (b"", Step.SETTINGS, "no SETTINGS of HTTP/2 came within"),
        (SETTINGS, Step.CONNECT, "the opening handshake wasn't answered within"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_silence(sent: bytes, step: Step, what: str) -> None:
    await fails(sends(sent), step, what, outcome=CheckOutcome.TIMEOUT, is_http2=True, timeout=TIMEOUT)


@pytest_twisted.ensureDeferred
async def test_a_server_that_closes() -> None:
    await fails(Peer.read_head, Step.SETTINGS, "before its SETTINGS came", "HTTP/1.1 alone", is_http2=True)


class Told:
    """Notes what a tunnel tells."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def announced(self) -> None:
        raise AssertionError

    def came(self, octets: bytes) -> None:
        raise AssertionError(octets)

    def noted(self, what: str) -> None:
        raise AssertionError(what)

    def tunnel_failed(self, why: str, hint: str = "") -> None:
        self.failures.append(f"{why}; {hint}")


def test_a_tunnel_that_has_failed_takes_and_sends_nothing() -> None:
    transport, told = StringTransport(), Told()
    tunnel = Tunnel(transport, "http", told)
    tunnel.received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    tunnel.received(SETTINGS)
    tunnel.loseConnection()
    assert told.failures == ["the server answers with HTTP/1.1; perhaps: it speaks HTTP/1.1 alone on this port"]
    assert transport.value() == b""
    assert transport.disconnecting
