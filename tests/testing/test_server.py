"""`Server`, as a test suite uses it: with real daemons, clients and ends."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import websockets
from websockets.sync.client import connect

from echod.testing import Server, StartError, server
from tests.daemon import wait_until
from tests.tls import trusting


def has_ended(folder: Path, pid: int) -> bool:
    """Tell whether nothing is left of a server."""
    return not folder.exists() and not Path(f"/proc/{pid}").exists()


def test_a_client_is_served_and_traced() -> None:
    with Server("--port", "throwaway:0:fault=expired", "--admin", "tcp:0:interface=127.0.0.1") as running:
        with connect(f"{running.url}/chat?fragment=1000", compression=None) as client:
            client.send("hello")
            assert client.recv() == "hello"
            (connection,) = running.trace()
            assert [frame.payload for frame in connection.received] == ["hello"]
        trace = running.new_trace()
        context = trusting(cafile=running.authority)
        with connect(running.tls_url, ssl=context) as client:
            client.send(b"\0")
            assert client.recv() == b"\0"
        (connection,) = trace(lambda found: found[0].end)
        assert [(message.type, message.payload) for message in connection.messages] == [("binary", r"\x00")]
        assert (connection.status, connection.received[0].rsv) == ("HTTP/1.1 101 Switching Protocols", (1,))
        assert connection.end is not None
        assert (connection.end.closer, connection.end.code) == ("client", 1000)
        assert running.urls[:2] == (running.url, running.tls_url)
        assert running.http2_url == running.tls_url.replace("wss", "https")
        assert len(running.urls) == 3
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            connect(running.urls[2], ssl=context)
        assert running.admin_urls[0].startswith("http://127.0.0.1:")
        assert all(json.loads(line) for line in running.log().splitlines())
        folder = running.authority.parent
    assert has_ended(folder, running.pid)


def test_one_server_is_one_daemon_at_a_time() -> None:
    running = Server()
    with running:
        with pytest.raises(RuntimeError, match="this Server runs already"), running:
            pass
        first = running.pid
        with connect(running.url) as client:
            client.send("hello")
            assert client.recv() == "hello"
    with running:
        assert running.pid != first


def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(StartError, match=r"^echod ended instead of serving\. It printed:\nechod: --port 'tcp:no'"):
        Server("--port", "tcp:no").__enter__()


def test_a_start_that_takes_too_long_ends() -> None:
    running = Server(timeout=0)
    with pytest.raises(StartError, match=r"^echod does not serve after 0 s\. It printed:\n"):
        running.__enter__()
    assert not running._folder.exists()


def test_a_keeper_that_can_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP", "raise SystemExit('no')")
    with pytest.raises(StartError, match=r"It printed:\nno\n$"):
        Server().__enter__()


def test_a_python_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/none/python")
    running = Server()
    with pytest.raises(FileNotFoundError):
        running.__enter__()
    assert not running._folder.exists()


@pytest.mark.parametrize("name", ["url", "tls_url", "authority", "trace", "new_trace", "log"])
def test_outside_of_its_block_a_server_has_nothing_to_tell(name: str) -> None:
    def ask(idle: Server) -> None:
        getattr(idle, name)
        getattr(idle, name)()

    idle = Server()
    with pytest.raises(RuntimeError, match=r"^this Server does not run: use it inside its block, `with Server"):
        ask(idle)
    with pytest.raises(StartError), Server("--port", "tcp:no") as idle:
        pass
    with pytest.raises(RuntimeError, match=r"^this Server does not run"):
        ask(idle)


def test_threads_may_start_servers_and_end_before_them() -> None:
    with ThreadPoolExecutor(1) as starter:
        running = starter.submit(Server().__enter__).result()
    try:
        with connect(running.url) as client:
            client.send("still here")
            assert client.recv() == "still here"
    finally:
        running.__exit__()


def test_asyncio() -> None:
    async def echo(text: str) -> None:
        async with websockets.connect(running.url) as client:
            await client.send(text)
            assert await client.recv() == text

    async def main() -> None:
        await asyncio.gather(*(echo(str(number)) for number in range(5)))

    with Server() as running:
        with ThreadPoolExecutor(1) as apart:  # this thread may have a loop: the tests also run under asyncio's reactor
            apart.submit(asyncio.run, main()).result()
        texts = [message.payload for connection in running.trace() for message in connection.messages]
        assert sorted(texts) == list("01234")


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "raise ValueError"])
def test_nothing_is_left_of_a_test_that_ends_in_the_middle(end: str) -> None:
    program = f"""
import os, signal
from echod.testing import Server
with Server(timeout=600) as server:
    print(server.pid, server.authority.parent, flush=True)
    {end}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode in {-signal.SIGKILL, 0, 1}
    pid, folder = done.stdout.split()
    wait_until(lambda: has_ended(Path(folder), int(pid)), "the daemon to end")


def test_the_process_of_a_test_does_not_load_the_daemon() -> None:
    program = "import sys, echod.testing; print(*(name for name in sys.modules if name[:5] in ('echod', 'twist')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert {name.split(".")[1] for name in done.stdout.split() if name != "echod"} == {"testing"}
