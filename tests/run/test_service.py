"""The service on a real reactor with real sockets: listening, serving, draining."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from twisted.application.service import Application, IService
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher

from echod import __version__
from echod.core.log import EVENTS_PER_SECOND, LogFormat, make_observer
from echod.http.paths import AUTHORITY_PATH, HEALTH_PATH
from echod.http.request import PageRequest
from echod.net.endpoints import parse_endpoint
from echod.net.tls.endpoint import thrown_away
from echod.net.tls.throwaway import Authority
from echod.run import whole_file
from echod.run.process import CannotStartError
from echod.run.ready import ReadyFile, is_own
from echod.run.service import EchoService
from echod.run.systemd import Notifier
from echod.settings import Settings
from echod.websocket.factory import State
from tests.client import Client
from tests.frames import CLOSE, TEXT, Frame, client_frame, close_payload
from tests.tls import Certificate

REAL: Any = reactor


def make(*ports: str, reactor: Any = REAL, **options: Any) -> EchoService:
    settings = Settings(ports=ports, drain_timeout=5)
    endpoints = [(port, serverFromString(REAL, port)) for port in ports]
    return EchoService(settings, endpoints, reactor, **({"take_signals": False} | options))


def full(*_: object) -> None:
    """Write nothing, because the disk is full."""
    raise OSError(ENOSPC, os.strerror(ENOSPC))


def address(lines: list[str]) -> tuple[str, int]:
    """Return host and port of the first TCP socket that the log says is listening."""
    url = urlsplit(next(line for line in lines if line.startswith("listening on ws")).removeprefix("listening on "))
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


@pytest.mark.parametrize("port", ["tcp:0:interface=127.0.0.1", "tcp6:0:interface=\\:\\:1"])
@pytest_twisted.inlineCallbacks
def test_serves_and_drains(port: str, lines: list[str]) -> Generator[Any, Any, None]:
    service = make(port)
    service.privilegedStartService()
    service.startService()
    client = yield deferToThread(Client, address(lines))
    assert (yield deferToThread(client.echo, b"hello")) == b"hello"
    assert service.factory is not None
    (connection,) = service.factory.live
    assert connection.transport.getTcpNoDelay()
    stopped = service.stopService()
    assert (yield deferToThread(client.frame)) == Frame(CLOSE, close_payload(1001, "going away"))
    assert not stopped.called
    assert (yield deferToThread(client.leave)) == b"", "the server closes first, in order"
    yield stopped
    assert sum("max-message-size 16MiB" in line for line in lines) == 1


def test_the_health_check_reports_the_drain() -> None:
    service = make()
    service.startService()
    assert service.factory is not None
    assert service.factory.pages is not None
    request = PageRequest(b"GET", HEALTH_PATH, {})
    assert service.factory.pages(request).status == 200
    service.stopService()
    assert service.factory.pages(request).status == 503


@pytest_twisted.inlineCallbacks
def test_serves_several_endpoints_even_without_the_privileged_step(
    tmp_path: Path, lines: list[str]
) -> Generator[Any, Any, None]:
    path = tmp_path / "socket"
    service = make("tcp:0:interface=127.0.0.1", f"unix:{path}")
    service.startService()
    assert f"listening on unix:{path}" in lines
    clients = [(yield deferToThread(Client, address(lines))), (yield deferToThread(Client, str(path)))]
    for client in clients:
        assert (yield deferToThread(client.echo, b"x" * 200_000)) == b"x" * 200_000
    stopped = service.stopService()
    for client in clients:
        yield deferToThread(client.frame)
        yield deferToThread(client.leave)
    yield stopped


@pytest_twisted.inlineCallbacks
def test_a_socket_whose_path_is_gone_is_one_line_and_the_drain_goes_on(
    tmp_path: Path, lines: list[str]
) -> Generator[Any, Any, None]:
    """This is about Twisted's own port, which removes the path first."""
    port, admin = f"unix:{tmp_path / 'port'}", f"unix:{tmp_path / 'admin'}"
    service = make(port, "tcp:0:interface=127.0.0.1", admin_endpoints=[(admin, serverFromString(REAL, admin))])
    service.startService()
    left = [service._ports[0], service._admin_ports[0]]
    client = yield deferToThread(Client, str(tmp_path / "port"))
    frame = client_frame(TEXT, b"begun before the end")
    # Both in one piece: when the answer has come, the beginning of the frame has been read.
    client.socket.sendall(client_frame(TEXT, b"before") + frame[:10])
    assert (yield deferToThread(client.frame)) == Frame(TEXT, b"before")
    for name in ("port", "admin"):
        (tmp_path / name).unlink()
    stopped = service.stopService()
    yield deferLater(REAL, 0, lambda: None)
    assert f"{port} could not be closed: No such file or directory" in lines
    assert not stopped.called
    client.socket.sendall(frame[10:])
    assert (yield deferToThread(client.frame)) == Frame(TEXT, b"begun before the end")
    assert (yield deferToThread(client.frame)) == Frame(CLOSE, close_payload(1001, "going away"))
    yield deferToThread(client.leave)
    yield stopped
    told = [line for line in lines if "could not be closed" in line]
    assert told == [f"{text} could not be closed: No such file or directory" for text in (port, admin)]
    # The process of the tests goes on, so close the ports after all.
    for name, open_ in zip(("port", "admin"), left, strict=True):
        (tmp_path / name).touch()
        yield open_.stopListening()


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", err)
    others: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: others.append(error))
    with listening() as port:
        service = make(f"tcp:{port}:interface=127.0.0.1")
        with pytest.raises(CannotStartError) as error:
            service.privilegedStartService()
    sys.excepthook(CannotStartError, error.value, None)
    assert err.getvalue() == f"echod: can't listen on tcp:{port}:interface=127.0.0.1: Address already in use\n"
    sys.excepthook(ValueError, ValueError(), None)
    assert len(others) == 1
    assert service.stopService() is not None


@pytest.mark.parametrize("is_admin", [False, True])
@pytest_twisted.inlineCallbacks
def test_a_start_that_fails_leaves_no_socket(is_admin: bool, tmp_path: Path) -> Generator[Any, Any, None]:
    """The reactor, which would remove it, never runs."""
    with listening() as port:
        texts = [f"unix:{tmp_path / 'socket'}", f"tcp:{port}:interface=127.0.0.1"]
        made = [(text, parse_endpoint(REAL, text)) for text in texts]
        service = EchoService(
            Settings(), [] if is_admin else made, REAL, take_signals=False, admin_endpoints=made if is_admin else []
        )
        with pytest.raises(CannotStartError):
            service.privilegedStartService()
    assert list(tmp_path.iterdir()) == []
    yield service.stopService()


def test_an_admin_port_in_use_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with listening() as port:
        text = f"tcp:{port}:interface=127.0.0.1"
        with pytest.raises(CannotStartError, match=f"^can't listen on {text}: Address already in use$"):
            make(admin_endpoints=[(text, serverFromString(REAL, text))]).privilegedStartService()


def test_a_service_that_never_started_can_be_stopped() -> None:
    assert make().stopService().called


def test_the_application_gets_our_log() -> None:
    out = io.StringIO()
    observer = make_observer(out, LogFormat.JOURNAL)
    service = make(observer=observer)
    application = Application("echod")
    service.setServiceParent(application)
    assert application.getComponent(ILogObserver) is observer
    make().setServiceParent(IService(Application("another")))
    service.startService()
    log = Logger(observer=observer)
    for _ in range(EVENTS_PER_SECOND + 1):
        log.info("limited from the start to the stop")
    assert service.stopService().called
    log.info("limited from the start to the stop")
    assert out.getvalue().count("limited") == EVENTS_PER_SECOND + 1


class FakeReactor:
    """A reactor with what the handling of signals needs."""

    def __init__(self) -> None:
        self.stops = 0
        self.is_running = True

    def callWhenRunning(self, call: Any) -> None:
        call()

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        call(*arguments)

    def seconds(self) -> float:
        return 0.0

    def callLater(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(active=lambda: False)

    def stop(self) -> None:
        if not self.is_running:
            raise ReactorNotRunning
        self.is_running = False
        self.stops += 1


@pytest.fixture
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_a_second_one_aborts(number: signal.Signals, lines: list[str]) -> None:
    fake = FakeReactor()
    service = make(reactor=fake, take_signals=True)
    service.startService()
    assert service.factory is not None
    aborted: list[bool] = []
    service.factory.abort_all = lambda: aborted.append(True)  # type: ignore[method-assign]
    signal.raise_signal(number)
    signal.raise_signal(number)
    assert fake.stops == 1
    assert aborted == []
    service.stopService()
    signal.raise_signal(number)
    assert aborted == [True]
    assert f"received {number.name}" in lines


@pytest.mark.usefixtures("_signals")
def test_ignored_signals_stay_ignored() -> None:
    """nohup ignores SIGHUP, and a shell ignores SIGINT for a background job."""
    ignored = (signal.SIGINT, signal.SIGHUP)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    service = make(reactor=FakeReactor(), take_signals=True)
    service._handle_signals()
    assert [signal.getsignal(number) for number in ignored] == 2 * [signal.SIG_IGN]
    assert signal.getsignal(signal.SIGTERM) == service._on_signal


@pytest.mark.usefixtures("_signals")
def test_a_hangup_of_its_terminal_drains_it(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr("echod.run.signals.has_lost_terminal", lambda: True)
    fake = FakeReactor()
    service = make(reactor=fake, take_signals=True)
    service.startService()
    signal.raise_signal(signal.SIGHUP)
    assert fake.stops == 1
    assert "reloaded" not in lines
    service.stopService()


@pytest_twisted.inlineCallbacks
def test_the_ready_file_is_there_while_it_serves(certificate: Certificate, tmp_path: Path) -> Generator[Any, Any, None]:
    path = tmp_path / "ready.json"
    path.write_text('{"urls": []}')  # of an earlier start
    texts = ["tcp:0:interface=127.0.0.1", f"ssl:0:privateKey={certificate.path}", f"unix:{tmp_path / 'socket'}"]
    service = EchoService(
        Settings(),
        [(text, parse_endpoint(REAL, text)) for text in texts],
        REAL,
        take_signals=False,
        admin_endpoints=[("tcp:0", parse_endpoint(REAL, "tcp:0:interface=0.0.0.0"))],
        ready_file=ReadyFile(str(path)),
    )
    service.privilegedStartService()
    assert not path.exists()
    service.startService()
    listening_ports: list[Any] = [*service._ports[:2], *service._admin_ports]
    ports = [port.getHost().port for port in listening_ports]
    assert json.loads(path.read_text()) == {
        "urls": [f"ws://127.0.0.1:{ports[0]}", f"wss://localhost:{ports[1]}", f"unix:{tmp_path / 'socket'}"],
        "admin_urls": [f"http://127.0.0.1:{ports[2]}"],
        "authority": None,
        "http2": "on",
        "pid": os.getpid(),
        "version": __version__,
    }
    assert is_own(path.read_bytes()), "or a daemon that was killed could not start again"
    stopped = service.stopService()
    assert not path.exists()
    yield stopped


def test_a_ready_file_that_can_not_be_written_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", err)
    fails: list[bool] = []
    monkeypatch.setattr("echod.run.service.fail_at_exit", lambda: fails.append(True))
    fake = FakeReactor()
    service = make(reactor=fake, ready_file=ReadyFile(str(tmp_path / "ready.json")))

    monkeypatch.setattr(whole_file, "write", full)
    service.startService()
    told = "can't write the ready file: No space left on device"
    assert (err.getvalue(), fails, fake.stops) == (f"echod: {told}\n", [True], 1)
    assert told in lines
    service.fail("a second reason")
    assert (fails, fake.stops) == ([True], 1)
    service.stopService()


def test_only_a_start_that_listens_removes_an_old_ready_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    path = tmp_path / "ready.json"
    path.write_text("of the daemon that has the port")
    with listening() as port, pytest.raises(CannotStartError, match="in use"):
        make(f"tcp:{port}:interface=127.0.0.1", ready_file=ReadyFile(str(path))).privilegedStartService()
    assert path.exists()
    with pytest.raises(CannotStartError, match=r"remove the old ready file: it is not a file that could be replaced$"):
        make(ready_file=ReadyFile(str(tmp_path))).privilegedStartService()


def test_a_ready_file_never_takes_the_place_of_a_socket_or_a_key(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with pytest.raises(CannotStartError, match="it is not a file that could be replaced"):
        make(f"unix:{path}", ready_file=ReadyFile(str(path))).privilegedStartService()
    path = tmp_path / "key.pem"
    path.write_text("a key")
    with pytest.raises(CannotStartError, match="it is a file that echod has not written"):
        make(ready_file=ReadyFile(str(path))).privilegedStartService()
    assert path.read_text() == "a key"


@pytest_twisted.inlineCallbacks
def test_the_service_manager_is_told(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Generator[Any, Any, None]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        service = make("tcp:0:interface=127.0.0.1", notifier=Notifier(str(tmp_path / "notify")))
        service.privilegedStartService()
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        service.startService()
        ready = manager.recv(4096).decode()
        assert service.factory is not None
        assert ready == f"READY=1\nSTATUS=connections: 0 of at most {service.factory.max_connections}"
        monkeypatch.setattr("echod.run.signals.has_lost_terminal", lambda: False)
        service._obey(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(4096).decode() == ready
        assert lines[-2:] == ["received SIGHUP", "reloaded"]
        client = yield deferToThread(Client, address(lines))
        stopped = service.stopService()
        assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=10000000"
        assert manager.recv(4096) == b"STOPPING=1\nSTATUS=draining, connections left: 1"
        service._obey(signal.SIGHUP)
        assert lines[-1] == "received SIGHUP"
        with pytest.raises(BlockingIOError):
            manager.recv(4096)
        yield deferToThread(client.frame)
        yield deferToThread(client.leave)
        yield stopped


def test_a_service_that_ends_before_it_is_ready_never_says_so(tmp_path: Path) -> None:
    class Late(FakeReactor):
        """Keeps the calls until the test runs them."""

        def __init__(self) -> None:
            super().__init__()
            self.waiting: list[Callable[[], object]] = []

        def callWhenRunning(self, call: Callable[[], object]) -> None:
            self.waiting.append(call)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        late = Late()
        service = make(reactor=late, notifier=Notifier(str(tmp_path / "notify")))
        service.startService()
        service._obey(signal.SIGTERM)
        assert service.stopService().called
        for call in late.waiting:
            call()
        assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=10000000"
        assert manager.recv(4096).startswith(b"STOPPING=1\n")
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


@pytest.mark.usefixtures("_signals")
def test_a_signal_before_anything_listens_is_no_error() -> None:
    service = make(reactor=FakeReactor(), take_signals=True)
    service._handle_signals()
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("is_privileged", [False, True])
def test_signals_are_handled_before_the_log_tells_of_the_start(is_privileged: bool, lines: list[str]) -> None:
    """Who has read that the daemon listens may send SIGHUP at once: it reloads, and does not end the process."""
    service = make(reactor=FakeReactor(), take_signals=True)
    handlers = []

    def look(_event: LogEvent) -> None:
        handlers.append([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)])

    globalLogPublisher.addObserver(look)  # type: ignore[arg-type]  # a function provides no zope interface
    try:
        if is_privileged:
            service.privilegedStartService()
        service.startService()
        assert any("max-message-size" in line for line in lines)
        assert all(handler == [service._on_signal] * 3 for handler in handlers)
    finally:
        globalLogPublisher.removeObserver(look)  # type: ignore[arg-type]  # as above
        service.stopService()


@pytest.mark.usefixtures("_signals")
def test_a_hangup_reloads_the_certificates(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echod.run.signals.has_lost_terminal", lambda: False)
    fake, file = FakeReactor(), Certificate(tmp_path / "a.pem").path
    text = f"ssl:0:privateKey={file}"
    endpoints, admins = (
        [("tcp:0", parse_endpoint(REAL, "tcp:0")), (text, parse_endpoint(REAL, text))],
        [(text, parse_endpoint(REAL, text))],
    )
    service = EchoService(Settings(), endpoints, fake, admin_endpoints=admins)
    service.running = True
    service._handle_signals()
    signal.raise_signal(signal.SIGHUP)
    assert lines[0] == "received SIGHUP"
    for line in lines[1:3]:
        assert line.startswith(f"{text} has certificates for localhost until ")
    assert lines[3:] == ["reloaded"]
    file.write_text("broken\n")
    signal.raise_signal(signal.SIGHUP)
    why = f"{text} keeps its old certificates: {file}: there is nothing in PEM format in it"
    assert lines[5:] == [why, why, f"reload failed: {why}"]
    monkeypatch.setattr(service, "_describe_status", lambda: "as it is")
    assert service._status() == f"as it is; reload failed: {why}"
    Certificate(file)
    signal.raise_signal(signal.SIGHUP)
    assert lines[-1] == "reloaded"
    assert service._status() == "as it is"
    assert fake.stops == 0


@pytest_twisted.inlineCallbacks
def test_a_certificate_that_clients_refuse_is_logged(tmp_path: Path, lines: list[str]) -> Generator[Any, Any, None]:
    old = Certificate(tmp_path / "a.pem", age=2, rest=-1)
    text = f"ssl:0:privateKey={old.path}:interface=127.0.0.1"
    service = EchoService(Settings(), [(text, parse_endpoint(REAL, text))], REAL, take_signals=False)
    service.privilegedStartService()
    service.startService()
    try:
        end = old.certificate.not_valid_after_utc
        line = f"{text}: the certificate for localhost until {end:%Y-%m-%d %H:%M} UTC has expired"
        assert lines.count(line) == 1
        assert service.factory is not None
        assert service.factory.certificates() == {(text, "localhost"): end.timestamp()}
        service.reload()
        assert lines.count(line) == 2
        new = Certificate(old.path)
        service.reload()
        assert lines.count(line) == 2
        assert service.factory.certificates() == {(text, "localhost"): new.certificate.not_valid_after_utc.timestamp()}
    finally:
        yield service.stopService()


@pytest_twisted.inlineCallbacks
def test_a_throwaway_certificate_is_left_alone(tmp_path: Path, lines: list[str]) -> Generator[Any, Any, None]:
    """It is reported at start, and nobody is warned of it: it has expired because that was asked for."""
    authority, file = Authority(), tmp_path / "authority.pem"
    texts = ["throwaway:0:interface=127.0.0.1", "throwaway:0:interface=127.0.0.1:fault=expired"]
    endpoints = [(text, parse_endpoint(REAL, text, authority=authority)) for text in texts]
    settings = Settings(authority_file=str(file))
    service = EchoService(settings, endpoints, REAL, take_signals=False, issued=authority.issued)
    service.startService()
    try:
        assert file.read_text() == authority.issued.authority
        names = ", ".join(next(thrown_away(endpoints))[1].names)
        told = [f"{text} has a throwaway certificate for {names}" for text in texts]
        assert [line for line in lines if "throwaway certificate" in line] == [
            f"{told[0]}; trust {file}",
            f"{told[1]}; fault: expired",
        ]
        assert service.factory is not None
        assert service.factory.certificates() == {}
        assert service.factory.pages is not None
        request = PageRequest(b"GET", AUTHORITY_PATH, {})
        assert service.factory.pages(request).body == authority.issued.authority.encode()
        context = ssl.create_default_context(cafile=file)
        client = yield deferToThread(Client, address(lines), context)
        lines.clear()
        service.reload()
        assert lines == ["reloaded"]
        assert (yield deferToThread(client.echo, b"hello")) == b"hello"
        again = yield deferToThread(
            Client, address([f"listening on ws://127.0.0.1:{client.socket.getpeername()[1]}"]), context
        )
        for each in (client, again):
            each.socket.close()
    finally:
        yield service.stopService()


def test_an_authority_file_that_cant_be_written_ends_the_start(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "authority.pem"

    def refused(path: Path) -> str:
        service = EchoService(Settings(authority_file=str(path)), [], REAL, take_signals=False)
        with pytest.raises(CannotStartError):
            service.startService()
        return lines[-1]

    assert refused(tmp_path / "no" / "authority.pem").endswith(" is in a folder that does not exist")
    path.write_text("a key")
    told = f"--authority-file {path} is a file that echod has not written: remove it, or choose another path"
    assert refused(path) == told
    assert path.read_text() == "a key"
    path.unlink()

    monkeypatch.setattr(whole_file, "write", full)
    assert refused(path) == f"can't write --authority-file {path}: No space left on device"


def test_it_serves_when_the_reactor_runs_unless_it_drains_by_then() -> None:
    for is_drained in (False, True):
        fake: Any = FakeReactor()
        calls: list[Any] = []
        fake.callWhenRunning = calls.append
        service = make(reactor=fake)
        service.startService()
        assert service.factory is not None
        assert service.factory.state is State.STARTING
        if is_drained:
            service.stopService()
        for call in calls:
            call()
        assert service.factory.state is (State.DRAINING if is_drained else State.SERVING)


@pytest_twisted.inlineCallbacks
def test_the_start_says_which_families_are_served(lines: list[str]) -> Generator[Any, Any, None]:
    admin = [("tcp:0", parse_endpoint(REAL, "tcp:0"))]
    service = EchoService(
        Settings(), [("tcp:0", parse_endpoint(REAL, "tcp:0"))], REAL, take_signals=False, admin_endpoints=admin
    )
    service.startService()
    (port,) = [line for line in lines if line.startswith("listening on")]
    assert re.fullmatch(r"listening on ws://\[::\]:[0-9]+ \(IPv6 and IPv4\)", port)
    (admin_port,) = [line for line in lines if line.startswith("admin on")]
    assert re.fullmatch(r"admin on http://\[::\]:[0-9]+ \(IPv6 and IPv4\)", admin_port)
    yield service.stopService()
