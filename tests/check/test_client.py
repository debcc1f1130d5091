"""The client of a check: its opening handshake, and permessage-deflate."""

from __future__ import annotations

import pytest_twisted

from echod.check.report import CheckOutcome, Step
from tests.check.checking import check, fails, good
from tests.frames import TEXT, server_frame
from tests.odd_server import OddServer, Peer


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
async def test_an_invalid_deflated_message() -> None:
    def serve(peer: Peer) -> None:
        peer.upgrade(DEFLATE)
        peer.read_frame()
        peer.send(server_frame(TEXT, b"\xff" * 20, rsv=4))
        peer.wait()

    await fails(
        serve,
        Step.ECHO,
        "message 1 of 2 (text, 100): received WebSocket message cannot be decompressed",
        offers_compression=True,
        outcome=CheckOutcome.WRONG_ECHO,
    )


@pytest_twisted.ensureDeferred
async def test_an_extension_that_was_not_offered() -> None:
    await fails(
        lambda peer: peer.upgrade("Sec-WebSocket-Extensions: permessage-bzip2; x"),
        Step.UPGRADE,
        "permessage-bzip2",
        offers_compression=True,
    )
