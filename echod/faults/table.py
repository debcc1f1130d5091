"""The one table of the parameters that a URL can have: what each takes, does and breaks, and what a good client does.

The parser (`query`), `/info`, the console's form and docs/faults.md are made from it. A parameter's stage is the moment
at which it acts. The stage's class has a method with the parameter's name, and calls it with the value.

Pure. Must never know a connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from echod.faults import bad, heads, kinds
from echod.settings import Compression

MAX_SEED = 2**32 - 1
"""Seeds up to this one give more sequences than anybody can tell apart."""


class Moment(StrEnum):
    """The moments at which faults act, in the order of a connection's life. Each value is a group's heading."""

    OPENING = "Before it opens"
    MESSAGES = "What happens to messages"
    OWN = "What comes of its own accord"
    REPLIES = "How it answers pings and closes"
    WIRE = "How it is delivered"
    FRAMES = "Frames that are wrong"
    END = "How it ends"


NOTHING_WRONG = "Nothing is wrong here: the client goes on."
FAILS = "Fails the connection: no message is sent or delivered."
WAITS = "Waits, for as long as its own time limit allows."
REFUSED = "Fails to connect. A library tells its user the status."


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a URL."""

    name: str
    label: str
    """What the console's form calls it."""
    kind: kinds.Kind
    moment: Moment
    does: str
    """What the server does, as a sentence."""
    client: str
    """What a conforming client does, as a sentence."""
    rfc: str = ""
    """What it breaks, or what is said about it: `RFC 6455 section 5.1`. Empty: no document says anything."""
    example: str = ""
    """A query that shows it."""
    plan: str = ""
    """How the console tells it in advance, after `The server will`; `{}` stands for the value, and for `not at all` or
    `1s late` in the place of a word or a duration."""
    unset: Any = None
    """The value that stands for nothing, as if the parameter were not there."""
    needs: tuple[str, ...] = ()
    """One of these must be there, too: without it the parameter has no effect."""
    excludes: tuple[str, ...] = ()
    """None of these may be there."""
    most: str = ""
    """The setting that says how often it may be given; empty: once."""
    acts: bool = True
    """Whether its stage has a method for it. Otherwise it only tells another parameter how to act."""
    is_fault: bool = True
    """Whether a connection with it has left the express lane."""
    version: str = ""
    """The only version of HTTP in which it means something: `1.1` or `2`; empty: in each."""
    is_lasting: bool = False
    """Whether a browser may keep something of it that outlasts the connection, whatever its value."""

    @property
    def attribute(self) -> str:
        """The name of its method, and of its attribute among the values."""
        return self.name.replace("-", "_")


_ANSWER = "RFC 6455 section 4.1"

OPENING = (
    Parameter(
        "accept",
        "Sec-WebSocket-Accept",
        kinds.Choice(("wrong", "missing", "twice")),
        Moment.OPENING,
        "The answer has a Sec-WebSocket-Accept that belongs to another key (`wrong`), none (`missing`), or two "
        "(`twice`).",
        FAILS,
        "RFC 6455 sections 4.1 and 11.3.3",
        "accept=wrong",
        "answer with Sec-WebSocket-Accept {}",
        version="1.1",
    ),
    Parameter(
        "without",
        "Without a field",
        kinds.Choice(("upgrade", "connection")),
        Moment.OPENING,
        "The answer lacks the field `Upgrade` or `Connection`.",
        FAILS,
        "RFC 6455 section 4.1",
        "without=upgrade",
        "answer without {}",
        version="1.1",
    ),
    Parameter(
        "upgrade",
        "Upgrade",
        kinds.Choice(("wrong",)),
        Moment.OPENING,
        "The answer upgrades to another protocol: `Upgrade: echo`.",
        FAILS,
        "RFC 6455 section 4.1",
        "upgrade=wrong",
        "upgrade to another protocol",
        version="1.1",
    ),
    Parameter(
        "connection",
        "Connection",
        kinds.Choice(("wrong",)),
        Moment.OPENING,
        "The answer's `Connection` does not have the token `Upgrade`: it is `close`.",
        FAILS,
        "RFC 6455 section 4.1",
        "connection=wrong",
        "answer with `Connection: close`",
        version="1.1",
    ),
    Parameter(
        "subprotocol",
        "Subprotocol",
        kinds.Pattern("a text without control characters", kinds.TEXT, "max_fault_text"),
        Moment.OPENING,
        "The server chooses this subprotocol, offered or not; empty: none.",
        "Fails the connection if it has not offered this one. If it has offered some and none is chosen, it goes on.",
        "RFC 6455 section 4.1",
        "subprotocol=never-offered",
        "choose the subprotocol “{}”",
    ),
    Parameter(
        "extension",
        "Extension",
        kinds.Pattern("a text without control characters", kinds.TEXT, "max_fault_text", least=1),
        Moment.OPENING,
        "The answer names these extensions, offered or not. The connection goes on without any.",
        "Fails the connection if it has not offered one of them, or can't read the field.",
        "RFC 6455 sections 4.1 and 9.1",
        "extension=never-offered",
        "name the extension “{}”",
    ),
    Parameter(
        "header",
        "Another field",
        kinds.Field("max_fault_text"),
        Moment.OPENING,
        "The answer has this field, too, also if it is a refusal. It may be given several times.",
        "Ignores a field that it does not know.",
        "RFC 9110 section 5.1",
        "header=X-Tea:green",
        "answer with the field “{}”",
        unset=(),
        most="max_fault_headers",
    ),
    Parameter(
        "location",
        "Redirect to",
        kinds.Pattern("a path on this server, such as /other", kinds.PATH, "max_fault_text"),
        Moment.OPENING,
        "A status of 300 to 399 redirects to this path on this server.",
        "May follow the redirect. A browser fails the connection.",
        "RFC 6455 section 4.1",
        "status=302&location=/",
        "redirect to {}",
        needs=("status",),
        is_lasting=True,
    ),
    Parameter(
        "body",
        "Body",
        kinds.Pattern("a text without control characters", kinds.TEXT, "max_fault_text"),
        Moment.OPENING,
        "A refusal has this body, as plain text.",
        "Fails to connect. A library may show its user the body.",
        "RFC 9110 section 6.4",
        "status=503&body=tea+break",
        "answer with the body “{}”",
        needs=("status", "fail", "auth"),
    ),
    Parameter(
        "status",
        "HTTP status",
        kinds.Count(300, 599),
        Moment.OPENING,
        "The server refuses the handshake with this status. A browser does not tell a page which status it was.",
        REFUSED,
        _ANSWER,
        "status=503",
        acts=False,
    ),
    Parameter(
        "handshake-delay",
        "Handshake delay",
        kinds.Duration(0.0, "max_handshake_delay"),
        Moment.OPENING,
        "The answer to the handshake is delayed by this much.",
        WAITS,
        "",
        "handshake-delay=1s",
        unset=0.0,
        acts=False,
    ),
    Parameter(
        "auth",
        "Authentication",
        kinds.Auth("max_fault_text"),
        Moment.OPENING,
        "The server refuses with 401 and WWW-Authenticate, until the request has these credentials: "
        "`basic:USER:PASSWORD` or `bearer:TOKEN`.",
        "Repeats the handshake with credentials if it has any, or fails to connect.",
        "RFC 6455 section 4.1, RFC 9110 section 11.6",
        "auth=basic:tea:green",
        "ask for credentials",
        acts=False,
        is_lasting=True,
    ),
    Parameter(
        "fail",
        "Fail so many times",
        kinds.Count(1, "max_failures"),
        Moment.OPENING,
        "The server refuses the first handshakes with this key, with `status` or 503, and then serves. With several "
        "workers each of them counts for itself.",
        "Fails to connect. A client that reconnects waits a little longer each time.",
        "RFC 6455 section 7.2.3",
        "fail=2&key=docs",
        "first refuse {} times",
        needs=("key",),
        acts=False,
    ),
    Parameter(
        "key",
        "Key of the failures",
        kinds.Pattern("a text without control characters", kinds.TEXT, "max_fail_key", least=1),
        Moment.OPENING,
        "The name under which failures are counted. It is forgotten ten minutes after its last use.",
        NOTHING_WRONG,
        "",
        "fail=2&key=docs",
        needs=("fail",),
        acts=False,
    ),
    Parameter(
        "head",
        "Malformed head",
        kinds.Choice(tuple(heads.HEADS)),
        Moment.OPENING,
        "The head of the answer is malformed. HTTP/2 has only some of these.",
        "Depends on the name.",
        "RFC 9112",
        "head=status-200",
        "answer with a malformed head ({})",
    ),
)

MESSAGES = (
    Parameter(
        "drop",
        "Drop",
        kinds.Probability(),
        Moment.MESSAGES,
        "This share of the messages is lost: from 0 (none) to 1 (all).",
        "Notices it only if its user's protocol does.",
        "",
        "drop=0.5",
        unset=0.0,
    ),
    Parameter(
        "seed",
        "Seed",
        kinds.Count(0, MAX_SEED),
        Moment.MESSAGES,
        "With a number here, the same messages are lost or changed each time.",
        NOTHING_WRONG,
        "",
        "drop=0.5&seed=7",
        needs=("drop", "mutate"),
        acts=False,
    ),
    Parameter(
        "mutate",
        "Change a bit",
        kinds.Count(1, "max_after"),
        Moment.MESSAGES,
        "One bit is flipped in every Nth echo. `seed` chooses the bit. A text stays UTF-8.",
        "Notices it only if its user compares the messages.",
        "",
        "mutate=2&seed=7",
        "flip a bit in one of {} echoes",
    ),
    Parameter(
        "fragment",
        "Fragment",
        kinds.Count(1, "max_message_size"),
        Moment.MESSAGES,
        "Echoes come in frames of at most this many bytes.",
        "Puts the fragments together.",
        "RFC 6455 section 5.4",
        "fragment=4",
    ),
    Parameter(
        "delay",
        "Delay",
        kinds.Duration(0.0, "max_delay"),
        Moment.MESSAGES,
        "Each echo is delayed by this much, in order.",
        WAITS,
        "",
        "delay=250ms",
        unset=0.0,
    ),
    Parameter(
        "compression",
        "Compression",
        kinds.Choice(tuple(Compression)),
        Moment.MESSAGES,
        "An echo is deflated as its message came, if possible (`mirror`), deflated anew (`deflate`), or not deflated "
        "(`off`).",
        NOTHING_WRONG,
        "RFC 7692",
        "compression=off",
        is_fault=False,
        acts=False,
    ),
)

OWN = (
    Parameter(
        "greeting",
        "Greeting",
        kinds.Pattern("a text without control characters", kinds.TEXT, "max_fault_text"),
        Moment.OWN,
        "The answer is followed by one text message, in the same write.",
        "Delivers the message. It must not lose a frame that came with the answer.",
        "RFC 6455 section 4.1",
        "greeting=hello",
        "greet with “{}”",
    ),
    Parameter(
        "greeting-delay",
        "Greeting delay",
        kinds.Duration(0.0, "max_handshake_delay"),
        Moment.OWN,
        "The greeting comes this much later.",
        NOTHING_WRONG,
        "",
        "greeting=hello&greeting-delay=500ms",
        "{} later",
        unset=0.0,
        needs=("greeting",),
        acts=False,
    ),
    Parameter(
        "ping",
        "Ping",
        kinds.Duration("min_ping", "max_ping"),
        Moment.OWN,
        "The server sends a ping this often. A browser answers without showing it.",
        "Answers each ping with a pong.",
        "RFC 6455 section 5.5.2",
        "ping=200ms",
    ),
    Parameter(
        "pong-every",
        "Pongs",
        kinds.Duration("min_ping", "max_ping"),
        Moment.OWN,
        "The server sends a pong this often, which nobody asked for.",
        "Ignores it.",
        "RFC 6455 section 5.5.3",
        "pong-every=200ms",
        "send a pong every {}",
    ),
    Parameter(
        "every",
        "Messages",
        kinds.Duration("min_ping", "max_ping"),
        Moment.OWN,
        "The server sends a text message this often, with the numbers from 1 on.",
        "Delivers them.",
        "",
        "every=200ms&count=3",
        "send a numbered message every {}",
    ),
    Parameter(
        "count",
        "So many of them",
        kinds.Count(1, "max_after"),
        Moment.OWN,
        "After so many of the numbered messages the server sends no more.",
        NOTHING_WRONG,
        "",
        "every=200ms&count=3",
        "{} of them",
        needs=("every",),
        acts=False,
    ),
    Parameter(
        "burst",
        "Burst",
        kinds.Count(1, "max_burst"),
        Moment.OWN,
        "The server sends so many text messages as soon as the connection is open, as fast as the client takes them.",
        "Delivers them all, in order.",
        "",
        "burst=3&size=8",
        "send {} messages at once",
    ),
    Parameter(
        "size",
        "Size of each",
        kinds.Size("max_burst_size"),
        Moment.OWN,
        "Each message of the burst has so many bytes; without it 125.",
        NOTHING_WRONG,
        "",
        "burst=3&size=8",
        "each of size {}",
        needs=("burst",),
        acts=False,
    ),
)

REPLIES = (
    Parameter(
        "pong",
        "Answers to pings",
        kinds.Duration(0.0, "max_reply_delay", ("no",)),
        Moment.REPLIES,
        "The server never answers pings (`no`), or answers them this much later.",
        "Waits for the pong, and fails the connection at its own time limit if it has one.",
        "RFC 6455 section 5.5.2",
        "pong=no",
        "answer pings {}",
    ),
    Parameter(
        "close-reply",
        "Reply to a Close frame",
        kinds.Duration(0.0, "max_reply_delay", ("no",)),
        Moment.REPLIES,
        "The server does not answer the client's Close frame (`no`), or answers it this much later. It keeps the "
        "connection for two minutes.",
        "Waits for the reply, and ends TCP at its own time limit.",
        "RFC 6455 sections 5.5.1 and 7.1.1",
        "close-reply=no",
        "answer a Close frame {}",
    ),
)

WIRE = (
    Parameter(
        "slice",
        "Slices",
        kinds.Count(1, "max_slice"),
        Moment.WIRE,
        "The server writes so many bytes at a time, a millisecond apart, the answer to the handshake included, each in "
        "a TCP segment of its own.",
        "Puts them together: TCP is a stream of bytes.",
        "RFC 6455 section 5.4",
        "slice=1",
        "write {} bytes at a time",
    ),
    Parameter(
        "rate",
        "Rate of sending",
        kinds.Size("max_rate"),
        Moment.WIRE,
        "The server sends no more than so many bytes a second, the answer to the handshake included.",
        WAITS,
        "",
        "rate=1KiB",
        "send at most {} a second",
    ),
    Parameter(
        "cut",
        "Cut",
        kinds.Count(0, "max_cut"),
        Moment.WIRE,
        "TCP ends after so many bytes behind the answer to the handshake, wherever that is; with `abort` it is reset "
        "there.",
        "Reports code 1006, and delivers nothing of an incomplete message.",
        "RFC 6455 section 7.1.5",
        "cut=3",
        "end TCP after {} bytes",
    ),
    Parameter(
        "read-rate",
        "Rate of reading",
        kinds.Size("max_rate"),
        Moment.WIRE,
        "The server reads no more than so many bytes a second.",
        "Stops sending, and tells its user that what was sent waits.",
        "",
        "read-rate=100",
        "read at most {} a second",
    ),
)

FRAMES = (
    Parameter(
        "raw",
        "These bytes",
        kinds.Hex("max_raw"),
        Moment.FRAMES,
        "The server sends these bytes as they are, at once or after so many echoes (`after`).",
        "Depends on the bytes.",
        "RFC 6455 section 5.2",
        "raw=8a0474656121",
        "send the bytes {}",
    ),
    Parameter(
        "bad",
        "A wrong frame",
        kinds.Choice(tuple(bad.BAD)),
        Moment.FRAMES,
        "The server sends a frame that breaks the rules, at once or after so many echoes (`after`).",
        "Depends on the name.",
        "RFC 6455 section 5",
        "bad=masked",
        "send a wrong frame ({})",
    ),
    Parameter(
        "bomb",
        "A bomb",
        kinds.Size("max_bomb"),
        Moment.FRAMES,
        "The server sends a deflated message that inflates to so many zeros, a thousand times its size. A client that "
        "does not offer permessage-deflate is refused.",
        "Fails the connection, with 1009 if it sends a code, as soon as its limit on a message is passed.",
        "RFC 6455 section 10.4",
        "bomb=16MiB",
        "send a message that inflates to {}",
    ),
)

END = (
    Parameter(
        "close",
        "Close with code",
        kinds.CloseCode(),
        Moment.END,
        "The server closes with this code. With 1005 its Close frame has no code, and with 1006 it ends TCP without a "
        "Close frame.",
        "Answers with a Close frame, and reports the code.",
        "RFC 6455 section 5.5.1",
        "close=1001&reason=bye&after=3",
    ),
    Parameter(
        "reason",
        "Reason",
        kinds.Reason(),
        Moment.END,
        "The text that is sent with the code, up to 123 bytes.",
        "Reports the reason.",
        "RFC 6455 section 7.1.6",
        "close=1001&reason=bye",
        unset="",
        needs=("close",),
        acts=False,
    ),
    Parameter(
        "abort",
        "Reset",
        kinds.Flag(),
        Moment.END,
        "The server ends TCP with a reset. Without a code it sends no Close frame.",
        "Reports code 1006.",
        "RFC 6455 section 7.1.5",
        "abort&after=1",
        unset=False,
        excludes=("stall",),
    ),
    Parameter(
        "goaway",
        "End HTTP/2",
        kinds.Flag(),
        Moment.END,
        "The server sends GOAWAY. Open streams go on, and new ones need another connection.",
        "Opens no new stream on this connection, and another connection if it needs one.",
        "RFC 9113 section 6.8",
        "goaway&after=1",
        unset=False,
        version="2",
    ),
    Parameter(
        "stall",
        "Stall",
        kinds.Flag(),
        Moment.END,
        "The server stops reading, and keeps the connection for two minutes.",
        WAITS,
        "",
        "stall&after=1",
        unset=False,
    ),
    Parameter(
        "after",
        "After this many messages",
        kinds.Count(0, "max_after"),
        Moment.END,
        "The server echoes this many messages before the end. If empty, the end comes at once.",
        NOTHING_WRONG,
        "",
        "close=1001&after=3",
        unset=0,
        needs=("close", "abort", "goaway", "stall", "raw", "bad", "bomb"),
        acts=False,
    ),
)

ROWS = (*OPENING, *MESSAGES, *OWN, *REPLIES, *WIRE, *FRAMES, *END)

PARAMETERS: dict[str, Parameter] = {row.name: row for row in ROWS}
"""All parameters by their names. At each moment they act in this order."""

BY_ATTRIBUTE: dict[str, Parameter] = {row.attribute: row for row in PARAMETERS.values()}

CAPS: tuple[str, ...] = (
    *dict.fromkeys(cap for row in PARAMETERS.values() for cap in (*row.kind.caps(), *filter(None, [row.most]))),
    *("max_stall", "max_fault_head"),
)
"""The settings that limit values, and those that limit what parameters without a number do."""
