"""The check of one WebSocket server, step by step: connect, have messages echoed, close.

Knows the steps in their order, and the one deadline that all of them share. Must never print, read a command line or
end the process: a `Plan` comes in, a `Report` goes out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall

from echod.check.connection import Closed, Connection, Lost, Message, Silence
from echod.check.messages import SHOWN, difference, make_text
from echod.check.report import Fault, Plan, Report, Step
from echod.check.resolver import Resolver
from echod.core.printable import describe_message
from echod.core.quantities import format_duration, format_size

CLOSE_WAIT = 5.0
"""Seconds for the closing handshake at most. The daemon itself takes as long."""

GREETING_WAIT = 1.0
"""Seconds to wait for an echo after a message that is no echo: some servers first send a message of their own."""


async def run(
    reactor: Any,
    plan: Plan,
    tell: Callable[[str], None] = lambda _: None,
    getaddrinfo: Callable[..., Any] = socket.getaddrinfo,
) -> Report:
    """Check a server, and report. `tell` is called with a line at each step."""
    return await _Check(reactor, plan, tell, getaddrinfo).run()


class _Check:
    """One check."""

    def __init__(self, reactor: Any, plan: Plan, tell: Callable[[str], None], getaddrinfo: Callable[..., Any]) -> None:
        self._reactor = reactor
        self._plan = plan
        self._tell = tell
        self._report = Report(plan)
        self._resolver = Resolver(reactor, plan.target, getaddrinfo, self._resolved)
        self._connection = Connection(reactor, plan, self._report, self._enter)
        self._events = self._connection.events
        self._calls: list[IDelayedCall] = []
        self._is_late = False

    async def run(self) -> Report:
        """Go through all steps, until the last one or the first that fails."""
        work = Deferred.fromCoroutine(self._go_through_steps())
        self._calls.append(self._reactor.callLater(self._plan.timeout, self._give_up, work))
        try:
            await work
        except Exception as error:
            if not self._is_late and not isinstance(error, Fault):
                raise
            self._report.fail(self._late_fault() if self._is_late else cast(Fault, error), self._is_late)
        finally:
            for call in self._calls:
                if call.active():
                    call.cancel()
            await self._connection.end()
        return self._report

    def _enter(self, step: Step) -> None:
        self._report.enter(step)
        self._tell(step)

    # The steps.

    async def _go_through_steps(self) -> None:
        await self._connect()
        opened = await self._events.get()
        if isinstance(opened, Lost):
            raise opened.fault
        self._enter(Step.ECHO)
        for number in range(self._plan.count):
            await self._echo(2 * number + 1, make_text(self._plan.size), False)
            await self._echo(2 * number + 2, os.urandom(self._plan.size), True)
        self._enter(Step.CLOSE)
        await self._close()

    async def _connect(self) -> None:
        # HostnameEndpoint rejects a name with an underscore, which names of containers may have. So it gets another
        # name, and the resolver knows the real one. The check's own deadline comes first.
        endpoint: Any = HostnameEndpoint(
            self._reactor, "target.invalid", self._plan.target.port, timeout=self._plan.timeout + 1
        )
        if self._connection.verifier is not None:
            endpoint = wrapClientTLS(self._connection.verifier, endpoint)
        previous = self._reactor.installNameResolver(self._resolver)
        try:
            await endpoint.connect(self._connection.factory)
        except DNSLookupError as error:
            why = self._resolver.why or "it has no address"
            raise Fault(Step.DNS, f"{self._plan.target.host} doesn't resolve: {why}") from error
        except ConnectError as error:
            why = os.strerror(error.osError) if (error.osError or 0) > 0 else str(error).rstrip(".")
            raise Fault(Step.TCP, f"{why}, at {self._addresses()}") from error
        finally:
            self._reactor.installNameResolver(previous)

    def _resolved(self, addresses: Sequence[str]) -> None:
        self._report.addresses = list(addresses)
        self._enter(Step.TCP)

    async def _echo(self, number: int, payload: bytes, is_binary: bool) -> None:
        kind = "binary" if is_binary else "text"
        sending = f"message {number} of {2 * self._plan.count} ({kind}, {format_size(len(payload))})"
        self._connection.sending = sending
        self._tell(sending)
        began = perf_counter()
        self._connection.send(payload, is_binary)
        match await self._events.get():
            case Message() as got:
                if number == 1 and difference(payload, is_binary, got.payload, got.is_binary):
                    got = await self._after_greeting(got, payload, is_binary)
                round_trip = perf_counter() - began
                if differs := difference(payload, is_binary, got.payload, got.is_binary):
                    seen = describe_message(got.payload, got.is_binary, SHOWN)
                    raise Fault(Step.ECHO, f"{sending} came back wrong: {differs}", [f"came back: {seen}"])
                self._report.round_trips.append(round_trip)
            case Closed() as closed:
                raise Fault(Step.ECHO, f"{closed} came instead of an echo of {sending}")
            case end:
                raise cast(Lost, end).fault

    async def _after_greeting(self, first: Message, payload: bytes, is_binary: bool) -> Message:
        """Return the echo that comes after the server's first message, which is none. If no echo comes, return the
        first message."""
        call = self._reactor.callLater(GREETING_WAIT, self._events.put, Silence())
        second = await self._events.get()
        if call.active():
            call.cancel()
        if not isinstance(second, Message) or difference(payload, is_binary, second.payload, second.is_binary):
            return first
        greeting = describe_message(first.payload, first.is_binary, SHOWN)
        self._report.note(f"the server greets: before the first echo it sent {greeting}")
        return second

    async def _close(self) -> None:
        self._connection.close()
        self._calls.append(self._reactor.callLater(CLOSE_WAIT, self._events.put, Silence()))
        answer: Closed | None = None
        while True:
            match await self._events.get():
                case Message() as more:
                    seen = describe_message(more.payload, more.is_binary, SHOWN)
                    raise Fault(Step.ECHO, "the server sent one message more than it received", [f"came: {seen}"])
                case Closed() as answer:
                    if answer.code != 1000:
                        self._report.note(f"{answer} answered our Close 1000")
                case end:
                    self._note_end(answer, isinstance(end, Lost))
                    return

    def _note_end(self, answer: Closed | None, has_ended: bool) -> None:
        """Note what was odd about the close. The echoes were right, so that the check has not failed."""
        if answer is None:
            how = "the connection ended" if has_ended else "the server kept silent"
            self._report.note(f"{how} with no answer to our Close frame")
        elif has_ended:
            self._enter(Step.CLOSE)
        else:
            self._report.note("the server didn't close the connection after the closing handshake")

    # The deadline.

    def _give_up(self, work: Deferred[None]) -> None:
        if self._report.step is Step.CLOSE:
            # Every echo was right.
            self._events.put(Silence())
        else:
            self._is_late = True
            work.cancel()

    def _late_fault(self) -> Fault:
        step, seen = self._report.step, []
        match step:
            case Step.DNS:
                what = f"{self._plan.target.host} didn't resolve"
            case Step.TCP:
                what = f"no connection to {self._addresses()}"
            case Step.TLS:
                what = f"the TLS handshake with {self._report.peer} wasn't over"
            case Step.SETTINGS:
                what = "no SETTINGS of HTTP/2 came"
            case Step.HTTP | Step.CONNECT:
                what, seen = "the opening handshake wasn't answered", [self._connection.describe_begin()]
            case _:
                what = f"no echo of {self._connection.sending}"
        return Fault(step, f"{what} within {format_duration(self._plan.timeout)}", seen)

    def _addresses(self) -> str:
        shown = ", ".join(self._report.addresses[:4])
        return shown + (", …" if len(self._report.addresses) > 4 else "") + f", port {self._plan.target.port}"
