"""Drives Autobahn's client for clients.py. It takes the same commands on standard input as ws_client.js, which
describes them.

It runs in a process of its own, because the in-process daemons use the reactor of the tests. Must never know what is
expected of the daemon.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred
from twisted.internet.endpoints import clientFromString, quoteStringArgument, wrapClientTLS
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure


class Client(WebSocketClientProtocol):
    """A connection that puts its events into queues."""

    threshold = 0

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self.messages: DeferredQueue[tuple[bool, bytes]] = DeferredQueue()
        self.pongs: DeferredQueue[bytes] = DeferredQueue()
        self.closed: Deferred[tuple[int | None, str | None]] = Deferred()

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.put((isBinary, payload))

    def onPong(self, payload: bytes) -> None:
        self.pongs.put(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self.opened.called:
            self.opened.errback(ConnectionError(reason))
        # For a Close frame without a code Autobahn reports None instead of the RFC's 1005 (section 7.1.5).
        self.closed.callback((code or 1005 if wasClean else None, reason))


class Commands(LineReceiver):
    """Reads commands from standard input, and writes the answers to standard output."""

    delimiter = b"\n"
    MAX_LENGTH = 2**20

    def __init__(self, client: Client) -> None:
        self._client = client
        self._command: dict[str, Any] = {}
        self._bodies = bytearray()
        self._missing = 0
        self.ended: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        self._command = json.loads(line)
        self._missing = sum(size for _, size in self._command.get("messages", ()))
        if self._missing:
            self.setRawMode()
        else:
            self._carry_out()

    def rawDataReceived(self, data: bytes) -> None:
        rest = data[self._missing :]
        self._bodies += data[: self._missing]
        self._missing -= len(data) - len(rest)
        if not self._missing:
            self._carry_out()
            self.setLineMode(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        if not self.ended.called:
            self.ended.callback(None)

    def answer(self, record: dict[str, Any], bodies: Sequence[bytes] = ()) -> None:
        assert self.transport is not None
        self.transport.writeSequence([json.dumps(record).encode(), b"\n", *bodies])

    def _carry_out(self) -> None:
        bodies, self._bodies = bytes(self._bodies), bytearray()
        messages, start = [], 0
        for is_binary, size in self._command.get("messages", ()):
            messages.append((is_binary, bodies[start : start + size]))
            start += size
        carry_out = {"exchange": self._exchange, "exchangeFragments": self._exchange_fragments, "close": self._close}
        ensureDeferred(carry_out[self._command["do"]](messages)).addErrback(self.ended.errback)

    async def _exchange(self, messages: Sequence[tuple[bool, bytes]]) -> None:
        for is_binary, payload in messages:
            self._client.sendMessage(payload, is_binary, doNotCompress=len(payload) < self._client.threshold)
        await self._answer_messages(len(messages))

    async def _exchange_fragments(self, pieces: Sequence[tuple[bool, bytes]]) -> None:
        self._client.beginMessage(pieces[0][0])
        for number, (_, piece) in enumerate(pieces):
            if number:
                self._client.sendPing(b"between")
                await self._client.pongs.get()
            self._client.sendMessageFrame(piece)
        self._client.endMessage()
        await self._answer_messages(1)

    async def _answer_messages(self, count: int) -> None:
        messages = [await self._client.messages.get() for _ in range(count)]
        self.answer(
            {"messages": [(is_binary, len(payload)) for is_binary, payload in messages]},
            [payload for _, payload in messages],
        )

    async def _close(self, _: object) -> None:
        self._client.sendClose(self._command["code"], self._command["reason"] or None)
        code, reason = await self._client.closed
        self.answer({"code": code, "reason": reason or ""})


def make_factory(options: dict[str, Any]) -> Any:
    """Make a factory that offers what `options` describe."""
    factory = WebSocketClientFactory(options["url"], protocols=options["subprotocols"])
    factory.protocol = Client
    if options["compression"]:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[make_offer(options["offer"])], perMessageCompressionAccept=accept
        )
    if options["offer"]:
        Client.threshold = options["offer"]["threshold"]
    return factory


def make_offer(offer: dict[str, Any] | None) -> PerMessageDeflateOffer:
    """Make an offer from its description in clients.py."""
    if offer is None:
        return PerMessageDeflateOffer()
    return PerMessageDeflateOffer(
        accept_no_context_takeover=offer["client_no_context_takeover"],
        accept_max_window_bits=offer["client_max_window_bits"],
        request_no_context_takeover=offer["server_no_context_takeover"],
        request_max_window_bits=offer["server_max_window_bits"] or 0,
    )


def accept(response: object) -> PerMessageDeflateResponseAccept | None:
    """Take permessage-deflate."""
    return PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None


async def main(reactor: Any, options: dict[str, Any]) -> None:
    """Connect, and carry out the commands."""
    factory = make_factory(options)
    place = f"unix:{options['unix']}" if options["unix"] else f"tcp:{quoteStringArgument(factory.host)}:{factory.port}"
    endpoint = clientFromString(reactor, place)
    if options["certificate"]:
        trust = Certificate.loadPEM(Path(options["certificate"]).read_bytes())
        endpoint = wrapClientTLS(optionsForClientTLS(factory.host, trust), endpoint)
    if ":" in factory.host:
        # Autobahn's Host header lacks the brackets (RFC 3986 section 3.2.2), and a server has to refuse that (RFC 9112
        # section 3.2).
        factory.host = f"[{factory.host}]"
    client = await endpoint.connect(factory)
    await client.opened
    commands = Commands(client)
    StandardIO(commands)
    extensions = ", ".join(extension.EXTENSION_NAME for extension in client.websocket_extensions_in_use)
    commands.answer({"subprotocol": client.websocket_protocol_in_use, "extensions": extensions})
    await commands.ended
    if not client.closed.called:
        client.sendClose()
        await client.closed


react(lambda reactor: ensureDeferred(main(reactor, json.loads(sys.argv[1]))))
