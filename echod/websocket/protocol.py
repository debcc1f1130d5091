"""`EchoProtocol`: one connection, from its first octet to its last. Opens, echoes, closes.

Autobahn is the specification: it takes frames apart, validates, inflates, deflates and answers control frames. Around
it stand the handshake guard and the answer to the opening handshake (before), the gathering of a message in one buffer
and of a read's answers in one write (within), and one path for every close (after). Must never know endpoints or
options; what it shares with other connections it reaches through its factory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core import log
from echod.core.counts import NO_CLOSE_FRAME, NO_CODE, Closer, Outcome, Traffic, close_label
from echod.core.printable import describe_message, escape
from echod.core.turns import STEP, Tasks
from echod.faults import query, stages
from echod.http.client_address import client_address, plain_address
from echod.http.extensions import Terms
from echod.http.head_reader import HeadReader
from echod.http.paths import INFO_PATH
from echod.http.refusals import ADDRESS_FULL, DAEMON_FULL, GOING_AWAY, NO_ROOM, Refusal, bad_request, render
from echod.http.request import PageRequest, Request
from echod.lane.codec import Codec
from echod.lane.large import Large, Octets
from echod.lane.leases import Ended
from echod.upstream import autobahn, eager, tls_sessions, transports
from echod.websocket import info, json_echo
from echod.websocket.compression import Deflate

if TYPE_CHECKING:
    from echod.websocket.factory import EchoFactory

SLICE = 1024
"""Octets that Autobahn is given at a time, but for a frame or the rest of one: it copies what it has left for each
frame that it takes from it, so that a 64 KiB read of empty messages would cost half a gigabyte of copying. A frame that
is cut costs more than a whole one."""

SMALL_ANSWER = 1024
"""Octets of an answer to plain HTTP that is given also when connections hold too much: a health check's is one."""

PATH_CUT = 256
"""Characters of a path that are kept to be shown."""

PER_MESSAGE_COMPRESSED = 4
"""RSV1 in the first frame of a message that is deflated (RFC 7692 section 6)."""

PIECE = 64 * 1024
"""Octets of a frame that Autobahn is given at a time, at most; it takes about as long for them as for `SLICE` octets of
small frames."""

MOST_MOVED = 64 * 1024
"""Octets that a lease may hold and be ended all the same, so that the buffers of its TLS session can be given back:
what it holds moves."""

ORDINARY = b"\x81\x82"
"""The first octet of each frame that the codec could take: whole and not deflated, text or binary (RFC 6455 section
5.2)."""

_log = Logger()


@implementer(IHalfCloseableProtocol)
class EchoProtocol(autobahn.ServerProtocol):
    """Echo each message as it came, text as text and binary as binary."""

    factory: EchoFactory
    log = log.AutobahnLog()

    # Class attributes, so that an idle connection doesn't carry them.
    _head: HeadReader | None = None
    _receive: Callable[[EchoProtocol, Octets], None]
    _transform: Callable[[bytes, int], Generator[bytes, None, bytes]] | None = None
    _gathered: bytes | bytearray = b""
    _fragments = 0
    _wire_size = 0
    _answers: list[bytes] | None = None
    is_backlogged = False
    _put_off: Octets = b""
    _read_ahead: bytes | bytearray = b""
    _has_unread_session = False
    _tasks: Tasks | None = None
    _pending_before = 0
    _is_leaving = False

    # `budget.Holder` and `keepalive.Watched`.
    held = 0
    pending = 0
    is_waiting = False
    _last_seen = 0.0
    _reads = 0

    # `leases.Borrower`.
    lease: Any = None
    _codec: Codec | None = None
    _large: Large | None = None
    _layers: tuple[Any, ...] = ()
    _is_plain = _is_tls = _has_tls = False

    # `stages.Afflicted`.
    _faulty: stages.Faulty | None = None

    # For `counts`, and for whoever wants to see the live connections.
    path = "/"
    since = 0.0
    """When the opening handshake was over, by the factory's clock; before that, when the connection was accepted."""
    _traffic: Traffic | None = None
    _outcome: Outcome | None = None

    place: str | None = None
    """What it is counted under where addresses have a limit; the factory's to write."""

    address: str | None = None
    """The client's IP address once the request head is there; None before, and over a Unix socket."""

    @property
    def who(self) -> str:
        """The peer, for a line of the log."""
        return escape(self.address or self.peer_address or "a local client")

    @property
    def peer_address(self) -> str | None:
        """The IP address at the other end of the socket, perhaps a proxy's; None of a Unix socket."""
        host = getattr(self.transport.getPeer(), "host", None)
        return host and plain_address(host)

    @property
    def is_behind_proxy(self) -> bool:
        """Whether a proxy tells the client's address, which is not known yet when the connection is accepted."""
        # A transport has the attribute where the connection begins with a PROXY header, also with TLS on it.
        return bool(self.factory.settings.trust_proxy) or hasattr(self.transport, "header_fault")

    # The transport's events.

    def connectionMade(self) -> None:
        """Wait for a request head."""
        self._head = HeadReader(self.factory.guard)
        self._receive = EchoProtocol._receive_head
        self._layers = transports.layers(self.transport)
        self._is_plain, self._is_tls = transports.is_plain(self._layers), transports.is_tls(self._layers)
        self._has_tls = transports.tls_of(self._layers) is not None
        self.since = self.factory.clock.seconds()
        self.factory.opened(self)
        eager.read_first(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything."""
        if self.state == self.STATE_CONNECTING and self._outcome is None:
            self._note_early_end(reason.value)
        self._gathered = self._put_off = self._read_ahead = b""
        self._receive = _ignore
        self._large = self._tasks = None
        if self._faulty is not None:
            self._faulty.stop()
            self._faulty = None
        self.factory.lost(self)
        self._layers = ()
        self.forget()

    def _note_early_end(self, reason: BaseException | None) -> None:
        """Tell of a client that didn't come as far as a request: else nobody knows why, such as that a list of
        revocations has expired."""
        if (why := getattr(self.transport, "header_fault", None)) is not None:
            self._tell_refusal(f"bad PROXY header: {escape(why)}")
            self.factory.counts.refuse(0, "bad PROXY header")
            self._outcome = Outcome.REFUSED
        elif (why := tls_sessions.tls_fault(reason)) is not None:
            self._tell_refusal(f"TLS: {why}")
            self.factory.counts.refuse(0, "TLS failed")
            self._outcome = Outcome.REFUSED

    def readConnectionLost(self) -> None:
        """The peer sends no more: let what was accepted from it reach it, then close."""
        if self._faulty is not None:
            self.perform(self._faulty.flush)
        self.unregisterProducer()
        self.factory.began_to_close(self)
        self._do_in_order(self._let_go)

    def writeConnectionLost(self) -> None:
        """Go on reading: it was our own doing."""

    def dataReceived(self, data: bytes) -> None:
        """Take octets, whatever they are. No exception leaves."""
        self._last_seen = self.factory.clock.seconds()
        if self._is_behind:
            # TLS has read more than it was asked to, perhaps in thousands of records. What is put off is too much to be
            # copied for each.
            self._read_ahead = self._read_ahead or bytearray()
            self._read_ahead += data
        else:
            self._act(lambda: self._receive(self, data))

    def _act(self, action: Callable[[], None]) -> None:
        """Do what an event asks for, so that no exception leaves, and send all that it gives in one write."""
        self.factory.turns.begin()
        self._answers = []
        try:
            action()
        except Exception:
            self._fail_by_fault_of_ours()
        self._settle()

    def _fail_by_fault_of_ours(self) -> None:
        _log.failure("a connection failed")
        # Perhaps what is held, or still to be done, is what can't be sent.
        if self._faulty is not None:
            self._faulty.stop()
        self._tasks = None
        self.fail(1011, "internal error")

    # Work that takes long.

    @property
    def _is_behind(self) -> bool:
        """Whether there is something to do before more is read."""
        return bool(self._put_off or self._read_ahead) or self.is_held or self._tasks is not None

    def work(self) -> None:
        """Go on with what was put off."""
        if not self._is_behind:
            self._read_session()
            self._lend()
            return
        self._last_seen = self.factory.clock.seconds()
        self._act(self._catch_up)
        self._read_session()
        if self._tasks is not None or (self._read_ahead and not self.is_held_up):
            self.factory.turns.add(self)
        elif self._receive is not _ignore:
            self._pause_or_resume()

    def _catch_up(self) -> None:
        self._do_tasks()
        if self._tasks is None:
            data, self._put_off = self._put_off, b""
            if not data:
                data, self._read_ahead = bytes(self._read_ahead), b""
            self._receive(self, data)

    def do(self, task: Iterator[bytes], size: int, is_long: bool = False) -> None:
        """Do what may take long, in turns, and after all that was to be done before. A task that `is_long` is not begun
        now.

        `size` is how many octets the task holds. Until it is done nothing is read, and what is sent meanwhile waits.
        """
        if self._tasks is not None:
            self._tasks.add(task, size)
            return
        self._tasks = Tasks()
        self._tasks.add(task, size)
        if not is_long:
            self._do_tasks()
        if self._tasks is not None:
            self.is_held = True
            self.factory.turns.add(self)
            self._pause_or_resume()

    def _do_tasks(self) -> None:
        while self._tasks:
            octets = self._tasks.step()
            if octets:
                self._write(octets)
            if self.factory.turns.is_over:
                break
        if not self._tasks:
            self._tasks = None

    def _do_in_order(self, action: Callable[[], None]) -> None:
        """Do it now, or after all that is still to be done."""
        if self._tasks:
            self._tasks.add(_acting(action), 0)
        else:
            action()

    def _settle(self) -> None:
        self._flush()
        self._answers = None
        if not self._layers:
            return  # the connection is lost
        if self._has_tls:
            self.factory.grew(self)
        self.factory.budget.settle(self)
        if self._tasks is not None:
            return
        if self.wasClean:
            self._let_go()
        elif self._is_leaving:
            self.go_away()
        elif self._codec is not None:
            self._offer()

    # The opening handshake.

    def _receive_head(self, data: Octets) -> None:
        assert self._head is not None
        verdict = self._head.feed(bytes(data))
        if verdict is None:
            if not self.factory.budget.is_tight:
                return
            verdict = NO_ROOM  # nearly every client sends its head whole; of others there may be many
        # Also of a refused one, which may linger until its close is over.
        rest = self._head.rest
        del self._head
        if isinstance(verdict, Request):
            self._open(verdict)
            if rest:
                self._receive(self, rest)
        elif isinstance(verdict, Refusal):
            self.refuse(verdict)
        else:
            self._answer_page(verdict)

    def _open(self, request: Request) -> None:
        peer = self.peer_address
        self.address = client_address(request.fields, peer, self.factory.settings.trust_proxy)
        if not self.factory.admit(self, self.address):
            self.refuse(ADDRESS_FULL)
            return
        if request.path != "/":
            self.path = request.path[:PATH_CUT]
        settings = self.factory.settings
        try:
            asked = query.parse(request.query, settings) if request.query and settings.has_faults else query.NONE
        except query.FaultError as error:
            self.refuse(bad_request(str(error)))
            return
        if asked is query.NONE or not asked.names:
            self._answer_handshake(request, asked)
            return
        if (asked.stall or asked.handshake_delay) and not self.factory.admit_unread(self):
            self.refuse(DAEMON_FULL)
            return
        for name in asked.names:
            self.factory.counts.fault(name)
        self._faulty = stages.Faulty(asked, settings.max_delayed, self.factory.clock, self)
        if asked.handshake_delay:
            self._receive = EchoProtocol._keep
            self.transport.pauseProducing()
            self.factory.postponed(self)
            self._faulty.postpone(lambda: self._answer_late(request, asked))
        else:
            self._answer_handshake(request, asked)

    def _keep(self, data: Octets) -> None:
        """Keep what comes before the opening handshake is answered: of one read at most, but for what TLS has read
        already."""
        self._put_off = data

    def _answer_late(self, request: Request, asked: query.Faults) -> None:
        if not asked.stall:
            self.factory.reads_again(self)
        self._answer_handshake(request, asked)

    def _answer_handshake(self, request: Request, asked: query.Faults) -> None:
        if self._faulty is not None and self._faulty.faults.status is not None:
            self.refuse(stages.refusal(self._faulty.faults.status))
            return
        self._transform = self.factory.transforms.get(request.path)
        self._receive = EchoProtocol._receive_frames
        # What is sent is not what came, where it is transformed, lost, late or cut.
        may_mirror = self._transform is None and self._faulty is None
        agreed = self.factory.agree(request, asked.compression, may_mirror) if request.extensions else None
        subprotocol = request.subprotocols[0] if request.subprotocols else None
        if agreed is None:
            self.open(request.key, subprotocol, None, {})
        else:
            extension = Deflate(agreed.terms, self.factory.settings)
            self.open(request.key, subprotocol, extension, {"Sec-WebSocket-Extensions": agreed.answer})
        if request.path == INFO_PATH and self.in_open_state:
            self.answer(info.describe(request, self._facts()), False, True)
        if self._faulty is not None:
            self._faulty.begin()

    def _facts(self) -> info.Facts:
        """What `/info` tells beside the request."""
        peer = self.transport.getPeer()
        is_direct = self.address == self.peer_address
        return info.Facts(
            address=self.address,
            port=getattr(peer, "port", None) if is_direct else None,
            subprotocol=self.websocket_protocol_in_use,
            extensions=tuple(self.extensions),
            terms=self.terms,
            tls=info.describe_tls(self._layers),
            lane=self._lane_to_be,
            settings=self.factory.settings,
            faults=query.NONE if self._faulty is None else self._faulty.faults,
            seed=None if self._faulty is None else self._faulty.seed,
        )

    @property
    def _lane_to_be(self) -> str:
        """Who will serve ordinary messages: `pump`, `codec` or `autobahn`. The pump has its lease when this read is
        over."""
        if self._codec is None:
            return "autobahn"
        return "pump" if self._has_lane else "codec"

    @property
    def _has_lane(self) -> bool:
        lane = self.factory.lane
        if lane is None or not (self._is_plain or (self._is_tls and lane.takes_tls)):
            return False
        return self.extension is None or (lane.takes_deflate and self.extension.terms.stands_alone)

    def _answer_page(self, request: PageRequest) -> None:
        """Answer plain HTTP, once: on a connection that went on, as proxies keep them, the next head might be an
        opening handshake."""
        assert self.factory.pages is not None
        answer = self.factory.pages(request)
        if self.factory.budget.is_tight and len(answer) > SMALL_ANSWER:
            self.refuse(NO_ROOM)
        else:
            self._outcome = Outcome.PAGE
            self.sendData(answer)
            self.dropConnection()

    def refuse_when_asked(self, refusal: Refusal) -> None:
        """Refuse as soon as a request begins to come. An answer that is there before it is more than many expect: nginx
        (1.22) tries the next server, and takes what it has read of this one's body for that one's header.
        """

        def receive(connection: EchoProtocol, _: Octets) -> None:
            del connection._head
            connection.refuse(refusal)

        self._receive = receive

    def refuse(self, refusal: Refusal) -> None:
        """Answer with something else than 101, and close."""
        self._tell_refusal(f"{refusal.status} {refusal.why}" if refusal.status else refusal.why)
        self.factory.counts.refuse(refusal.status, refusal.why)
        self._outcome = Outcome.REFUSED
        if refusal.status:
            self.sendData(render(refusal, formatdate(usegmt=True)))
        self.dropConnection()

    def _tell_refusal(self, why: str) -> None:
        _log.info("refused a handshake from {peer}: {why}", peer=self.who, why=why)

    def onOpen(self) -> None:
        """Begin to echo. A client that doesn't read stops being read: the transport calls `pauseProducing`."""
        # The same number as that of the read, so that an idle connection holds one, unless the answer was delayed.
        self.since = self._last_seen if self._faulty is None else self.factory.clock.seconds()
        self.factory.established(self)
        if self._transform is None and self._faulty is None and not self.factory.settings.log_messages:
            self._codec = self.factory.codec
        self.transport.registerProducer(self, True)

    # Messages.

    def _receive_frames(self, data: Octets) -> None:
        if self._large is not None:
            data = self._receive_large(self._large, data)
        if self._codec is not None and data and data[0] in ORDINARY and self._is_idle and self.state == self.STATE_OPEN:
            answers, data = self._codec.echo(data, self.echoed)
            if answers:
                self.sendData(answers)
            self._large = None if self.factory.budget.is_tight else self._codec.begin(data)
            if self._large is not None:
                return
        start, turns = 0, self.factory.turns
        if self.is_held:  # until now
            self.is_held = False
            self.feed(b"")
        while start < len(data) and not (self.is_held or self.is_held_up or (start and turns.is_over)):
            end = start + max(SLICE, min(PIECE, self._frame_rest(data, start)))
            self.feed(bytes(data[start:end]))
            start = end
            if self.state == self.STATE_CLOSED:
                return
        self._put_off = data[start:] if start < len(data) else b""
        self.is_held = self.is_held and (not self.is_between_frames or self._tasks is not None)
        if self._is_behind:
            if not self.is_held_up:
                turns.add(self)
            self._pause_or_resume()

    def _frame_rest(self, data: Octets, start: int) -> int:
        # What is deflated goes in slices: each is inflated in one go, to a thousand times as much, or to nothing after
        # as long a time.
        if self.is_between_frames:
            return 0 if self.extension is not None else _frame_size(data, start)
        return 0 if self.inside_message and self.is_message_compressed else self.open_frame_rest()

    def _receive_large(self, large: Large, data: Octets) -> Octets:
        """Go on with a large frame past Autobahn; return what is behind it, or of an invalid one what has come, for
        Autobahn to judge."""
        rest: Octets = b"" if large.is_invalid else large.feed(data)
        if large.is_invalid:
            self._large = self._codec = None  # Autobahn finds the fault, and what is behind it is not looked at
            return large.taken()
        if large.is_complete:
            self._large = None
            if self.state == self.STATE_OPEN:  # else our Close frame is out already: see `answer`
                self.echoed(1, large.size)
                self.sendData(large.answer())
        return rest

    @property
    def _is_idle(self) -> bool:
        return self._large is None and self.is_between_messages

    def onMessageFrameBegin(self, length: int) -> None:
        """Hold the frame against the limits on octets and on the number of frames, of which many may be empty.

        Autobahn's own limit takes the octets of a deflated frame for those of the message, and refuses an
        incompressible one of just the limit, which deflate makes longer: by 4 % at zlib's lowest memLevel.
        """
        self._fragments += 1
        self._wire_size += length
        limit = self.factory.settings.message_limit
        if self._wire_size > (limit + limit // 16 + 1024 if self.is_message_compressed else limit):
            self.fail(1009, f"message longer than {limit} octets")
        elif self._fragments > self.factory.settings.max_fragments:
            self.fail(1008, "too many fragments")

    def onMessageFrameData(self, payload: bytes) -> None:
        """Gather in one buffer: a list of small pieces takes many times what is in them."""
        if self.state != self.STATE_OPEN:
            return  # our Close frame is out: there is no echo any more, and nothing to keep for it
        if not self._gathered:
            self._gathered = payload
        else:
            if isinstance(self._gathered, bytes):
                self._gathered = bytearray(self._gathered)
            self._gathered += payload
        # What Autobahn bounds the next inflation by.
        self.message_data_total_length = len(self._gathered)
        limit = self.factory.settings.message_limit
        if len(self._gathered) > limit:
            self.fail(1009, f"message longer than {limit} octets when inflated")

    def onMessageFrameEnd(self) -> None:
        """Do nothing: the frame is gathered."""

    def onMessageEnd(self) -> None:
        """Hand the whole message on."""
        payload = bytes(self._gathered)
        self._gathered = b""
        self._fragments = self._wire_size = 0
        if self.state == self.STATE_OPEN:
            self.onMessage(payload, self.message_is_binary)
            self.is_held = self.is_held or self.factory.turns.is_over

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Echo."""
        settings = self.factory.settings
        self.factory.counts.received.add(len(payload), isBinary)
        traffic = self._own_traffic
        traffic.received_messages += 1
        traffic.received_octets += len(payload)
        if settings.log_messages:
            text = describe_message(payload, isBinary, settings.log_cut)
            _log.info("recv: {text}", text=text, **{log.UNLIMITED: True})
        if self._transform is not None:
            self._echo_transformed(payload, isBinary)
        else:
            self._echo(payload, isBinary)

    def _echo_transformed(self, payload: bytes, is_binary: bool) -> None:
        if is_binary:
            self.fail(1007, "binary is not JSON")
        else:
            self.do(self._transforming(payload), len(payload), is_long=len(payload) > STEP)

    def _transforming(self, payload: bytes) -> Iterator[bytes]:
        assert self._transform is not None
        try:
            payload = yield from self._transform(payload, self.factory.settings.max_json_values)
        except json_echo.NotJSONError as error:
            self._fail_instead(1007, str(error))
        except json_echo.TooManyValuesError as error:
            self._fail_instead(1009, str(error))
        else:
            self._echo(payload, False)

    def _echo(self, payload: bytes, is_binary: bool) -> None:
        # On a connection that can mirror each history has what the other has: what is deflated there is so here,
        # however short it is.
        is_plain = not self.is_message_compressed or (
            len(payload) < self.factory.settings.min_deflated and not self.extension.terms.can_mirror
        )
        if self._faulty is None:
            self.answer(payload, is_binary, is_plain)
        else:
            self._faulty.take(payload, is_binary, is_plain)

    def answer(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Send a message, not deflated if `is_plain`."""
        if self.state != self.STATE_OPEN:
            return  # our Close frame is out already: nothing may follow it (RFC 6455 section 5.5.1)
        if is_plain:
            self.sendFrame(2 if is_binary else 1, payload)
            self._note_sent(payload, is_binary)
        else:
            self.do(self.answering(payload, is_binary, is_plain), len(payload))

    def answering(
        self, payload: bytes, is_binary: bool, is_plain: bool, frame_size: int | None = None
    ) -> Iterator[bytes]:
        """Send a message, not deflated if `is_plain`, in frames of at most `frame_size` octets of payload."""
        # Not by Autobahn's sendMessage, which has the extension deflate it, and holds that against the limit for what
        # is received, and raises: an incompressible message of just that size is a few octets more when deflated.
        octets = payload if is_plain else (yield from self.extension.answer(payload))
        size = frame_size or max(1, len(octets))
        if len(octets) > size * self.factory.settings.max_fragments:
            self._fail_instead(1008, "too many fragments")
            return
        # The first frame alone says that the message is deflated (RFC 7692 section 6).
        yield from stages.in_frames(octets, size, 2 if is_binary else 1, 0 if is_plain else PER_MESSAGE_COMPRESSED)
        self._note_sent(payload, is_binary)

    def _note_sent(self, payload: bytes, is_binary: bool) -> None:
        self.factory.counts.sent.add(len(payload), is_binary)
        traffic = self._own_traffic
        traffic.sent_messages += 1
        traffic.sent_octets += len(payload)

    # What has come and gone.

    def echoed(self, messages: int, octets: int) -> None:
        """Take note of messages that took the express lane."""
        self._own_traffic.echoed(messages, octets)

    @property
    def _own_traffic(self) -> Traffic:
        if self._traffic is None:
            self._traffic = Traffic()
        return self._traffic

    @property
    def traffic(self) -> Traffic:
        """What has come and gone until now, as a value."""
        traffic = Traffic() if self._traffic is None else self._traffic.copy()
        if self.lease is not None:
            traffic.echoed(self.lease.messages, self.lease.octets)
        return traffic

    @property
    def is_established(self) -> bool:
        """Whether the opening handshake was answered with 101."""
        return hasattr(self, "websocket_protocol_in_use") and self._outcome is not Outcome.REFUSED

    @property
    def outcome(self) -> Outcome:
        """How the connection ended, once it has."""
        if self._outcome is not None or self.wasClean:
            return self._outcome or Outcome.CLEAN
        # Whatever else drops a connection without a Close frame has named its outcome.
        return Outcome.FAULT if self.droppedByMe and not self.closedByMe else Outcome.LOST

    @property
    def closing(self) -> tuple[str, Closer]:
        """By which close code an established connection ended, once it has, and who began to close."""
        if self.closedByMe:
            return self._label(self.localCloseCode), Closer.SERVER
        if self.wasClean:
            return self._label(self.remoteCloseCode), Closer.CLIENT
        return close_label(NO_CLOSE_FRAME), Closer.CLIENT if self.outcome is Outcome.LOST else Closer.SERVER

    @staticmethod
    def _label(code: int | None) -> str:
        return close_label(NO_CODE if code is None else code)

    # Writing.

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:  # noqa: ARG002
        """Write, behind what is still to be done."""
        if self._tasks:
            self._tasks.add(iter((data,)), len(data))
        else:
            self._write(data)

    def _write(self, octets: bytes) -> None:
        """Write: in one go for all pongs and echoes of a read."""
        if self._answers is None:
            transports.write_now(self._layers, octets)
        else:
            self._answers.append(octets)

    def _flush(self) -> None:
        if self._answers:
            answers, self._answers = self._answers, []
            transports.write_now(self._layers, answers[0] if len(answers) == 1 else b"".join(answers))

    # The express lane.

    def _offer(self) -> None:
        """Lease the socket, if nothing is under way either way; what then comes that is not ordinary ends the lease."""
        if self._is_plain:
            self._lend()
        elif self._is_tls and self._can_be_leased:
            # Twisted is still within its read: there may be more of it, and something to be written in answer.
            self.factory.turns.add(self)

    @property
    def _can_be_leased(self) -> bool:
        return (
            self._has_lane
            and self._codec is not None
            and self.lease is None
            and self.state == self.STATE_OPEN
            and not self._is_leaving
            and self._is_idle
            and not self.is_backlogged
            and not self.is_waiting
            and not self._is_behind
            and not transports.unsent(self._layers)
        )

    def _lend(self) -> None:
        if not self._can_be_leased:
            return
        assert self.factory.lane is not None
        if self._is_tls:
            self._renew_buffers()
        session = tls_sessions.session(self._layers) if self._is_tls else None
        if (self._is_plain or session is not None) and self._lend_socket(self._layers[-1].fileno(), session):
            self._reads = 0
            self.transport.pauseProducing()

    def _lend_socket(self, descriptor: int, session: tls_sessions.Session | None) -> bool:
        assert self.factory.lane is not None
        if self.extension is None:
            return self.factory.lane.lend(self, descriptor, session)
        is_lent = self.factory.lane.lend(self, descriptor, session, self.extension.terms, self.extension.window)
        if is_lent:
            self.extension.window = b""  # the lease has it, and moves it on
        return is_lent

    def lease_ended(self, ended: Ended) -> None:
        """Go on without the pump."""
        self._last_seen = self.factory.clock.seconds()
        if ended.is_lost:
            self.lease_lost()
            return
        if self._is_tls:
            self.factory.shrinks_later(self)
            tls_sessions.flush_session(self._layers)
        elif ended.is_over and not ended.unsent and not ended.rest and not self._is_leaving:
            transports.close_now(self._layers[0])
            return
        if ended.unsent:
            transports.write_now(self._layers, ended.unsent)
        self._pause_or_resume()
        if self.extension is not None:
            self.extension.window = ended.window
        if ended.fragments:
            self._fragments = ended.fragments - 1  # the frame that stands for them will count as one
        if ended.large is not None:
            assert self._codec is not None
            self._large = self._codec.go_on(ended.large)
        if ended.rest or ended.large is not None:
            self._act(lambda: self._receive(self, ended.rest))
        self._has_unread_session = self._is_tls
        self._read_session()

    def lease_grown(self) -> None:
        """Have the buffers of the TLS session given back later."""
        self.factory.grew(self)

    def shrink(self) -> None:
        """Give back what the buffers of TLS have grown to, or later, if they are in use. After a lease, a new one
        begins with new ones."""
        if self.lease is None:
            self._renew_buffers()
        elif self.lease.held > MOST_MOVED:
            self.factory.shrinks_later(self)
        else:
            self._take_back()
            self._lend()

    def _renew_buffers(self) -> None:
        if tls_sessions.renew_buffers(self._layers):
            self.factory.shrank(self)
        else:
            self.factory.shrinks_later(self)

    def _read_session(self) -> None:
        """Read what a TLS session has left that was in other hands, when what was received before it is done with."""
        if self._has_unread_session and not self._is_behind and self._layers:
            self._has_unread_session = False
            tls_sessions.read_session(self._layers)

    def lease_lost(self) -> None:
        """Reset the connection: it can't go on, nor be told why, as part of an answer may be out."""
        self.give_up(Outcome.FAILED)

    def _take_back(self) -> None:
        if self.lease is not None:
            assert self.factory.lane is not None
            last_seen = self.last_seen
            self.factory.lane.recall(self)
            self._last_seen = last_seen  # that a lease is ended here is no sign of life of the client

    # Backpressure: reasons not to read, each on its own.

    def pauseProducing(self) -> None:
        """Read no more: the client doesn't take its answers."""
        self.is_backlogged = True
        self._pause_or_resume()

    def resumeProducing(self) -> None:
        """Read again: it has taken them all."""
        self.is_backlogged = False
        self._pause_or_resume()
        self.factory.budget.settle(self)

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and `connectionLost` follows."""

    def wait_for_room(self) -> None:
        """Read no more: all connections together hold too much, and this one more than its share."""
        transports.give_back_sent(self._layers)
        if not self.is_waiting and self.state == self.STATE_OPEN:
            # First, so that what the lease gives back isn't lent again.
            self.is_waiting = True
            self._take_back()
            if self.state != self.STATE_OPEN:
                return
            self._pending_before = self.count_pending()
            self.factory.waiting.add(self)
            self._pause_or_resume()

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` octets at a time."""
        if self.state == self.STATE_OPEN:
            transports.set_read_size(self._layers, read_size)
            self._stop_waiting()

    @property
    def is_held_up(self) -> bool:
        """Whether it is not read because its URL says so."""
        return self._faulty is not None and self._faulty.is_full

    def _pause_or_resume(self) -> None:
        if self.is_backlogged or self.is_waiting or self._is_behind or self.lease is not None or self.is_held_up:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    @property
    def is_backpressured(self) -> bool:
        """Whether it is not read for now: it doesn't take its answers, there is no room for what it would send, or its
        URL says so."""
        return (
            self.is_backlogged
            or self.is_waiting
            or self.is_held_up
            or (self.lease is not None and self.lease.unsent_size > 0)
        )

    @property
    def subprotocol(self) -> str | None:
        """The one in use."""
        chosen: str | None = getattr(self, "websocket_protocol_in_use", None)
        return chosen

    @property
    def extensions(self) -> list[str]:
        """The names of those in use."""
        return [] if self.extension is None else [self.extension.EXTENSION_NAME]

    @property
    def terms(self) -> Terms | None:
        """What was agreed on for permessage-deflate; None without it."""
        return None if self.extension is None else self.extension.terms

    @property
    def lane_name(self) -> str:
        """What serves it now."""
        return "pump" if self.lease is not None else "codec" if self._codec is not None else "autobahn"

    @property
    def in_open_state(self) -> bool:
        """Whether the opening handshake is over, and no Close frame was sent (RFC 6455 section 4.1: in an OPEN
        state)."""
        return self.state == self.STATE_OPEN

    def count(self) -> int:
        """Return the octets held: for a request head or a message that is not whole yet, and for answers that the
        kernel has not taken."""
        if self.lease is not None:
            return int(self.lease.held)
        head = 0 if self._head is None else self._head.held
        gathered = len(self._gathered) if self._large is None else self._large.held
        delayed = 0 if self._faulty is None else self._faulty.held_size
        deflated = 0 if self.extension is None else self.extension.held
        # A view keeps all of its buffer.
        put_off = memoryview(self._put_off.obj).nbytes if isinstance(self._put_off, memoryview) else len(self._put_off)
        put_off += len(self._read_ahead)
        return head + gathered + deflated + put_off + self._task_size + transports.held(self._layers) + delayed

    @property
    def _task_size(self) -> int:
        return 0 if self._tasks is None else self._tasks.size

    def count_missing(self) -> int:
        """Return the octets that are to come of the current frame; between two frames and in a lease, of the longest
        message."""
        if self.lease is not None:
            return max(0, self.factory.settings.message_limit - int(self.lease.held))
        missing = self.open_frame_rest() if self._large is None else self._large.missing
        return missing or self.factory.settings.message_limit - len(self._gathered)

    def waited_too_long(self) -> None:
        """Close with 1013 (IANA: try again later), unless the client has taken some of its answers meanwhile."""
        pending = self.count_pending()
        if pending < self._pending_before:
            self._pending_before = pending
            self.factory.waiting.add(self)
        else:
            self.fail(1013, "the server is full")

    # Keepalive.

    @property
    def last_seen(self) -> float:
        """When there was a sign of life. Of what the pump reads it is only known that there was some since the last
        look."""
        if self.lease is not None and self.lease.reads != self._reads:
            self._reads = self.lease.reads
            self._last_seen = self.factory.clock.seconds()
        return self._last_seen

    @last_seen.setter
    def last_seen(self, now: float) -> None:
        self._last_seen = now

    def count_pending(self) -> int:
        """Return the octets that were written and that the peer's end has not taken yet."""
        leased = int(self.lease.unsent_size + self.lease.sealed_size) if self.lease is not None else 0
        return leased + self._task_size + transports.unsent(self._layers) + transports.unacknowledged(self._layers)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._take_back()
        self.sendPing()

    def give_up(self, outcome: Outcome = Outcome.TIMEOUT) -> None:
        """Reset a connection whose peer is dead, or whose time to close is over."""
        if not self.wasClean:
            self._outcome = self._outcome or outcome
        if self.lease is not None:
            assert self.factory.lane is not None
            self.factory.lane.drop(self)
        self.transport.abortConnection()

    # Faults that the URL asked for.

    def perform(self, action: Callable[[], None]) -> None:
        """Do something that time has brought up as if a read had, so that no exception leaves; then read on, if that
        may be."""
        was_held_up = self.is_held_up or self.state == self.STATE_CONNECTING
        self._act(action)
        if was_held_up and not self.is_held_up and self._tasks is None and self._receive is not _ignore:
            self.work()
            self._pause_or_resume()

    def begin_close(self, code: int | None, reason: str) -> None:
        """Send a Close frame; None: without a code."""
        self.sendCloseFrame(code, reason.encode() or None)

    def stop_reading(self, is_to_be_reset: bool) -> None:
        """Take no more octets: for ever, or until the connection is reset, which then nobody may keep from
        happening."""
        self.forget_rest()
        if is_to_be_reset:
            self._outcome = self._outcome or Outcome.FAULT
            self.unregisterProducer()
            self.state = self.STATE_CLOSED
            self._forget_what_came()
        else:
            self.factory.stalled(self)
        self.transport.pauseProducing()

    # Closing. Every close comes through `drop`, or begins with a Close frame; both start the one deadline.

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): a Close frame, a FIN, and what still comes is not looked at."""
        self.failedByMe = True
        self._outcome = self._outcome or Outcome.FAILED
        if self.state == self.STATE_OPEN:
            _log.info("closing {peer}: {code} {reason}", peer=self.who, code=code, reason=reason)
            self.sendCloseFrame(code, reason.encode()[:123])
        self.dropConnection()

    def _fail_instead(self, code: int, reason: str) -> None:
        """Fail the connection in the place of an answer. What was to come behind the answer is left, but for a Close
        frame."""
        if self.state == self.STATE_OPEN:
            assert self._tasks is not None
            self._tasks.clear()
        self.fail(code, reason)

    def go_away(self, at_once: bool = False) -> None:
        """Close with 1001, when all that has come in is echoed or else `at_once`."""
        if self.state == self.STATE_CONNECTING:
            if at_once or self._has_asked:
                self.refuse(GOING_AWAY)
            else:
                self.refuse_when_asked(GOING_AWAY)
        elif self._faulty is not None and self._faulty.is_stalled:
            self.fail(1001, "going away")  # its reply would not be read
        elif self.state == self.STATE_OPEN:
            self._is_leaving = True
            self._take_back()
            if at_once or (self._is_idle and not self._owes and not transports.unread(self._layers)):
                # sendClose would raise: Autobahn thinks that 1001 is not for applications.
                self.sendCloseFrame(1001, b"going away")

    @property
    def _has_asked(self) -> bool:
        return self._head is None or bool(self._head.held)

    @property
    def _owes(self) -> bool:
        """Whether there is something to do for what has been read."""
        return self._is_behind or (self._faulty is not None and bool(self._faulty.held_size))

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a Close frame, from when on the deadline runs, and read on for the peer's, whatever has kept it from
        being read."""
        if self._faulty is not None:
            self._faulty.flush()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self.factory.began_to_close(self)
        self._gathered = b""
        if self._is_behind:
            self.factory.turns.add(self)
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self.is_waiting:
            self.is_waiting = False
            self.factory.waiting.discard(self)
            self._pause_or_resume()

    def drop(self) -> None:
        """End the TCP connection once what was written is sent; the last thing that happens to a connection but being
        lost.

        After a whole closing handshake that is all there is to do, and `_settle` does it when the read is over. Else
        the peer may still be sending, and a socket that is closed over unread octets is reset by the kernel, which
        loses what the peer has not read yet: so half-close, and read on to the end.
        """
        self._forget_what_came()
        self._do_in_order(self._hang_up)

    def _hang_up(self) -> None:
        self._flush()
        if self._faulty is not None:
            self._faulty.stop()
        if not self.wasClean:
            transports.half_close(self.transport)
            self.transport.resumeProducing()

    def _let_go(self) -> None:
        """Close the socket; at once, if all is sent, where `loseConnection` would after another turn of the reactor."""
        self._flush()
        if self._is_plain and not transports.unsent(self._layers):
            transports.close_now(self._layers[0])
        else:
            self.transport.loseConnection()

    def _forget_what_came(self) -> None:
        self._gathered = self._put_off = self._read_ahead = b""
        self._large = None
        self.is_held = False
        if self.extension is not None:
            self.extension.forget_what_came()
        self._receive = _ignore
        self.factory.began_to_close(self)
        self.factory.budget.settle(self)


def _frame_size(data: Octets, start: int) -> int:
    """Return the octets of the frame that begins there, with its header (RFC 6455 section 5.2), or fewer where that is
    cut."""
    length = data[start + 1] & 0x7F if start + 1 < len(data) else 0
    if length < 126:
        return 6 + length
    size = 2 if length == 126 else 8
    return 6 + size + int.from_bytes(data[start + 2 : start + 2 + size])


def _acting(action: Callable[[], None]) -> Iterator[bytes]:
    """Make a task of one step."""
    action()
    yield b""


def _ignore(_: EchoProtocol, __: Octets) -> None:
    """Take octets that come after the end."""
