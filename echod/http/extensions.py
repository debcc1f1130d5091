"""`Sec-WebSocket-Extensions`: which offer of permessage-deflate (RFC 7692) is accepted, and what was agreed on.

Pure. Knows the extension's parameters and what zlib can do. `docs/compression.md` says when a deflated message may be
mirrored. Must never know a message: `websocket/compression.py` inflates and deflates by these terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from echod.settings import Compression, Settings

NAME = "permessage-deflate"

FULL_WINDOW_BITS = 15
"""Deflate's own window of 32 KiB. An endpoint may use all of it unless told otherwise (RFC 7692 section 7.1.2)."""

_LEAST_WINDOW_BITS = 9
"""zlib can't deflate with 8 bits, which section 7.1.2 allows. Asked for 8, zlib takes 9 or fails."""

_BITS = {str(bits): bits for bits in range(8, FULL_WINDOW_BITS + 1)}


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed on, and what follows from it."""

    client_window_bits: int
    """The client's compressor refers back by at most 2 to this power, in bytes."""
    server_window_bits: int
    """The same for our compressor, if it is used. The client's inflater may accept more."""
    client_keeps_context: bool
    """Whether a message of the client may refer to earlier ones."""
    server_keeps_context: bool
    """The same for our messages. The client's inflater then keeps its window from message to message."""
    can_mirror: bool
    """Whether a deflated message may be answered with its own bytes (docs/compression.md)."""

    @property
    def stands_alone(self) -> bool:
        """Whether no answer refers to an earlier one, so that no state of a compressor is kept."""
        return self.can_mirror or not self.server_keeps_context

    @property
    def answer_window_bits(self) -> int:
        """How far an answer refers back at most: a mirrored answer as far as the client's message, any other answer as
        far as our compressor."""
        return max(self.client_window_bits, self.server_window_bits) if self.can_mirror else self.server_window_bits

    @property
    def name(self) -> str:
        """The way in which messages are answered."""
        return Compression.MIRROR if self.can_mirror else Compression.DEFLATE


class Agreement(NamedTuple):
    """An offer that was accepted."""

    answer: str
    """The value of `Sec-WebSocket-Extensions` in the answer."""
    terms: Terms


def agree(extensions: str, settings: Settings, mode: Compression, may_mirror: bool) -> Agreement | None:
    """Accept the first acceptable offer in `extensions`, the value of a header. The others are declined (section 5.1).

    `mode` is what the operator or the URL has chosen. Without `may_mirror` no message is mirrored, because the
    connection does more than echo.
    """
    if mode is Compression.OFF:
        return None
    offers = (_Offer.parse(text) for text in extensions.split(", "))
    return next(
        (offer.accept(settings, mode is Compression.MIRROR and may_mirror) for offer in offers if offer is not None),
        None,
    )


def promised_window_bits(answer: str) -> int:
    """Return how far our messages may refer back, by the answer to an offer."""
    found = re.search(r"server_max_window_bits=(\d+)", answer)
    return FULL_WINDOW_BITS if found is None else int(found[1])


@dataclass(frozen=True, slots=True)
class _Offer:
    """An offer of permessage-deflate."""

    server_window_bits: int | None
    """The window that our compressor may use (7.1.2.1); None if the offer does not say."""
    client_window_bits: int | None
    """The largest window that the client may be asked to use (7.1.2.2); None if it may not be asked."""
    server_keeps_context: bool
    client_keeps_context: bool

    @classmethod
    def parse(cls, text: str) -> _Offer | None:
        """Read one extension with its parameters. Return None if it is another extension, has an invalid parameter
        (7.1), or asks for what zlib can't do."""
        name, *parts = (part.strip() for part in text.split(";"))
        parameters: dict[str, str | None] = {}
        for part in parts:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if key.lower() in parameters:
                return None
            parameters[key.lower()] = value.strip('"') if equals else None
        if name.lower() != NAME or not all(
            key in _PARAMETERS and _PARAMETERS[key](value) for key, value in parameters.items()
        ):
            return None
        server_window = parameters.get("server_max_window_bits")
        return cls(
            server_window_bits=None if server_window is None else _BITS[server_window],
            client_window_bits=_BITS[parameters["client_max_window_bits"] or str(FULL_WINDOW_BITS)]
            if "client_max_window_bits" in parameters
            else None,
            server_keeps_context="server_no_context_takeover" not in parameters,
            client_keeps_context="client_no_context_takeover" not in parameters,
        )

    def accept(self, settings: Settings, wants_mirror: bool) -> Agreement:
        """Accept the offer within the memory that `settings` allow. With `wants_mirror`, make mirroring possible if the
        offer allows it."""
        promised = self.server_window_bits or FULL_WINDOW_BITS
        asked = self._client_window_to_ask(
            min(settings.deflate_window_bits, promised) if wants_mirror else settings.deflate_window_bits
        )
        client_window_bits = asked or FULL_WINDOW_BITS
        keeps_up = self.server_keeps_context or not self.client_keeps_context
        terms = Terms(
            client_window_bits=client_window_bits,
            server_window_bits=min(settings.deflate_window_bits, promised),
            client_keeps_context=self.client_keeps_context,
            server_keeps_context=self.server_keeps_context,
            can_mirror=wants_mirror and client_window_bits <= promised and keeps_up,
        )
        return Agreement(self._answer(asked), terms)

    def _client_window_to_ask(self, wanted: int) -> int | None:
        """Return the window to ask the client for, at most what it offers. Return None if the client must not be
        asked."""
        if self.client_window_bits is None or self.client_window_bits < _LEAST_WINDOW_BITS:
            return None
        return min(wanted, self.client_window_bits)

    def _answer(self, client_window_bits: int | None) -> str:
        # client_no_context_takeover in an offer is a hint. It binds the client only if the answer repeats it (7.1.1.2).
        # gorilla's client accepts no other answer.
        parts = [
            NAME,
            *([] if self.server_keeps_context else ["server_no_context_takeover"]),
            *([] if self.server_window_bits is None else [f"server_max_window_bits={self.server_window_bits}"]),
            *([] if self.client_keeps_context else ["client_no_context_takeover"]),
            *([] if client_window_bits is None else [f"client_max_window_bits={client_window_bits}"]),
        ]
        return "; ".join(parts)


_PARAMETERS: dict[str, Callable[[str | None], bool]] = {
    "server_no_context_takeover": lambda value: value is None,
    "client_no_context_takeover": lambda value: value is None,
    "server_max_window_bits": lambda value: value in _BITS and _BITS[value] >= _LEAST_WINDOW_BITS,
    "client_max_window_bits": lambda value: value is None or value in _BITS,
}
"""For each parameter, a test whether a value is valid. None stands for no value."""
