"""`Sec-WebSocket-Extensions`: which offer of permessage-deflate (RFC 7692) is taken, and what was agreed on.

Knows the extension's parameters and what zlib can do. `docs/compression.md` says when a deflated message may be
mirrored. Must never know a message: `websocket/compression.py` inflates and deflates by these terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from echod.settings import Compression, Settings

NAME = "permessage-deflate"

FULL_WINDOW_BITS = 15
"""Deflate's own window, 32 KiB: what an endpoint may use that was not told otherwise (RFC 7692 section 7.1.2)."""

_LEAST_WINDOW_BITS = 9
"""zlib can't deflate with 8 (section 7.1.2 allows it): where it is asked to, it takes 9, or fails."""

_BITS = {str(bits): bits for bits in range(8, FULL_WINDOW_BITS + 1)}


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed on, and what follows from it."""

    client_window_bits: int
    """The client's compressor refers back by at most two to the power of this, in octets."""
    server_window_bits: int
    """Likewise ours, where it is at work; the client's inflater may have promised more."""
    client_keeps_context: bool
    """Whether the client's messages may refer to those before."""
    server_keeps_context: bool
    """Likewise ours: whether the client's inflater goes on from message to message."""
    can_mirror: bool
    """Whether the answer to a deflated message may be its own octets (docs/compression.md)."""

    @property
    def stands_alone(self) -> bool:
        """Whether no answer refers to one before it, so that nothing of a compressor is kept."""
        return self.can_mirror or not self.server_keeps_context

    @property
    def answer_window_bits(self) -> int:
        """By how much an answer refers back at most: a mirrored one as far as the client's message, another as far as
        our compressor."""
        return max(self.client_window_bits, self.server_window_bits) if self.can_mirror else self.server_window_bits

    @property
    def name(self) -> str:
        """How messages are answered."""
        return Compression.MIRROR if self.can_mirror else Compression.DEFLATE


class Agreement(NamedTuple):
    """An offer that was taken."""

    answer: str
    """The value of the answer's `Sec-WebSocket-Extensions`."""
    terms: Terms


def agree(extensions: str, settings: Settings, mode: Compression, may_mirror: bool) -> Agreement | None:
    """Take the first offer of `extensions`, a header's value, that can be taken: section 5.1 has a server decline the
    others.

    `mode` is what the operator or the URL has chosen; without `may_mirror` there is more to a connection's messages
    than their echo.
    """
    if mode is Compression.OFF:
        return None
    offers = (_Offer.parse(text) for text in extensions.split(", "))
    return next(
        (offer.accept(settings, mode is Compression.MIRROR and may_mirror) for offer in offers if offer is not None),
        None,
    )


@dataclass(frozen=True, slots=True)
class _Offer:
    """An offer of permessage-deflate."""

    server_window_bits: int | None
    """What our compressor may use (7.1.2.1); None: it is not said."""
    client_window_bits: int | None
    """What the client's may be asked for (7.1.2.2); None: nothing."""
    server_keeps_context: bool
    client_keeps_context: bool

    @classmethod
    def parse(cls, text: str) -> _Offer | None:
        """Read one extension with its parameters; None, if it is another, has a parameter that is none (7.1), or is
        more than zlib can."""
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
        """Take it, in the memory that `settings` allow, and if `wants_mirror` so that it can be."""
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
        """Return what the client's window is to be, which can't be more than it offers; None, if it must be left to the
        client."""
        if self.client_window_bits is None or self.client_window_bits < _LEAST_WINDOW_BITS:
            return None
        return min(wanted, self.client_window_bits)

    def _answer(self, client_window_bits: int | None) -> str:
        # What the client offers to do without is a hint, by which it is bound only when the answer has it, too
        # (7.1.1.2); gorilla's client takes no other answer.
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
"""By each parameter, whether a value, None for none, is one of its."""
