"""The lane over TLS with `openssl s_client`: a letter makes it do what other clients do after hours, such as new keys
or a renegotiation.

The client is a process with an OpenSSL of its own. The test turns the daemon's loop by hand, so that it can look at the
lease.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.frames import BINARY, CLOSE, PING, PONG, TEXT, client_frame, close_payload, handshake, server_frame
from tests.lane.links import held, lane_of, noise
from tests.loop import Bed, wait_for_lease
from tests.tls import Certificate
from tests.tools import needed

KEY = b"\x01\x02\x03\x04"
"""A mask with which no payload here contains a letter that `s_client` takes for a command. It looks at the first letter
of each read."""


@pytest.fixture(scope="module", autouse=True)
def _openssl() -> None:
    needed("openssl")


class Client:
    """An `openssl s_client`, and its connection."""

    def __init__(self, made: Bed, certificate: Certificate, *options: str, server: Any = None) -> None:
        """`server` has the TLS options of the server, if they are not those of an endpoint."""
        self.loop = made.loop
        host, port = made.loop.address
        self.process = subprocess.Popen(
            [
                "openssl",
                "s_client",
                "-quiet",
                "-no_ign_eof",
                "-connect",
                f"{host}:{port}",
                "-CAfile",
                str(certificate.path),
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stderr
        self.output, self.complaints = b"", b""
        for pipe in (self.process.stdout, self.process.stderr):
            os.set_blocking(pipe.fileno(), False)
        tls: Any = TLSMemoryBIOFactory(server or certificate.server_options(), False, made.factory, made.loop)
        self.outer: Any = tls.buildProtocol(None)
        made.loop.accept(self.outer)
        self.protocol: Any = self.outer.wrappedProtocol

    def take(self) -> bytes:
        """Return everything that the client has received so far."""
        for name in ("stdout", "stderr"):
            try:
                octets = os.read(getattr(self.process, name).fileno(), 1 << 20)
            except BlockingIOError:
                continue
            if name == "stdout":
                self.output += octets
            else:
                self.complaints += octets
        return self.output

    def send(self, octets: bytes) -> None:
        """Write to the client, at most the buffer of a pipe, after it has read everything before: a letter is a command
        only if the client reads it alone."""
        pipe = self.process.stdin
        assert pipe
        self.loop.until(lambda: not any(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))))
        pipe.write(octets)

    def receive(self, expected: bytes) -> None:
        """Turn the loop until the client has received exactly this."""
        self.loop.until(lambda: len(self.take()) >= len(expected))
        assert self.output[: len(expected)] == expected
        self.output = self.output[len(expected) :]

    def open(self) -> None:
        """Open the WebSocket connection, and wait for the lease."""
        self.send(handshake())
        self.loop.until(lambda: b"\r\n\r\n" in self.take())
        assert self.output.endswith(b"\r\n\r\n")
        self.output = b""
        wait_for_lease(self.protocol, self.loop, self.echo)

    def echo(self, payload: bytes = b"payload") -> None:
        """Send a message, and wait for its echo."""
        self.send(client_frame(TEXT, payload, mask=KEY))
        self.receive(server_frame(TEXT, payload))


@contextmanager
def client(made: Bed, certificate: Certificate, *options: str, server: Any = None) -> Iterator[Client]:
    """Run a client, and check that nothing is held after it has gone."""
    it = Client(made, certificate, *options, server=server)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.wait()
        for pipe in (it.process.stdin, it.process.stdout, it.process.stderr):
            assert pipe
            pipe.close()
        made.loop.until(lambda: it.protocol not in made.factory.live)
    assert held(made) == 0


@pytest.mark.parametrize("letter", ["K", "k"])
def test_new_keys_within_the_lease(lane_bed: Bed, certificate: Certificate, letter: str) -> None:
    """`k` is a KeyUpdate of TLS 1.3; `K` also asks the server for one."""
    with client(lane_bed, certificate, "-tls1_3") as it:
        it.open()
        lease = it.protocol.lease
        for number in range(10):
            it.send(letter.encode())
            lane_bed.loop.until(lambda: it.protocol.lease.reads > 2 * number)  # noqa: B023  # it is called at once
            it.echo(b"%d" % number)
        assert it.protocol.lease is lease


@pytest.mark.parametrize("size", [5, 60_000])
def test_new_keys_while_twisted_has_the_session(lane_bed: Bed, certificate: Certificate, size: int) -> None:
    with client(lane_bed, certificate, "-tls1_3") as it:
        it.open()
        for _ in range(3):
            it.send(client_frame(TEXT, b"p", fin=False, mask=KEY))
            lane_bed.loop.until(it.protocol.count)
            lane_of(lane_bed).recall(it.protocol)
            it.send(b"K")
            for _ in range(20):
                lane_bed.loop.turn(0.01)
            it.send(client_frame(0, b"q", mask=KEY) + client_frame(BINARY, noise(size), mask=KEY))
            it.receive(server_frame(TEXT, b"pq") + server_frame(BINARY, noise(size)))
            lane_bed.loop.until(lambda: it.protocol.lease is not None)


def test_openssl_refuses_a_renegotiation_and_others_go_on(lane_bed: Bed, certificate: Certificate) -> None:
    """OpenSSL 3 and newer let no client begin one; the lease sends the warning that says so."""
    other = lane_bed.secure_link(certificate)
    lane_bed.loop.until(lambda: other.protocol.lease is not None)
    with client(lane_bed, certificate, "-tls1_2") as it:
        it.open()
        it.echo()
        it.send(b"R")
        lane_bed.loop.until(lambda: (it.take(), b"no renegotiation" in it.complaints)[1])
        lane_bed.loop.until(lambda: it.process.poll() is not None)
    other.send(client_frame(TEXT, b"other"))
    assert other.receive(7) == server_frame(TEXT, b"other")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_is_resumed(lane_bed: Bed, certificate: Certificate, version: str, tmp_path: Path) -> None:
    """Endpoints issue no tickets, and a context that does is served as well."""
    own = PrivateCertificate.loadPEM(certificate.path.read_bytes())
    server = CertificateOptions(own.privateKey.original, own.original, enableSessionTickets=True)
    path = tmp_path / "session"
    for options in (["-sess_out", str(path)], ["-sess_in", str(path)]):
        with client(lane_bed, certificate, version, *options, server=server) as it:
            it.open()
            it.echo()
            it.echo(b"x" * 3000)
            connection = it.outer.getHandle()
            assert cast(Any, SSL)._lib.SSL_session_reused(connection._ssl) == (options[0] == "-sess_in")
            it.send(b"Q")
            lane_bed.loop.until(lambda: it.process.poll() is not None)  # it is called at once


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_end_of_its_input_is_a_close_notify(lane_bed: Bed, certificate: Certificate, version: str) -> None:
    with client(lane_bed, certificate, version) as it:
        it.open()
        it.send(client_frame(TEXT, b"last", mask=KEY))
        it.receive(server_frame(TEXT, b"last"))
        it.send(b"Q")
        lane_bed.loop.until(lambda: it.protocol not in lane_bed.factory.live)


def test_a_closing_handshake(lane_bed: Bed, certificate: Certificate) -> None:
    with client(lane_bed, certificate) as it:
        it.open()
        it.echo()
        it.send(client_frame(PING, b"p", mask=KEY))
        it.receive(server_frame(PONG, b"p"))
        it.send(client_frame(CLOSE, close_payload(1000), mask=KEY))
        it.receive(server_frame(CLOSE, close_payload(1000)))
        lane_bed.loop.until(lambda: (it.take(), it.process.poll() is not None)[1])
        assert not re.search(rb"(?i)error", it.complaints)
