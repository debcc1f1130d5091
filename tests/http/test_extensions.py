"""Which offers of permessage-deflate are accepted, and on what terms."""

from __future__ import annotations

import pytest

from echod.http.extensions import FULL_WINDOW_BITS, Terms, agree, promised_window_bits
from echod.settings import Compression, Settings
from tests.http.terms import terms

NAME = "permessage-deflate"
SETTINGS = Settings()
MIRROR, DEFLATE = Compression.MIRROR, Compression.DEFLATE


@pytest.mark.parametrize(
    ("offered", "answer", "agreed"),
    [
        ("", "", terms()),
        ("; client_max_window_bits", "; client_max_window_bits=12", terms(12)),
        ("; client_max_window_bits=15", "; client_max_window_bits=12", terms(12)),
        ('; Client_Max_Window_Bits = "10"', "; client_max_window_bits=10", terms(10)),
        # zlib can't deflate with 8 bits: it would take 9.
        ("; client_max_window_bits=8", "", terms()),
        ("; server_max_window_bits=15", "; server_max_window_bits=15", terms()),
        ("; server_max_window_bits=14", "; server_max_window_bits=14", terms(can_mirror=False)),
        (
            "; server_max_window_bits=14; client_max_window_bits",
            "; server_max_window_bits=14; client_max_window_bits=12",
            terms(12),
        ),
        # The client's inflater keeps only 512 bytes, so its compressor is asked to refer back no further.
        (
            "; server_max_window_bits=9; client_max_window_bits",
            "; server_max_window_bits=9; client_max_window_bits=9",
            terms(9, 9),
        ),
        ("; server_max_window_bits=9", "; server_max_window_bits=9", terms(15, 9, can_mirror=False)),
        ("; server_no_context_takeover", "; server_no_context_takeover", terms(server_keeps=False, can_mirror=False)),
        ("; client_no_context_takeover", "; client_no_context_takeover", terms(client_keeps=False)),
        (
            "; client_no_context_takeover; client_max_window_bits=11; server_max_window_bits=10; "
            "server_no_context_takeover",
            "; server_no_context_takeover; server_max_window_bits=10; client_no_context_takeover; "
            "client_max_window_bits=10",
            terms(10, 10, client_keeps=False, server_keeps=False),
        ),
    ],
)
def test_the_terms_with_mirroring(offered: str, answer: str, agreed: Terms) -> None:
    assert agree(NAME + offered, SETTINGS, MIRROR, may_mirror=True) == (NAME + answer, agreed)


@pytest.mark.parametrize(
    ("offered", "answer", "agreed"),
    [
        ("", "", terms(can_mirror=False)),
        (
            "; server_max_window_bits=9; client_max_window_bits",
            "; server_max_window_bits=9; client_max_window_bits=12",
            terms(12, 9, can_mirror=False),
        ),
    ],
)
def test_the_terms_if_each_echo_is_deflated_anew(offered: str, answer: str, agreed: Terms) -> None:
    for mode, may_mirror in ((DEFLATE, True), (MIRROR, False)):
        assert agree(NAME + offered, SETTINGS, mode, may_mirror) == (NAME + answer, agreed)


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-bzip2",
        f"{NAME}; unknown",
        f"{NAME}; server_max_window_bits",
        f"{NAME}; server_max_window_bits=8",  # valid (section 7.1.2.1), but more than zlib can do
        f"{NAME}; server_max_window_bits=16",
        f"{NAME}; server_max_window_bits=09",
        f"{NAME}; client_max_window_bits=abc",
        f"{NAME}; client_max_window_bits=",
        f"{NAME}; client_max_window_bits=7",
        f"{NAME}; client_no_context_takeover; client_no_context_takeover",
        f"{NAME}; client_no_context_takeover=1",
        f"{NAME}; server_no_context_takeover=1",
    ],
)
def test_an_invalid_offer_is_declined_and_the_next_one_considered(offer: str) -> None:
    assert agree(offer, SETTINGS, MIRROR, may_mirror=True) is None
    assert agree(
        f"{offer}, Permessage-Deflate; server_max_window_bits=15, {NAME}", SETTINGS, MIRROR, may_mirror=True
    ) == (
        f"{NAME}; server_max_window_bits=15",
        terms(),
    )


@pytest.mark.parametrize("bits", range(9, 16))
def test_what_we_promise_is_in_the_answer(bits: int) -> None:
    agreed = agree(f"{NAME}; server_max_window_bits={bits}", SETTINGS, DEFLATE, may_mirror=False)
    assert agreed is not None
    assert promised_window_bits(agreed.answer) == bits


def test_without_a_promise_we_may_use_the_full_window() -> None:
    agreed = agree(f"{NAME}; client_max_window_bits", SETTINGS, DEFLATE, may_mirror=False)
    assert agreed is not None
    assert promised_window_bits(agreed.answer) == FULL_WINDOW_BITS
