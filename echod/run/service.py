"""`EchoService`: the daemon listens on every endpoint, reports its start, serves, reloads and drains.

Knows the life of the daemon: start, ready, reload, drain, end. Must never know frames or the command line.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from echod.core.lag import LagMeter
from echod.core.log import SERVICE, UNLIMITED, Limiter, stderr_line
from echod.echo import EchoProtocol
from echod.lane.native import Native
from echod.net.tls import endpoint as tls_endpoint
from echod.net.tls.pem import FileFault
from echod.net.tls.throwaway import Issued, is_own_authority
from echod.run import report, signals, whole_file
from echod.run.listening import close_ports, describe_failure, listen_on, prepare_socket
from echod.run.process import CannotStartError, fail_at_exit, refuse_to_start, set_descriptor_limit
from echod.run.ready import ReadyFile
from echod.run.systemd import Notifier
from echod.settings import Settings
from echod.upstream import endpoints
from echod.web.admin import AdminSite
from echod.web.pages import Pages
from echod.web.sources import Local, Source
from echod.websocket.factory import EchoFactory, State

_log = Logger(namespace=SERVICE)


class EchoService(Service):
    """Serves WebSocket echoes on `endpoints`, by `settings`."""

    name = "echod"

    def __init__(
        self,
        settings: Settings,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        reactor: Any,
        observer: Limiter | None = None,
        native: Native | None = None,
        take_signals: bool = True,
        notifier: Notifier | None = None,
        admin_endpoints: Sequence[tuple[str, IStreamServerEndpoint]] = (),
        ready_file: ReadyFile | None = None,
        issued: Issued | None = None,
    ) -> None:
        """Make a service for `endpoints`, each with its string, and an admin site on `admin_endpoints`.

        `observer` becomes the application's log. `notifier` reports to the service manager, and `ready_file` to whoever
        waits for it. `issued` are the certificates of `throwaway:` endpoints.
        """
        self._native = native
        self._settings = settings
        self._endpoints = endpoints
        self._reactor = reactor
        self._observer = observer
        self._take_signals = take_signals
        self._notifier = notifier or Notifier()
        self._ready_file = ready_file or ReadyFile()
        self._admin_endpoints = admin_endpoints
        self.issued = issued or Issued()
        self._ports: list[IListeningPort] = []
        self._admin_ports: list[IListeningPort] = []
        self._admin: AdminSite | None = None
        self._lag: LagMeter | None = None
        self._has_listened = False
        self._has_failed = False
        self._reload_fault = ""
        """Why the last reload failed; empty if it did not."""
        self.factory: EchoFactory | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Give our log observer to the application, where twistd looks for it."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Listen while the process may still use ports below 1024; `twist` skips this step."""
        super().privilegedStartService()
        self._listen_or_leave()

    def startService(self) -> None:
        """Begin to serve."""
        super().startService()
        if not self._has_listened:
            self._listen_or_leave()
        if self._observer is not None:
            self._observer.start(self._reactor)
        if self._lag is not None:
            self._lag.start()
        if self._take_signals:
            # Again: the reactor has installed its own handlers at its start.
            self._reactor.callWhenRunning(self._handle_signals)
        self._reactor.callWhenRunning(self._begin)
        # Every endpoint listens. From the reactor's first turn on, connections are served and a signal starts a drain.
        self._reactor.callWhenRunning(self._tell_ready)

    def _tell_ready(self) -> None:
        if not self.running:  # a signal came first
            return
        try:
            self._ready_file.write(
                report.describe_start(self._ports, self._admin_ports, self.issued.authority, self._settings.http2)
            )
        except OSError as error:
            self.fail(f"can't write the ready file: {describe_failure(error)}")
        else:
            self._notifier.start(self._reactor, self._status)

    def fail(self, reason: str) -> None:
        """End the daemon, as one that can't start, with one line and exit status 1."""
        if not self._has_failed:
            self._has_failed = True
            _log.error("{reason}", reason=reason)
            stderr_line(f"echod: {reason}")
            fail_at_exit()
            self.stop_process()

    def _status(self) -> str:
        """Return the line that the service manager shows."""
        return "; ".join(filter(None, (self._describe_status(), self._reload_fault)))

    def _describe_status(self) -> str:
        factory = self.factory
        assert factory is not None
        if not self.running:
            return f"draining, connections left: {factory.count}"
        return f"connections: {factory.count} of at most {factory.max_connections}"

    def _begin(self) -> None:
        # A drain may have begun by now.
        if self.running and self.factory is not None:
            self.factory.state = State.SERVING

    def _listen_or_leave(self) -> None:
        if self._take_signals:
            # Before a line of the log says that the daemon is there: who reads it may send a signal at once. The
            # reactor obeys it in its first turn.
            self._handle_signals()
        try:
            self._listen()
            self._remove_old_ready_file()
            self._write_authority()
        except CannotStartError:
            for port in (*self._ports, *self._admin_ports):
                endpoints.abandon(port)
            raise

    def _remove_old_ready_file(self) -> None:
        # Not before it listens: a start that finds its ports in use must leave the file of the daemon that has them.
        try:
            self._ready_file.remove_old()
        except OSError as error:
            refuse_to_start(f"can't remove the old ready file: {describe_failure(error)}")

    def _write_authority(self) -> None:
        if (path := self._settings.authority_file) is not None:
            if (fault := whole_file.fault(Path(path), is_own_authority)) is not None:
                refuse_to_start(f"--authority-file {path} {fault}")
            try:
                whole_file.write(Path(path), self.issued.authority.encode())
            except OSError as error:
                refuse_to_start(f"can't write --authority-file {path}: {error.strerror}")

    def _listen(self) -> None:
        self._has_listened = True
        descriptors = set_descriptor_limit(self._reactor)
        wanted = self._settings.max_connections
        most = max(1, descriptors - self._reserved)
        pages = Pages(self._settings, lambda: bool(self.running), self.issued.authority)
        self.factory = EchoFactory(
            EchoProtocol, self._settings, self._reactor, min(wanted or most, most), self._native, pages.answer
        )
        self.factory.numbers.prefix = self._number_prefix
        self.factory.begin_hosting()
        self.factory.certificates = lambda: tls_endpoint.ends(self._all_endpoints)
        for text, endpoint in self._endpoints:
            self._ports.append(listen_on(text, endpoint, self.factory))
            prepare_socket(self._ports[-1], self._settings.backlog)
            self._open_door(self._ports[-1])
        if self._admin_endpoints:
            self._lag = LagMeter(self._reactor, self.factory.counts.lags.observe)
            self._listen_for_admin(Local(self.factory))
        self._report_start(self.factory)

    def _open_door(self, port: IListeningPort) -> None:
        """Let connections of a plain port begin in the pump."""
        assert self.factory is not None
        if self.factory.hosting is not None:
            self.factory.hosting.open(port)

    def _close_door(self, port: IListeningPort) -> None:
        """Let no connection of a port begin in the pump any more."""
        if self.factory is not None and self.factory.hosting is not None:
            self.factory.hosting.close(port)

    @property
    def _number_prefix(self) -> str:
        """What comes before the numbers of connections."""
        return ""

    @property
    def _reserved(self) -> int:
        """The number of descriptors that are not for connections."""
        return self._settings.reserved_descriptors + (
            self._settings.max_admin_connections if self._admin_endpoints else 0
        )

    def _listen_for_admin(self, source: Source) -> None:
        self._admin = AdminSite(source, self._reactor)
        for text, endpoint in self._admin_endpoints:
            self._admin_ports.append(listen_on(text, endpoint, self._admin))

    def _report_start(self, factory: EchoFactory) -> None:
        self._report_addresses()
        report.log_lane(self._native, factory)
        report.log_limits(self._settings, factory.max_connections)

    def _report_addresses(self) -> None:
        report.log_addresses(self._ports, self._admin_ports)
        for text, certificates in tls_endpoint.served(self._all_endpoints):
            report.log_certificate_faults(text, certificates)
        for text, throwaway in tls_endpoint.thrown_away(self._all_endpoints):
            report.log_throwaway(text, throwaway, self._settings.authority_file)

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, close every connection with 1001, and fire when all connections have ended."""
        super().stopService()
        _log.info("shutting down")
        self._ready_file.remove()
        self._notifier.stopping(self._settings.drain_timeout)
        ports, self._ports = self._ports, []
        done = [*close_ports(self._endpoints, ports), self._drain()]
        if self._lag is not None:
            self._lag.stop()
        return gatherResults(done).addBoth(self._stop_admin).addBoth(self._stopped)

    def _drain(self) -> Deferred[Any]:
        """Close every connection, and fire when all have ended."""
        return succeed(None) if self.factory is None else self.factory.drain()

    def _abort(self) -> None:
        """Reset every remaining connection."""
        if self.factory is not None:
            self.factory.abort_all()

    def _stop_admin(self, result: object) -> Any:
        """Stop the admin site last: it shows the other connections until they have ended."""
        if self._admin is None:
            return result
        admin, self._admin = self._admin, None
        ports, self._admin_ports = self._admin_ports, []
        done = [*close_ports(self._admin_endpoints, ports), admin.stop()]
        return gatherResults(done).addBoth(lambda _: result)

    @property
    def _all_endpoints(self) -> Sequence[tuple[str, IStreamServerEndpoint]]:
        return (*self._endpoints, *self._admin_endpoints)

    def reload(self) -> Deferred[Any]:
        """Read the certificates again, for new connections; fires when it is done.

        Open connections are not affected. An endpoint whose files can't be used keeps its certificates, and a line of
        the log says why.
        """
        self._report_reload(self._read_certificates())
        return succeed(None)

    def _read_certificates(self) -> list[str]:
        """Read the certificates again, and return one line for each endpoint whose files can't be used."""
        faults = []
        for text, certificates in tls_endpoint.served(self._all_endpoints):
            try:
                found = certificates.reload()
            except FileFault as error:
                faults.append(f"{text} keeps its old certificates: {error}")
                _log.error("{endpoint} keeps its old certificates: {reason}", endpoint=text, reason=error)
            else:
                _log.info("{endpoint} has certificates for {found}", endpoint=text, found=found)
                report.log_certificate_faults(text, certificates)
        return faults

    def _report_reload(self, faults: Sequence[str]) -> None:
        """Report the result of a reload in the log and, until the next reload, in the service manager's status."""
        reasons = "; ".join(dict.fromkeys(faults))  # each reason once, however many workers report it
        self._reload_fault = reasons and f"reload failed: {reasons}"
        if faults:
            _log.error("reload failed: {reasons}", reasons=reasons, **{UNLIMITED: True})
        else:
            _log.info("reloaded", **{UNLIMITED: True})

    def _stopped(self, result: object) -> object:
        self._notifier.stop()
        if self._observer is not None:
            self._observer.stop()
        return result

    def _handle_signals(self) -> None:
        signals.handle(self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # Python passes it
        # This replaces the reactor's own handler. With that one, twistd would end by the signal after a clean drain
        # instead of with exit status 0, and a second signal would be an unhandled error.
        self._reactor.callFromThread(self._obey, signal.Signals(number))

    def _obey(self, number: signal.Signals) -> None:
        _log.info("received {name}", name=number.name)
        if number == signal.SIGHUP and not signals.has_lost_terminal():
            if self.running:  # in a drain no connection comes that would need new certificates
                self._notifier.reload(self.reload)
        elif self.running:
            # A second signal in the same turn of the reactor counts as the first: it may be the same order given twice,
            # as to a worker, which gets it from the service manager and from its parent.
            self.stop_process()
        else:
            self._abort()

    def stop_process(self) -> None:
        """Begin the end of the process, unless it has begun."""
        with suppress(ReactorNotRunning):
            self._reactor.stop()
