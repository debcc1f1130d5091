"""The admin site's first page: figures as text, and nothing from a client as markup. test_admin_daemon.py sees it in a
browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from twisted.internet.task import Clock

from echod.web.answers import Answer
from echod.web.overview import NEWEST, Overview, describe_size, describe_time
from echod.web.sources import Local
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.frames import TEXT, client_frame


class Text(HTMLParser):
    """The words of a page, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def make_page(factory: EchoFactory) -> Overview:
    return Overview(Local(factory), factory.clock)


def answer_of(page: Overview) -> Answer:
    answers: list[Answer] = []
    page.render(None).addCallback(answers.append)
    return answers[0]


def read(factory: EchoFactory, page: Overview | None = None) -> Text:
    answer = answer_of(page or make_page(factory))
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8")
    text = Text()
    text.feed(answer.body.decode())
    return text


def test_an_idle_daemon() -> None:
    text = " ".join(read(make_factory()).words)
    for words in (
        "starting",
        "Connections 0 of 100",
        "Buffered 0 B of 256 MiB",
        "0 of 0 measurements; none on average",
        "up 0 s",
    ):
        assert words in text
    assert text.count(" none ") == 5, "the mean lag, and four tables without a row"


def test_a_busy_daemon() -> None:
    clock = Clock()
    factory = make_factory(clock)
    page = make_page(factory)
    factory.counts.lags.observe(0.03)
    factory.counts.lags.observe(0.07)
    Peer(factory).send(b"GET / HTTP/1.1\r\n\r\n")
    peers = [Peer(factory) for _ in range(NEWEST + 5)]
    peers[0].lose()
    hostile, last = peers[-2:]
    hostile.open("/<script>alert(1)</script>&amp;")
    last.open("/", "Sec-WebSocket-Extensions: permessage-deflate")
    last.send(client_frame(TEXT, bytes(2048)))
    last.protocol.pauseProducing()
    clock.advance(90_061)
    told = read(factory, page)
    text = " ".join(told.words)
    for words in (
        *("Connections 25 of 100", "Not being read 1", "1 of 2 measurements; 50.0 ms on average", "up 1 d 1 h"),
        *(
            "open, not read autobahn+permessage-deflate",
            "1 · 2 KiB",
            "autobahn text 1 2 KiB",
            "lost 1",
            "400 the Host header 1",
        ),
        *("/<script>alert(1)</script>&amp; open autobahn",),
    ):
        assert words in text
    assert told.elements.count("script") == 1
    assert told.elements.count("tr") == 5 + NEWEST + 6 + 1 + 1 + 1


def test_numbers_stand_under_their_headings() -> None:
    factory = make_factory()
    Peer(factory).open()
    page = answer_of(make_page(factory)).body.decode()
    kinds = {"": "words", ' class="number"': "number"}
    headings = [kinds[found] for found in re.findall(r'<th( class="number")?>', page[: page.index("</thead>")])]
    row = page[page.index("<tr><td") :]
    assert re.findall(r'<td class="([a-z]+)">', row[: row.index("</tr>")]) == headings


def test_a_traced_connection_has_a_link() -> None:
    for is_traced, cell in ((True, '<a href="connections/1">1</a>'), (False, "1")):
        factory = make_factory(log_frames=is_traced)
        Peer(factory).open()
        assert f'<tr><td class="words">{cell}</td><td class="words">' in answer_of(make_page(factory)).body.decode()


def test_only_its_own_script_and_style_run() -> None:
    answer = answer_of(make_page(make_factory()))
    policy = dict(answer.headers)["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert len(re.findall("'sha256-", policy)) == 2
    assert "unsafe" not in policy
    assert not re.search(rb"\son\w+=|\sstyle=", answer.body)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1536, "1.5 KiB"),
        (2**28, "256 MiB"),
        (2**50, "1 PiB"),
        (2**64, "1.64e+04 PiB"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    assert describe_size(octets) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (3600, "1 h 0 s"), (90_061, "1 d 1 h")],
)
def test_times(seconds: float, text: str) -> None:
    assert describe_time(seconds) == text
