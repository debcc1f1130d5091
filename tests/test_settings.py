"""How the settings are divided among workers."""

from __future__ import annotations

from echod.settings import Settings


def test_shares_add_up_to_the_whole() -> None:
    settings = Settings(workers=3, max_connections=11, max_buffered=3 * 2**20)
    shares = [settings.share(index) for index in range(3)]
    assert [share.max_connections for share in shares] == [4, 4, 3]
    assert {share.max_buffered for share in shares} == {2**20}
    assert {share.message_limit for share in shares} == {2**19}
    assert Settings(workers=2).share(1).max_connections is None
    assert Settings(workers=2, authority_file="/a").share(1).authority_file is None, "the parent writes it"
