"""`EchoService`: listen on every endpoint, say so, serve, and drain.

Knows the life of the process: listeners, descriptors, signals. Must never know frames or the command line.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import socket
import sys
import termios
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EIO
from types import FrameType, TracebackType
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import ILogObserver, Logger
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from echod import __version__
from echod.core.lag import LagMeter
from echod.core.log import UNLIMITED, Limiter, stderr_line
from echod.core.quantities import format_duration, format_size
from echod.http import ws_url
from echod.lane.native import Native, zlib_functions
from echod.net.tls import endpoint as tls_endpoint
from echod.net.tls.pem import FileFault
from echod.net.tls.reload import Certificates
from echod.run.systemd import Notifier
from echod.settings import Compression, Settings
from echod.upstream import eager, endpoints, names
from echod.web.admin import AdminSite
from echod.web.pages import Pages
from echod.web.sources import Local, Source
from echod.websocket.factory import EchoFactory, State

MOST_DESCRIPTORS = 2**20
"""What is reckoned with where there is no limit: Linux's own for one process, unless it is raised (fs.nr_open)."""

SELECT_DESCRIPTORS = 1024
"""FD_SETSIZE in the C library's headers: select(2) watches descriptors below it. macOS has that reactor by default."""

_log = Logger()


class CannotStartError(Exception):
    """The daemon can't start, for a reason that is the operator's to mend: told in one line, without a traceback."""


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
    ) -> None:
        """Make a service for `endpoints`, each with the text it was made from, and an admin site on `admin_endpoints`.

        `observer` is made the application's log; `notifier` tells the service manager.
        """
        self._native = native
        self._settings = settings
        self._endpoints = endpoints
        self._reactor = reactor
        self._observer = observer
        self._take_signals = take_signals
        self._notifier = notifier or Notifier()
        self._admin_endpoints = admin_endpoints
        self._ports: list[IListeningPort] = []
        self._admin_ports: list[IListeningPort] = []
        self._admin: AdminSite | None = None
        self._lag: LagMeter | None = None
        self._has_listened = False
        self._reload_fault = ""
        """What was wrong with the last reload."""
        self.factory: EchoFactory | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Give the application our log observer, which twistd looks for there."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Listen while ports below 1024 may be had; `twist` leaves this step out."""
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
            # Now, for a signal before the reactor's first turn; and again before all else, since the reactor puts its
            # own in place when it starts.
            self._handle_signals()
            self._reactor.callWhenRunning(self._handle_signals)
        self._reactor.callWhenRunning(self._begin)
        # Every endpoint listens; from the reactor's first turn on, what connects is served and a signal ends it in good
        # order.
        self._reactor.callWhenRunning(self._tell_ready)

    def _tell_ready(self) -> None:
        if self.running:  # else a signal came first
            self._notifier.start(self._reactor, self._status)

    def _status(self) -> str:
        """The line that the service manager shows."""
        return "; ".join(filter(None, (self._describe_status(), self._reload_fault)))

    def _describe_status(self) -> str:
        factory = self.factory
        assert factory is not None
        if not self.running:
            return f"draining, connections left: {len(factory.live)}"
        return f"connections: {len(factory.live)} of at most {factory.max_connections}"

    def _begin(self) -> None:
        # By now a drain may have begun.
        if self.running and self.factory is not None:
            self.factory.state = State.SERVING

    def _listen_or_leave(self) -> None:
        try:
            self._listen()
        except CannotStartError:
            for port in (*self._ports, *self._admin_ports):
                endpoints.abandon(port)
            raise

    def _listen(self) -> None:
        self._has_listened = True
        descriptors = set_descriptor_limit(self._reactor)
        wanted = self._settings.max_connections
        most = max(1, descriptors - self._reserved)
        pages = Pages(self._settings, lambda: bool(self.running))
        self.factory = EchoFactory(self._settings, self._reactor, min(wanted or most, most), self._native, pages.answer)
        self.factory.certificates = lambda: tls_endpoint.ends(self._all_endpoints)
        for text, endpoint in self._endpoints:
            self._ports.append(listen_on(text, endpoint, self.factory))
            prepare_socket(self._ports[-1], self._settings.backlog)
            eager.make_eager(self._ports[-1], self.factory)
        if self._admin_endpoints:
            self._lag = LagMeter(self._reactor, self.factory.counts.lags.observe)
            self._listen_for_admin(Local(self.factory))
        self._tell_start(self.factory)

    @property
    def _reserved(self) -> int:
        """Descriptors that are not for connections."""
        return self._settings.reserved_descriptors + (
            self._settings.max_admin_connections if self._admin_endpoints else 0
        )

    def _listen_for_admin(self, source: Source) -> None:
        self._admin = AdminSite(source, self._reactor)
        for text, endpoint in self._admin_endpoints:
            self._admin_ports.append(listen_on(text, endpoint, self._admin))

    def _tell_start(self, factory: EchoFactory) -> None:
        self._tell_addresses()
        tell_lane(self._native, factory)
        tell_limits(self._settings, factory.max_connections)

    def _tell_addresses(self) -> None:
        for port in self._ports:
            _log.info("listening on {address}", address=describe_port(port, "ws"), **{UNLIMITED: True})
        for port in self._admin_ports:
            _log.info("admin on {address}", address=describe_port(port, "http"), **{UNLIMITED: True})
        for text, certificates in tls_endpoint.served(self._all_endpoints):
            tell_faults(text, certificates)

    def stopService(self) -> Deferred[Any]:
        """Stop accepting, close every connection with 1001, and fire when all have gone."""
        super().stopService()
        _log.info("shutting down")
        self._notifier.stopping(self._settings.drain_timeout)
        ports, self._ports = self._ports, []
        done = [*close_ports(self._endpoints, ports), self._drain()]
        if self._lag is not None:
            self._lag.stop()
        return gatherResults(done).addBoth(self._stop_admin).addBoth(self._stopped)

    def _drain(self) -> Deferred[Any]:
        """Close every connection, and fire when all have gone."""
        return succeed(None) if self.factory is None else self.factory.drain()

    def _abort(self) -> None:
        """Reset every connection that is left."""
        if self.factory is not None:
            self.factory.abort_all()

    def _stop_admin(self, result: object) -> Any:
        """Stop what tells of the others' end when that has come."""
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
        """Read the certificates again, for the connections to come; fires when it is done.

        Open connections are not affected. An endpoint whose files can't be used keeps what it has, and a line of the
        log says why.
        """
        self._tell_reload(self._read_certificates())
        return succeed(None)

    def _read_certificates(self) -> list[str]:
        """Read the certificates again; return what can't be used, one line for each endpoint."""
        faults = []
        for text, certificates in tls_endpoint.served(self._all_endpoints):
            try:
                found = certificates.reload()
            except FileFault as error:
                faults.append(f"{text} keeps its old certificates: {error}")
                _log.error("{endpoint} keeps its old certificates: {reason}", endpoint=text, reason=error)
            else:
                _log.info("{endpoint} has certificates for {found}", endpoint=text, found=found)
                tell_faults(text, certificates)
        return faults

    def _tell_reload(self, faults: Sequence[str]) -> None:
        """Tell how a reload ended, in the log and, until the next one, in the status that the service manager shows."""
        reasons = "; ".join(dict.fromkeys(faults))  # each once, whichever worker told it
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
        signal.signal(signal.SIGTERM, self._on_signal)
        for number in (signal.SIGINT, signal.SIGHUP):
            # These may be ignored since before the start: nohup does so with SIGHUP, a shell with SIGINT of a
            # background job.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # Python passes it
        # Not the reactor's own handler: with that, twistd ends by the signal after a clean drain, and not with exit
        # status 0; and a second signal is an unhandled error.
        self._reactor.callFromThread(self._obey, signal.Signals(number))

    def _obey(self, number: signal.Signals) -> None:
        _log.info("received {name}", name=number.name)
        if number == signal.SIGHUP and not has_lost_terminal():
            if self.running:  # a drain takes no connections that new certificates would be for
                self._notifier.reload(self.reload)
        elif self.running:
            # A second one in the same turn of the reactor is one with the first: it may be the same end told twice, as
            # to a worker, by the service manager's signal and by the parent.
            self.stop_process()
        else:
            self._abort()

    def stop_process(self) -> None:
        """Have the process end in good order, unless it does already."""
        with suppress(ReactorNotRunning):
            self._reactor.stop()


def listen_on(text: str, endpoint: IStreamServerEndpoint, factory: IProtocolFactory) -> IListeningPort:
    """Listen on an endpoint, which was made from `text`; raises `CannotStartError`."""
    ports: list[IListeningPort] = []
    failures: list[Failure] = []
    # Every endpoint of Twisted's has listened, or failed to, by the time this returns.
    maybeDeferred(endpoint.listen, factory).addCallbacks(ports.append, failures.append)
    if failures:
        refuse_to_start(f"can't listen on {text}: {describe_failure(failures[0].value)}")
    return ports[0]


def close_ports(
    endpoints: Sequence[tuple[str, IStreamServerEndpoint]], ports: Sequence[IListeningPort]
) -> list[Deferred[Any]]:
    """Stop listening on `ports`, the first of `endpoints`; each Deferred fires when its port is closed, or can't be.

    A port that can't be closed is a line in the log: a failure would end the wait for the other ports. The path of a
    Unix socket may be in a folder that the user whom the daemon runs as by now can't write.
    """
    # A start that failed has left some endpoints without a port.
    pairs = zip(endpoints, ports, strict=False)
    return [maybeDeferred(port.stopListening).addErrback(_tell_not_closed, text) for (text, _), port in pairs]


def _tell_not_closed(failure: Failure, text: str) -> None:
    _log.warn("{endpoint} could not be closed: {reason}", endpoint=text, reason=describe_failure(failure.value))


def set_descriptor_limit(reactor: Any) -> int:
    """Set `RLIMIT_NOFILE` to as many as the system lets this process have and its reactor can use, and return that.

    A descriptor that the reactor can't use would break the connection that gets it; at the limit, accepting waits.
    """
    most = SELECT_DESCRIPTORS if isinstance(reactor, SelectReactor) else MOST_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    least = 1 if soft == resource.RLIM_INFINITY else min(soft, wanted)
    while not _has_set_limit(limit, hard) and limit > least:
        limit = max(least, limit // 2)
    if limit < wanted:
        _log.warn("the system lets this process have {limit} descriptors, and not {wanted}", limit=limit, wanted=wanted)
    return limit


def _has_set_limit(limit: int, hard: int) -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (ValueError, OSError):  # macOS refuses what is over kern.maxfilesperproc, whatever the hard limit is
        return False
    return True


def prepare_socket(port: IListeningPort, backlog: int) -> None:
    """Let the kernel hold `backlog` connections until they are accepted, and send at once what is written to them.

    A second listen(2) changes the one. The other (no Nagle) is inherited by each accepted socket, which saves a system
    call for each.
    """
    listener = getattr(port, "socket", None)
    if isinstance(listener, socket.socket):
        listener.listen(backlog)
        if listener.family != socket.AF_UNIX:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def has_lost_terminal(descriptor: int = 0) -> bool:
    """Tell whether the terminal that the process was started from is gone: then a hangup means that nobody is left who
    could stop it."""
    try:
        termios.tcgetattr(descriptor)
    except termios.error as error:
        return bool(error.args[0] == EIO)
    return False


def has_tls(port: IListeningPort) -> bool:
    """Tell whether what connects to `port` speaks TLS."""
    factory = getattr(port, "factory", None)
    while isinstance(factory, WrappingFactory) and not isinstance(factory, TLSMemoryBIOFactory):
        factory = factory.wrappedFactory  # TLS is behind the PROXY header
    return isinstance(factory, TLSMemoryBIOFactory)


def describe_port(port: IListeningPort, scheme: str) -> str:
    """Return where `port` listens, for a line of the log."""
    address = describe_address(port.getHost(), has_tls(port), scheme)
    return f"{address} (IPv6 and IPv4)" if endpoints.serves_both_families(port) else address


def describe_address(address: Any, is_tls: bool = False, scheme: str = "ws") -> str:
    """Return a listening address as a URL for a client, or what there is; over TLS an `s` goes behind the scheme."""
    if (name := getattr(address, "name", None)) is not None:
        return f"unix:{name.decode(errors='backslashreplace') if isinstance(name, bytes) else name}"
    if not hasattr(address, "host"):
        return str(address)
    return f"{scheme}{'s' if is_tls else ''}://{ws_url.join(address.host, address.port)}"


def tell_faults(text: str, certificates: Certificates) -> None:
    """Write to the log which of the certificates that clients are shown they won't take at this time."""
    for identity in certificates.used:
        if (fault := identity.fault) is not None:
            _log.warn(
                "{endpoint}: the certificate for {certificate} {fault}",
                endpoint=text,
                certificate=identity,
                fault=fault,
            )


def tell_lane(native: Native | None, factory: EchoFactory) -> None:
    """Write to the log which way ordinary frames go, and what of the libraries' insides is missing for a faster one."""
    _log.info("express lane: {lane}", lane=describe_lane(native, factory), **{UNLIMITED: True})
    for loss in names.losses():
        _log.warn("{loss}", loss=loss, **{UNLIMITED: True})


def tell_limits(settings: Settings, max_connections: int, whose: str = "") -> None:
    """Write to the log what the limits are, and `whose`, if not the daemon's as a whole; the last line of a start."""
    limits = describe_limits(settings, max_connections) + whose
    _log.info("echod {version}: {limits}", version=__version__, limits=limits, **{UNLIMITED: True})


def describe_lane(native: Native | None, factory: EchoFactory) -> str:
    """Return which way ordinary frames go."""
    if native is None:
        return "off, Autobahn serves everything"
    if factory.lane is None:
        return f"codec alone ({native.isa})"
    lacks = [] if factory.lane.takes_tls else [", TLS by the codec alone"]
    if factory.settings.compression is not Compression.OFF and not factory.lane.takes_deflate:
        lacks.append(f", permessage-deflate by Autobahn (no {zlib_functions.LIBRARY}: apt-get install zlib1g)")
    return f"pump and codec ({native.isa})" + "".join(lacks)


def describe_limits(settings: Settings, max_connections: int) -> str:
    """Return the limits in force, on one line."""
    sizes = (
        ("max-message-size", settings.message_limit),
        ("max-buffered", settings.max_buffered),
        ("max-request-head", settings.max_request_head),
    )
    durations = (
        ("handshake-timeout", settings.handshake_timeout),
        ("ping-interval", settings.ping_interval),
        ("ping-timeout", settings.ping_timeout),
        ("close-timeout", settings.close_timeout),
        ("max-close-time", settings.max_close_time),
        ("drain-timeout", settings.drain_timeout),
    )
    return ", ".join(
        [
            *(f"{name} {format_size(value)}" for name, value in sizes),
            f"max-connections {max_connections}",
            f"max-connections-per-address {settings.max_connections_per_address or 'none'}",
            f"compression {settings.compression.value}",
            *(f"{name} {format_duration(value)}" for name, value in durations),
        ]
    )


def describe_failure(error: BaseException | None) -> str:
    """Return why an endpoint can't listen, on one line."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())


def refuse_to_start(reason: str) -> NoReturn:
    """Raise `CannotStartError`, which will be one line on standard error instead of a traceback.

    It must be an exception that twistd may see: so it removes its pid file, and when daemonized tells the process that
    waits.
    """
    reason = " ".join(reason.split())
    # The log, too: a daemonized twistd cuts the error that it prints, and points there.
    _log.error("{reason}", reason=reason)
    sys.excepthook = _one_line(sys.excepthook)
    raise CannotStartError(reason)


def fail_at_exit() -> None:
    """Have the process end with exit status 1, once the reactor has stopped: of a start that fails later neither twistd
    nor twist knows."""
    atexit.register(_exit_with_failure)


def _exit_with_failure() -> None:
    # All of the application has ended. What is skipped is Python's own end, and with it exit status 0.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _one_line(hook: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, CannotStartError):
            stderr_line(f"echod: {error}")
        else:
            hook(kind, error, traceback)

    return excepthook
