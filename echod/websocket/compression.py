"""permessage-deflate (RFC 7692) on one connection: inflates its messages, and deflates their echoes.

Knows deflate (RFC 1951) and zlib. docs/compression.md says why the mirror is right. Must never know an offer, a frame
or a connection: `Deflate` is given the terms that were agreed on, and then turns octets into octets.

Nothing of zlib's is kept for a connection between two messages, but for the compressor of one that can't mirror and
whose client wants context takeover: what a message may refer to is the *window*, the end of what the client's deflated
messages have said so far, and an inflater that begins with it as its dictionary goes on where the one before ended.
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
"""zlib's `wbits` for deflate without a header. An inflater gets the full window, whatever was agreed on: that is a
promise of the other end, and with a smaller one it would depend on how the octets are cut what zlib finds fault
with."""

TAIL = b"\x00\x00\xff\xff"
"""The sender leaves this out at the end of a message, and the receiver adds it (sections 7.2.1 and 7.2.2)."""

_LAST_BLOCK = b"\x01\x00\x00\xff\xff"
"""A block that is empty, stored and marked as the last (RFC 1951 section 3.2.4): it ends any stream that stands between
two blocks and on an octet's boundary, and no other."""


INFLATER = 40 * KIB
"""Octets that an inflater takes, beside what it was given: zlib's window and its state."""


class Deflate:
    """The extension at work on one connection, with the methods by which Autobahn inflates a message
    (`upstream.autobahn.Extension`).

    Autobahn's own loses what is behind a block that is marked as the last, and with context takeover all that comes
    after; echoes a stream that ends too early as far as it goes; and keeps an inflater for each connection
    (tests/upstream/test_autobahn.py).
    """

    EXTENSION_NAME = NAME

    __slots__ = ("_came", "_compressor", "_inflater", "_made", "_said", "_settings", "account", "terms", "window")

    def __init__(self, terms: Terms, settings: Settings, account: Account) -> None:
        self.account = account
        """Has what is kept of a message that is not answered yet, and of its answer."""
        self.terms = terms
        self.window = b""
        """What the next message may refer to. A lease that inflates messages moves it on."""
        self._settings = settings
        self._inflater: Any = None
        # The end of what was said, the current message included: its blocks behind a last one may refer to it.
        self._said: bytearray | None = None
        # The octets of the current message, to be mirrored.
        self._came: bytearray | None = None
        # Of its answer, what is deflated already.
        self._made: bytearray | None = None
        self._compressor: Any = None

    def _enter(self) -> None:
        """Enter in the account what is kept now."""
        inflating = 0 if self._said is None else len(self._said) + INFLATER
        self.account.deflated = inflating + len(self._came or b"") + len(self._made or b"")

    def forget_what_came(self) -> None:
        """Keep no message: it will not be answered, and no more of it will come."""
        self._came = self._inflater = self._said = None
        self._enter()

    # A message that comes.

    def start_decompress_message(self) -> None:
        """Begin."""
        self._inflater = zlib.decompressobj(_RAW, zdict=self.window)
        self._said = bytearray(self.window)
        self._came = bytearray() if self.terms.can_mirror else None
        self._enter()

    def decompress_message_data(self, data: bytes, max_output_len: int) -> bytes:
        """Return what `data` inflates to; raises what Autobahn's does: over `max_output_len` octets, and where it is
        not deflate."""
        if self._came is not None:
            self._came += data
        pieces = []
        while data:
            if self._inflater.eof:
                # Behind a block that is marked as the last (7.2.3.4) others may follow. What they refer to is not said;
                # they find all.
                self._came = None
                self._inflater = zlib.decompressobj(_RAW, zdict=bytes(self._said_last(2**FULL_WINDOW_BITS)))
            # One octet more than there may be tells that there is more, and nothing but that is left within the
            # inflater.
            pieces.append(self._inflate(data, max_output_len + 1))
            max_output_len -= len(pieces[-1])
            if max_output_len < 0:
                raise PayloadExceededError("a message longer than it may be when inflated")
            data = self._inflater.unused_data
        self._enter()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end_decompress_message(self) -> None:
        """End; raises what Autobahn's does, if the message is not complete."""
        if self._inflater is None:
            return  # the message was forgotten within its last frame
        if self._inflater.eof:
            # Nothing is missing, though a sender that follows section 7.2.1 puts an empty block behind a last one.
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
        """Return the octets that inflate to `payload`, at the client's end, as the next of our messages; mirrored they
        are its own.

        It is done in steps (`turns.Tasks`), none of which gives anything to be sent yet. `payload` is that of the
        message that was inflated last, on a connection that can mirror; on another it may be any.
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
        # At least once, also with nothing: a second flush with nothing in between gives nothing.
        for start in range(0, max(1, len(payload)), STEP):
            if start:
                self._enter()
                yield b""
            self._made += compressor.compress(payload[start : start + STEP])
        self._made += compressor.flush(zlib.Z_SYNC_FLUSH)
        made, self._made = self._made, None
        self._enter()
        # Where others are mirrored, what this compressor remembers is not what the client's inflater does: there each
        # begins anew.
        self._compressor = None if terms.stands_alone else compressor
        return made[: -len(TAIL)]
