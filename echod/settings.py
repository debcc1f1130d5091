"""Every limit and switch of the daemon, once, as a frozen value.

Knows names, defaults and the reason for each. Must never know where a value came from: `options` makes a `Settings`
from the command line and the environment.

Sizes are in octets, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from echod.core.log import LogFormat
from echod.core.quantities import KIB, MIB


class Compression(StrEnum):
    """What becomes of an offer of permessage-deflate (RFC 7692)."""

    MIRROR = "mirror"
    """Taken; an echo's deflated octets are the message's own, where that can be (docs/compression.md)."""
    DEFLATE = "deflate"
    """Taken; each echo is deflated anew."""
    OFF = "off"
    """Taken from nobody."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator chose (first), and the fixed limits that have no option (after them)."""

    ports: tuple[str, ...] = ("tcp:8080",)
    """Twisted server endpoint strings to listen on."""

    admins: tuple[str, ...] = ()
    """Twisted server endpoint strings of the admin site."""

    admin_hosts: tuple[str, ...] = ()
    """Names, in lower case, that the admin site answers to, beside IP addresses and `localhost`. A page of any site can
    have its own name lead here (DNS rebinding), and browsers then let its scripts read the answers; but the Host field
    still says that name."""

    max_message_size: int = 16 * MIB
    """A longer message, also after inflation, is answered with close code 1009. The size that peers' test suites go up
    to."""

    max_buffered: int = 256 * MIB
    """Octets of unfinished and unsent messages that all connections hold together; see `budget`."""

    max_connections: int | None = None
    """More are answered with HTTP 503. None: what `RLIMIT_NOFILE` allows, less `reserved_descriptors`, and less
    `max_admin_connections` where there is an admin site in the same process."""

    max_connections_per_address: int | None = None
    """More are answered with HTTP 429. They are counted from the accept on, so that a client that sends nothing does
    not take every place; behind a proxy from when it has told the address. A /64 of IPv6 is one address."""

    origins: tuple[str, ...] = ()
    """Patterns, one of which a request's `Origin` must match, else HTTP 403. None given: any. A request without one is
    let in: the header is a browser's word on who is calling (RFC 6454), and clients that are none have nothing to say
    there."""

    max_request_head: int = 16 * KIB
    """Octets of a request head; a longer one is answered with HTTP 431. Node's limit. RFC 6455 needs a few hundred, but
    browsers send the cookies of everything on localhost to every port there, of which 8 KiB are not rare."""

    trust_proxy: int = 0
    """Hops of `X-Forwarded-For` that are believed, counted from the nearest."""

    compression: Compression = Compression.MIRROR
    """Mirroring costs a fraction of deflating, in time and memory, and a client sees no difference but in the octets of
    its own choice."""

    ping_interval: float = 20.0
    """Without a sign of life for so long, a connection is pinged. Shorter than the idle timeouts of common proxies (60
    s). 0: never."""

    ping_timeout: float = 20.0
    """Without a sign of life for so long after that, it is reset. 0: never, but it is pinged again after each interval
    of silence."""

    handshake_timeout: float = 5.0
    """From the accepted connection to the end of the opening handshake, TLS and a PROXY header included. 0: no
    limit."""

    close_timeout: float = 5.0
    """For a close, from its first step, whoever takes it, to the reset of a connection that is still there. It begins
    anew when the peer has taken octets that were written for it."""

    max_close_time: float = 60.0
    """From the first step of a close to the reset of a connection whose peer still takes octets; never less than
    `close_timeout`. A message of 16 MiB at 280 KB a second takes so long. In a drain `drain_timeout` counts instead."""

    drain_timeout: float = 10.0
    """From the signal to the end of the process, whoever is still there."""

    workers: int = 1
    """Processes that serve, beside the one that starts them; 1: none beside, this one serves."""

    has_faults: bool = True
    """Whether a URL's parameters (`faults`) have a say in what becomes of its connection."""

    has_console: bool = True
    """Whether a plain GET is answered with the console page, and not with 426."""

    log_messages: bool = False
    log_format: LogFormat = LogFormat.TEXT

    native: str | None = None
    """`ECHOD_NATIVE`: "1" requires the express lane's native module, "0" does without, None takes it where it is
    built."""

    full_timeout: float = 10.0
    """How long a connection waits for room under `max_buffered` before it is closed with 1013."""

    drain_grace: float = 0.5
    """From the signal to the refusal of a connection that has not begun its request: to be answered before it has asked
    confuses proxies and clients that are just about to."""

    backlog: int = 4096
    """Connections that the kernel holds until they are accepted; Linux's `net.core.somaxconn` is the same. Twisted's 50
    is little."""

    reserved_descriptors: int = 64
    """Descriptors that are not for connections: listeners, log, reactor, and connections that are just being
    refused."""

    max_head_lines: int = 100
    """The lines of a request head, Apache's default."""

    max_fragments: int = 128 * KIB
    """Frames in one message; more: close code 1008. Twice the 65,536 of the Autobahn testsuite's cases 9.3.1 and
    9.4.1."""

    max_json_values: int = 1_000_000
    """Values in a text to `/json`; more: close code 1009. With that limit 16 MiB take 30 ms, and without it 100 ms."""

    max_admin_connections: int = 24
    """Connections to the admin site, beside those that `max_connections` counts; for one more, the oldest is reset.
    Enough for a few monitors and browsers, which keep up to six open."""

    admin_timeout: float = 30.0
    """From one answer of the admin site on a connection to the next, however slowly a request comes or an answer is
    taken."""

    max_page: int = 1000
    """Connections on one page of the admin site's list: some 400 octets each, and 6 ms of work."""

    worker_timeout: float = 10.0
    """A worker that says nothing for so long is killed and replaced. No turn of the event loop takes longer than some
    10 ms."""

    worker_start_timeout: float = 60.0
    """The same from its start until it serves: Python and Twisted take half a second, and ten on a machine that is very
    busy."""

    worker_stop_margin: float = 2.0
    """Beyond `drain_timeout`, within which a worker ends by itself; then it is killed."""

    restart_delay: float = 0.1
    """From the end of a worker to the start of the next; twice as long each time that one ends early."""

    max_restart_delay: float = 30.0
    """`restart_delay` gets no longer."""

    restart_reset: float = 60.0
    """A worker that has served for so long didn't end early."""

    log_cut: int = 256
    """Characters of a message that `--log-messages` prints."""

    min_deflated: int = 64
    """A shorter answer goes uncompressed: deflate's own headers eat what it could gain."""

    deflate_level: int = 1
    """zlib's level of effort: 6, its default, takes three times as long for 64 KiB of text, and saves a tenth of the
    octets."""

    deflate_window_bits: int = 12
    """The window of both directions where the client allows it: 4 KiB, so that a compressor takes 30 KiB and not zlib's
    256 KiB."""

    deflate_memory_level: int = 4
    """zlib's memLevel: 8 KiB of hash chains, in step with the window."""

    max_delay: float = 60.0
    """For `delay`: longer than any client's usual timeout, and short enough for `max_delayed` to be worth much."""

    max_delayed: int = 4 * MIB
    """Octets of echoes that one connection's `delay` holds; above it the connection is not read. A message of any size
    fits in."""

    max_handshake_delay: float = 60.0
    """For `handshake-delay`: libraries give up after 10 to 30 s. It comes on top of `handshake_timeout`, which the
    client has to keep: this time is the server's own, and the connection is not read in it."""

    min_ping: float = 0.1
    """For `ping`: ten a second are a nuisance to any client and little work."""

    max_ping: float = 3600.0
    """A longer `ping` is a slip of the hand."""

    max_after: int = 1_000_000
    """For `after`, in messages: more than a test sends."""

    max_unread: float = 0.5
    """For `stall` and `handshake-delay`: the part of `max_connections` that they may take together; more: HTTP 503.
    They are not read, so that it isn't seen when their clients go: who opens them and leaves would keep everybody out,
    with no socket left of his own."""

    max_stall: float = 120.0
    """How long a connection with `stall` is kept: twice the idle timeouts of common proxies. Nothing that its client
    does is seen."""

    @property
    def message_limit(self) -> int:
        """Octets of the longest message that is echoed: one that could never fit in `max_buffered`, twice, is not
        begun."""
        return min(self.max_message_size, self.max_buffered // self.workers // 2)

    def share(self, index: int) -> Settings:
        """Return what is one worker's of what is for all together; `index` is counted from 0."""
        wanted = self.max_connections
        return replace(
            self,
            max_connections=None if wanted is None else wanted // self.workers + (index < wanted % self.workers),
            max_buffered=self.max_buffered // self.workers,
            workers=1,
        )


Choice = TypeVar("Choice", bound=StrEnum)


def parse_choice(kind: type[Choice], text: str) -> Choice:
    """Return the member of `kind` that `text` is; raises `ValueError`."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"is none of {', '.join(kind)}") from None
