"""Request heads that are nearly those that the door remembers. Whatever is changed in one, a client gets the same
answer with the door and without it, and the same is counted and listed."""

from __future__ import annotations

import os
import random
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from echod.echo import EchoProtocol
from echod.lane.native import Native
from echod.settings import Compression, Settings
from echod.websocket.factory import EchoFactory
from tests.frames import CLOSE, CONTINUATION, TEXT, client_frame, close_payload, handshake, server_frame
from tests.loop import Loop, close, needed_native
from tests.test_guest_sameness import counts
from tests.websocket.test_hosting import Client, House

LIVES = int(os.environ.get("ECHOD_TEST_HEADS", "150"))
"""Changed heads for each seed. More are for a run by hand."""

MOST_HEAD = 1500
"""The limit on a head, which is small so that some heads reach it."""

CHANCE = re.compile(rb'\r\nDate: [^\r]+|"port": \d+|"number": "\d+"')
"""What differs in an answer from one time to the next."""

HELLO = client_frame(TEXT, b"Hello")
LAST_WORDS = (
    b"",
    HELLO,
    client_frame(TEXT, b"He", fin=False) + client_frame(CONTINUATION, b"llo"),
    client_frame(CLOSE, close_payload(1000, "bye")),
    b"\x83\x80abcd",
)

HEADS = (
    handshake(),
    handshake("/chat?token=1", "Sec-WebSocket-Protocol: one, two"),
    handshake(
        "/",
        "Origin: https://a.example",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
        "Accept-Language: en",
        "Cookie: a=b; c=\xc3\xa9",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ),
    handshake(
        "/?compression=off", "Sec-WebSocket-Extensions: permessage-deflate", "X-Forwarded-For: 192.0.2.1, 198.51.100.7"
    ),
    handshake("/?compression=deflate", "Sec-WebSocket-Extensions: permessage-deflate", "traceparent: 00-1-2-01"),
    handshake("/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "x-request-id: 1"),
)

LINES = (
    b" folded",
    b"\tfolded: 1",
    b"no colon",
    b": no name",
    b"",
    b"Connection: keep-alive, Upgrade",
    b"connection: upgrade",
    b"Connection: close",
    b"Upgrade: h2c",
    b"UPGRADE: WebSocket",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"content-length : 0",
    b"Transfer-Encoding: chunked",
    b"Host: a:b:c",
    b"host:",
    b"HOST: b.example",
    b"Origin: https://b.example",
    b"Origin: HTTPS://A.EXAMPLE",
    b"origin: https://a.example",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Version: 8",
    b"Sec-WebSocket-Protocol: one",
    b"sec-websocket-protocol: three",
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9, x-other",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Key:",
    b"Expect: 100-continue",
    b"X-Forwarded-For: 203.0.113.9",
    b"x-forwarded-for: unknown",
    b"X-Forwarded-For:",
    b"X-Forwarded-For: 999.1.1.1",
    b"X-Forwarded-For: 10.0.0.1, [2001:db8::1]:80",
    b"X-Forwarded-For: ::ffff:192.0.2.5",
    b"X-Forwarded-For: 192.0.2.1, \xff",
    b"X-Forwarded-For: " + b"192.0.2.1, " * 60 + b"192.0.2.77",
    b"Cookie: " + b"c" * 700,
    b"x-request-id:7",
    b"X-Empty:",
)

TARGETS = (
    b"GET http://localhost/ HTTP/1.1",
    b"GET ws://a.example/chat?x HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET //b.example/ HTTP/1.1",
    b"GET /info HTTP/1.1",
    b"GET /json HTTP/1.1",
    b"GET /?drop=1&seed=1 HTTP/1.1",
    b"GET /?status=503 HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"get / HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET /%00 HTTP/1.1",
    b"GET /#a HTTP/1.1",
    b"",
)

OCTETS = (b"\0", b"\x01", b"\t", b"\n", b"\r", b"\r\n", b"\r\n ", b" ", b"\x7f", b"\x80", b"\x85", b"\xff", b":", b",")

Lines = list[bytes]


def new_key(choice: random.Random) -> bytes:
    """Return a key. Its last digit may have bits that no encoder of 16 octets sets."""
    key = b64encode(choice.randbytes(16))
    return key if choice.random() < 0.7 else key[:21] + bytes(choice.choices(b"BCDEFZaz019+/")) + b"=="


def odd_key(choice: random.Random) -> bytes:
    key = new_key(choice)
    return choice.choice(
        (
            b"",
            b"=" * 24,
            key[:-1],
            key + b"=",
            b64encode(choice.randbytes(choice.choice((1, 15, 17, 18)))),
            key[:10] + b" " + key[11:],
            key.replace(b"==", b"A="),
            key[:21] + b"-==",
            b'"' + key + b'"',
            key + b", " + key,
            key + b"\xa0",
        )
    )


def set_key(lines: Lines, key: bytes) -> None:
    for place, line in enumerate(lines):
        if line.lower().startswith(b"sec-websocket-key:"):
            lines[place] = line[:18] + b" " + key


def any_place(lines: Lines, choice: random.Random) -> int:
    """Return the place of a header line."""
    return choice.randrange(1, len(lines) - 1) if len(lines) > 2 else 0


def change_case(lines: Lines, choice: random.Random) -> None:
    place = any_place(lines, choice)
    name, colon, value = lines[place].partition(b":")
    lines[place] = choice.choice((name.lower(), name.upper(), name.swapcase())) + colon + value


def change_blanks(lines: Lines, choice: random.Random) -> None:
    place = any_place(lines, choice)
    name, colon, value = lines[place].partition(b":")
    before, behind = (choice.choice((b"", b" ", b"\t", b" \t ")) for _ in range(2))
    lines[place] = name + colon + before + value.strip() + behind


def change_value(lines: Lines, choice: random.Random) -> None:
    place = any_place(lines, choice)
    name, colon, _ = lines[place].partition(b":")
    lines[place] = name + colon + bytes(choice.choices(b' \tabc,;="\\/09\x80\xe9\xff', k=choice.choice((0, 1, 5, 60))))


def fill(lines: Lines, choice: random.Random) -> None:
    """Let the head be about as long as it may be."""
    missing = MOST_HEAD + choice.randint(-2, 2) - len(b"\r\n".join(lines)) - len(b"X-Fill:\r\n")
    lines.insert(any_place(lines, choice), b"X-Fill:" + b"f" * max(0, missing))


def crowd(lines: Lines, choice: random.Random) -> None:
    """Let there be about as many lines as there may be."""
    missing = Settings().max_head_lines + choice.randint(-1, 1) - (len(lines) - 3)
    lines[1:1] = [b"a:"] * max(0, missing)


def put_in(lines: Lines, choice: random.Random) -> None:
    lines.insert(choice.randrange(1, len(lines)), choice.choice(LINES))


def leave_out(lines: Lines, choice: random.Random) -> None:
    del lines[any_place(lines, choice)]


def replace(lines: Lines, choice: random.Random) -> None:
    lines[any_place(lines, choice)] = choice.choice(LINES)


def double(lines: Lines, choice: random.Random) -> None:
    lines.insert(choice.randrange(1, len(lines)), lines[any_place(lines, choice)])


def swap(lines: Lines, choice: random.Random) -> None:
    lines.insert(any_place(lines, choice), lines.pop(any_place(lines, choice)))


def ask_otherwise(lines: Lines, choice: random.Random) -> None:
    lines[0] = choice.choice(TARGETS)


def change_key(lines: Lines, choice: random.Random) -> None:
    set_key(lines, odd_key(choice))


CHANGES: tuple[Callable[[Lines, random.Random], None], ...] = (
    change_case,
    change_blanks,
    change_value,
    change_key,
    fill,
    crowd,
    put_in,
    put_in,
    leave_out,
    replace,
    double,
    swap,
    ask_otherwise,
)


def put_octet(octets: bytes, choice: random.Random) -> bytes:
    place = choice.randrange(len(octets))
    return octets[:place] + choice.choice((b"", *OCTETS)) + octets[place + choice.randrange(2) :]


def end_otherwise(octets: bytes, choice: random.Random) -> bytes:
    start = octets.removesuffix(b"\r\n\r\n")
    return choice.choice(
        (
            start,
            start + b"\r\n",
            start + b"\r\n\r",
            start + b"\n\n",
            start + b"\r\n\n",
            start + b"\n\r\n",
            start + b"\r\r\n\r\n",
            b"\r\n" + octets,
            b"\r\n\r\n" + octets,
            b"\n" + octets,
            octets.replace(b"\r\n", b"\n"),
            octets + b"\r\n",
            octets + octets,
        )
    )


def cut(octets: bytes, choice: random.Random) -> list[bytes]:
    """Cut octets into at most three pieces, mostly into one."""
    places = sorted(choice.randrange(len(octets) + 1) for _ in range(choice.choice((0, 0, 0, 1, 2))))
    return [octets[start:end] for start, end in zip([0, *places], [*places, len(octets)], strict=True) if end > start]


def changed(head: bytes, choice: random.Random) -> bytes:
    """Change a head in some ways, or in none but its key."""
    lines = head.split(b"\r\n")[:-1]
    set_key(lines, new_key(choice))
    for _ in range(choice.choice((0, 1, 1, 1, 2, 3))):
        choice.choice(CHANGES)(lines, choice)
        if len(lines) < 3:
            break
    octets = b"\r\n".join([*lines, b""])
    if choice.random() < 0.15:
        octets = put_octet(octets, choice)
    if choice.random() < 0.05:
        octets = end_otherwise(octets, choice)
    return octets


@dataclass
class Life:
    """What a client saw, and what was told of it."""

    answer: bytes
    rest: bytes
    was_reset: bool
    listed: list[Any]
    counted: dict[Any, int]


def listed(house: House, is_first: bool) -> list[Any]:
    """Return what is told of the connections, apart from times and the port."""
    return [
        (
            each.peer and each.peer[0],
            each.client,
            each.path,
            each.state if is_first else "",
            each.subprotocol,
            each.extensions,
            each.terms,
        )
        for each in house.factory.snapshots(0, 10)
    ]


def live(house: House, pieces: list[bytes], words: bytes) -> Life:
    """Connect, send the pieces and then the words, and end."""
    factory = house.factory
    before = counts(factory)
    client: Client = house.dial()
    for piece in pieces:
        with suppress(OSError):
            client.send(piece)
        for _ in range(2):
            house.loop.turn()
    answer = bytes(client.take())
    told = listed(house, True)
    with suppress(OSError):
        client.send(words)
    for _ in range(3):
        house.loop.turn()
        client.take()
    told += listed(house, False)
    client.end()
    octets = client.receive_all()
    client.socket.close()
    house.links.remove(client)
    house.loop.until(lambda: not factory.count)
    after = counts(factory)
    answer, octets = (CHANCE.sub(b"", each) for each in (answer, octets))
    counted = {name: number - before.get(name, 0) for name, number in after.items() if number != before.get(name)}
    return Life(answer, octets, client.was_reset, told, counted)


@contextmanager
def opened(native: Native, with_door: bool, settings: Settings) -> Iterator[House]:
    with Loop() as loop:
        house = House(loop, EchoFactory(EchoProtocol, settings, loop, 100, native), None, has_door=with_door)
        if with_door:
            assert house.hosting.open(house.port)
        yield house
        house.port.stopListening()
        if with_door:
            house.hosting.drain()
        loop.turn()
        close(house)


SETTINGS = {
    "plain": Settings(ping_interval=0, max_request_head=MOST_HEAD),
    "proxy": Settings(
        ping_interval=0, max_request_head=MOST_HEAD, trust_proxy=1, origins=("https://a.example", "*.a.example")
    ),
    "deflate": Settings(
        ping_interval=0, max_request_head=MOST_HEAD, trust_proxy=2, compression=Compression.DEFLATE, has_faults=False
    ),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", SETTINGS)
def test_changed_heads(kind: str, seed: int) -> None:
    """Each changed head comes twice, with two keys. The first time the door mostly does not know it. If Python takes
    it, the door mostly answers the second time."""
    native, choice = needed_native(), random.Random(seed)
    with ExitStack() as stack:
        doored, plain = (stack.enter_context(opened(native, has_door, SETTINGS[kind])) for has_door in (True, False))
        for head in HEADS:
            live(doored, [head], b"")
        for _ in range(LIVES):
            octets = changed(choice.choice(HEADS), choice)
            words = choice.choice(LAST_WORDS)
            is_glued = choice.random() < 0.3
            again = re.sub(rb"(?i)(sec-websocket-key: )[A-Za-z0-9+/]{22}==", rb"\g<1>" + new_key(choice), octets)
            for asked in (octets, again):
                pieces = cut(asked + words * is_glued, choice)
                seen = live(doored, pieces, words)
                assert seen == live(plain, pieces, words), pieces
        answered = doored.hosting._door._counts.answered
        assert LIVES / 10 < answered < 2 * LIVES


@pytest.mark.parametrize("head", [head for head in HEADS if b"=deflate" not in head])  # which no lease can serve
def test_cut_at_each_octet(head: bytes) -> None:
    """A head in two pieces, with a frame behind it."""
    native, octets = needed_native(), head + HELLO
    with opened(native, True, SETTINGS["plain"]) as house:
        expected = live(house, [octets], b"")
        assert expected.answer.endswith(server_frame(TEXT, b"Hello"))
        for place in range(1, len(octets)):
            assert live(house, [octets[:place], octets[place:]], b"") == expected, place
        # Only if the first piece has the whole head, the door answers.
        assert house.hosting._door._counts.answered == len(HELLO)
