"""Makes docs/faults.md from the table of faults: `python -m tests.faults.reference`.

Knows the table and the form of that file. A test compares the file with what is made here.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

from echod.faults.bad import BAD
from echod.faults.heads import HEADS
from echod.faults.table import ROWS, Moment, Parameter
from echod.settings import Settings

PLACE = Path(__file__).parent.parent.parent / "docs" / "faults.md"

HEAD = """\
# What a good client does

echod is wrong on demand, for the authors of clients: each parameter of a URL makes it misbehave in one way. This page
lists them all, with the section of the RFC that is concerned, and with what a conforming client does. [url.md](url.md)
says more of those that are late, lossy, silent or rude, and [clients.md](clients.md) has what real clients did. echod
makes this page from the table in `echod/faults/table.py`, with `python -m tests.faults.reference`.

The lines run as they are, in the folder where echod was started with `make run`. They need `talk.py` and its library,
which [url.md](url.md) has, and show what the Python library `websockets` does over HTTP/1.1. A line with `echod check`
shows what exists over HTTP/2 alone. A parameter that one version of HTTP does not have is refused there with HTTP 400;
[url.md](url.md#over-http2) says what the others are over HTTP/2. Parameters can be combined. Most of them act
once: at the beginning, or after so many echoes (`after`).

What a browser might keep beyond the connection (a cookie, a redirect, credentials) is given only to a request without
an `Origin`, or with this server's own: any web page may open a WebSocket here. To a page of another origin `header`
gives only fields that are known to leave nothing behind: `X-…`, `Sec-WebSocket-…`, `Retry-After` and the like. Nobody
gets a field that says what the body is, nor one with which a server tells a proxy what to do, such as
`X-Accel-Redirect`. A text with a control character is refused, so no text can split an answer.

A cap can be stricter than what stands here: `--fault-cap max-bomb=16MiB`. The same goes for two caps of parameters that
take no number: `max-stall` (of `stall`, and of `close-reply`) and `max-fault-head` (of `head=endless`).
`--max-message-size` is an option of its own.

With `--fault QUERY` every connection has these parameters, unless its own URL names them: for clients whose URL can't
be changed. If one of them does not exist over HTTP/2, echod offers no WebSockets there, so that every client meets the
fault over HTTP/1.1 (`--http2 on` offers them all the same). With `--no-faults` echod ignores them all.
"""


def make() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for moment in Moment:
        parts.append(f"## {moment}\n")
        parts += [_section(row) for row in ROWS if row.moment is moment]
        if moment is Moment.OPENING:
            heads = [[f"`{name}`", one.does, one.client, one.rfc, f"`?head={name}`"] for name, one in HEADS.items()]
            parts.append("### The malformed heads\n\n" + _table(["`head=`", *_TITLES, "try"], heads))
        if moment is Moment.FRAMES:
            frames = [[f"`{name}`", one.does, one.client, one.rfc, one.cases or "none"] for name, one in BAD.items()]
            parts.append(_FRAMES + _table(["`bad=`", *_TITLES, "cases"], frames))
    return "\n".join(parts)


_TITLES = ("the server", "a conforming client", "source")

_FRAMES = """\
### The wrong frames

The last column names the cases of the Autobahn testsuite (its fuzzing server) and of curl's tests that send such a
frame. The bytes are those of the Autobahn testsuite where it has the case, and clients do the same with both: tests
compare them. The frames that need permessage-deflate are refused with HTTP 400 if the client does not offer it.

"""


def _section(row: Parameter) -> str:
    settings = Settings()
    caps = [name.replace("_", "-") for name in (*row.kind.caps(), *filter(None, [row.most]))]
    facts = [
        ["value", row.kind.value(settings)],
        *([["caps" if len(caps) > 1 else "cap", ", ".join(f"`{cap}`" for cap in caps)]] if caps else []),
        ["a conforming client", row.client],
        *([["source", row.rfc]] if row.rfc else []),
        *([["only over", f"HTTP/{row.version}"]] if row.version else []),
        *([["only with", " or ".join(f"`{name}`" for name in row.needs)]] if row.needs else []),
        *([["not with", " or ".join(f"`{name}`" for name in row.excludes)]] if row.excludes else []),
    ]
    url = f"'ws://127.0.0.1:8080/?{row.example}'"
    over_http2 = f".venv/bin/echod check --http2 {url}"
    line = over_http2 if row.version == "2" else f".venv/bin/python talk.py {url} one two three"
    return f"### `{row.name}`\n\n{fill(row.does, 120)}\n\n{_table(['', ''], facts)}\n```sh\n{line}\n```\n"


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PLACE.write_text(make())
