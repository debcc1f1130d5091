"""An answer as a value: its header fields, a page that never changes, and a content policy."""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64decode

import pytest

from echod.web.answers import HTML, TEXT, Answer, Fixed, accepts_gzip, has_entity_tag, inline_policy, text

BODY = b"<!doctype html>" + b"<p>echo" * 100

PAGE = Fixed(HTML, BODY, ("X-Own", "yes"))

PLAIN = PAGE.answer(b"", b"")

SQUEEZED = PAGE.answer(b"gzip, deflate, br", b"")


def test_a_line_of_text_has_its_fields() -> None:
    assert text(429, "no", ("Retry-After", "1")).fields == (
        ("Cache-Control", "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Retry-After", "1"),
        ("Content-Type", TEXT),
        ("Content-Length", "3"),
    )


def test_an_answer_without_content_has_no_content_fields() -> None:
    assert {name for name, _ in Answer(304, "", b"").fields} == {
        "Cache-Control",
        "X-Content-Type-Options",
        "Referrer-Policy",
    }


def test_a_fixed_page() -> None:
    fields = dict(PLAIN.fields)
    assert (PLAIN.status, PLAIN.body, fields["Content-Type"], fields["X-Own"]) == (200, BODY, HTML, "yes")
    assert (fields["Vary"], "Content-Encoding" in fields) == ("Accept-Encoding", False)


def test_a_client_that_has_the_page_gets_304() -> None:
    tag = dict(PLAIN.fields)["ETag"]
    for value in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = PAGE.answer(b"", value.encode())
        assert (again.status, dict(again.fields)["ETag"], again.body) == (304, tag, b"")
        assert not dict(again.fields).keys() & {"Content-Length", "Content-Type"}
    for value in ('"other"', ""):
        assert PAGE.answer(b"", value.encode()) == PLAIN


def test_a_client_that_accepts_gzip_gets_it_under_a_tag_of_its_own() -> None:
    plain, fields = dict(PLAIN.fields), dict(SQUEEZED.fields)
    assert (SQUEEZED.status, gzip.decompress(SQUEEZED.body)) == (200, BODY)
    assert (fields["Content-Encoding"], fields["Vary"]) == ("gzip", "Accept-Encoding")
    assert int(fields["Content-Length"]) == len(SQUEEZED.body) < len(BODY)
    assert fields["ETag"] != plain["ETag"]
    assert PAGE.answer(b"gzip", fields["ETag"].encode()).status == 304
    assert PAGE.answer(b"gzip", plain["ETag"].encode()).status == 200


@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        (b"", False),
        (b"gzip", True),
        (b"GZIP;q=0.5", True),
        (b"deflate, gzip; q=1.000", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"gzip;q=0.001", True),
        (b"gzip;q=lots", False),
        (b"identity", False),
        (b"*", True),
        (b"*;q=0.1, gzip;q=0", False),
        (b"*;q=0, gzip", True),
    ],
)
def test_clients_that_accept_gzip(value: bytes, is_accepted: bool) -> None:
    assert accepts_gzip(value) == is_accepted


def test_entity_tags_are_compared_whole() -> None:
    assert not has_entity_tag(b'"abc"', b'"ab"')
    assert not has_entity_tag(b"abc", b'"abc"')


def test_the_policy_names_what_is_inline_and_forbids_the_rest() -> None:
    html = b"<style>p { }</style><p>style</p><script>\n1 < 2\n</script><script>2</script>"
    name, value = inline_policy(html, "connect-src wss:")
    assert name == "Content-Security-Policy"
    directives = dict(item.split(" ", 1) for item in value.split("; "))
    for kind, sources in {"style": [b"p { }"], "script": [b"\n1 < 2\n", b"2"]}.items():
        hashes = [
            b64decode(item.removeprefix("'sha256-").removesuffix("'")) for item in directives[f"{kind}-src"].split()
        ]
        assert hashes == [hashlib.sha256(source).digest() for source in sources]
    assert directives["connect-src"] == "wss:"
    assert all(
        directives[f"{name}"] == "'none'" for name in ("default-src", "frame-ancestors", "base-uri", "form-action")
    )
    assert "script-src" not in inline_policy(b"<p>none</p>")[1]
