"""Every limit and switch of the daemon, once, as a frozen value.

Knows names, defaults and the reason for each. Must never know where a value comes from: `options` makes a `Settings`
from the command line and the environment.

Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from echod.core.log import LogFormat
from echod.core.quantities import GIB, KIB, MIB


class Compression(StrEnum):
    """How an offer of permessage-deflate (RFC 7692) is answered."""

    MIRROR = "mirror"
    """The offer is accepted. An echo reuses the deflated bytes of its message where that is possible
    (docs/compression.md)."""
    DEFLATE = "deflate"
    """The offer is accepted. Each echo is deflated anew."""
    OFF = "off"
    """No offer is accepted."""


class Http2Mode(StrEnum):
    """Whether HTTP/2 is spoken."""

    ON = "on"
    """HTTP/2 and WebSockets over it (RFC 8441)."""
    OFF = "off"
    """HTTP/1.1 alone."""
    NO_WEBSOCKET = "no-websocket"
    """HTTP/2 without WebSockets: `SETTINGS_ENABLE_CONNECT_PROTOCOL` is not announced, so a client must open its
    WebSockets over HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """First what the operator chooses, then the fixed limits that have no option."""

    ports: tuple[str, ...] = ("tcp:8080",)
    """Twisted endpoint strings to listen on."""

    admins: tuple[str, ...] = ()
    """Twisted endpoint strings of the admin site."""

    admin_hosts: tuple[str, ...] = ()
    """Host names, in lower case, that the admin site answers to, beside IP addresses and `localhost`. A page of any
    site can point its own name at this server (DNS rebinding), and a browser then lets the page's scripts read the
    answers. The Host field of such a request still has the page's name."""

    authority_file: str | None = None
    """The absolute path of a file that gets the certificate of the authority of `throwaway:` endpoints."""

    max_message_size: int = 16 * MIB
    """A longer message, after inflation, too, gets close code 1009. The test suites of other implementations go up to
    this size."""

    max_buffered: int = 256 * MIB
    """Bytes of unfinished and unsent messages that all connections hold together; see `budget`."""

    max_connections: int | None = None
    """Further connections get HTTP 503. None: what `RLIMIT_NOFILE` allows, less `reserved_descriptors`, and less
    `max_admin_connections` if an admin site is in the same process."""

    max_connections_per_address: int | None = None
    """Further connections get HTTP 429. A connection counts from its accept on, so that a client that sends nothing
    can't take every place; behind a proxy it counts from when the proxy has told the address. A /64 of IPv6 is one
    address."""

    origins: tuple[str, ...] = ()
    """Patterns. A request's `Origin` must match one of them, else it gets HTTP 403. No pattern: any origin. A request
    without an `Origin` is accepted: browsers say with that header which page is calling (RFC 6454), and other clients
    have no page to name."""

    max_request_head: int = 16 * KIB
    """Bytes of a request head; a longer head gets HTTP 431. Node has the same limit. RFC 6455 needs a few hundred
    bytes, but a browser sends the cookies of everything on localhost to every port there, and 8 KiB of cookies are not
    rare."""

    trust_proxy: int = 0
    """The number of `X-Forwarded-For` hops to trust, counted from the nearest proxy."""

    compression: Compression = Compression.MIRROR
    """Mirroring takes a fraction of the time and memory of deflating. A client sees no difference except in the
    deflated bytes, which it has chosen itself."""

    http2: Http2Mode = Http2Mode.ON
    """Whether HTTP/2 is spoken, and WebSockets over it."""

    max_streams: int = 100
    """Open streams of one HTTP/2 connection (SETTINGS_MAX_CONCURRENT_STREAMS); one more is refused. RFC 9113 section
    6.5.2 recommends not to go below 100, and servers have 100 to 256. Whoever tests what a client does with its last
    stream wants fewer."""

    http2_idle: float = 60.0
    """How long an HTTP/2 connection may have no stream. Browsers keep one for minutes, to use it again, and open a new
    one without ado. 0: no limit."""

    ping_interval: float = 20.0
    """A connection without a sign of life for this long gets a ping. It is shorter than the idle timeouts of common
    proxies (60 s). 0: no pings."""

    ping_timeout: float = 20.0
    """A connection without a sign of life for this long after the ping is reset. 0: it is never reset, but gets another
    ping after each interval of silence."""

    handshake_timeout: float = 5.0
    """From the accept to the end of the opening handshake, including TLS and a PROXY header. 0: no limit."""

    close_timeout: float = 5.0
    """From the first step of a close, by either side, to the reset of a connection that still exists. The time starts
    again whenever the peer takes bytes that were written to it."""

    max_close_time: float = 60.0
    """From the first step of a close to the reset of a connection whose peer still takes bytes; never less than
    `close_timeout`. A message of 16 MiB at 280 KB a second takes this long. In a drain `drain_timeout` counts
    instead."""

    drain_timeout: float = 10.0
    """From the signal to the end of the process, even if connections are left."""

    workers: int = 1
    """The number of processes that serve. With more than 1, the first process starts them and serves nothing itself."""

    has_faults: bool = True
    """Whether the parameters of a URL (`faults`) take effect."""

    fault: str | None = None
    """The query that every connection has, without a `?`. The URL's own parameters take precedence, each by its
    name."""

    has_console: bool = True
    """Whether a plain GET gets the console page; otherwise it gets HTTP 426."""

    log_messages: bool = False
    """Whether each message is logged."""

    log_frames: bool = False
    """Whether each opening handshake, each frame and each end of a connection is logged."""

    log_frames_rate: int = 200
    """The most lines of `--log-frames` in a second, of each kind: openings, answers, frames, ends. It is more than a
    person's test brings, and 200 lines take 10 ms. A suite of tests may want more."""

    log_format: LogFormat = LogFormat.TEXT
    """The format of a line of the log."""

    ready_file: str | None = None
    """The absolute path of the file that says where the daemon listens, once it serves; `-` is standard output."""

    native: str | None = None
    """`ECHOD_NATIVE`: "1" requires the native module of the express lane, "0" disables it, and None uses it if it is
    compiled."""

    full_timeout: float = 10.0
    """How long a connection may wait for room under `max_buffered` before it gets close code 1013."""

    drain_grace: float = 0.5
    """From the signal to the refusal of a connection that has not begun its request. An answer that comes before the
    request confuses proxies and clients that are about to send one."""

    backlog: int = 4096
    """The number of connections that the kernel holds until they are accepted. Linux's `net.core.somaxconn` has the
    same value; Twisted's 50 is small."""

    reserved_descriptors: int = 64
    """Descriptors that are not for connections: listeners, the log, the reactor, and connections that are being
    refused."""

    max_head_lines: int = 100
    """Lines of a request head. Apache has the same default."""

    max_fragments: int = 128 * KIB
    """Frames in one message; more get close code 1008. It is twice the 65,536 frames of the Autobahn testsuite's cases
    9.3.1 and 9.4.1."""

    max_json_values: int = 1_000_000
    """Values in a text to `/json`; more get close code 1009. With this limit 16 MiB take 30 ms, without it 100 ms."""

    max_admin_connections: int = 24
    """Connections to the admin site, in addition to those that `max_connections` counts. For one more, the oldest is
    reset. The number is enough for a few monitors and browsers; a browser keeps up to six open."""

    admin_timeout: float = 30.0
    """From one answer of the admin site on a connection to the next, however slowly the client sends its request or
    takes the answer."""

    max_page: int = 1000
    """Connections on one page of the admin site's list: each takes some 400 bytes, and the page 6 ms of work."""

    worker_timeout: float = 10.0
    """A worker that gives no answer for this long is killed and replaced. No turn of its event loop takes more than
    some 10 ms."""

    worker_start_timeout: float = 60.0
    """The same time limit from the start of a worker until it serves. Python and Twisted take half a second, and ten
    seconds on a very busy machine."""

    worker_stop_margin: float = 2.0
    """A worker that does not end within `drain_timeout` and this time is killed."""

    restart_delay: float = 0.1
    """From the end of a worker to the start of the next; the delay doubles each time that a worker ends early."""

    max_restart_delay: float = 30.0
    """The maximum of the doubled `restart_delay`."""

    restart_reset: float = 60.0
    """A worker that has served for this long did not end early."""

    log_cut: int = 256
    """Characters of a message that `--log-messages` shows, and bytes of a payload and of a header field that
    `--log-frames` shows."""

    kept_frames: int = 50
    """Frames that are kept of each traced connection, to be shown: 25 messages with their echoes. With payloads that
    are cut at `log_cut` they take up to 30 KiB."""

    max_frame: int = 64 * KIB
    """Bytes of payload in one HTTP/2 frame from a client (SETTINGS_MAX_FRAME_SIZE), as large as one read. Each frame
    takes some 50 µs, so a large message gets through four times as fast as in frames of 16 KiB."""

    max_window: int = MIB
    """Bytes that one HTTP/2 stream may send ahead, if `max_buffered` has room for it. With a way of 50 ms there and
    back, 20 MiB a second arrive."""

    min_window: int = KIB
    """Bytes that one stream may send ahead in any case: enough for the first message of most clients."""

    max_connection_window: int = 16 * MIB
    """Bytes that all streams of one connection may send ahead together. It is no limit on memory, since the windows of
    the streams are: it is so large that a stream that is not read takes no room from the others."""

    max_header_list: int = 32 * KIB
    """Bytes of a header list of HTTP/2, inflated or not. A larger one ends the connection, since it may be a bomb:
    HPACK makes thousands of bytes of one. One of this size keeps the event loop for up to 10 ms. A smaller list that is
    above `max_request_head` gets HTTP 431."""

    max_continuations: int = 16
    """CONTINUATION frames in one header block (CVE-2024-27316). 32 KiB need two of the smallest maximum size."""

    max_setting_entries: int = 32
    """Settings of one client, known and unknown ones, and in one SETTINGS frame (CVE-2020-11080). Each takes 800 bytes
    of memory and 5 µs. nghttp2 has the same number, and HTTP/2 has nine."""

    flood_time: float = 30.0
    """The time in which the next six limits may be reached once. A client may use it up in a burst, and gets it back
    evenly."""

    max_resets: int = 1000
    """Streams of one connection that a client resets, or has reset by its faults, in `flood_time` (rapid reset,
    CVE-2023-44487). nghttp2 has the same number, and gives it back as fast. A request takes 0.3 ms."""

    max_settings: int = 50
    """SETTINGS frames in `flood_time` (CVE-2019-9515). Each gets an answer. A client sends one or two."""

    max_pings: int = 500
    """PING frames in `flood_time` (CVE-2019-9512). Each gets an answer. Clients that measure bandwidth send one in a
    round trip."""

    max_priorities: int = 2000
    """Frames without effect in `flood_time`: PRIORITY (CVE-2019-9513), GOAWAY, unknown types, acknowledgements, and
    resets of streams that have ended. A browser sends a few for each stream."""

    max_window_updates: int = 1000
    """WINDOW_UPDATE frames in `flood_time`, in addition to `window_updates_per_data`. A client that opens large windows
    from the beginning sends one for each stream."""

    window_updates_per_data: int = 10
    """WINDOW_UPDATE frames for which each DATA frame to a client gives room. A client needs two at most: one for the
    stream and one for the connection. Envoy has the same number, for the same reason: no count in a time fits a client
    that downloads quickly."""

    max_empty: int = 1000
    """DATA frames without payload that do not end their stream, in `flood_time` (CVE-2019-9518). Nobody needs one."""

    min_deflated: int = 64
    """A shorter answer is not compressed: the headers of deflate take what compression could save."""

    deflate_level: int = 1
    """zlib's compression level. Its default, 6, takes three times as long for 64 KiB of text and saves a tenth of the
    bytes."""

    deflate_window_bits: int = 12
    """The window for both directions if the client allows it: 4 KiB, so that a compressor takes 30 KiB instead of
    zlib's 256 KiB."""

    deflate_memory_level: int = 4
    """zlib's memLevel: 8 KiB of hash chains, in proportion to the window."""

    max_delay: float = 60.0
    """The maximum of `delay`: longer than the usual timeout of any client, and short enough for `max_delayed` to
    suffice."""

    max_delayed: int = 4 * MIB
    """Bytes of echoes that the `delay` of one connection holds. Above this the connection is not read. One message of
    any size still fits."""

    max_handshake_delay: float = 60.0
    """The maximum of `handshake-delay`: libraries give up after 10 to 30 s. The delay comes on top of
    `handshake_timeout`, which limits the client: the delay is the server's own time, and the connection is not read
    during it."""

    min_ping: float = 0.1
    """The minimum of `ping`: ten pings a second annoy any client and are little work."""

    max_ping: float = 3600.0
    """A longer `ping` is a typing mistake."""

    max_after: int = 1_000_000
    """The maximum of `after`, in messages: more than a test sends."""

    max_unread: float = 0.5
    """The part of `max_connections` that `stall` and `handshake-delay` may take together; more get HTTP 503. Such a
    connection is not read, so the server does not notice that its client has left. Without this limit a client could
    open many and leave, and so keep everybody out without a socket of its own."""

    max_stall: float = 120.0
    """How long a connection with `stall` is kept: twice the idle timeouts of common proxies. The server sees nothing
    that its client does."""

    max_fault_text: int = 1024
    """Bytes of a text that a URL gives for an answer: a field's value, a body, a greeting. The request head has its own
    limit, which is sixteen times as much."""

    max_fault_headers: int = 10
    """How many fields `header` may add to an answer."""

    max_fault_head: int = 64 * KIB
    """Bytes of the answer of `head=endless`: more than any client's limit on an answer's head that is known."""

    max_failures: int = 1000
    """The maximum of `fail`: more attempts than a test of reconnecting makes."""

    max_fail_keys: int = 1000
    """How many keys of `fail` are remembered; the one that was not used for longest is forgotten. All together take
    less than 200 KiB."""

    fail_key_time: float = 600.0
    """How long a key of `fail` is remembered after its last use: longer than the pauses of a client that backs off."""

    max_fail_key: int = 64
    """Bytes of a key of `fail`: a UUID and a name."""

    max_raw: int = 4 * KIB
    """Bytes of `raw`, which are 8 KiB of the request head in hex."""

    max_bomb: int = GIB
    """What `bomb` may inflate to. It takes a MiB of the server's memory, and no client should take all of it."""

    max_slice: int = 64 * KIB
    """The maximum of `slice`: the kernel cuts larger pieces itself."""

    slice_pause: float = 0.001
    """Seconds between two pieces of `slice`, so that the kernel has sent one before it gets the next."""

    max_rate: int = GIB
    """The maximum of `rate` and `read-rate`, in bytes a second: what a loopback carries."""

    max_read_pause: float = 10.0
    """Seconds for which `read-rate` reads nothing at most. The first read may have 64 KiB, and with a client that is
    not read for longer, keepalive could not tell whether it is still there."""

    max_cut: int = GIB
    """The maximum of `cut`, in bytes."""

    max_reply_delay: float = 60.0
    """The maximum of `pong` and `close-reply`: longer than libraries wait for a pong (20 s) or a Close frame (10 s)."""

    max_burst_size: int = MIB
    """Bytes of a message of `burst`. It is made in one step, which takes half a millisecond."""

    max_burst: int = 100_000
    """The maximum of `burst`, in messages: they are made while the client takes them, so that few wait."""

    @property
    def message_limit(self) -> int:
        """Bytes of the longest message that is echoed: a message that could not fit in `max_buffered` twice is not
        begun."""
        return min(self.max_message_size, self.max_buffered // self.workers // 2)

    @property
    def tells_each_message(self) -> bool:
        """Whether Python has to see each message."""
        return self.log_messages or self.log_frames

    def share(self, index: int) -> Settings:
        """Return the settings of one worker, with its share of the limits for all; `index` is counted from 0.

        The parent writes the file.
        """
        wanted = self.max_connections
        return replace(
            self,
            max_connections=None if wanted is None else wanted // self.workers + (index < wanted % self.workers),
            max_buffered=self.max_buffered // self.workers,
            workers=1,
            authority_file=None,
        )


Choice = TypeVar("Choice", bound=StrEnum)


def parse_choice(kind: type[Choice], text: str) -> Choice:
    """Return the member of `kind` with the value `text`; raises `ValueError`."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"is none of {', '.join(kind)}") from None
