"""The opening handshake, from the head of a request to its answer.

receive_head → a WebSocket (`_admit` → `_answer_handshake`), a page, or a refusal
"""

from __future__ import annotations

from email.utils import formatdate

from h2.errors import ErrorCodes
from twisted.internet.interfaces import IProtocol

from echod.core.counts import Outcome, ServedBy
from echod.core.printable import escape
from echod.faults import opening, query, stages
from echod.http import extensions
from echod.http.answer import Answer
from echod.http.client_address import client_address
from echod.http.extensions import Terms
from echod.http.h2 import frames
from echod.http.head_reader import HeadReader
from echod.http.paths import FRAMES_PATH, INFO_PATH
from echod.http.refusals import (
    ADDRESS_FULL,
    BAD_HTTP_VERSION,
    DAEMON_FULL,
    GOING_AWAY,
    NO_ROOM,
    NOT_AS_AGREED,
    Refusal,
    bad_request,
    render,
)
from echod.http.request import PageRequest, Request
from echod.http.upgrade import PREFACE_SIZE, Http2, Verdict
from echod.lane.large import Octets
from echod.net.tls.context import HTTP2, PROTOCOL
from echod.upstream import tls_sessions
from echod.upstream.carriers import NO_CARRIER
from echod.websocket import info
from echod.websocket.base import REFUSED
from echod.websocket.compression import Deflate
from echod.websocket.frame_report import FED, FrameReport
from echod.websocket.lending import Lending
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSED, OPEN, OPENING
from echod.websocket.snapshot import PATH_CUT

_CODES = {GOING_AWAY: ErrorCodes.NO_ERROR, NOT_AS_AGREED: ErrorCodes.PROTOCOL_ERROR}
"""The codes of GOAWAY for refusals that are not for want of room."""

SMALL_ANSWER = 1024
"""The largest answer to plain HTTP, in bytes, that is sent even while memory is short. A health check's is smaller."""


class Opening(Lending):
    """The opening handshake of a connection."""

    is_established = False
    """Whether the opening handshake was answered with 101."""

    agreed_window = (extensions.FULL_WINDOW_BITS, True)
    """What was agreed on for permessage-deflate: the server's window in bits, and whether it keeps its context. Only a
    connection with faults needs to know."""

    _head: HeadReader | None = None
    _refusal: Refusal | None = None
    """The answer as soon as a request begins to arrive, whatever it asks."""

    def await_request(self) -> None:
        """Begin to read a request head."""
        self._head = HeadReader(self.factory.guard)

    @property
    def has_asked(self) -> bool:
        """Whether a request has begun to arrive."""
        return self._head is None or self._head.held > 0

    def receive_head(self, data: Octets) -> None:
        """Take bytes of the request head, and answer it once it is complete."""
        if self._refusal is not None:
            self.refuse(self._refusal, is_http2=self.factory.guard.begins_http2(bytes(data[:PREFACE_SIZE])))
            return
        assert self._head is not None
        verdict = self._head.feed(bytes(data))
        if verdict is None:
            self.account.head = self._head.held
            if not self.factory.budget.is_tight:
                return
            verdict = NO_ROOM  # nearly every client sends its head in one piece, and of the others there may be many
        head, rest = self._head.head, self._head.rest
        self._forget_head()
        agreed = self.carrier.agreed_protocol
        if isinstance(verdict, Http2):
            if agreed != PROTOCOL:  # without ALPN it is prior knowledge
                self.factory.go_on_over_http2(self.whole, head + rest)
                return
            verdict = BAD_HTTP_VERSION
        elif agreed == HTTP2:
            self.refuse(verdict if verdict is NO_ROOM else NOT_AS_AGREED, is_http2=True)
            return
        self.answer_request(verdict)
        if isinstance(verdict, Request):
            if self.factory.hosting is not None and self._is_ordinary:
                assert self._to_send is not None
                self.factory.hosting.remember(head, b"".join(self._to_send), self.terms)
            if self.phase is OPENING:  # the answer is delayed
                self.put_off(rest)
            elif rest:
                self.receive(rest)

    def answer_request(self, verdict: Verdict) -> None:
        """Answer a request, now or later."""
        if isinstance(verdict, Request):
            self._admit(verdict)
        elif isinstance(verdict, Refusal):
            self.refuse(verdict)
        else:
            self._answer_page(verdict)

    def hand_over(self, protocol: IProtocol) -> None:
        """Let `protocol` go on with the carrier. This connection is over, and is counted nowhere."""
        carrier, self.carrier = self.carrier, NO_CARRIER
        self.enter(CLOSED)
        self.forget()
        carrier.hand_over(protocol)

    @property
    def _is_ordinary(self) -> bool:
        """Whether the opening handshake has opened a connection that only echoes, and that the pump can serve."""
        return (
            self.phase is OPEN
            and self._codec is not None
            and self.path != INFO_PATH
            and self.pump_can_serve
            and not self.carrier.has_session
        )

    def replay(self, head: bytes) -> None:
        """Take the head of an opening handshake that was answered already, and send nothing."""
        self._to_send = []
        self.receive_head(head)
        self._to_send = None

    def _forget_head(self) -> None:
        self._head = None
        self.account.head = 0

    # A WebSocket.

    def _admit(self, request: Request) -> None:
        """Check the request against the limits, read what its URL asks for, and answer it now or later."""
        self.address = client_address(request.fields, self.peer_address, self.factory.settings.trust_proxy)
        if not self.factory.admit(self.whole, self.address):
            self.refuse(ADDRESS_FULL)
            return
        if request.path != "/":
            self.path = request.path[:PATH_CUT]
        settings = self.factory.settings
        try:
            asked = query.parse(request.query, settings)
            if asked is not query.NONE:
                query.check_version(asked, self.carrier.http_version)
                opening.check_lasting(asked, request.query, request.fields)
        except query.FaultError as error:
            self.refuse(bad_request(str(error)))
            return
        if asked is query.NONE or not asked.names:
            self._answer_handshake(request, asked)
        elif (asked.stall or asked.handshake_delay) and not self.factory.admit_unread(self.whole):
            self.refuse(DAEMON_FULL)
        else:
            self._afflict(request, asked)

    def _afflict(self, request: Request, asked: query.Faults) -> None:
        """Give the connection the faults that its URL asks for, and answer now or later."""
        for name in asked.names:
            self.factory.counts.fault(name)
        factory = self.factory
        self.faulty = stages.Faulty(asked, factory.settings, factory.clock, self.whole, self.account, factory.due)
        self.carrier = self.faulty.wrap(self.carrier)
        if not asked.handshake_delay:
            self._answer_handshake(request, asked)
            return
        # Bytes that arrive in the meantime are kept: those of one read, and those that TLS has already read.
        self.pause(Pause.FAULT | Pause.BEHIND)
        self.factory.postponed(self.whole)
        self.faulty.postpone(lambda: self._answer_handshake_late(request, asked))

    def _answer_handshake_late(self, request: Request, asked: query.Faults) -> None:
        self.resume(Pause.FAULT)
        if not asked.stall:
            self.factory.reads_again(self.whole)
        self._answer_handshake(request, asked)

    def _answer_handshake(self, request: Request, asked: query.Faults) -> None:
        """Answer with 101, unless the URL asks for another status."""
        if self.faulty is not None:
            refusal = opening.asked_refusal(asked, request.fields, self.factory.failures)
            if refusal is not None:
                self.refuse(refusal)
                return
        if request.path in self.factory.transforms:
            self._transform = self.factory.transforms[request.path]
        if request.path == FRAMES_PATH:
            settings = self.factory.settings
            self.report = FrameReport(self.whole, settings.log_cut, self.factory.clock.seconds)
            self.slice_size = FED
        # Mirroring needs echoes that are exactly the received messages: no transformation and no faults.
        may_mirror = self._transform is None and self.faulty is None and self.report is None
        may_deflate = bool(request.extensions) and (self.faulty is None or not asked.forbids_deflate)
        agreed = self.factory.agree(request, asked.compression, may_mirror) if may_deflate else None
        if agreed is None and self.faulty is not None and asked.needs_deflate:
            self.refuse(bad_request(f"the parameter {asked.needs_deflate} needs an offer of permessage-deflate"))
            return
        subprotocol = request.subprotocols[0] if request.subprotocols else None
        if self.faulty is not None and asked.subprotocol is not None:
            subprotocol = asked.subprotocol or None
        if agreed is None:
            self.open(request.key, subprotocol, None, {})
        else:
            extension = Deflate(agreed.terms, self.factory.settings, self.account)
            if self.faulty is not None:
                self.agreed_window = (extensions.promised_window_bits(agreed.answer), agreed.terms.server_keeps_context)
            self.open(request.key, subprotocol, extension, {"Sec-WebSocket-Extensions": agreed.answer})
        if request.path == INFO_PATH and self.in_open_state:
            self.answer(info.describe(request, self._facts()), False, True)
        if self.faulty is not None:
            self.faulty.begin()

    def onOpen(self) -> None:
        """Begin to echo. If the client does not read, the carrier calls `pauseProducing`, so that it is not read
        either."""
        self.enter(OPEN)
        self.is_established = True
        # Share the float object of `seen_at`, so that an idle connection stores one number. A delayed answer needs its
        # own time.
        self.since = self.seen_at if self.faulty is None else self.factory.clock.seconds()
        self.factory.established(self.whole)
        only_echoes = self._transform is None and self.faulty is None and self.report is None
        if only_echoes and not self.factory.settings.tells_each_message:
            self._codec = self.factory.codec
        self.carrier.register(self)

    def _facts(self) -> info.Facts:
        """Return what `/info` tells in addition to the request."""
        peer = self.carrier.peer
        return info.Facts(
            number=self.number,
            address=self.address,
            port=peer[1] if peer is not None and self.address == self.peer_address else None,
            subprotocol=self.subprotocol,
            extensions=tuple(self.extensions),
            terms=self.terms,
            tls=info.describe_tls(self.carrier.tls),
            lane=self._will_be_served_by,
            settings=self.factory.settings,
            http=self.carrier.describe_http(),
            faults=query.NONE if self.faulty is None else self.faulty.faults,
            seed=None if self.faulty is None else self.faulty.seed,
        )

    @property
    def _will_be_served_by(self) -> ServedBy:
        """What will serve ordinary messages. A lease of the pump begins only at the end of this event."""
        if self._codec is None:
            return ServedBy.AUTOBAHN
        return ServedBy.PUMP if self.pump_can_serve else ServedBy.CODEC

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol in use."""
        return self.websocket_protocol_in_use

    @property
    def extensions(self) -> list[str]:
        """The names of the extensions in use."""
        return [] if self.extension is None else [self.extension.EXTENSION_NAME]

    @property
    def terms(self) -> Terms | None:
        """What was agreed on for permessage-deflate; None without it."""
        return None if self.extension is None else self.extension.terms

    # Plain HTTP.

    def _answer_page(self, request: PageRequest) -> None:
        """Answer plain HTTP, and close. A proxy would keep the connection open and might send an opening handshake
        next."""
        assert self.factory.pages is not None
        answer = self.factory.pages(request)
        if self.factory.budget.is_tight and len(answer.octets) > SMALL_ANSWER:
            self.refuse(NO_ROOM)
        else:
            self.note_outcome(Outcome.PAGE)
            self.respond(answer)
            self.dropConnection()

    def respond(self, answer: Answer) -> None:
        """Send an answer that does not open a WebSocket."""
        self.send_answer(answer.octets)

    def send_answer(self, octets: bytes) -> None:
        """Send an answer of HTTP/1.1, as the URL asks for it."""
        self.sendData(octets if self.faulty is None else self.faulty.answer(octets))

    # Refusals.

    def refuse_when_asked(self, refusal: Refusal) -> None:
        """Refuse as soon as a request begins to arrive.

        Many clients do not expect an answer before they have sent a request. nginx (1.22) then tries the next server,
        and takes the part of this body that it has read for the header of the next answer.
        """
        self._refusal = refusal

    def refuse(self, refusal: Refusal, is_http2: bool = False) -> None:
        """Answer with another status than 101, and close. `is_http2`: answer the preface of HTTP/2, with GOAWAY."""
        self._tell_refusal(f"{refusal.status} {refusal.why}" if refusal.status else refusal.why)
        self.factory.counts.refuse(refusal.status, refusal.why)
        self.note_outcome(Outcome.REFUSED)
        self._forget_head()  # because the close may take long
        if is_http2:
            code = _CODES.get(refusal, ErrorCodes.ENHANCE_YOUR_CALM)
            self.sendData(frames.settings({}) + frames.goaway(0, code, refusal.why))
        elif refusal.status:
            self.respond(render(refusal, formatdate(usegmt=True)))
        self.dropConnection()

    def note_early_end(self, reason: BaseException | None) -> None:
        """Log why a client failed before its request. Otherwise nobody would learn the reason, such as an expired CRL
        of ours."""
        if (why := self.carrier.header_fault) is not None:
            self._note_no_request(f"bad PROXY header: {escape(why)}", "bad PROXY header")
        elif (why := tls_sessions.tls_fault(reason)) is not None:
            self._note_no_request(f"TLS: {why}", "TLS failed")

    def _note_no_request(self, told: str, counted: str) -> None:
        self._tell_refusal(told)
        self.factory.counts.refuse(0, counted)
        self.note_outcome(Outcome.REFUSED)

    def _tell_refusal(self, why: str) -> None:
        self.tell(REFUSED, peer=self.who, why=why)
