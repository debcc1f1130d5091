"""The memory that the daemon reports as held, compared with the kernel's figure, while answers are read except for
their end, or not at all, and when the clients have gone."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.request import urlopen

import pytest

from tests import frames
from tests.client import upgrade
from tests.daemon import wait_until
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import KIB, MIB, Daemon
from tests.tls import Certificate

CLIENTS = 40

RECEIVE_BUFFER = 32 * KIB
"""Size of a client's receive buffer. Bytes there and in the sending kernel's buffers are not in the daemon."""

PATIENCE = 30.0
"""Time limit in seconds for a client that waits for the daemon: longer than a connection waits for room."""


def buffered(daemon: Daemon) -> int:
    """Return the bytes that the daemon reports as held by its connections."""
    with urlopen(f"{daemon.admin_urls[0]}/metrics", timeout=PATIENCE) as answer:
        match = re.search(r"^echod_buffered_bytes (\S+)$", answer.read().decode(), re.MULTILINE)
    assert match is not None
    return int(float(match[1]))


SETTLED = 1.0
"""Seconds for which nothing has changed when memory is measured. echod gives freed memory back to the kernel within 0.3
seconds, and CI has two busy cores."""


def uncounted(daemon: Daemon) -> int:
    """Return the daemon's resident memory without what it reports as held.

    echod ends a connection that takes none of its answers, and with it goes a whole message. So what is held has to be
    the same some time before the memory is measured and after that.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before = buffered(daemon)
        time.sleep(SETTLED)
        memory, after = daemon.memory(), buffered(daemon)
        if before == after:
            return memory - after
    raise AssertionError(f"what the daemon holds changed for {PATIENCE} s")


def connect(daemon: Daemon, certificate: Certificate | None) -> socket.socket:
    """Open a connection whose TCP window stays small."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.settimeout(PATIENCE)
    sock.connect(daemon.address)
    if certificate is not None:
        sock = certificate.client().wrap_socket(sock, server_hostname="localhost")
    upgrade(sock)
    return sock


def receive(sock: socket.socket, size: int) -> None:
    """Read exactly `size` bytes."""
    while size:
        octets = sock.recv(min(size, 256 * KIB))
        if not octets:
            raise ConnectionError("the daemon has closed")
        size -= len(octets)


@contextmanager
def at_work(work: Callable[[socket.socket], None], sockets: list[socket.socket]) -> Iterator[list[threading.Thread]]:
    """Run `work` for each socket in a thread. A client whose connection the daemon ends has finished."""

    def run(sock: socket.socket) -> None:
        with suppress(OSError):
            work(sock)

    threads = [threading.Thread(target=run, args=(sock,)) for sock in sockets]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("left", [3 * MIB, None], ids=["all but 3 MiB", "nothing"])
@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("native", ["1", "0"], ids=["with the lane", "without"])
def test_answers_that_are_not_read_to_their_end(
    left: int | None, is_secure: bool, native: str, form: Form, figure: Figure, certificate: Certificate
) -> None:
    """The limit holds for allocated memory: a buffer whose start was sent stays as large as before."""
    limit = form.pick(256, 128) * MIB
    size = limit // 16
    message = frames.client_frame(frames.BINARY, bytes(size))
    unread = size if left is None else left

    def work(sock: socket.socket) -> None:
        sock.sendall(message)
        receive(sock, size - unread)

    options = ("--admin", "tcp:0:interface=127.0.0.1", f"--max-buffered={limit}")
    key = certificate.path if is_secure else None
    with Daemon(*options, certificate=key, env={"ECHOD_NATIVE": native}) as daemon, ExitStack() as stack:
        first = stack.enter_context(connect(daemon, certificate if is_secure else None))
        first.sendall(frames.client_frame(frames.BINARY, bytes(KIB)))
        receive(first, KIB)
        assert buffered(daemon) < MIB
        sockets = [stack.enter_context(connect(daemon, certificate if is_secure else None)) for _ in range(CLIENTS)]
        idle = daemon.memory()
        daemon.reset_peak()
        with at_work(work, sockets) as threads:
            end = time.monotonic() + PATIENCE
            for thread in threads:
                thread.join(max(0, end - time.monotonic()))
            growth = daemon.peak() - idle
            daemon.wait_until_it_rests()
            uncounted_growth = uncounted(daemon) - idle
        for sock in sockets:
            sock.close()
        wait_until(lambda: buffered(daemon) <= MIB, "the connections to end", PATIENCE)
        left_growth = uncounted(daemon) - idle
    name = f"{'TLS' if is_secure else 'plain'}, {'with' if native == '1' else 'without'} the lane"
    figure(f"memory that is in no account, {name}", uncounted_growth / MIB, 32, "MiB")
    figure(f"memory that is left when the clients have gone, {name}", left_growth / MIB, 32, "MiB")
    # For a moment, the message that is being answered is in memory up to three times. The account has it once.
    figure(f"growth, {name}", growth / MIB, limit / MIB + 32, "MiB")
