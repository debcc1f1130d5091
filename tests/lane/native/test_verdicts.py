"""Remembered verdicts, compared with the verdicts and answers of Python for the same request heads."""

from __future__ import annotations

import itertools
import random
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echod.core.quantities import KIB
from echod.http import request
from echod.http.head_reader import HeadReader
from echod.http.request import Request
from echod.http.upgrade import JUDGED_FIELDS, HandshakeGuard
from echod.settings import Settings
from tests.fakes import Peer, make_factory
from tests.frames import handshake
from tests.lane.native.codec import Guarded

if TYPE_CHECKING:
    from echod.lane.native import Native

KEY, OTHER_KEY = "dGhlIHNhbXBsZSBub25jZQ==", "/+9AZaz08acdefghijklmg=="
MOST, MOST_IN_BRIEF, LONGEST_ANSWER, LONGEST_KEPT = 256, 1024, 512, 256
ACCEPT_SIZE = 28
JUDGED = b" ".join(JUDGED_FIELDS)
GUARD = HandshakeGuard(Settings())

BROWSER = (
    "Pragma: no-cache",
    "Cache-Control: no-cache",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Origin: https://example.com",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9",
    "Cookie: session=f00; name=\xc3\x85",
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
)
HEADS = (handshake(), handshake("/chat?a=b", "Sec-WebSocket-Protocol: one, two"), handshake("/", *BROWSER))


@dataclass
class Found:
    """A head on which there is a verdict."""

    verdict: Any
    size: int
    key: bytes
    kept: bytes | None


class Verdicts:
    """Remembered verdicts; each buffer is as long as what is in it."""

    def __init__(self, native: Native, judged: bytes = JUDGED, kept: bytes = b"", longest: int = 16_384) -> None:
        self.native, self._lib, self._ffi = native, native.lib, native.ffi
        self.all = native.lib.echod_verdicts_new(judged, kept, longest)
        assert self.all

    def remember(self, head: bytes, answer: bytes, terms: tuple[int, int] | None = None) -> bool:
        """Remember; the terms are the size and the bits of a window."""
        told = self._ffi.NULL if terms is None else self._ffi.new("echod_terms *", terms)
        octets, answered = Guarded(self.native, head), Guarded(self.native, answer)
        done = self._lib.echod_verdicts_remember(self.all, octets.at(), len(head), answered.at(), len(answer), told)
        assert (octets.octets, answered.octets) == (head, answer)
        return bool(done)

    def find(self, octets: bytes) -> Found | None:
        buffer, head = Guarded(self.native, octets), self._ffi.new("echod_head *")
        verdict = self._lib.echod_verdicts_find(self.all, buffer.at(), len(octets), head)
        assert buffer.octets == octets
        if not verdict:
            return None
        own: Any = head
        kept = bytes(self._ffi.buffer(own.kept, own.kept_size)) if own.kept else None
        return Found(verdict, own.size, bytes(self._ffi.buffer(own.key, self._lib.ECHOD_HANDSHAKE_KEY)), kept)

    def answer(self, found: Found) -> bytes:
        target = Guarded(self.native, bytes(self._lib.echod_verdict_answer(found.verdict, found.key, self._ffi.NULL)))
        assert self._lib.echod_verdict_answer(found.verdict, found.key, target.at()) == target.size
        return target.octets

    def head(self, found: Found) -> bytes:
        """Return a head for which the verdict is the same."""
        source = Guarded(self.native, found.kept or b"")
        kept = self._ffi.NULL if found.kept is None else source.at()
        arguments = found.verdict, found.key, kept, len(found.kept or b"")
        target = Guarded(self.native, bytes(self._lib.echod_verdict_head(*arguments, self._ffi.NULL)))
        assert self._lib.echod_verdict_head(*arguments, target.at()) == target.size
        return target.octets

    @property
    def count(self) -> int:
        return self._lib.echod_verdicts_count(self.all)

    @property
    def held(self) -> int:
        return self._lib.echod_verdicts_held(self.all)

    def clear(self) -> None:
        self._lib.echod_verdicts_clear(self.all)

    def refer(self, found: Found) -> None:
        self._lib.echod_verdict_refer(found.verdict)

    def release(self, found: Found) -> None:
        self._lib.echod_verdict_release(self.all, found.verdict)


Make = Callable[..., Verdicts]


@pytest.fixture
def make(native: Native) -> Iterator[Make]:
    """Return a function that makes a memory for verdicts."""
    made: list[Verdicts] = []

    def make(**options: Any) -> Verdicts:
        made.append(Verdicts(native, **options))
        return made[-1]

    yield make
    for each in made:
        native.lib.echod_verdicts_free(each.all)


@pytest.fixture
def verdicts(make: Make) -> Verdicts:
    return make()


def answered(head: bytes, **options: Any) -> bytes:
    """Return Python's answer."""
    answer = Peer(make_factory(**options)).send(head)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return answer


def with_key(head: bytes, key: str = OTHER_KEY) -> bytes:
    assert KEY.encode() in head
    return head.replace(KEY.encode(), key.encode())


def judged(octets: bytes) -> tuple[object, ...] | None:
    """Return what Python makes of a head: all that the answer depends on, and the octets behind; None: a refusal, or
    the head is not whole."""
    reader = HeadReader(GUARD)
    verdict = reader.feed(octets)
    if not isinstance(verdict, Request):
        return None
    return verdict.path, verdict.query, verdict.subprotocols, verdict.extensions, verdict.key.encode(), reader.rest


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("compression", ["mirror", "deflate", "off"])
def test_the_answer_is_that_of_python(verdicts: Verdicts, head: bytes, compression: str) -> None:
    """A head is remembered, and the next one with another key gets what Python would answer."""
    assert verdicts.find(head) is None
    assert verdicts.remember(head, answered(head, compression=compression))
    for key in (KEY, OTHER_KEY, *(b64encode(random.Random(n).randbytes(16)).decode() for n in range(20))):
        asked = with_key(head, key)
        found = verdicts.find(asked)
        assert found is not None
        assert (found.size, found.key) == (len(head), key.encode())
        assert verdicts.answer(found) == answered(asked, compression=compression)


def test_frames_behind_a_head(verdicts: Verdicts) -> None:
    """A client may send frames behind its head, which are not looked at."""
    verdicts.remember(HEADS[0], answered(HEADS[0]))
    for behind in (b"\x81\x80abcd", b"\r\n", b"\r\n\r\n", b"\n", b"x" * 70_000):
        found = verdicts.find(HEADS[0] + behind)
        assert found is not None
        assert found.size == len(HEADS[0])
    assert not verdicts.remember(HEADS[1] + b"\x81", answered(HEADS[1]))


@pytest.mark.parametrize("head", HEADS)
def test_cut_anywhere(verdicts: Verdicts, head: bytes) -> None:
    """On a part of a head there is no verdict, and none is remembered."""
    answer = answered(head)
    for size in range(len(head)):
        assert not verdicts.remember(head[:size], answer)
    assert verdicts.remember(head, answer)
    for size in range(len(head)):
        assert verdicts.find(head[:size]) is None


def found_only_what_python_takes(verdicts: Verdicts, remembered: bytes, octets: bytes) -> None:
    """Where there is a verdict, Python's is that of the head that is remembered, but for the key."""
    found = verdicts.find(octets)
    if found is not None:
        first = judged(remembered)
        assert first is not None
        assert judged(octets) == (*first[:-2], found.key, octets[found.size :]), octets


@pytest.mark.parametrize("head", HEADS[1:])
def test_each_octet_changed(verdicts: Verdicts, head: bytes) -> None:
    """Each octet in each place, in place of the one there and in front of it; and each octet left out."""
    verdicts.remember(head, answered(head))
    for place, octet in itertools.product(range(len(head)), range(256)):
        before, behind = head[:place], head[place:]
        found_only_what_python_takes(verdicts, head, before + bytes([octet]) + behind[1:])
        if octet < 0x21 or octet == 0x3A:
            found_only_what_python_takes(verdicts, head, before + bytes([octet]) + behind)
        found_only_what_python_takes(verdicts, head, before + behind[1:])


LINES = st.sampled_from(
    [
        *HEADS[2].split(b"\r\n"),
        b"Sec-WebSocket-Key: " + OTHER_KEY.encode(),
        b"Sec-WebSocket-Key:\t " + OTHER_KEY.encode() + b" \t",
        b"sec-websocket-KEY: " + OTHER_KEY.encode(),
        b"Sec-WebSocket-Key: short==",
        b" folded",
        b"X-Request-Id: 5",
        b"x-request-id:",
        b"X-Request-Id : 5",
        b"Content-Length: 0",
        b"CONTENT-LENGTH: 5",
        b"Transfer-Encoding: chunked",
        b"Host: other",
        b"Origin: null",
        b"Cookie: \x85\xff\t",
        b"Cookie: a\rb",
        b"Cookie: a\nb",
        b"Cookie: \x00",
        b"no colon",
        b":",
        b"",
    ]
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("idrx"), st.integers(1, 14), LINES), max_size=4))
def test_lines_changed(native: Native, edits: list[tuple[str, int, bytes]]) -> None:
    """Lines put in, left out, replaced and moved: found is only what Python takes. What it takes is remembered, if it
    can be, and is found again with another key."""
    verdicts = Verdicts(native)
    head = HEADS[2]
    assert verdicts.remember(head, answered(head))
    lines = head.split(b"\r\n")
    for kind, place, line in edits:
        at = min(place, len(lines) - 2)
        lines[at : at + (kind != "i")] = {"i": [line], "d": [], "r": [line], "x": [lines[at]]}[kind]
        if kind == "x":
            lines.insert(1, lines.pop(at))
    octets = b"\r\n".join(lines)
    found_only_what_python_takes(verdicts, head, octets)
    taken = judged(octets)
    if taken is not None and not taken[-1]:
        assert verdicts.remember(octets, answered(octets))
        key = taken[-2]
        assert isinstance(key, bytes)
        found = verdicts.find(octets.replace(key, OTHER_KEY.encode()))
        assert found is not None
        assert verdicts.answer(found) == answered(octets.replace(key, OTHER_KEY.encode()))
    native.lib.echod_verdicts_free(verdicts.all)


class Recording(dict[bytes, list[bytes]]):
    """Fields that note which of them were looked up."""

    looked_up: set[object]

    def __contains__(self, name: object) -> bool:
        self.looked_up.add(name)
        return super().__contains__(name)

    def __getitem__(self, name: bytes) -> list[bytes]:
        self.looked_up.add(name)
        return super().__getitem__(name)

    def get(self, name: bytes, default: Any = None) -> Any:
        self.looked_up.add(name)
        return super().get(name, default)


def test_all_that_a_verdict_depends_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard looks up the fields of `JUDGED_FIELDS`, and no others."""
    looked_up: set[object] = set()
    parse = request.parse

    def recording(octets: bytes, most_lines: int) -> request.Head:
        head = parse(octets, most_lines)
        assert isinstance(head, request.Head)
        fields = Recording(head.fields)
        fields.looked_up = looked_up
        return head._replace(fields=fields)

    monkeypatch.setattr(request, "parse", recording)
    for head in HEADS:
        assert isinstance(HandshakeGuard(Settings(origins=("*",))).judge(head), Request)
    assert looked_up == {*JUDGED_FIELDS}


def test_values_that_no_verdict_depends_on(verdicts: Verdicts) -> None:
    """They may be any; only the octets that no field may have are not passed over."""
    head = handshake("/", "X-Request-Id: 1", "Cookie: a")
    verdicts.remember(head, answered(head))
    for octet in range(256):
        octets = head.replace(b"Id: 1", b"Id:" + bytes([octet]) + b"2").replace(b": a", b":")
        assert (verdicts.find(octets) is not None) == (judged(octets) is not None), octet


def test_a_second_key(verdicts: Verdicts) -> None:
    """Python refuses it, and there is no form in which it could be remembered."""
    twice = HEADS[0].replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: " + KEY.encode() + b"\r\n\r\n")
    assert not verdicts.remember(twice, answered(HEADS[0]))
    assert not verdicts.remember(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", answered(HEADS[0]))


def test_a_kept_value(make: Make) -> None:
    """Of one field the value is wanted though no verdict depends on it, if it comes once."""
    verdicts = make(kept=b"x-forwarded-for")
    field = "X-Forwarded-For: 192.0.2.1"
    head = handshake("/", field, "Via: 1.1 a")
    assert verdicts.remember(head, answered(head))
    found = verdicts.find(head.replace(b" 192.0.2.1", b"2001:db8::1, 192.0.2.7 "))
    assert found is not None
    assert found.kept == b"2001:db8::1, 192.0.2.7 "
    restored = verdicts.head(found)
    assert restored == head.replace(b" 192.0.2.1", found.kept).replace(b" 1.1 a", b"").replace(b"Key: ", b"Key:")
    empty = verdicts.find(head.replace(b" 192.0.2.1", b""))
    assert empty is not None
    assert empty.kept == b""
    assert verdicts.head(empty) == restored.replace(found.kept, b"")
    twice = handshake("/", field, field)
    assert not verdicts.remember(twice, answered(twice))
    assert verdicts.find(twice) is None
    without = handshake("/", "Via: 1.1 a")
    verdicts.remember(without, answered(without))
    found = verdicts.find(without)
    assert found is not None
    assert found.kept is None


def test_a_long_kept_value(make: Make) -> None:
    """Each guest would hold its own, of any length that a client chooses. So Python takes a connection with a long
    one."""
    verdicts = make(kept=b"x-forwarded-for")
    head = handshake("/", "X-Forwarded-For: 192.0.2.1")
    assert verdicts.remember(head, answered(head))
    for size, is_found in ((LONGEST_KEPT, True), (LONGEST_KEPT + 1, False)):
        long = head.replace(b" 192.0.2.1", b"1" * size)
        assert (verdicts.find(long) is not None) == is_found
        assert verdicts.remember(long, answered(long)) == is_found


@pytest.mark.parametrize("head", HEADS)
def test_a_head_is_restored(verdicts: Verdicts, head: bytes) -> None:
    """A guest that becomes a connection is judged again by Python: the restored head has the same verdict."""
    verdicts.remember(head, answered(head))
    found = verdicts.find(with_key(head))
    assert found is not None
    restored = verdicts.head(found)
    assert judged(restored) == judged(with_key(head))
    again = verdicts.find(restored)
    assert again is not None
    assert again.verdict == found.verdict
    assert answered(restored) == verdicts.answer(found)


def test_terms(verdicts: Verdicts, native: Native) -> None:
    lib: Any = native.lib
    for head, terms in zip(HEADS, (None, (32_768, 0), (0, 12)), strict=True):
        verdicts.remember(head, answered(head), terms)
        found = verdicts.find(head)
        assert found is not None
        told = lib.echod_verdict_terms(found.verdict)
        assert (None if not told else (told.window_size, told.window_bits)) == terms


def test_an_answer_to_another_key(verdicts: Verdicts) -> None:
    """An answer is remembered only if the native accept value is in it, once."""
    answer = answered(HEADS[0])
    assert not verdicts.remember(with_key(HEADS[0]), answer)
    assert not verdicts.remember(HEADS[0], answer + answer)
    assert not verdicts.remember(HEADS[0], b"")
    assert not verdicts.remember(HEADS[0], answer[:-5])
    assert verdicts.count == 0
    accept = answer[-32:-4]
    assert verdicts.remember(HEADS[0], accept + b"x")
    found = verdicts.find(HEADS[0])
    assert found is not None
    assert verdicts.answer(found) == accept + b"x"


def test_what_is_too_long(make: Make) -> None:
    """A head, a head in brief, and an answer have limits. A value that is left out counts for the head alone."""
    verdicts = make(longest=2000)

    def padded(size: int, name: str) -> bytes:
        head = handshake("/", f"{name}: ")
        return head.replace(b": \r\n\r\n", b": " + b"x" * (size - len(head)) + b"\r\n\r\n")

    answer = answered(HEADS[0])
    assert verdicts.remember(padded(2000, "Cookie"), answer)
    assert verdicts.find(padded(2000, "Cookie")) is not None
    assert verdicts.find(padded(2001, "Cookie")) is None
    in_brief = len(handshake("/", "Host: ")) - len(" ") - len(KEY) - len(handshake().splitlines()) - 1 - len("\r\n")
    most = MOST_IN_BRIEF - in_brief + len(handshake("/", "Host: "))
    verdicts.clear()
    sizes = [size for size in range(most - 4, most + 5) if verdicts.remember(padded(size, "Host"), answer)]
    assert sizes == list(range(most - 4, sizes[-1] + 1))
    assert 0 < len(sizes) < 9
    for size, is_remembered in ((LONGEST_ANSWER, True), (LONGEST_ANSWER + 1, False)):
        verdicts.clear()
        assert verdicts.remember(HEADS[0], answer.ljust(size, b"x")) == is_remembered


def numbered(number: int) -> bytes:
    return handshake(f"/{number}")


def test_the_least_used_is_forgotten(verdicts: Verdicts) -> None:
    """There is room for so many, and one that was found or remembered again is used."""
    answer = answered(HEADS[0])
    for number in range(MOST):
        assert verdicts.remember(numbered(number), answer)
    assert verdicts.count == MOST
    assert verdicts.find(numbered(0)) is not None
    assert verdicts.remember(numbered(1), answer)
    assert verdicts.remember(numbered(MOST), answer)
    assert verdicts.remember(numbered(MOST + 1), answer)
    assert verdicts.count == MOST
    gone = [number for number in range(MOST + 2) if verdicts.find(numbered(number)) is None]
    assert gone == [2, 3]


def test_the_most_that_is_held(verdicts: Verdicts) -> None:
    """As many as there may be, each with the longest head in brief and the longest answer."""
    answer = answered(HEADS[0]).ljust(LONGEST_ANSWER, b"x")

    def long(number: int, size: int) -> bytes:
        return handshake(f"/{number:04}?".ljust(size, "x"))

    size = next(size for size in range(MOST_IN_BRIEF, 0, -1) if verdicts.remember(long(0, size), answer))
    for number in range(2 * MOST):
        assert verdicts.remember(long(number, size), answer)
    assert MOST * (MOST_IN_BRIEF + LONGEST_ANSWER - ACCEPT_SIZE) < verdicts.held < 512 * KIB


def test_many_come_and_go(verdicts: Verdicts) -> None:
    """The order of use and the buckets hold whatever comes in which order."""
    answer, choice = answered(HEADS[0]), random.Random(3)
    used: dict[int, None] = {}
    for _ in range(5_000):
        number = int(choice.paretovariate(0.3)) % 1_000
        if number in used:
            del used[number]
            assert verdicts.find(numbered(number)) is not None
        else:
            assert verdicts.find(numbered(number)) is None
            assert verdicts.remember(numbered(number), answer)
            if len(used) == MOST:
                del used[next(iter(used))]
        used[number] = None
        assert verdicts.count == len(used)
    verdicts.clear()
    assert (verdicts.count, verdicts.held) == (0, 0)


def test_forgotten_while_in_use(verdicts: Verdicts) -> None:
    """A verdict that a connection refers to says what it said, and is in the account until the last has gone."""
    answer = answered(HEADS[0])
    verdicts.remember(HEADS[0], answer)
    found = verdicts.find(HEADS[0])
    assert found is not None
    verdicts.refer(found)
    verdicts.refer(found)
    one = verdicts.held
    assert one > 0
    verdicts.clear()
    assert (verdicts.count, verdicts.held) == (0, one)
    assert verdicts.find(HEADS[0]) is None
    assert verdicts.answer(found) == answer
    verdicts.remember(HEADS[0], answer)
    assert (verdicts.count, verdicts.held) == (1, 2 * one)
    verdicts.release(found)
    assert verdicts.held == 2 * one
    verdicts.release(found)
    assert verdicts.held == one
    again = verdicts.find(HEADS[0])
    assert again is not None
    verdicts.refer(again)
    verdicts.release(again)  # it can be found still, so it stays
    assert verdicts.find(HEADS[0]) is not None
