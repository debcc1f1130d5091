"""Which offer of permessage-deflate (RFC 7692) is taken, and with how much memory.

Knows the extension's parameters and what Autobahn can do with them. Must never see a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from autobahn.websocket.compress_deflate import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

from echod.settings import Settings


def usable_offers(extensions: str, window_bits: int) -> str:
    """Return, of the extensions offered, what Autobahn can take: offers of permessage-deflate with valid parameters.

    RFC 7692 section 5.1 has the server decline an offer that it can't take and look at the next; Autobahn fails the whole
    opening handshake over it, also for `server_max_window_bits=8`, which is valid but more than zlib can do.

    Autobahn forgets the value of an offered `client_max_window_bits`; a server may not answer with a larger one (section
    7.1.2.2), so where it is smaller than the `window_bits` that will be asked for, the parameter is left out and none is asked
    for.
    """
    offers = (_Offer.parse(offer) for offer in extensions.split(", "))
    return ", ".join(str(offer.without_small_window(window_bits)) for offer in offers if offer.is_usable())


@dataclass(frozen=True, slots=True)
class _Offer:
    """One extension with its parameters, in order; a parameter without a value has None."""

    name: str
    parameters: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        name, *parts = (part.strip() for part in text.split(";"))
        pairs = (part.partition("=") for part in parts)
        return cls(name.lower(), tuple((key.strip().lower(), value.strip().strip('"') if eq else None) for key, eq, value in pairs))

    def __str__(self) -> str:
        return "; ".join([self.name, *(key if value is None else f"{key}={value}" for key, value in self.parameters)])

    def without_small_window(self, window_bits: int) -> _Offer:
        small = {str(bits) for bits in range(8, window_bits)}
        return replace(self, parameters=tuple(p for p in self.parameters if p[0] != "client_max_window_bits" or p[1] not in small))

    def is_usable(self) -> bool:
        values: dict[str, list[str | bool]] = {}
        for key, value in self.parameters:
            values.setdefault(key, []).append(True if value is None else value)
        if values.get("client_max_window_bits") == ["8"]:
            # Valid (section 7.1.2.2), and no more than a promise; Autobahn knows 9 to 15.
            del values["client_max_window_bits"]
        try:
            PerMessageDeflateOffer.parse(values)
        except Exception:  # Autobahn raises bare Exception for each fault
            return False
        return self.name == PerMessageDeflateOffer.EXTENSION_NAME


def make_accept(settings: Settings) -> Callable[[Sequence[object]], PerMessageDeflateOfferAccept | None]:
    """Return Autobahn's `perMessageCompressionAccept`: take the first offer, in the memory that `settings` allow."""
    window_bits = settings.deflate_window_bits

    def accept(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
        for offer in offers:
            if isinstance(offer, PerMessageDeflateOffer):
                return PerMessageDeflateOfferAccept(
                    offer,
                    request_max_window_bits=window_bits if offer.accept_max_window_bits else 0,
                    window_bits=min(offer.request_max_window_bits or window_bits, window_bits),
                    mem_level=settings.deflate_memory_level,
                )
        return None

    return accept
