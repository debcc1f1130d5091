"""Half-open peers: clients that vanish silently, in a network that then drops every packet."""

from __future__ import annotations

import socket
import time

from tests import frames
from tests.reliability import namespaces
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import Daemon
from tests.reliability.guests import SITE, count_others
from tests.tools import give_up

PEERS = 60


def connect(address: tuple[str, int], kind: int) -> socket.socket:
    """Open a connection that stays idle, stops within a message, never reads an answer, or stops within its
    handshake."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(30)
    sock.connect(address)
    sock.sendall(frames.handshake())
    assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
    if kind == 1:
        sock.sendall(frames.client_frame(frames.BINARY, bytes(1000), claim=100_000))
    if kind == 2:
        sock.sendall(frames.client_frame(frames.BINARY, bytes(1 << 20)))
    return sock


def test_half_open_peers(form: Form, figure: Figure) -> None:
    if reason := namespaces.missing():
        give_up(reason)
    interval = timeout = form.pick(20, 3)
    options = (*SITE, "--ping-interval", f"{interval}s", "--ping-timeout", f"{timeout}s")
    with namespaces.wire() as wire, Daemon(*options, interface=namespaces.SERVER_ADDRESS, prefix=wire.prefix) as daemon:
        idle = daemon.descriptors()
        peers = wire.at_client(lambda: [connect(daemon.address, i % 3) for i in range(PEERS)])
        assert daemon.descriptors() == idle + PEERS
        others = count_others(
            daemon, PEERS, lambda: wire.at_client(lambda: socket.create_connection(daemon.address, 60))
        )
        figure(f"of {PEERS} peers, those that are no guests", others, PEERS / 20)  # the first one is none
        time.sleep(interval / 2)  # so that the peers are at different points of their intervals
        wire.cut()
        seconds = daemon.seconds_until(lambda: daemon.descriptors() <= idle, interval + timeout + 30)
        for peer in peers:
            peer.close()
    figure(f"until {PEERS} half-open peers are gone", seconds, interval + timeout + 5, "s")
