"""The clients of `benchmarks.http2`: WebSockets over HTTP/2 as cheaply as Python can have them.

A client that is written with h2 takes longer for a message than any of the servers. So this one knows only what these
servers send, and ends at anything else. It compares every byte that comes back.

Knows frames of HTTP/2, and the clocks of processes. Must never know which server answers.
"""

from __future__ import annotations

import json
import random
import select
import socket
import ssl
import struct
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

from benchmarks.measure import raise_file_limit
from benchmarks.process import HOST
from tests.frames import BINARY, client_frame, server_frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = 0x1
END_HEADERS = 0x4
ENABLE_PUSH, INITIAL_WINDOW, MAX_FRAME, CONNECT_PROTOCOL = 2, 4, 5, 8

FIRST_WINDOW = 65535
"""The windows before anything is agreed (RFC 9113 section 6.9.2)."""

STREAM_WINDOW = 6 * 1024 * 1024
CONNECTION_WINDOW = 15 * 1024 * 1024
"""Bytes that the server may send ahead. These are Chromium's."""

FRAME = 16 * 1024
"""Bytes of one DATA frame, as browsers send them whatever the server allows."""

OK = b"\x88"
"""`:status: 200` in the table that both ends have from the beginning (RFC 7541 appendix A)."""

READ = 256 * 1024
PATIENCE = 60
"""Seconds in which something must come."""


@dataclass(frozen=True)
class Load:
    """What the clients do. `size` is that of a message in bytes."""

    port: int
    connections: int
    streams: int
    """On each connection."""
    size: int
    seconds: float
    warmup: float
    watch: list[int]
    """The server's processes."""
    tls: bool = False
    large_frames: bool = False
    """Whether frames are as large as the server allows."""
    holds: bool = False
    """Whether each stream sends one message, and then waits."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113 section 4.1)."""
    size = len(payload)
    return struct.pack("!BHBBL", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def update(stream: int, octets: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!L", octets))


def request(scheme: str) -> bytes:
    """Return the header block of an opening handshake (RFC 8441 section 5), without Huffman's code and without changes
    of the tables (RFC 7541)."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    method, authority, path = b"\x02\x07CONNECT", b"\x01\x09localhost", b"\x84"
    pseudo = method + literal(b":protocol", b"websocket") + (b"\x87" if scheme == "https" else b"\x86")
    return pseudo + path + authority + literal(b"sec-websocket-version", b"13")


class Stream:
    """One WebSocket, with one message under way."""

    __slots__ = ("came", "consumed", "number", "sent", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        """Bytes that may be sent."""
        self.sent = self.came = 0
        """Bytes of the message that were sent, and of its echo that came."""
        self.consumed = 0
        """Bytes for which the server has got no new window."""


class Connection:
    """One connection and its streams."""

    def __init__(self, load: Load, clients: Clients) -> None:
        self._load = load
        self._clients = clients
        self._message, self._echo = clients.message, clients.echo
        self._most = FRAME
        self._window = self._first_window = FIRST_WINDOW
        self._streams: dict[int, Stream] = {}
        self._blocked: dict[Stream, None] = {}
        """Streams that have something to send, and no window of the connection."""
        self._consumed = 0
        self._rest = b""
        settings = struct.pack("!HLHL", ENABLE_PUSH, 0, INITIAL_WINDOW, STREAM_WINDOW)
        self._out = deque([PREFACE, frame(SETTINGS, 0, 0, settings)])
        self._out.append(update(0, CONNECTION_WINDOW - FIRST_WINDOW))
        self.is_full = self.is_awaited = False
        """Whether the socket takes no more, and whether it is watched for taking more."""
        self.socket = socket.create_connection((HOST, load.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if load.tls:
            self.socket = clients.context.wrap_socket(self.socket)
        self.socket.setblocking(False)

    # Octets.

    def read(self) -> None:
        """Take what has come, and send what there is to send then."""
        while True:
            try:
                octets = self.socket.recv(READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            if not octets:
                raise SystemExit("the server has closed a connection")
            self._take(octets)
            if not self._load.tls:
                break
        self.flush()

    def flush(self) -> None:
        """Send what there is to send, as far as the socket takes it."""
        self.is_full = False
        while self._out:
            octets = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._out.clear()
            try:
                sent = self.socket.send(octets)
            except (BlockingIOError, ssl.SSLWantWriteError):
                sent = 0
            if sent < len(octets):
                self._out.append(octets[sent:])
                self.is_full = True
                break

    # Frames.

    def _take(self, octets: bytes) -> None:
        octets = self._rest + octets if self._rest else octets
        start, size = 0, len(octets)
        while size - start >= 9:
            high, low, kind, flags, number = struct.unpack_from("!BHBBL", octets, start)
            begin, end = start + 9, start + 9 + (high << 16 | low)
            if end > size:
                break
            payload = octets[begin:end]
            if kind == DATA and not flags:
                self._take_data(self._streams[number], payload)
            elif kind == WINDOW_UPDATE:
                self._take_window(number, *struct.unpack("!L", payload))
            elif kind == SETTINGS:
                if not flags & ACK:
                    self._take_settings(dict(struct.iter_unpack("!HL", payload)))
            elif kind == PING:
                self._out.append(frame(PING, ACK, 0, payload))
            elif kind == HEADERS and payload[:1] == OK and flags == END_HEADERS:
                self._begin(self._streams[number])
            else:
                raise SystemExit(f"a frame of type {kind} with flags {flags}: {payload[:100]!r}")
            start = end
        self._rest = octets[start:]

    def _take_settings(self, settings: dict[int, int]) -> None:
        """Take the server's settings, and open the streams if it lets us."""
        self._out.append(frame(SETTINGS, ACK, 0))
        if self._load.large_frames:
            self._most = settings.get(MAX_FRAME, FRAME)
        before, self._first_window = self._first_window, settings.get(INITIAL_WINDOW, self._first_window)
        for stream in self._streams.values():
            self._take_window(stream.number, self._first_window - before)
        if settings.get(CONNECT_PROTOCOL):
            block = request("https" if self._load.tls else "http")
            for number in range(1, 2 * self._load.streams, 2):
                self._streams[number] = Stream(number, self._first_window)
                self._out.append(frame(HEADERS, END_HEADERS, number, block))

    def _take_window(self, number: int, octets: int) -> None:
        if number:
            stream = self._streams[number]
            stream.window += octets
            if stream.sent:
                self._send(stream)
        else:
            self._window += octets
            blocked, self._blocked = self._blocked, {}
            for stream in blocked:
                self._send(stream)

    def _take_data(self, stream: Stream, payload: bytes) -> None:
        size, came = len(payload), stream.came
        if payload != (self._echo if size == len(self._echo) else self._echo[came : came + size]):
            raise SystemExit("an echo that is not what was sent")
        self._consumed += size
        if self._consumed > CONNECTION_WINDOW // 2:
            self._out.append(update(0, self._consumed))
            self._consumed = 0
        stream.consumed += size
        if stream.consumed > STREAM_WINDOW // 2:
            self._out.append(update(stream.number, stream.consumed))
            stream.consumed = 0
        stream.came = came + size
        if stream.came == len(self._echo):
            self._clients.answers += 1
            if not self._load.holds:
                self._begin(stream)

    def _begin(self, stream: Stream) -> None:
        """Send the next message."""
        stream.sent = stream.came = 0
        self._send(stream)

    def _send(self, stream: Stream) -> None:
        """Send what is left of the message, as far as the windows allow."""
        whole = len(self._message)
        while stream.sent < whole:
            size = min(whole - stream.sent, self._most, stream.window, self._window)
            if size <= 0:
                if self._window <= 0:
                    self._blocked[stream] = None
                return
            part = self._message if size == whole else self._message[stream.sent : stream.sent + size]
            self._out.append(frame(DATA, 0, stream.number, part))
            stream.sent += size
            stream.window -= size
            self._window -= size


class Clients:
    """All connections of one measurement."""

    def __init__(self, load: Load) -> None:
        self._load = load
        payload = random.Random(load.size).randbytes(load.size)
        self.message, self.echo = client_frame(BINARY, payload), server_frame(BINARY, payload)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.set_alpn_protocols(["h2"])
        self.answers = 0
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}

    def open(self) -> None:
        """Open all connections, and wait until each stream has had an answer."""
        for _ in range(self._load.connections):
            connection = Connection(self._load, self)
            self._connections[connection.socket.fileno()] = connection
            self._poll.register(connection.socket, select.EPOLLIN)
            connection.flush()
        while self.answers < self._load.connections * self._load.streams:
            self._turn()

    def go_on(self, seconds: float) -> None:
        """Exchange messages for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._turn()

    def _turn(self) -> None:
        ready = self._poll.poll(PATIENCE)
        if not ready:
            raise SystemExit("nothing has come for a minute")
        for descriptor, events in ready:
            connection = self._connections[descriptor]
            if events & ~select.EPOLLOUT:
                connection.read()
            else:
                connection.flush()
            if connection.is_full != connection.is_awaited:
                connection.is_awaited = connection.is_full
                self._poll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if connection.is_full else 0))


def processor_time(pids: list[int]) -> float:
    """Return the seconds of CPU time that processes have used."""
    return sum(time.clock_gettime(_clock_of(pid)) for pid in pids)


def _clock_of(pid: int) -> int:
    """Return the kernel's clock of a process: Linux's `MAKE_PROCESS_CPUCLOCK`, which glibc hides in
    `clock_getcpuclockid`."""
    return (~pid << 3) | 2


def run(load: Load) -> dict[str, float]:
    """Measure, and return what came of it. While the streams wait, a line on standard input goes on."""
    clients = Clients(load)
    clients.open()
    if load.holds:
        print(json.dumps({}), flush=True)
        sys.stdin.readline()
        return {}
    clients.go_on(load.warmup)
    before, answers, own, begun = processor_time(load.watch), clients.answers, time.process_time(), time.monotonic()
    clients.go_on(load.seconds)
    seconds, answers = time.monotonic() - begun, clients.answers - answers
    return {
        "rate": answers / seconds,
        "cpu": (processor_time(load.watch) - before) / max(1, answers),
        "client": (time.process_time() - own) / seconds,
    }


def command(load: Load) -> list[str]:
    """Return the command line of a process that runs this load."""
    return [sys.executable, "-m", "benchmarks.http2_client", json.dumps(asdict(load))]


if __name__ == "__main__":
    raise_file_limit()
    print(json.dumps(run(Load(**json.loads(sys.argv[1])))))
