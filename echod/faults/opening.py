"""The answer to an opening handshake, made wrong as the URL asks for.

A method of `Opening` has the name of its parameter, and changes an `Answer`. Also here: which requests are refused
because the URL asks for it, and which must not be given what they ask for, because a browser would keep it.

Knows the fields of HTTP. Must never know a connection.

Decided: any page may open a WebSocket here. So whatever may outlast the connection in a browser (a cookie, a redirect,
a policy) is given only to a request without an `Origin`, or with this server's own. Of fields only those are given to
others that are known to outlast nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from echod.faults.heads import HEADS, Malformed
from echod.faults.query import FaultError, Faults, names_in
from echod.faults.table import PARAMETERS, Moment
from echod.http.refusals import Refusal
from echod.http.request import Fields
from echod.settings import Settings

_HEADERS: dict[int, tuple[tuple[str, str], ...]] = {
    401: (("WWW-Authenticate", 'Basic realm="echod"'),),  # RFC 9110 section 15.5.2 wants it
    405: (("Allow", "GET"),),  # section 15.5.6
    407: (("Proxy-Authenticate", 'Basic realm="echod"'),),  # section 15.5.8
    426: (("Upgrade", "websocket"),),  # section 15.5.22
    429: (("Retry-After", "5"),),
    503: (("Retry-After", "5"),),
}

_CHALLENGES = {"basic": 'Basic realm="echod", charset="UTF-8"', "bearer": 'Bearer realm="echod"'}
"""RFC 7617 section 2.1 and RFC 6750 section 3."""

_OF_OTHER_KEY = "dGhpcyBpcyBhbm90aGVyIGtleSE="
"""A Sec-WebSocket-Accept that has the right form: 20 bytes in base64."""

_PASSING = ("upgrade", "connection", "server", "via", "warning", "retry-after", "date", "age", "vary", "allow")
"""Fields, in lower case, of which a browser keeps nothing."""

_PASSING_PREFIXES = ("x-", "sec-websocket-")
"""Beginnings of such fields."""


Lines = list[tuple[bytes, bytes]]
"""The names and values of an answer's fields, in their order."""


class Answer:
    """An answer: its status, its fields, and its body."""

    __slots__ = ("body", "fields", "malformed", "status")

    def __init__(self, status: int, fields: Lines, body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body
        self.malformed: Malformed | None = None
        """How the head is malformed."""

    @property
    def opens(self) -> bool:
        """Whether it opens the WebSocket: a 101, or a 200 over HTTP/2 (RFC 8441 section 5)."""
        return self.status < 300

    def remove(self, name: str) -> None:
        """Leave a field out."""
        self.fields = [field for field in self.fields if field[0].lower() != name.lower().encode()]

    def add(self, name: str, value: str) -> None:
        """Add a field at the end."""
        self.fields.append((name.encode(), value.encode()))

    def replace(self, name: str, value: str) -> None:
        """Give a field another value, where it stands."""
        self.fields = [
            (known, value.encode() if known.lower() == name.lower().encode() else had) for known, had in self.fields
        ]


class Opening:
    """The answer to one opening handshake."""

    __slots__ = ("_faults", "_settings")

    def __init__(self, faults: Faults, settings: Settings) -> None:
        self._faults = faults
        self._settings = settings

    def alter(self, octets: bytes) -> bytes:
        """Return an answer of HTTP/1.1 as the URL asks for it."""
        head, _, body = octets.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        parts = (line.partition(b": ") for line in lines)
        answer = self._alter(Answer(int(first.split(b" ")[1]), [(name, value) for name, _, value in parts], body))
        head = b"\r\n".join([first, *(name + b": " + value for name, value in answer.fields), b"", b""])
        if answer.malformed is not None:
            head = answer.malformed.make(head, self._settings.max_fault_head)
        return head + answer.body

    def alter_fields(self, status: int, fields: Lines, body: bytes) -> tuple[Lines, bytes]:
        """Return the fields and the body of an answer over HTTP/2 as the URL asks for them."""
        answer = self._alter(Answer(status, fields, body))
        fields = [(name.lower(), value) for name, value in answer.fields]
        if answer.malformed is not None and answer.malformed.on_stream is not None:
            fields += answer.malformed.on_stream(self._settings.max_fault_head)
        return fields, answer.body

    def _alter(self, answer: Answer) -> Answer:
        for name, value in self._faults.at(Moment.OPENING):
            getattr(self, name)(answer, value)
        return answer

    # The parameters. Most of them mean an answer that opens a WebSocket.

    def accept(self, answer: Answer, how: str) -> None:
        """Make Sec-WebSocket-Accept wrong."""
        if not answer.opens:
            return
        if how == "wrong":
            answer.replace("Sec-WebSocket-Accept", _OF_OTHER_KEY)
        elif how == "missing":
            answer.remove("Sec-WebSocket-Accept")
        else:
            answer.add("Sec-WebSocket-Accept", _OF_OTHER_KEY)

    def without(self, answer: Answer, name: str) -> None:
        """Leave a field out."""
        if answer.opens:
            answer.remove(name)

    def upgrade(self, answer: Answer, _: str) -> None:
        """Upgrade to another protocol."""
        if answer.opens:
            answer.replace("Upgrade", "echo")

    def connection(self, answer: Answer, _: str) -> None:
        """Do not name `Upgrade`."""
        if answer.opens:
            answer.replace("Connection", "close")

    def subprotocol(self, answer: Answer, name: str) -> None:
        """Choose a subprotocol, or none."""
        if answer.opens:
            answer.remove("Sec-WebSocket-Protocol")
            if name:
                answer.add("Sec-WebSocket-Protocol", name)

    def extension(self, answer: Answer, text: str) -> None:
        """Name extensions."""
        if answer.opens:
            answer.add("Sec-WebSocket-Extensions", text)

    def header(self, answer: Answer, fields: tuple[tuple[str, str], ...]) -> None:
        """Add fields."""
        for name, value in fields:
            answer.add(name, value)

    def location(self, answer: Answer, path: str) -> None:
        """Redirect."""
        if 300 <= answer.status < 400:
            answer.add("Location", path)

    def body(self, answer: Answer, text: str) -> None:
        """Answer with another body, if there is one."""
        if not answer.opens and answer.body:
            answer.body = text.encode()
            answer.replace("Content-Length", str(len(answer.body)))

    def head(self, answer: Answer, name: str) -> None:
        """Make the head malformed."""
        answer.malformed = HEADS[name]


# Refusals that the URL asks for.


def refusal(status: int) -> Refusal:
    """Return the answer to an opening handshake whose URL asks for `status`."""
    return Refusal(status, "The URL asks for this status", _HEADERS.get(status, ()))


class Failures:
    """How many handshakes with each key have failed so far (`fail`). Few keys are known, and they are forgotten."""

    __slots__ = ("_clock", "_counts", "_settings")

    def __init__(self, settings: Settings, clock: Any) -> None:
        self._settings = settings
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._counts)

    def fails(self, key: str, times: int) -> bool:
        """Count a handshake, and tell whether it is one of the first `times`."""
        now: float = self._clock.seconds()
        self._forget(now)
        _, count = self._counts.pop(key, (now, 0))
        self._counts[key] = (now, min(count + 1, self._settings.max_failures + 1))
        if len(self._counts) > self._settings.max_fail_keys:
            self._counts.popitem(last=False)
        return count < times

    def _forget(self, now: float) -> None:
        while self._counts:
            key, (used, _) = next(iter(self._counts.items()))
            if now - used < self._settings.fail_key_time:
                return
            del self._counts[key]


def asked_refusal(faults: Faults, fields: Fields, failures: Failures) -> Refusal | None:
    """Return the refusal that the URL asks for, if it asks for one now."""
    if faults.auth is not None and not _is_authorized(faults.auth, fields):
        challenge = (("WWW-Authenticate", _CHALLENGES[faults.auth[0]]),)
        return Refusal(401, "The URL asks for other credentials", challenge)
    if faults.fail is not None:
        return refusal(faults.status or 503) if failures.fails(faults.key, faults.fail) else None
    return None if faults.status is None else refusal(faults.status)


def _is_authorized(wanted: tuple[str, str], fields: Fields) -> bool:
    given = fields.get(b"authorization", [])
    scheme, _, credentials = (given[0] if len(given) == 1 else b"").partition(b" ")
    # The scheme is case-insensitive (RFC 9110 section 11.1).
    is_right: bool = compare_digest(credentials.strip(b" "), wanted[1].encode())
    return scheme.lower() == wanted[0].encode() and is_right


# What must not outlast a connection.


def check_lasting(faults: Faults, query: str, fields: Fields) -> None:
    """Raise `FaultError` if a request with a foreign Origin asks for something that a browser may keep.

    What the operator asks for (`--fault`) was not chosen by the page, so only the names in `query` are judged.
    """
    if not faults.names or not is_foreign(fields):
        return
    own = names_in(query)
    lasting = [row.name for row in PARAMETERS.values() if row.is_lasting and row.name in own]
    if "header" in own and any(not passes(name) for name, _ in faults.header):
        lasting.append("header")
    if lasting:
        raise FaultError(
            f"the parameter {lasting[0]} has something to keep, which a page of another origin can't ask for"
        )


def passes(name: str) -> bool:
    """Tell whether a browser is known to keep nothing of a field."""
    return name.lower() in _PASSING or name.lower().startswith(_PASSING_PREFIXES)


def is_foreign(fields: Fields) -> bool:
    """Tell whether a request comes from a page of another origin: its Origin's host and port are not the Host's.

    The scheme is not compared, because a proxy may have taken TLS away. `Origin: null` is foreign.
    """
    if b"origin" not in fields:
        return False
    try:
        host = urlsplit(fields[b"origin"][0]).netloc.lower()
    except ValueError:
        return True
    return [host] != [value.lower() for value in fields.get(b"host", [])] or not host
