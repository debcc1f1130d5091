"""The path and the query of a request target."""

from __future__ import annotations

import pytest

from echod.http import paths
from echod.http.request import Request
from tests.frames import handshake
from tests.http.heads import verdict


def test_a_path_may_begin_with_two_slashes() -> None:
    request = verdict(handshake("//x/info?delay=1s&reason=a?b"))
    assert isinstance(request, Request)
    assert (request.path, request.query) == ("//x/info", "delay=1s&reason=a?b")


@pytest.mark.parametrize(
    ("target", "url"),
    [
        (b"/", ("/", "")),
        (b"/a?b?c", ("/a", "b?c")),
        (b"http://x", ("", "")),
        (b"http://x/a?b", ("/a", "b")),
        (b"*", ("*", "")),
        (b"", None),
        (b"x:1", None),
        (b"http://[/", None),
        (b"/\xff", None),
    ],
)
def test_each_form_of_a_target(target: bytes, url: tuple[str, str] | None) -> None:
    assert paths.split(target) == url
