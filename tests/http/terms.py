"""Terms of permessage-deflate, for the tests of offers and of messages."""

from __future__ import annotations

from echod.http.extensions import Terms


def terms(
    client: int = 15, server: int = 12, client_keeps: bool = True, server_keeps: bool = True, can_mirror: bool = True
) -> Terms:
    """Return terms; without arguments, those that an offer without parameters leads to."""
    return Terms(client, server, client_keeps, server_keeps, can_mirror)
