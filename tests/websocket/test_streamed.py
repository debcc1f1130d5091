"""A WebSocket on a stream: its opening handshake, and plain HTTP."""

from __future__ import annotations

import json

import pytest
from twisted.internet.task import Clock

from echod.core.counts import Outcome
from echod.web.pages import Pages
from tests.fakes import make_factory
from tests.frames import CLOSE, TEXT, Frame, client_frame, close_payload
from tests.h2_client import Exchange, exchange
from tests.websocket.peers import Deflater


def with_pages(clock: Clock) -> Exchange:
    """Return a client of a server with a console."""
    return exchange(clock, make_factory(clock, pages=Pages(make_factory().settings, lambda: True).answer))


class TestWebSockets:
    """Extended CONNECT."""

    def test_an_opening_handshake(self, clock: Clock) -> None:
        made = exchange(clock)
        number = made.opened("/", ("sec-websocket-protocol", "one, two"), ("origin", "https://example.com"))
        assert made.client.heads[number] == {":status": "200", "sec-websocket-protocol": "one"}
        assert made.echo(number, client_frame(TEXT, b"hello")) == [Frame(TEXT, b"hello")]

    def test_the_key_of_a_client_behind_a_proxy_is_answered(self, clock: Clock) -> None:
        """The example of RFC 6455 section 1.3."""
        made = exchange(clock)
        number = made.opened("/", ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))
        assert made.client.heads[number] == {":status": "200", "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}

    def test_compression(self, clock: Clock) -> None:
        made = exchange(clock)
        number = made.opened("/", ("sec-websocket-extensions", "permessage-deflate"))
        assert made.client.heads[number]["sec-websocket-extensions"].startswith("permessage-deflate")
        deflater = Deflater()
        (frame,) = made.echo(number, client_frame(TEXT, deflater.deflate(b"hello" * 100), rsv=4))
        assert frame.rsv == 4
        assert deflater.inflate(frame) == b"hello" * 100

    @pytest.mark.parametrize(
        ("path", "fields", "answer"),
        [
            ("/?delay=x", (), ("400", "Bad request: the parameter delay is not a duration")),
            ("/?status=418", (), ("418", "The URL asks for this status")),
            ("/", (("origin", "https://evil.example"),), ("403", "This origin may not connect")),
            ("/", (("sec-websocket-protocol", "a, a"),), ("400", "Bad request: the Sec-WebSocket-Protocol header")),
        ],
    )
    def test_refusals(
        self, clock: Clock, path: str, fields: tuple[tuple[str, str], ...], answer: tuple[str, str]
    ) -> None:
        made = exchange(clock, origins=("https://example.com",))
        status, text = made.refused(made.client.connect(path, *fields))
        assert status == answer[0]
        assert text.startswith(answer[1])

    def test_another_version(self, clock: Clock) -> None:
        made = exchange(clock)
        number = made.client.connect(version="8")
        assert made.refused(number) == ("400", "WebSocket version 13 is needed.\n")
        assert made.client.heads[number]["sec-websocket-version"] == "13"

    def test_another_protocol_and_a_tunnel(self, clock: Clock) -> None:
        made = exchange(clock)
        assert made.refused(made.client.connect(protocol="connect-udp"))[0] == "501"
        assert made.refused(made.client.raw((":method", "CONNECT"), (":authority", "localhost")))[0] == "501"

    def test_a_refused_stream_ends_and_the_others_go_on(self, clock: Clock) -> None:
        made = exchange(clock)
        one, bad = made.opened(), made.client.connect("/?status=500")
        made.go()
        assert made.client.ended == {bad}
        made.client.h2.end_stream(bad)
        made.go()
        assert made.session.streams.keys() == {one}
        assert made.echo(one, client_frame(TEXT, b"hello")) == [Frame(TEXT, b"hello")]

    def test_faults_are_each_streams_own(self, clock: Clock) -> None:
        made = exchange(clock)
        late, early = made.opened("/?delay=1s"), made.opened("/?abort&after=1")
        assert made.echo(late, client_frame(TEXT, b"late")) == []
        assert made.echo(early, client_frame(TEXT, b"early")) == [Frame(TEXT, b"early")]
        clock.advance(0.5)
        made.go()
        assert made.client.resets == {early: 8}
        clock.advance(1)
        made.go()
        assert made.client.frames(late) == [Frame(TEXT, b"late")]

    def test_goaway(self, clock: Clock) -> None:
        made = exchange(clock)
        number, other = made.opened("/?goaway&after=1&delay=1s"), made.opened()
        assert made.echo(number, client_frame(TEXT, b"one")) == []
        assert made.client.goaway is None
        clock.advance(1)
        made.go()
        assert made.client.frames(number) == [Frame(TEXT, b"one")]
        assert made.client.goaway == (other, 0, "")
        late = made.client.connect()
        made.go()
        assert made.client.resets == {late: 7}
        assert made.echo(other, client_frame(TEXT, b"two")) == [Frame(TEXT, b"two")]
        for each in (number, other):
            made.client.h2.end_stream(each)
        clock.advance(1)
        made.go()
        clock.advance(1)
        assert made.transport.half_closed

    def test_a_late_answer(self, clock: Clock) -> None:
        made = exchange(clock)
        number = made.client.connect("/?handshake-delay=1s")
        made.go()
        assert made.client.heads == {}
        made.client.send(number, client_frame(TEXT, b"too early"))
        made.go()
        clock.advance(1)
        made.go()
        assert made.client.heads[number][":status"] == "200"
        assert made.client.frames(number) == [Frame(TEXT, b"too early")]

    def test_a_fin_in_place_of_a_close_frame(self, clock: Clock) -> None:
        made = exchange(clock)
        number = made.opened()
        made.client.send(number, client_frame(TEXT, b"hello"), is_last=True)
        made.go()
        assert made.client.frames(number) == [Frame(TEXT, b"hello")]
        assert made.client.ended == {number}
        assert not made.session.streams

    def test_a_frame_that_is_wrong(self, clock: Clock) -> None:
        made = exchange(clock, close_timeout=5)
        number = made.opened()
        (frame,) = made.echo(number, client_frame(3, b""))
        assert (frame.opcode, frame.payload[:2]) == (CLOSE, close_payload(1002))
        assert made.client.ended == {number}


class TestPlainHttp:
    """GET and HEAD, and what is neither."""

    def test_the_console(self, clock: Clock) -> None:
        made = with_pages(clock)
        number = made.client.request("GET", "/")
        status, text = made.refused(number)
        assert (status, text[:15]) == ("200", "<!doctype html>")
        head = made.client.heads[number]
        assert "connection" not in head
        assert head["content-length"] == str(len(text.encode()))
        assert made.client.ended == {number}
        assert not made.session.streams
        other = made.client.request("GET", "/", ("if-none-match", head["etag"]))
        assert made.refused(other) == ("304", "")

    def test_head(self, clock: Clock) -> None:
        made = with_pages(clock)
        number = made.client.request("HEAD", "/healthz")
        assert made.refused(number) == ("200", "")
        assert made.client.heads[number]["content-length"] == "3"

    @pytest.mark.parametrize(
        ("method", "path", "answer"),
        [
            ("GET", "/info", ("426", "This is echod, a WebSocket echo server.")),
            ("GET", "/nothing", ("404", "There is no such page.")),
            ("POST", "/", ("405", "Only GET and HEAD are answered here.")),
            ("GET", "*", ("404", "There is no such page.")),
        ],
    )
    def test_other_requests(self, clock: Clock, method: str, path: str, answer: tuple[str, str]) -> None:
        made = with_pages(clock)
        number = made.client.request(method, path)
        status, text = made.refused(number)
        assert status == answer[0]
        assert text.startswith(answer[1])
        assert "upgrade" not in made.client.heads[number]

    def test_a_body(self, clock: Clock) -> None:
        made = with_pages(clock)
        assert made.refused(made.client.request(is_whole=False)) == ("400", "Bad request: a body.\n")

    def test_its_outcome(self, clock: Clock) -> None:
        made = with_pages(clock)
        factory = made.session._house._factory  # type: ignore[attr-defined]
        made.refused(made.client.request())
        made.refused(made.client.request("POST"))
        assert factory.counts.outcomes == {Outcome.PAGE: 1, Outcome.REFUSED: 1}


class TestTracing:
    """`--log-frames`."""

    def test_a_websocket(self, clock: Clock, lines: list[str]) -> None:
        made = exchange(clock, log_frames=True)
        number = made.opened("/a", ("cookie", "secret"))
        made.echo(number, client_frame(TEXT, b"hello"))
        made.echo(number, client_frame(CLOSE, close_payload(1000)))
        told = [line.partition(": ")[2] for line in lines]
        assert told[:5] == [
            "opening from 192.0.2.1: CONNECT /a HTTP/2 | host: localhost | sec-websocket-version: 13 | "
            "cookie: (6 octets, not shown)",
            "answer: HTTP/2 200",
            "in text fin masked length=5: hello",
            "out text fin length=5: hello",
            "in close fin masked length=2: 1000",
        ]
        assert made.session._house._factory.tracing.live == {}  # type: ignore[attr-defined]

    def test_a_page(self, clock: Clock, lines: list[str]) -> None:
        made = exchange(clock, log_frames=True)
        made.refused(made.client.request())
        assert any("answer: HTTP/2 426 | date: " in line for line in lines)


def test_info_shows_what_came(clock: Clock) -> None:
    made = exchange(clock)
    (frame,) = made.echo(made.opened("/info?a=b", ("user-agent", "x")), b"")
    told = json.loads(frame.payload)
    assert (told["path"], told["query"], told["lane"]) == ("/info", "a=b", "autobahn")
    assert told["headers"] == [["host", "localhost"], ["sec-websocket-version", "13"], ["user-agent", "x"]]
    assert told["http"]["version"] == "2"
    assert told["peer"] == {"address": "192.0.2.1", "port": 1234}
