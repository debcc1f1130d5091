"""permessage-deflate (RFC 7692) on one connection: inflates its messages, and deflates their echoes.

Knows deflate (RFC 1951) and zlib. docs/compression.md says why the mirror is right. Must never know an offer, a frame
or a connection: `Deflate` is given the terms that were agreed on, and then turns bytes into bytes.

Between two messages a connection keeps no object of zlib's, with one exception: the compressor of a connection that
can't mirror and whose client wants context takeover. A message may refer to the *window*, which is the end of what the
client's deflated messages have inflated to so far. An inflater that begins with the window as its dictionary goes on
where the one before ended.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import Any

from autobahn.exception import PayloadCorruptError, PayloadExceededError

from echod.core.account import Account
from echod.core.quantities import KIB
from echod.core.turns import STEP
from echod.http.extensions import FULL_WINDOW_BITS, NAME, Terms
from echod.settings import Settings

_RAW = -FULL_WINDOW_BITS
"""zlib's `wbits` for deflate without a header. An inflater gets the full window, whatever was agreed on. A smaller one
is a promise of the peer, and with a smaller window, the errors that zlib finds would depend on how the bytes are
cut."""

TAIL = b"\x00\x00\xff\xff"
"""The sender leaves this out at the end of a message, and the receiver adds it (sections 7.2.1 and 7.2.2)."""

_LAST_BLOCK = b"\x01\x00\x00\xff\xff"
"""An empty stored block that is marked as the last (RFC 1951 section 3.2.4). It ends any stream that stands between two
blocks and at the boundary of a byte, and no other stream."""


INFLATER = 40 * KIB
"""Bytes that an inflater takes in addition to its input: zlib's window and its state."""


class Deflate:
    """The extension at work on one connection, with the methods by which Autobahn inflates a message
    (`upstream.autobahn.Extension`).

    Autobahn's own extension has three faults (tests/upstream/test_autobahn.py). It loses what follows a block that is
    marked as the last, and with context takeover also all later messages. If a stream ends too early, it echoes the
    part that there is. And it keeps an inflater for each connection.
    """

    EXTENSION_NAME = NAME

    __slots__ = ("_came", "_compressor", "_inflater", "_made", "_said", "_settings", "account", "terms", "window")

    def __init__(self, terms: Terms, settings: Settings, account: Account) -> None:
        self.account = account
        """What is kept of a message that is not answered yet, and of its answer, is entered here."""
        self.terms = terms
        self.window = b""
        """What the next message may refer to. While a lease inflates messages, the lease has the window."""
        self._settings = settings
        self._inflater: Any = None
        # The end of what was inflated so far, including the current message. Blocks that follow a block marked as the
        # last may refer to it.
        self._said: bytearray | None = None
        # The deflated bytes of the current message, to be mirrored.
        self._came: bytearray | None = None
        # The part of its answer that is deflated already.
        self._made: bytearray | None = None
        self._compressor: Any = None

    def _enter(self) -> None:
        """Enter in the account how much is kept now."""
        inflating = 0 if self._said is None else len(self._said) + INFLATER
        self.account.deflated = inflating + len(self._came or b"") + len(self._made or b"")

    def forget_what_came(self) -> None:
        """Drop the current message, because it will not be answered and no more of it will be inflated."""
        self._came = self._inflater = self._said = None
        self._enter()

    def forget_sent(self) -> None:
        """Let no later answer refer to what was sent, because something else was sent, too."""
        self._compressor = None

    # A received message.

    def start_decompress_message(self) -> None:
        """Begin."""
        self._inflater = zlib.decompressobj(_RAW, zdict=self.window)
        self._said = bytearray(self.window)
        self._came = bytearray() if self.terms.can_mirror else None
        self._enter()

    def decompress_message_data(self, data: bytes, max_output_len: int) -> bytes:
        """Return what `data` inflates to. Like Autobahn's own, raise `PayloadExceededError` if that is over
        `max_output_len` bytes, and `PayloadCorruptError` if `data` is not deflate."""
        if self._came is not None:
            self._came += data
        pieces = []
        while data:
            if self._inflater.eof:
                # Other blocks may follow a block that is marked as the last (7.2.3.4). The RFC does not say what they
                # may refer to, so they find everything.
                self._came = None
                self._inflater = zlib.decompressobj(_RAW, zdict=bytes(self._said_last(2**FULL_WINDOW_BITS)))
            # One byte more than allowed shows that the message is too long. So the inflater never keeps more than that.
            pieces.append(self._inflate(data, max_output_len + 1))
            max_output_len -= len(pieces[-1])
            if max_output_len < 0:
                raise PayloadExceededError("a message longer than it may be when inflated")
            data = self._inflater.unused_data
        self._enter()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end_decompress_message(self) -> None:
        """End. Like Autobahn's own, raise `PayloadCorruptError` if the message is not complete."""
        if self._inflater is None:
            return  # the message was forgotten within its last frame
        if self._inflater.eof:
            # Nothing is missing, although a sender that follows section 7.2.1 puts an empty block after a last one.
            self._came = None
        else:
            rest = self._inflate(TAIL + _LAST_BLOCK, 1)
            if rest or not self._inflater.eof or self._inflater.unused_data:
                raise PayloadCorruptError("a deflated message that ends within a block")
        if self.terms.client_keeps_context:
            self.window = bytes(self._said_last(2**self.terms.client_window_bits))
        self._inflater = self._said = None
        self._enter()

    def _inflate(self, data: bytes, limit: int) -> bytes:
        assert self._said is not None
        try:
            piece: bytes = self._inflater.decompress(data, limit)
        except zlib.error as error:
            raise PayloadCorruptError(f"a message that is not deflated: {error}") from error
        self._said += piece[-(2**FULL_WINDOW_BITS) :]
        if len(self._said) > 2 * 2**FULL_WINDOW_BITS:
            del self._said[: -(2**FULL_WINDOW_BITS)]
        return piece

    def _said_last(self, size: int) -> bytearray:
        assert self._said is not None
        return self._said[-size:]

    # Its answer.

    def answer(self, payload: bytes) -> Generator[bytes, None, bytes | bytearray]:
        """Return the bytes that inflate to `payload` at the client's end, as the next of our messages. A mirror returns
        the client's own bytes.

        The work is done in steps (`turns.Tasks`), none of which has anything to send. On a connection that can mirror,
        `payload` must be what the last message inflated to; on another it may be any payload.
        """
        came, self._came = self._came, None
        if came is not None:
            self._enter()
            return came
        settings, terms = self._settings, self.terms
        compressor = self._compressor or zlib.compressobj(
            settings.deflate_level, zlib.DEFLATED, -terms.server_window_bits, settings.deflate_memory_level
        )
        self._made = bytearray()
        # Compress at least once, even nothing: a second flush without a call of `compress` in between gives nothing.
        for start in range(0, max(1, len(payload)), STEP):
            if start:
                self._enter()
                yield b""
            self._made += compressor.compress(payload[start : start + STEP])
        self._made += compressor.flush(zlib.Z_SYNC_FLUSH)
        made, self._made = self._made, None
        self._enter()
        # If other messages are mirrored, the client's inflater remembers more than this compressor does. Then each
        # message begins with a new compressor.
        self._compressor = None if terms.stands_alone else compressor
        return made[: -len(TAIL)]
