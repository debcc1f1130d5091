"""The opening handshake: from the head of a request to an answer.

receive_head → a WebSocket (`_admit` → `_answer`), a page, or a refusal
"""

from __future__ import annotations

from email.utils import formatdate

from echod.core.counts import Outcome
from echod.core.printable import escape
from echod.faults import query, stages
from echod.http.client_address import client_address
from echod.http.extensions import Terms
from echod.http.head_reader import HeadReader
from echod.http.paths import INFO_PATH
from echod.http.refusals import ADDRESS_FULL, DAEMON_FULL, NO_ROOM, Refusal, bad_request, render
from echod.http.request import PageRequest, Request
from echod.lane.large import Octets
from echod.upstream import tls_sessions
from echod.websocket import info
from echod.websocket.base import connection_log
from echod.websocket.compression import Deflate
from echod.websocket.lending import Lending
from echod.websocket.pauses import Pause
from echod.websocket.phase import OPEN, OPENING
from echod.websocket.snapshot import PATH_CUT

SMALL_ANSWER = 1024
"""Octets of an answer to plain HTTP that is given also when connections hold too much: a health check's is one."""


class Opening(Lending):
    """The opening handshake of a connection."""

    is_established = False
    """Whether the opening handshake was answered with 101."""

    _head: HeadReader | None = None
    _refusal: Refusal | None = None
    """What to answer as soon as a request begins to come, whatever it asks."""

    def await_request(self) -> None:
        """Begin."""
        self._head = HeadReader(self.factory.guard)

    @property
    def has_asked(self) -> bool:
        """Whether a request has begun to come, before it is answered."""
        return self._head is None or self._head.held > 0

    def receive_head(self, data: Octets) -> None:
        """Take octets of the request head, and answer it once it is whole."""
        if self._refusal is not None:
            self.refuse(self._refusal)
            return
        assert self._head is not None
        verdict = self._head.feed(bytes(data))
        self.account.head = self._head.held
        if verdict is None:
            if not self.factory.budget.is_tight:
                return
            verdict = NO_ROOM  # nearly every client sends its head whole; of others there may be many
        head, rest = self._head.head, self._head.rest
        self._forget_head()
        if isinstance(verdict, Request):
            self._admit(verdict)
            if self.factory.hosting is not None and self._is_ordinary:
                assert self._answers is not None
                self.factory.hosting.remember(head, b"".join(self._answers), self.terms)
            if self.phase is OPENING:  # it is answered later
                self.put_off(rest)
            elif rest:
                self.receive(rest)
        elif isinstance(verdict, Refusal):
            self.refuse(verdict)
        else:
            self._answer_page(verdict)

    @property
    def _is_ordinary(self) -> bool:
        """Whether the opening handshake has opened a connection that only echoes, and that the pump can serve."""
        return (
            self.phase is OPEN
            and self._codec is not None
            and self.path != INFO_PATH
            and self.has_lane
            and not self.carrier.has_session
        )

    def replay(self, head: bytes) -> None:
        """Take the head of an opening handshake that was answered already, and send nothing."""
        self._answers = []
        self.receive_head(head)
        self._answers = None

    def _forget_head(self) -> None:
        self._head = None
        self.account.head = 0

    # A WebSocket.

    def _admit(self, request: Request) -> None:
        """Hold the request against the limits, read what its URL asks for, and answer it now or later."""
        self.address = client_address(request.fields, self.peer_address, self.factory.settings.trust_proxy)
        if not self.factory.admit(self.whole, self.address):
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
            self._answer(request, asked)
        elif (asked.stall or asked.handshake_delay) and not self.factory.admit_unread(self.whole):
            self.refuse(DAEMON_FULL)
        else:
            self._afflict(request, asked)

    def _afflict(self, request: Request, asked: query.Faults) -> None:
        """Give the connection the faults that its URL asks for, and answer."""
        for name in asked.names:
            self.factory.counts.fault(name)
        self.faulty = stages.Faulty(
            asked, self.factory.settings.max_delayed, self.factory.clock, self.whole, self.account
        )
        if not asked.handshake_delay:
            self._answer(request, asked)
            return
        # What comes meanwhile is kept: of one read at most, but for what TLS has read already.
        self.pause(Pause.FAULT | Pause.BEHIND)
        self.factory.postponed(self.whole)
        self.faulty.postpone(lambda: self._answer_late(request, asked))

    def _answer_late(self, request: Request, asked: query.Faults) -> None:
        self.resume(Pause.FAULT)
        if not asked.stall:
            self.factory.reads_again(self.whole)
        self._answer(request, asked)

    def _answer(self, request: Request, asked: query.Faults) -> None:
        """Answer with 101, unless the URL asks for another status."""
        if self.faulty is not None and self.faulty.faults.status is not None:
            self.refuse(stages.refusal(self.faulty.faults.status))
            return
        if request.path in self.factory.transforms:
            self._transform = self.factory.transforms[request.path]
        # What is sent is not what came, where it is transformed, lost, late or cut.
        may_mirror = self._transform is None and self.faulty is None
        agreed = self.factory.agree(request, asked.compression, may_mirror) if request.extensions else None
        subprotocol = request.subprotocols[0] if request.subprotocols else None
        if agreed is None:
            self.open(request.key, subprotocol, None, {})
        else:
            extension = Deflate(agreed.terms, self.factory.settings, self.account)
            self.open(request.key, subprotocol, extension, {"Sec-WebSocket-Extensions": agreed.answer})
        if request.path == INFO_PATH and self.in_open_state:
            self.answer(info.describe(request, self._facts()), False, True)
        if self.faulty is not None:
            self.faulty.begin()

    def onOpen(self) -> None:
        """Begin to echo. A client that doesn't read stops being read: the carrier calls `pauseProducing`."""
        self.enter(OPEN)
        self.is_established = True
        # The same number as that of the read, so that an idle connection holds one, unless the answer was delayed.
        self.since = self.seen_at if self.faulty is None else self.factory.clock.seconds()
        self.factory.established(self.whole)
        if self._transform is None and self.faulty is None and not self.factory.settings.log_messages:
            self._codec = self.factory.codec
        self.carrier.register(self)

    def _facts(self) -> info.Facts:
        """Return what `/info` tells beside the request."""
        is_direct = self.address == self.peer_address
        return info.Facts(
            address=self.address,
            port=getattr(self.carrier.peer, "port", None) if is_direct else None,
            subprotocol=self.subprotocol,
            extensions=tuple(self.extensions),
            terms=self.terms,
            tls=info.describe_tls(self.carrier.tls),
            lane=self._lane_to_be,
            settings=self.factory.settings,
            faults=query.NONE if self.faulty is None else self.faulty.faults,
            seed=None if self.faulty is None else self.faulty.seed,
        )

    @property
    def _lane_to_be(self) -> str:
        """What will serve ordinary messages. The pump has its lease only when this event is over."""
        if self._codec is None:
            return "autobahn"
        return "pump" if self.has_lane else "codec"

    @property
    def subprotocol(self) -> str | None:
        """The one in use."""
        return self.websocket_protocol_in_use

    @property
    def extensions(self) -> list[str]:
        """The names of those in use."""
        return [] if self.extension is None else [self.extension.EXTENSION_NAME]

    @property
    def terms(self) -> Terms | None:
        """What was agreed on for permessage-deflate; None without it."""
        return None if self.extension is None else self.extension.terms

    # Plain HTTP.

    def _answer_page(self, request: PageRequest) -> None:
        """Answer plain HTTP, once: on a connection that went on, as proxies keep them, the next head might be an
        opening handshake."""
        assert self.factory.pages is not None
        answer = self.factory.pages(request)
        if self.factory.budget.is_tight and len(answer) > SMALL_ANSWER:
            self.refuse(NO_ROOM)
        else:
            self.note_outcome(Outcome.PAGE)
            self.sendData(answer)
            self.dropConnection()

    # Refusals.

    def refuse_when_asked(self, refusal: Refusal) -> None:
        """Refuse as soon as a request begins to come.

        An answer that is there before its request is more than many clients expect: nginx (1.22) tries the next server,
        and takes what it has read of this one's body for that one's header.
        """
        self._refusal = refusal

    def refuse(self, refusal: Refusal) -> None:
        """Answer with something else than 101, and close."""
        self._tell_refusal(f"{refusal.status} {refusal.why}" if refusal.status else refusal.why)
        self.factory.counts.refuse(refusal.status, refusal.why)
        self.note_outcome(Outcome.REFUSED)
        self._forget_head()  # the close may take long
        if refusal.status:
            self.sendData(render(refusal, formatdate(usegmt=True)))
        self.dropConnection()

    def note_early_end(self, reason: BaseException | None) -> None:
        """Tell of a client that didn't come as far as a request. Else nobody knows why: perhaps a list of revocations
        has expired."""
        if (why := self.carrier.header_fault) is not None:
            self._note_no_request(f"bad PROXY header: {escape(why)}", "bad PROXY header")
        elif (why := tls_sessions.tls_fault(reason)) is not None:
            self._note_no_request(f"TLS: {why}", "TLS failed")

    def _note_no_request(self, told: str, counted: str) -> None:
        self._tell_refusal(told)
        self.factory.counts.refuse(0, counted)
        self.note_outcome(Outcome.REFUSED)

    def _tell_refusal(self, why: str) -> None:
        connection_log.info("refused a handshake from {peer}: {why}", peer=self.who, why=why)
