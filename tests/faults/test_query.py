"""What a URL asks for: parameters are read as browsers read them, and a bad value gives one line that names the
parameter."""

from __future__ import annotations

import re
import string
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echod.faults.query import NONE, FaultError, Faults, names_in, parse
from echod.faults.table import PARAMETERS, Moment
from echod.settings import Compression, Settings

SETTINGS = Settings()

RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("token=abc&=&a&&b==", {}),
    ("token=%ff&to%ffken=1&%zz", {}),
    ("delay=250ms", {"delay": 0.25}),
    ("delay=0", {}),
    ("delay=1m", {"delay": 60.0}),
    ("delay=0.5s", {"delay": 0.5}),
    ("d%65lay=2%35ms&x=1", {"delay": 0.025}),
    ("close=1000", {"close": 1000}),
    ("close=1001&reason=gr%C3%BC%C3%9Fe+a%2Bb%&after=3", {"close": 1001, "reason": "grüße a+b%", "after": 3}),
    ("close=1005", {"close": 1005}),
    ("close=1006&after=1", {"close": 1006, "after": 1}),
    ("close=4999&abort", {"close": 4999, "abort": True}),
    ("close=3000&stall=", {"close": 3000, "stall": True}),
    ("goaway&after=2&close=1001", {"goaway": True, "after": 2, "close": 1001}),
    ("abort&after=1000000", {"abort": True, "after": 1_000_000}),
    ("stall&after=0", {"stall": True}),
    ("status=300", {"status": 300}),
    ("status=599&handshake-delay=1m", {"status": 599, "handshake_delay": 60.0}),
    ("fragment=1", {"fragment": 1}),
    ("ping=100ms", {"ping": 0.1}),
    ("drop=1", {"drop": 1.0}),
    ("drop=.5&seed=0", {"drop": 0.5, "seed": 0}),
    ("drop=0.25&seed=4294967295", {"drop": 0.25, "seed": 2**32 - 1}),
    ("compression=off&delay=1s", {"compression": Compression.OFF, "delay": 1.0}),
    ("compression=mirror", {"compression": Compression.MIRROR}),
    ("Delay=x&DROP=x", {}),
    ("accept=twice&without=upgrade&connection=wrong", {"accept": "twice", "without": "upgrade", "connection": "wrong"}),
    ("subprotocol=", {"subprotocol": ""}),
    ("extension=a%3B+b%3D1&upgrade=wrong", {"extension": "a; b=1", "upgrade": "wrong"}),
    ("header=X-A:b&header=X-C:+d%3Ae+", {"header": (("X-A", "b"), ("X-C", "d:e"))}),
    ("header=Set-Cookie:a%3Db", {"header": (("Set-Cookie", "a=b"),)}),
    ("status=307&location=%2Fa%3Fb", {"status": 307, "location": "/a?b"}),
    ("status=404&body=gr%C3%BCn", {"status": 404, "body": "grün"}),
    ("auth=basic:a:b&body=", {"auth": ("basic", "YTpi"), "body": ""}),
    ("fail=1000&key=a&status=429", {"fail": 1000, "key": "a", "status": 429}),
    ("head=junk-before&greeting=&greeting-delay=1s", {"head": "junk-before", "greeting": "", "greeting_delay": 1.0}),
    ("raw=8aFF&after=1", {"raw": b"\x8a\xff", "after": 1}),
    ("bad=masked&after=0", {"bad": "masked"}),
    ("bomb=1GiB", {"bomb": 2**30}),
    ("slice=1&rate=1KiB&cut=0&read-rate=1", {"slice": 1, "rate": 1024, "cut": 0, "read_rate": 1}),
    ("pong=no&close-reply=0", {"pong": "no", "close_reply": 0.0}),
    ("pong=1m&pong-every=100ms", {"pong": 60.0, "pong_every": 0.1}),
    ("every=1s&count=1&burst=100000&size=1MiB", {"every": 1.0, "count": 1, "burst": 100_000, "size": 2**20}),
    ("mutate=1&seed=0", {"mutate": 1, "seed": 0}),
]


@pytest.mark.parametrize(("query", "expected"), RIGHT)
def test_what_is_read(query: str, expected: dict[str, Any]) -> None:
    assert parse(query, SETTINGS) == Faults(**expected)


WRONG = [
    ("delay", "the parameter delay is not a duration, such as 250ms, 5s or 2m"),
    ("delay=", "the parameter delay is not a duration, such as 250ms, 5s or 2m"),
    ("delay=5+s", "the parameter delay is not a duration, such as 250ms, 5s or 2m"),
    ("delay=-1s", "the parameter delay is not a duration, such as 250ms, 5s or 2m"),
    ("delay=%D9%A1", "the parameter delay is not a duration, such as 250ms, 5s or 2m"),
    ("delay=%ff", "the parameter delay is not UTF-8"),
    ("delay=61s", "the parameter delay is not within 0s and 1m"),
    ("delay=1s&delay=1s", "the parameter delay is given twice"),
    ("delay=1s&del%61y=1s", "the parameter delay is given twice"),
    ("handshake-delay=61s", "the parameter handshake-delay is not within 0s and 1m"),
    ("ping=99ms", "the parameter ping is not within 100ms and 60m"),
    ("ping=0", "the parameter ping is not within 100ms and 60m"),
    ("ping=61m", "the parameter ping is not within 100ms and 60m"),
    *[
        (f"close={code}", "the parameter close is not a close code: 1000 to 1003, 1005 to 1014, or 3000 to 4999")
        for code in ("", "x", "0", "999", "1004", "1015", "1016", "2999", "5000", "+1000", "01000", "1_00")
    ],
    ("close=1000&reason=", "the parameter reason is not 1 to 123 bytes long (in UTF-8)"),
    ("close=1000&reason=" + 62 * "%C3%BC", "the parameter reason is not 1 to 123 bytes long (in UTF-8)"),
    ("reason=bye", "the parameter reason has no effect without close"),
    ("close=1005&reason=bye", "the parameter reason has no effect without a close code to send"),
    ("close=1006&reason=bye", "the parameter reason has no effect without a close code to send"),
    ("close=1006&abort", "the parameter close can't be 1006 with abort or stall"),
    ("close=1006&stall", "the parameter close can't be 1006 with abort or stall"),
    ("abort=1", "the parameter abort takes no value"),
    ("goaway=1", "the parameter goaway takes no value"),
    ("stall=true", "the parameter stall takes no value"),
    ("abort&stall", "the parameter abort cannot be combined with stall"),
    ("after=3", "the parameter after has no effect without close or abort or goaway or stall or raw or bad or bomb"),
    ("abort&after=-1", "the parameter after is not a whole number from 0 to 1000000"),
    ("abort&after=1000001", "the parameter after is not a whole number from 0 to 1000000"),
    ("abort&after=", "the parameter after is not a whole number from 0 to 1000000"),
    ("status=200", "the parameter status is not a whole number from 300 to 599"),
    ("status=600", "the parameter status is not a whole number from 300 to 599"),
    ("fragment=0", "the parameter fragment is not a whole number from 1 to 16777216"),
    ("fragment=16777217", "the parameter fragment is not a whole number from 1 to 16777216"),
    ("drop=1.1", "the parameter drop is not a number from 0 to 1"),
    ("drop=-0", "the parameter drop is not a number from 0 to 1"),
    ("drop=1e-1", "the parameter drop is not a number from 0 to 1"),
    ("drop=nan", "the parameter drop is not a number from 0 to 1"),
    ("drop=.", "the parameter drop is not a number from 0 to 1"),
    ("seed=7", "the parameter seed has no effect without drop or mutate"),
    ("drop=1&seed=4294967296", "the parameter seed is not a whole number from 0 to 4294967295"),
    *[
        (f"compression={mode}", "the parameter compression is none of mirror, deflate, off")
        for mode in ("", "on", "Deflate", "deflate+")
    ],
    ("compression=off&compression=off", "the parameter compression is given twice"),
    ("accept=right", "the parameter accept is none of wrong, missing, twice"),
    ("subprotocol=a%0D%0Ab", "the parameter subprotocol is not a text without control characters"),
    ("extension=", "the parameter extension is not 1 to 1024 bytes long (in UTF-8)"),
    ("header=a", "the parameter header is not NAME:VALUE without control characters, of at most 1024 bytes"),
    ("header=X-A:b%0Ac", "the parameter header is not NAME:VALUE without control characters, of at most 1024 bytes"),
    ("header=Content-Length:1", "the parameter header can't be a field that says how long the body is or what it is"),
    ("header=X-Accel-Redirect:/a", "the parameter header can't be a field that tells a proxy what to do"),
    ("&header=X-A:b" * 11, "the parameter header is given more than 10 times"),
    ("location=/", "the parameter location has no effect without status"),
    ("location=/&status=404", "the parameter location has no effect without a status of 300 to 399"),
    ("location=//a&status=302", "the parameter location is not a path on this server, such as /other"),
    ("location=http://a&status=302", "the parameter location is not a path on this server, such as /other"),
    ("body=a", "the parameter body has no effect without status or fail or auth"),
    ("auth=digest:a", "the parameter auth is not basic:USER:PASSWORD or bearer:TOKEN, of at most 1024 bytes"),
    ("fail=1", "the parameter fail has no effect without key"),
    ("fail=0&key=a", "the parameter fail is not a whole number from 1 to 1000"),
    ("key=a", "the parameter key has no effect without fail"),
    ("greeting-delay=1s", "the parameter greeting-delay has no effect without greeting"),
    ("raw=", "the parameter raw is not 1 to 4096 bytes in hex, such as 8100"),
    ("raw=8", "the parameter raw is not 1 to 4096 bytes in hex, such as 8100"),
    ("bomb=1025MiB", "the parameter bomb is more than 1GiB"),
    ("bomb=1&bad=rsv1", "the parameter bomb needs permessage-deflate, which another one declines"),
    ("bad=deflate-window&extension=a", "the parameter bad needs permessage-deflate, which another one declines"),
    ("slice=0", "the parameter slice is not a whole number from 1 to 65536"),
    ("rate=0", "the parameter rate is not a size, such as 1000, 64KiB, 16MiB or 1GiB"),
    ("cut=-1", "the parameter cut is not a whole number from 0 to 1073741824"),
    ("pong=yes", "the parameter pong is neither no nor a duration, such as 250ms, 5s or 2m"),
    ("close-reply=61s", "the parameter close-reply is not within 0s and 1m"),
    ("count=1", "the parameter count has no effect without every"),
    ("size=1", "the parameter size has no effect without burst"),
    ("mutate=0", "the parameter mutate is not a whole number from 1 to 1000000"),
    ("drop=1&seed=-1", "the parameter seed is not a whole number from 0 to 4294967295"),
]


@pytest.mark.parametrize(("query", "line"), WRONG)
def test_what_is_not(query: str, line: str) -> None:
    with pytest.raises(FaultError) as raised:
        parse(query, SETTINGS)
    assert str(raised.value) == line


def test_caps_are_settings() -> None:
    low = Settings(max_delay=1, max_handshake_delay=2, min_ping=3, max_ping=4, max_after=5, max_message_size=6)
    queries = ["delay=1s", "handshake-delay=2s", "ping=3s", "ping=4s", "abort&after=5", "fragment=6"]
    for query in queries:
        assert parse(query, low) != NONE
    for query in (
        "delay=1001ms",
        "handshake-delay=2001ms",
        "ping=2999ms",
        "ping=4001ms",
        "abort&after=6",
        "fragment=7",
    ):
        with pytest.raises(FaultError):
            parse(query, low)


def test_names_are_spelt_as_in_a_url() -> None:
    query = "delay=1s&close=1000&reason=a&after=1&status=404&handshake-delay=1s&fragment=1&ping=1s&drop=.1&seed=0"
    assert set(parse(query, SETTINGS).names) == {pair.partition("=")[0] for pair in query.split("&")}
    assert NONE.names == ()


def test_a_value_for_each_parameter() -> None:
    asked = parse("delay=1s&cut=0", SETTINGS)
    assert (asked.delay, asked.cut, asked.close, asked.abort, asked.header) == (1.0, 0, None, False, ())
    with pytest.raises(AttributeError):
        _ = asked.no_such_parameter
    assert asked == Faults(cut=0, delay=1.0)
    assert hash(asked) == hash(Faults(cut=0, delay=1.0))
    assert asked != "delay=1s&cut=0"
    assert repr(asked) == "Faults(**{'delay': 1.0, 'cut': 0})"
    assert list(asked.at(Moment.WIRE)) == [("cut", 0)]
    assert asked.any_at(Moment.OPENING, Moment.WIRE)
    assert not asked.any_at(Moment.OPENING, Moment.END)


def test_what_every_connection_has() -> None:
    operators = Settings(fault="close=1001&reason=a&after=2")
    assert parse("", operators) == Faults(close=1001, reason="a", after=2)
    assert parse("after=3&token=1", operators) == Faults(close=1001, reason="a", after=3)
    with pytest.raises(FaultError, match="reason has no effect"):
        parse("close=1005", operators)
    headers = Settings(fault="header=X-A:b&header=X-C:d")
    assert parse("header=X-E:f", headers).header == (("X-E", "f"),)
    assert parse("close=1000", Settings(fault="delay=1s", has_faults=False)) == NONE


def test_names_in_a_query() -> None:
    assert names_in("") == set()
    assert names_in("del%61y=1s&token&=&&b+c=d") == {"delay", "token", "", "b c"}


def test_another_compression_is_no_fault() -> None:
    assert parse("compression=deflate", SETTINGS).names == ()


_values = {
    "delay": st.integers(0, 60_000).map(lambda number: f"{number}ms"),
    "close": st.sampled_from([1000, 1003, 1005, 1014, 3000, 4999]),
    "abort": st.just(""),
    "handshake-delay": st.integers(0, 60).map(lambda number: f"{number}s"),
    "status": st.integers(300, 599),
    "fragment": st.integers(1, 1000),
    "ping": st.integers(1, 60),
    "drop": st.floats(0, 1).map(lambda number: f"{number:.9f}"),
    "compression": st.sampled_from(Compression),
    "token": st.text(),
}


@given(st.fixed_dictionaries({}, optional=_values))
def test_what_a_form_encodes_is_read(values: dict[str, Any]) -> None:
    assert {name for name, value in values.items() if name != "token"} >= set(parse(urlencode(values), SETTINGS).names)


NAMES = tuple(PARAMETERS)


@given(st.text(alphabet=string.printable.replace("#", ""), max_size=60), st.sampled_from(sorted(_values)))
def test_any_query_is_read_or_refused_in_words_of_ours(text: str, name: str) -> None:
    for query in (text, f"{name}={text}"):
        try:
            parse(query, SETTINGS)
        except FaultError as error:
            line = str(error)
            names = "|".join(re.escape(name) for name in NAMES)
            assert re.fullmatch(rf"the parameter (?:{names}) [^<>]+", line)
            assert "\n" not in line
            assert len(line) < 110
