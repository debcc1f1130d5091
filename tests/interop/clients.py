"""Five WebSocket implementations behind one interface, so that each test is written only once.

Each client is used as its documentation says, without workarounds for its faults. Knows the clients. Must never know
what is expected of the daemon.
"""

from __future__ import annotations

import asyncio
import json
import select
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import aiohttp
import pycurl  # type: ignore[import-untyped]
import websockets.sync.client
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.tls import trusting

Message = str | bytes

PATIENCE = 180.0
"""Time limit in seconds for each wait. 16 MiB through Python on a busy machine take a few seconds."""

PING = b"between"

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Offer:
    """What to offer of permessage-deflate beyond the client's defaults, by the names of RFC 7692 section 7.1."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | bool = True
    """True: without a value; False: not offered. aiohttp supports only True, Autobahn no number."""
    threshold: int = 0
    """Messages of fewer bytes are not to be deflated. `websockets` and aiohttp deflate all messages."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to, and what to offer."""

    url: str
    unix: Path | None = None
    """The Unix socket to connect to, instead of the host in the URL."""
    certificate: Path | None = None
    """The PEM file of the only certificate to trust."""
    compression: bool = False
    offer: Offer | None = None
    """What to offer with `compression`; None: the client's defaults."""
    subprotocols: tuple[str, ...] = ()


class Connection(ABC):
    """An open WebSocket connection."""

    subprotocol: str | None
    is_compressed: bool

    @abstractmethod
    def exchange(self, messages: Sequence[Message]) -> list[Message]:
        """Send all `messages` without waiting, and return an equal number of answers."""

    @abstractmethod
    def exchange_fragments(self, pieces: Sequence[Message]) -> Message:
        """Send one message in `pieces`. Between two pieces send a ping and await the pong. Return the answer."""

    @abstractmethod
    def close(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        """Close, and return the code and the reason of the answer. Without a code, that is 1005 (RFC 6455 section
        7.1.5)."""


# websockets


class Websockets(Connection):
    """The threaded client of `websockets`."""

    def __init__(self, connection: websockets.sync.client.ClientConnection) -> None:
        self._connection = connection
        self.subprotocol = connection.subprotocol
        self.is_compressed = any(extension.name == "permessage-deflate" for extension in connection.protocol.extensions)

    def exchange(self, messages: Sequence[Message]) -> list[Message]:
        def send() -> None:
            for message in messages:
                self._connection.send(message)

        sender = Thread(target=send)
        sender.start()
        answers = [self._connection.recv(timeout=PATIENCE) for _ in messages]
        sender.join()
        return answers

    def exchange_fragments(self, pieces: Sequence[Message]) -> Message:
        def one_by_one() -> Iterator[Message]:
            for number, piece in enumerate(pieces):
                if number:
                    assert self._connection.ping().wait(PATIENCE)
                yield piece

        self._connection.send(one_by_one())
        return self._connection.recv(timeout=PATIENCE)

    def close(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        # websockets' protocol layer takes None for a Close frame without a body.
        self._connection.close(code, reason)  # type: ignore[arg-type]
        received = self._connection.protocol.close_rcvd
        return (received.code, received.reason) if received else (None, "")


@contextmanager
def open_websockets(target: Target) -> Iterator[Connection]:
    options: dict[str, Any] = {
        "compression": "deflate" if target.compression else None,
        "subprotocols": target.subprotocols or None,
        "max_size": None,
        "open_timeout": PATIENCE,
        "close_timeout": PATIENCE,
    }
    if target.certificate is not None:
        options["ssl"] = trusting(cafile=target.certificate)
    if target.offer is not None:
        offered = {
            name: value for name, value in asdict(target.offer).items() if name != "threshold" and value is not False
        }
        options |= {
            "compression": None,
            "extensions": [ClientPerMessageDeflateFactory(**{"client_max_window_bits": None, **offered})],
        }
    if target.unix is not None:
        opened = websockets.sync.client.unix_connect(str(target.unix), target.url, **options)
    else:
        opened = websockets.sync.client.connect(target.url, **options)
    with opened as connection:
        yield Websockets(connection)


# aiohttp


class Aiohttp(Connection):
    """The client of `aiohttp`. It can't send fragments or a Close frame without a code, and drops the reason."""

    def __init__(
        self, run: Callable[[Coroutine[Any, Any, Any]], Any], websocket: aiohttp.ClientWebSocketResponse
    ) -> None:
        self._run = run
        self._websocket = websocket
        self.subprotocol = websocket.protocol
        self.is_compressed = bool(websocket.compress)

    def exchange(self, messages: Sequence[Message]) -> list[Message]:
        async def send() -> None:
            for message in messages:
                await (
                    self._websocket.send_str(message)
                    if isinstance(message, str)
                    else self._websocket.send_bytes(message)
                )

        async def receive() -> list[Message]:
            return [(await self._websocket.receive(PATIENCE)).data for _ in messages]

        async def both() -> list[Message]:
            return (await asyncio.gather(send(), receive()))[1]

        answers: list[Message] = self._run(both())
        return answers

    def exchange_fragments(self, pieces: Sequence[Message]) -> Message:
        raise NotImplementedError

    def close(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        assert code is not None
        self._run(self._websocket.close(code=code, message=reason.encode()))
        return self._websocket.close_code, ""


@contextmanager
def open_aiohttp(target: Target) -> Iterator[Connection]:
    with asyncio.Runner() as runner:
        session = runner.run(_open_session(target))
        try:
            websocket = runner.run(
                session.ws_connect(
                    target.url,
                    protocols=target.subprotocols,
                    compress=(target.offer and target.offer.server_max_window_bits) or 15 if target.compression else 0,
                    max_msg_size=0,
                    ssl=trusting(cafile=target.certificate) if target.certificate else True,
                )
            )
            yield Aiohttp(runner.run, websocket)
            runner.run(websocket.close())
        finally:
            runner.run(session.close())


async def _open_session(target: Target) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(target.unix)) if target.unix else None)


# libcurl


class Curl(Connection):
    """libcurl, through pycurl. It supports neither extensions nor subprotocols."""

    subprotocol = None
    is_compressed = False

    def __init__(self, handle: pycurl.Curl) -> None:
        self._handle = handle
        self._socket = handle.getinfo(pycurl.ACTIVESOCKET)
        self._received: list[tuple[int, bytes]] = []

    def exchange(self, messages: Sequence[Message]) -> list[Message]:
        for message in messages:
            self._send(message, _curl_flag(message))
        return [self._receive_message() for _ in messages]

    def exchange_fragments(self, pieces: Sequence[Message]) -> Message:
        for piece in pieces[:-1]:
            self._send(piece, _curl_flag(piece) | pycurl.WS_CONT)
            self._send(PING, pycurl.WS_PING)
            while not self._received or self._received[-1] != (pycurl.WS_PONG, PING):
                self._received.append(self._receive())
            self._received.clear()
        # Without WS_CONT this is the last piece.
        self._send(pieces[-1], _curl_flag(pieces[-1]))
        return self._receive_message()

    def close(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        body = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        self._send(body, pycurl.WS_CLOSE)
        flag, answer = self._receive()
        assert flag == pycurl.WS_CLOSE
        return (int.from_bytes(answer[:2], "big"), answer[2:].decode()) if answer else (1005, "")

    def _receive_message(self) -> Message:
        flag, data = self._receive()
        assert flag in (pycurl.WS_TEXT, pycurl.WS_BINARY)
        return data.decode() if flag == pycurl.WS_TEXT else data

    def _send(self, message: Message, flag: int) -> None:
        """Send a frame. While the socket is full, receive: the daemon reads no more from a client that doesn't read."""
        rest = memoryview(message.encode() if isinstance(message, str) else message)
        while True:
            try:
                sent = self._handle.ws_send(rest, flag)
            except BlockingIOError:
                readable, _, _ = select.select([self._socket], [self._socket], [], PATIENCE)
                if readable:
                    self._received.append(self._receive_one())
                continue
            rest = rest[sent:]
            if not rest:
                return

    def _receive(self) -> tuple[int, bytes]:
        return self._received.pop(0) if self._received else self._receive_one()

    def _receive_one(self) -> tuple[int, bytes]:
        """Receive one complete frame, and return its flag and its payload. The daemon sends no fragments."""
        pieces = []
        while True:
            try:
                data, meta = self._handle.ws_recv(2**20)
            except BlockingIOError:
                assert select.select([self._socket], [], [], PATIENCE)[0], "nothing came"
                continue
            pieces.append(data)
            if not meta.bytesleft:
                return meta.flags, b"".join(pieces)


def _curl_flag(message: Message) -> int:
    flag: int = pycurl.WS_TEXT if isinstance(message, str) else pycurl.WS_BINARY
    return flag


@contextmanager
def open_curl(target: Target) -> Iterator[Connection]:
    handle = pycurl.Curl()
    try:
        handle.setopt(pycurl.URL, target.url)
        handle.setopt(pycurl.CONNECT_ONLY, 2)  # only make the opening handshake; ws_send and ws_recv do the rest
        handle.setopt(pycurl.CONNECTTIMEOUT, int(PATIENCE))
        if target.unix is not None:
            handle.setopt(pycurl.UNIX_SOCKET_PATH, str(target.unix))
        if target.certificate is not None:
            handle.setopt(pycurl.CAINFO, str(target.certificate))
        handle.perform()
        yield Curl(handle)
    finally:
        handle.close()


# Autobahn, and `ws` for Node


class Piped(Connection):
    """A client in a process of its own that takes commands on standard input; see ws_client.js."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        opened = self._receive()[0]
        self.subprotocol = opened["subprotocol"] or None
        self.is_compressed = "permessage-deflate" in opened["extensions"]

    def exchange(self, messages: Sequence[Message]) -> list[Message]:
        return self._ask("exchange", messages)

    def exchange_fragments(self, pieces: Sequence[Message]) -> Message:
        return self._ask("exchangeFragments", pieces)[0]

    def close(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        self._send({"do": "close", "code": code, "reason": reason})
        answer = self._receive()[0]
        return answer["code"], answer["reason"]

    def _ask(self, command: str, messages: Sequence[Message]) -> list[Message]:
        bodies = [message.encode() if isinstance(message, str) else message for message in messages]
        described = [[isinstance(message, bytes), len(body)] for message, body in zip(messages, bodies, strict=True)]
        self._send({"do": command, "messages": described}, *bodies)
        return self._receive()[1]

    def _send(self, command: dict[str, Any], *bodies: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n" + b"".join(bodies))
        self._process.stdin.flush()

    def _receive(self) -> tuple[dict[str, Any], list[Message]]:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE)[0], "the client does not answer"
        line = self._process.stdout.readline()
        assert line, "the client ended"
        answer = json.loads(line)
        messages: list[Message] = []
        for is_binary, size in answer.get("messages", ()):
            octets = self._process.stdout.read(size)
            messages.append(octets if is_binary else octets.decode())
        return answer, messages


@contextmanager
def open_autobahn(target: Target) -> Iterator[Connection]:
    with _piped([sys.executable, str(FOLDER / "autobahn_client.py")], target, target.url) as connection:
        yield connection


@contextmanager
def open_ws(target: Target) -> Iterator[Connection]:
    url = f"ws+unix:{target.unix}:/" if target.unix else target.url
    with _piped(["node", str(FOLDER / "ws_client.js")], target, url) as connection:
        yield connection


@contextmanager
def _piped(command: list[str], target: Target, url: str) -> Iterator[Connection]:
    options = {
        "url": url,
        "unix": str(target.unix) if target.unix else None,
        "subprotocols": target.subprotocols,
        "compression": target.compression,
        "offer": None if target.offer is None else asdict(target.offer),
        "certificate": str(target.certificate) if target.certificate else None,
    }
    with subprocess.Popen([*command, json.dumps(options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Piped(process)
            process.communicate(timeout=PATIENCE)  # at the end of its input the client closes the connection and ends
            assert process.returncode == 0
        finally:
            process.kill()


# All of them


@dataclass(frozen=True, slots=True)
class Client:
    """A client and its abilities. Tests that need a missing ability do not run with it."""

    open: Callable[[Target], AbstractContextManager[Connection]]
    compresses: bool = True
    fragments: bool = True
    closes_without_code: bool = True
    tells_reason: bool = True
    """Whether `Connection.close` returns the reason that came. Otherwise it returns an empty one."""
    chooses_subprotocols: bool = True
    missing: Callable[[], str | None] = lambda: None
    """Returns what is missing and how to get it, in one line, or None."""


def _missing_ws() -> str | None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no node with npm: apt-get install nodejs npm"
    if not (FOLDER / "node_modules" / "ws").exists():
        return f"the Node client `ws` is not installed: npm ci --prefix {FOLDER.relative_to(FOLDER.parents[1])}"
    return None


def _missing_curl() -> str | None:
    return None if "ws" in pycurl.version_info()[8] else "pycurl's libcurl speaks no ws: pip install --upgrade pycurl"


CLIENTS = {
    "websockets": Client(open_websockets),
    "aiohttp": Client(open_aiohttp, fragments=False, closes_without_code=False, tells_reason=False),
    "curl": Client(open_curl, compresses=False, chooses_subprotocols=False, missing=_missing_curl),
    "autobahn": Client(open_autobahn),
    "ws": Client(open_ws, missing=_missing_ws),
}
