"""The messages of a check: how they are made, and how an echo differs from what was sent.

Pure, except for the system's random numbers.
"""

from __future__ import annotations

import os

from echod.core.quantities import KIB

SHOWN = 32
"""Bytes of an answer or a message that are shown."""


def make_text(size: int) -> bytes:
    """Return `size` bytes of random UTF-8, with characters of one to four bytes as far as they fit."""
    # Random UTF-16 has hardly any character of four bytes, so the text begins with one.
    octets = ("é😀☕" + os.urandom(size).decode("utf-16-le", errors="ignore")).encode()[:size]
    octets = octets.decode(errors="ignore").encode()
    return octets + b"." * (size - len(octets))


def difference(sent: bytes, sent_binary: bool, got: bytes, got_binary: bool) -> str:
    """Return how an echo differs from what was sent; empty if it does not differ."""
    kinds = ("text", "binary")
    found = [f"type: {kinds[sent_binary]} sent, {kinds[got_binary]} came back"] if sent_binary != got_binary else []
    if len(sent) != len(got):
        found.append(f"length: {len(sent)} bytes sent, {len(got)} came back")
    if (at := _first_difference(sent, got)) < min(len(sent), len(got)):
        found.append(f"byte {at}: {sent[at]:02x} sent, {got[at]:02x} came back")
    return "; ".join(found)


def _first_difference(one: bytes, other: bytes) -> int:
    piece = 64 * KIB
    start = next((at for at in range(0, len(one), piece) if one[at : at + piece] != other[at : at + piece]), len(one))
    pairs = enumerate(zip(one[start : start + piece], other[start : start + piece], strict=False), start)
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
