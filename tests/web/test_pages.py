"""What the WebSocket port answers to plain HTTP: from the guard's verdict to the bytes of the answer."""

from __future__ import annotations

import gzip
import re
from html.parser import HTMLParser
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, cast

from echod.http.request import PageRequest
from echod.settings import Settings
from echod.web.pages import Pages, console


class Octets:
    """The part of a socket that http.client uses."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, _: str) -> BytesIO:
        return BytesIO(self._octets)


def ask(
    path: str, method: bytes = b"GET", is_healthy: bool = True, has_console: bool = True, **fields: bytes
) -> tuple[HTTPResponse, bytes]:
    """Return the answer as Python's own client reads it, and its body."""
    pages = Pages(Settings(has_console=has_console), lambda: is_healthy)
    request = PageRequest(method, path, {name.replace("_", "-").encode(): [value] for name, value in fields.items()})
    response = HTTPResponse(cast(Any, Octets(pages.answer(request).octets)), method=method.decode())
    response.begin()
    return response, response.read()


def test_the_health_check() -> None:
    response, body = ask("/healthz")
    assert (response.status, body) == (200, b"ok\n")
    response, body = ask("/healthz", is_healthy=False)
    assert (response.status, body, response.headers["Retry-After"]) == (503, b"shutting down\n", "1")


def test_the_console() -> None:
    response, body = ask("/")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Connection"] == "close"
    assert response.headers["Server"] is None
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert b"<title>echod console</title>" in body
    assert gzip.decompress(ask("/", accept_encoding=b"gzip")[1]) == body


def test_a_client_that_has_the_page_gets_304() -> None:
    tag = ask("/")[0].headers["ETag"]
    response, body = ask("/", if_none_match=tag.encode())
    assert (response.status, body) == (304, b"")


def test_missing_pages() -> None:
    missing = ("/other", "/healthz/", "/%00", "//healthz", "/%2fhealthz", "*")
    for path, has_console in (*((path, True) for path in missing), ("/", False)):
        response, body = ask(path, has_console=has_console)
        assert (response.status, body.count(b"\n")) == (404, 1)
        assert b"ws://" in body


def test_the_authority() -> None:
    request = PageRequest(b"GET", "/authority.pem", {})
    octets = Pages(Settings(), lambda: True, "-----BEGIN").answer(request).octets
    assert b"\r\nContent-Type: application/pem-certificate-chain\r\n" in octets
    assert octets.endswith(b"\r\n\r\n-----BEGIN")
    response, body = ask("/authority.pem")
    assert (response.status, body.count(b"\n")) == (404, 1)
    assert b"without a throwaway: endpoint" in body


def test_the_console_links_to_the_authority_if_there_is_one() -> None:
    for authority, is_hidden in (("", True), ("-----BEGIN", False)):
        octets = Pages(Settings(), lambda: True, authority).answer(PageRequest(b"GET", "/", {})).octets
        parser = Elements()
        parser.feed(octets.partition(b"\r\n\r\n")[2].decode())
        (place,) = [attributes for _, attributes in parser.tags if attributes.get("id") == "authority"]
        assert ("hidden" in place) == is_hidden


def test_the_octets_of_an_answer() -> None:
    pages = Pages(Settings(), lambda: True)
    head, _, body = pages.answer(PageRequest(b"GET", "/%68ealthz", {})).octets.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", lines.pop(2))
    assert (lines, body) == (
        [
            "HTTP/1.1 200 OK",
            "Connection: close",
            "Cache-Control: no-cache",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Length: 3",
        ],
        b"ok\n",
    )


def test_a_field_of_several_lines_is_one_list() -> None:
    pages = Pages(Settings(), lambda: True)
    octets = pages.answer(PageRequest(b"GET", "/", {b"accept-encoding": [b"br", b"gzip;q=0.5"]})).octets
    assert b"\r\nContent-Encoding: gzip\r\n" in octets


def test_head() -> None:
    response, body = ask("/", b"HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 10_000


class Elements(HTMLParser):
    """Finds what a browser would fetch, and what a strict policy would forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_no_other_file() -> None:
    parser = Elements()
    parser.feed(ask("/")[1].decode())
    ids = [attributes["id"] for _, attributes in parser.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 50
    for tag, attributes in parser.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")], tag
        if "href" in attributes:
            assert re.match("data:|#|authority.pem$", attributes["href"] or ""), tag
        for name in ("for", "aria-describedby", "aria-labelledby", "list"):
            for target in (attributes.get(name) or "").split():
                assert target in ids, (tag, name, target)
    assert [tag for tag, _ in parser.tags if tag in ("script", "style", "link", "img", "iframe")] == [
        "link",
        "style",
        "script",
        "script",
    ]
    kinds = [attributes.get("type") for tag, attributes in parser.tags if tag == "script"]
    assert kinds == ["application/json", None], "the first is data, which a browser does not run"


def test_the_policy_names_one_script_and_one_style() -> None:
    policy = dict(console(Settings()).answer(b"", b"").headers)["Content-Security-Policy"]
    assert re.search(
        r"script-src 'sha256-[^ ;]+'; style-src 'sha256-[^ ;]+'; connect-src ws: wss:; img-src data:;", policy
    )
