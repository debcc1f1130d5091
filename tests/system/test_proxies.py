"""Behind real proxies with the sample configurations of etc/: requirements for any proxy.

Knows clients and messages. Must never know how a proxy is configured.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio import client as async_client
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.daemon import POLL_INTERVAL, Daemon
from tests.frames import BINARY, CLOSE, Frame, client_frame, close_payload, handshake, server_frame
from tests.h2_socket import Connection
from tests.system.proxies import SAMPLES, Front, Sample
from tests.tls import Certificate

PATIENCE = 60.0
"""Time limit in seconds for each wait."""

OVER_HTTP2 = {name: sample for name, sample in SAMPLES.items() if sample.is_over_http2}

CLIENTS = 40
"""The number of clients during a rolling restart."""


def samples(where_tls_ends: bool | None = None, that_try_again: bool = False) -> pytest.MarkDecorator:
    """Run a test behind each proxy, or only behind those that end clients' TLS, or only behind the others, or only
    behind those that pass a handshake on to another copy."""
    chosen = {
        name: sample
        for name, sample in SAMPLES.items()
        if where_tls_ends in (None, sample.ends_tls) and (sample.tries_again or not that_try_again)
    }
    return pytest.mark.parametrize("sample", chosen.values(), ids=chosen)


def dial(front: Front, path: str = "/", **wishes: Any) -> ClientConnection:
    """Connect through the proxy with TLS."""
    client: ClientConnection = connect(
        f"{front.url}{path}", ssl=front.certificate.client(), open_timeout=PATIENCE, **wishes
    )
    return client


def echo(client: ClientConnection, message: str | bytes) -> None:
    """Assert that a message comes back with the same type and the same bytes."""
    client.send(message)
    answer = client.recv(timeout=PATIENCE)
    assert type(answer) is type(message)
    assert len(answer) == len(message)
    assert answer == message or pytest.fail("the bytes differ")


def ask(client: ClientConnection) -> dict[str, Any]:
    """Return the answer of `/info`."""
    told: dict[str, Any] = json.loads(client.recv(timeout=PATIENCE))
    return told


@samples()
def test_messages(sample: Sample, certificate: Certificate) -> None:
    """Text, binary, large and compressed messages come back over TLS, and without TLS if the proxy ends it."""
    large = random.Random(7).randbytes(5_000_000)
    front = Front(sample, certificate)
    with front.copy(0), front.copy(1), front:
        for compression in ("deflate", None):
            with dial(front, compression=compression, max_size=None) as client:
                assert bool(client.protocol.extensions) == bool(compression)
                echo(client, "It works ☕")
                echo(client, bytes(range(256)))
                echo(client, "x" * 100_000)
                echo(client, large)
                client.close(4000, "reason")
                assert client.protocol.close_rcvd is not None
                assert client.protocol.close_rcvd.code == 4000
        if sample.ends_tls:
            with connect(front.plain_url, open_timeout=PATIENCE) as client:
                echo(client, "without TLS")


@pytest.mark.parametrize(
    ("sample", "changes"),
    # HAProxy sends the PROXY header in version 2. It can also send version 1, the only one that nginx has.
    [*((sample, {}) for sample in SAMPLES.values()), (SAMPLES["haproxy-tcp"], {"send-proxy-v2": "send-proxy"})],
    ids=[*SAMPLES, "haproxy-tcp-1"],
)
def test_the_clients_address(sample: Sample, changes: dict[str, str], certificate: Certificate) -> None:
    """`/info` shows the client's address, and no header of the client changes it."""
    front = Front(sample, certificate, changes=changes)
    with front.copy(0), front.copy(1), front:
        for address in ("127.0.0.5", "127.0.0.6"):
            forged = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
            with dial(front, "/info", source_address=(address, 0), additional_headers=forged) as client:
                told = ask(client)
                assert told["peer"]["address"] == address
                assert (told["tls"] is None) == sample.ends_tls
                echo(client, "and then an echo")


@pytest.mark.parametrize("sample", OVER_HTTP2.values(), ids=OVER_HTTP2)
def test_websockets_over_http2(sample: Sample, certificate: Certificate) -> None:
    """Clients over HTTP/1.1 and over HTTP/2 become streams of connections to echod."""
    large = random.Random(7).randbytes(5_000_000)
    front = Front(sample, certificate)
    with front.copy(0), front.copy(1), front:
        with dial(front, "/info", source_address=("127.0.0.5", 0)) as client:
            told = ask(client)
            assert told["http"]["version"] == "2"
            assert told["peer"]["address"] == "127.0.0.5"
        made = Connection(front.tls_address, is_tls=True)
        with made.socket:
            made.until(made.client.says_connect)
            streams = [made.open("/info"), made.open(), made.open("/?close=4000&after=1")]
            assert json.loads(made.frame(streams[0]).payload)["http"]["version"] == "2"
            for payload in (b"hello", large, b""):
                made.send(streams[1], client_frame(BINARY, payload))
                assert made.frame(streams[1]) == Frame(BINARY, payload)
            made.send(streams[2], client_frame(BINARY, b"last"))
            answer = server_frame(BINARY, b"last") + server_frame(CLOSE, close_payload(4000))
            made.until(lambda: made.client.bodies[streams[2]] == answer)
            made.send(streams[2], client_frame(CLOSE, close_payload(4000)))
            made.until(lambda: streams[2] in made.client.ended | made.client.resets.keys())


@pytest.mark.parametrize("name", ["haproxy-http2", "haproxy3-http2"])
def test_http2_over_tls(name: str, certificate: Certificate) -> None:
    """The copies have TLS, too, as the sample's comment says."""
    sample = replace(SAMPLES[name], below=f"ssl:{{port}}:privateKey={certificate.path}:interface=127.0.0.1")
    secure = "ssl verify required ca-file /etc/haproxy/echod.pem alpn h2 check-alpn h2"
    front = Front(sample, certificate, changes={" proto h2 ws": f" {secure} ws"})
    with front.copy(0), front.copy(1), front, dial(front, "/info") as client:
        told = ask(client)
        assert told["http"]["version"] == "2"
        assert told["tls"]["version"] == "TLSv1.3"
        echo(client, "It works")


@pytest.mark.parametrize("sample", OVER_HTTP2.values(), ids=OVER_HTTP2)
def test_a_client_that_does_not_read_holds_up_no_other(sample: Sample, certificate: Certificate) -> None:
    """Clients may share a connection between the proxy and echod."""
    front = Front(sample, certificate)
    with front.copy(0), front, dial(front) as other, socket.create_connection(front.plain_address, PATIENCE) as slow:
        slow.sendall(handshake())
        assert slow.recv(4096).startswith(b"HTTP/1.1 101 ")
        slow.settimeout(1)
        # What the proxy and the kernels keep is bounded by their settings, and not by what is sent here.
        with suppress(TimeoutError):
            for _ in range(32):
                slow.sendall(client_frame(BINARY, bytes(1_000_000)))
        for _ in range(10):
            echo(other, "not held up")


@samples()
def test_idle_connections(sample: Sample, certificate: Certificate) -> None:
    """Pings keep an idle connection alive through a proxy with a longer timeout. Without pings the proxy ends it."""
    front, pinged = Front(sample, certificate, idle="3s"), ("--ping-interval", "300ms")
    with front.copy(0, *pinged), front.copy(1, *pinged), front, dial(front) as client:
        # Nothing comes while twice the proxy's timeout passes.
        with pytest.raises(TimeoutError):
            client.recv(timeout=6)
        echo(client, "still here")
    front, silent = Front(sample, certificate, idle="1s"), ("--ping-interval", "0")
    with front.copy(0, *silent), front.copy(1, *silent), front, dial(front) as client, pytest.raises(ConnectionClosed):
        client.recv(timeout=PATIENCE)


@samples(where_tls_ends=True, that_try_again=True)
def test_a_copy_that_is_full(sample: Sample, certificate: Certificate) -> None:
    """The proxy passes clients of a full copy on to the other one: no client is refused while there is room."""
    front = Front(sample, certificate)
    with ExitStack() as stack:
        for index in range(2):
            stack.enter_context(front.copy(index, "--max-connections", str(4 + 8 * index)))
        stack.enter_context(front)
        clients = [stack.enter_context(dial(front, "/info")) for _ in range(10)]
        by_copy = Counter(ask(client)["process"] for client in clients)
        assert len(by_copy) == 2
        for client in clients:
            echo(client, "served")


@samples(where_tls_ends=True)
def test_only_the_client_that_asks_for_errors_gets_them(sample: Sample, certificate: Certificate) -> None:
    """A client's URL may ask a copy for a 503. The proxy might think that the copy is broken, and keep other clients
    from it, which it must not."""
    front = Front(sample, certificate)
    with front.copy(0), front.copy(1), front:
        for _ in range(10):
            with pytest.raises(InvalidStatus) as refused, dial(front, "/?status=503"):
                pass
            assert refused.value.response.status_code == 503
            with dial(front) as client:
                echo(client, "served")


@samples()
def test_rolling_restart(sample: Sample, certificate: Certificate) -> None:
    """One copy after the other is restarted under load. Every client is served again, and no accepted message is
    lost."""
    tally: Counter[str] = Counter()
    asyncio.run(_restart_each(Front(sample, certificate), tally))
    # Each closed client was told to go away (else `_talk` had raised), came back, and nearly always at the first try.
    assert tally["closed"] >= CLIENTS
    assert tally["failed"] <= CLIENTS / 10
    assert tally["connected"] == CLIENTS + tally["closed"]
    assert tally["finished"] == CLIENTS


async def _restart_each(front: Front, tally: Counter[str]) -> None:
    is_over = asyncio.Event()
    with ExitStack() as stack:
        copies = [stack.enter_context(front.copy(index)) for index in range(2)]
        stack.enter_context(front)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(_talk(front, is_over, tally))
            await _more_echoes(tally)
            for index in range(2):
                await asyncio.to_thread(copies[index].stop)
                copies[index] = await asyncio.to_thread(stack.enter_context, front.copy(index))
                # The other copy may be stopped only when the proxy uses this one again.
                await _until_served_by(front, copies[index])
                await _more_echoes(tally)
            is_over.set()


async def _talk(front: Front, is_over: asyncio.Event, tally: Counter[str]) -> None:
    """Send one message after the other, each once the previous one has come back. When told to go away, reconnect at
    once."""
    number = 0
    while not is_over.is_set():
        async with await _connect(front, tally) as client:
            tally["connected"] += 1
            try:
                while not is_over.is_set():
                    message = f"message {number}"
                    await client.send(message)
                    assert await asyncio.wait_for(client.recv(), PATIENCE) == message
                    number += 1
                    tally["echoed"] += 1
                    await asyncio.sleep(0.01)
            except ConnectionClosed as closed:
                # Everything that was written before a Close frame has come, so no answer is lost. A message that
                # crosses the Close frame was not accepted, and is sent again.
                if closed.rcvd is None or closed.rcvd.code != 1001:
                    raise
                tally["closed"] += 1
    tally["finished"] += 1


async def _connect(front: Front, tally: Counter[str]) -> async_client.ClientConnection:
    """Connect. Try again if the connection is lost between the proxy and a copy that is just closing its port."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await async_client.connect(front.url, ssl=front.certificate.client(), open_timeout=PATIENCE)
            except (OSError, EOFError, InvalidHandshake):
                tally["failed"] += 1
                await asyncio.sleep(0.1)


async def _more_echoes(tally: Counter[str]) -> None:
    goal = tally["echoed"] + 10 * CLIENTS
    async with asyncio.timeout(PATIENCE):
        while tally["echoed"] < goal:
            await asyncio.sleep(POLL_INTERVAL)


async def _until_served_by(front: Front, copy: Daemon) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            async with async_client.connect(f"{front.url}/info", ssl=front.certificate.client()) as client:
                if json.loads(await client.recv())["process"] == copy.pid:
                    return
            await asyncio.sleep(POLL_INTERVAL)


@samples(where_tls_ends=False)
def test_certificates_by_name(sample: Sample, tmp_path: Path) -> None:
    """Each client gets the certificate for the name that it asked for, through the proxy."""
    first, other = Certificate(tmp_path / "a.pem"), Certificate(tmp_path / "b.pem", ["other.example"])
    front = Front(sample, first)
    with front.copy(0), front.copy(1), front:
        for certificate, name in ((first, "localhost"), (other, "other.example")):
            with connect(front.url, ssl=certificate.client(), server_hostname=name, open_timeout=PATIENCE) as client:
                echo(client, name)
