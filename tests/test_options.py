"""The command line: every right value becomes a setting; every wrong one leads to one line and exit status 1."""

from __future__ import annotations

import io
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.endpoints import _SystemdParser
from twisted.logger import Logger
from twisted.python.systemd import ListenFDs

from echod import __version__
from echod.core.log import Limiter, LogFormat
from echod.core.quantities import MIB
from echod.net.tls.endpoint import thrown_away
from echod.net.tls.throwaway import Authority, Wanted
from echod.options import Options, makeService, parse_cap, parse_http2_limit
from echod.run.process import pid_file_fault
from echod.run.service import EchoService
from echod.run.workers.role import VARIABLE, Role
from echod.run.workers.supervisor import Supervisor
from echod.run.workers.worker import Worker
from echod.settings import Compression, Http2Mode, Settings
from tests.tls import Certificate


def parse(*arguments: str) -> Settings:
    options = Options({})
    options.parseOptions(list(arguments))
    return options.settings


def test_without_options_all_settings_have_their_defaults() -> None:
    assert parse() == Settings()


def test_every_option_is_a_setting() -> None:
    settings = parse(
        *[
            "-p",
            "tcp:0",
            "--port",
            "tcp:1:interface=127.0.0.1",
            "--port",
            "throwaway:4",
            "--max-message-size",
            "1GiB",
            "--max-buffered",
            "192KiB",
        ],
        *[
            "--admin",
            "tcp:2",
            "--admin",
            "tcp:3:interface=127.0.0.1",
            "--admin-host",
            "echod",
            "--admin-host",
            "A.example.",
        ],
        *[
            "--max-connections",
            "10",
            "--max-connections-per-address",
            "2",
            "--origin",
            "https://a",
            "--origin",
            "https://*.b",
        ],
        *[
            "--max-request-head",
            "64KiB",
            "--trust-proxy",
            "2",
            "--compression",
            "off",
            "--http2",
            "no-websocket",
            "--max-streams",
            "1",
            "--http2-idle",
            "5m",
            "--http2-limit",
            "max-resets=9",
            "--http2-limit",
            "max-resets=10",
            "--http2-limit",
            "max-header-list=2KiB",
            "--http2-limit",
            "flood-time=1m",
            "--ping-interval",
            "0",
            "--ping-timeout",
            "1m",
            "--handshake-timeout",
            "250ms",
        ],
        *[
            "--close-timeout",
            "1.5s",
            "--max-close-time",
            "2m",
            "--drain-timeout",
            "3",
            "--workers",
            "3",
            "--no-faults",
            "--log-messages",
            "--log-frames",
            "--log-frames-rate",
            "9",
            "--log-format",
            "json",
            "--no-console",
            "--authority-file",
            "/dev/shm/authority.pem",
            "--ready-file",
            "/dev/shm/ready.json",
        ],
    )
    assert settings == Settings(
        ports=("tcp:0", "tcp:1:interface=127.0.0.1", "throwaway:4"),
        admins=("tcp:2", "tcp:3:interface=127.0.0.1"),
        admin_hosts=("echod", "a.example"),
        max_message_size=2**30,
        max_buffered=3 * 2**16,
        max_connections=10,
        max_connections_per_address=2,
        origins=("https://a", "https://*.b"),
        max_request_head=2**16,
        trust_proxy=2,
        compression=Compression.OFF,
        http2=Http2Mode.NO_WEBSOCKET,
        max_streams=1,
        http2_idle=300,
        max_resets=10,
        max_header_list=2048,
        flood_time=60,
        ping_interval=0,
        ping_timeout=60,
        handshake_timeout=0.25,
        close_timeout=1.5,
        max_close_time=120,
        drain_timeout=3,
        workers=3,
        has_faults=False,
        has_console=False,
        log_messages=True,
        log_frames=True,
        log_frames_rate=9,
        log_format=LogFormat.JSON,
        authority_file="/dev/shm/authority.pem",
        ready_file="/dev/shm/ready.json",
    )
    assert settings.message_limit == 2**15


WRONG = [
    ("--log-frames-rate", "0"),
    ("--max-message-size", "16M"),
    ("--max-message-size", "0"),
    ("--max-message-size", "-1"),
    ("--max-message-size", "1025GiB"),
    ("--max-message-size", "١"),  # noqa: RUF001  # a digit, but not an ASCII one
    ("--max-buffered", ""),
    ("--max-buffered", "63KiB"),
    ("--max-connections", "0"),
    ("--max-connections", "many"),
    ("--max-request-head", "1023"),
    ("--max-request-head", "65537"),
    ("--max-request-head", "big"),
    ("--trust-proxy", "-1"),
    ("--trust-proxy", "yes"),
    ("--compression", "gzip"),
    ("--http2", "yes"),
    ("--max-streams", "0"),
    ("--http2-idle", "-1s"),
    ("--http2-limit", "max-resets"),
    ("--http2-limit", "max-resets=0"),
    ("--http2-limit", "max-header-list=65KiB"),
    ("--http2-limit", "flood-time=0"),
    ("--http2-limit", "max-frame=16KiB"),
    ("--http2-limit", "max-streams=1"),
    ("--fault", "delay=soon"),
    ("--fault", "dealy=1s"),
    ("--fault", ""),
    ("--fault", "fragment=20000000"),
    ("--fault-cap", "max-bomb"),
    ("--fault-cap", "max-bomb=big"),
    ("--fault-cap", "max-bomb=2GiB"),
    ("--fault-cap", "max-delay=0"),
    ("--fault-cap", "max-delay=61s"),
    ("--fault-cap", "min-ping=99ms"),
    ("--fault-cap", "max-message-size=1KiB"),
    ("--fault-cap", "max-connections=1"),
    ("--log-format", "xml"),
    ("--workers", "0"),
    ("--workers", "many"),
    ("--workers", "257"),
    ("--ping-interval", "5h"),
    ("--ping-interval", "1000000s"),
    ("--handshake-timeout", "-5s"),
    ("--close-timeout", "0"),
    ("--max-close-time", "0"),
    ("--port", "no such endpoint"),
    ("--port", "tcp:port"),
    ("--port", "tcp:1:2:3:4:5"),
    ("--port", "haproxy:no"),
    ("--port", "ssl:8443:privateKey=/no/such/file.pem"),
    ("--port", "tls:/no/such/folder:port=0"),
    ("--port", ""),
    ("--port", "throwaway:"),
    ("--port", "throwaway:0:fault=none"),
    ("--authority-file", ""),
    ("--authority-file", "-"),
    ("--authority-file", "authority.pem"),
    ("--admin", "no such endpoint"),
    ("--admin", "tcp:port"),
    ("--admin", "ssl:8443:privateKey=/no/such/file.pem"),
    ("--admin", ""),
    ("--admin-host", ""),
    ("--admin-host", "echod.example.com:9090"),
    ("--admin-host", "*.example.com"),
    ("--admin-host", "http://echod"),
    ("--ready-file", ""),
    ("--ready-file", "/no/such/folder/ready.json"),
    ("--ready-file", "/dev/null"),
    ("--no-such-option", None),
    ("argument", None),
]


@pytest.mark.parametrize(("read", "name"), [(parse_http2_limit, "max-resets"), (parse_cap, "max-bomb")])
def test_a_name_without_a_value(read: Callable[[str], object], name: str) -> None:
    with pytest.raises(ValueError, match=r"^is not NAME=VALUE, with one of these names: "):
        read(name)


def test_a_query_for_every_connection() -> None:
    assert parse("--fault", "close=1001&after=3").fault == "close=1001&after=3"
    assert parse("--fault", "?header=X-A:b&header=X-C:d").fault == "header=X-A:b&header=X-C:d"


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ((), Http2Mode.NO_WEBSOCKET),
        (("--http2", "off"), Http2Mode.OFF),
        (("--http2", "on"), Http2Mode.ON),
    ],
)
@pytest.mark.parametrize("query", ["accept=wrong", "delay=1s&without=upgrade", "head=bare-lf"])
def test_websockets_come_over_http_1_1_if_http_2_does_not_have_the_fault(
    words: tuple[str, ...], mode: Http2Mode, query: str
) -> None:
    assert parse("--fault", query, *words).http2 is mode


@pytest.mark.parametrize("query", ["bad=masked", "goaway", "head=nul"])
def test_websockets_come_over_http_2_if_it_has_the_fault(query: str) -> None:
    assert parse("--fault", query).http2 is Http2Mode.ON


def test_stricter_caps() -> None:
    caps = ("max-bomb=16MiB", "max-after=5", "max-stall=250ms", "min-ping=1s", "max-ping=1s")
    settings = parse(*(word for cap in caps for word in ("--fault-cap", cap)))
    assert (settings.max_bomb, settings.max_after, settings.max_stall) == (16 * MIB, 5, 0.25)
    assert (settings.min_ping, settings.max_ping) == (1, 1)
    assert settings.max_delay == Settings().max_delay


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fault", "delay=1s", "--no-faults"], "--fault has no effect with --no-faults"),
        (["--fault-cap", "max-bomb=1MiB", "--no-faults"], "--fault-cap has no effect with --no-faults"),
        (["--fault-cap", "min-ping=2s", "--fault-cap", "max-ping=1s"], "--fault-cap min-ping is more than max-ping"),
        (
            ["--fault", "delay=2s", "--fault-cap", "max-delay=1s"],
            "--fault 'delay=2s' is refused: the parameter delay is not within 0s and 1s",
        ),
        (["--fault-cap", "max-bomb=2GiB"], "--fault-cap 'max-bomb=2GiB' is not as strict as 1GiB"),
    ],
)
def test_faults_that_can_never_happen(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit):
        parse(*words)
    assert err.getvalue() == f"echod: {message}\n"


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_a_wrong_option_is_one_line_and_exit_status_1(
    option: str, value: str | None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit) as exit_:
        parse(*[option] if value is None else [option, value])
    assert exit_.value.code == 1
    assert err.getvalue().startswith("echod: ")
    assert err.getvalue().count("\n") == 1
    assert option.lstrip("-") in err.getvalue()
    assert capfd.readouterr().out == ""


def refusal(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return the message about a wrong command line."""
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit):
        parse(*arguments)
    return err.getvalue()


@pytest.mark.parametrize("option", ["--port", "--admin"])
def test_a_port_that_is_no_endpoint_is_one_line(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = f"echod: {option} '9000' is not a server endpoint: a port is tcp:9000\n"
    assert refusal(monkeypatch, option, "9000") == told


@pytest.mark.parametrize("option", ["--port", "--admin"])
@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest.mark.parametrize(
    "text",
    [
        "ssl:0:privateKey={0}",
        "ssl:0:privateKey={1}:certKey={0}",
        "tls:{0}:port=0",
        "tls:{2}:port=0:clientCa={0}",
        "ssl:0:privateKey={1}:clientCa={0}",
    ],
)
def test_a_missing_file_is_named(
    text: str, prefix: str, option: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.pem").write_bytes(certificate.path.read_bytes())
    missing = tmp_path / "none"
    told = refusal(monkeypatch, option, prefix + text.format(missing, certificate.path, tmp_path / "folder"))
    assert told == f"echod: {option}: {missing}: No such file or directory\n"


def test_an_existing_certificate(certificate: Certificate) -> None:
    parse("--port", f"ssl:8443:privateKey={certificate.path}")


def test_a_bad_place_for_the_log_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    options = Options()
    parent: Any = {"logfile": str(tmp_path / "no" / "log")}
    options.parent = parent
    with pytest.raises(SystemExit):
        options.parseOptions([])
    assert err.getvalue().startswith("echod: can't write the log: ")


def test_the_path_of_the_ready_file_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("--ready-file", "ready.json").ready_file == str(tmp_path / "ready.json")
    assert parse("--ready-file", "-").ready_file == "-"


@pytest.mark.parametrize("name", ["ready-file", "authority-file"])
def test_a_file_that_can_not_be_written_is_a_usage_error(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    path, words = tmp_path / "in" / "file", ["--port", "throwaway:0", "--validate"]
    with pytest.raises(SystemExit):
        Options({}).parseOptions([*words, f"--{name}", str(path)])
    assert err.getvalue() == f"echod: --{name} {path} is in a folder that does not exist\n"


@pytest.mark.parametrize("more", [(), ("--validate",)])
def test_two_files_at_one_path_are_a_usage_error(
    more: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second one would overwrite the first."""
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    (tmp_path / "link").symlink_to(tmp_path)
    paths = tmp_path / "same", tmp_path / "link" / "same"
    words = ["--port", "throwaway:0", "--ready-file", str(paths[0]), "--authority-file", str(paths[1]), *more]
    with pytest.raises(SystemExit) as ended:
        Options({}).parseOptions(words)
    assert ended.value.code == 1
    told = f"echod: --authority-file {paths[1]} is the file of --ready-file; each needs a file of its own\n"
    assert err.getvalue() == told


def test_with_a_chroot_the_files_are_written_there(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "null").touch()
    (tmp_path / "only-there").mkdir()
    options = Options({})
    parent: Any = {"nodaemon": True, "chroot": str(tmp_path)}
    options.parent = parent
    options.parseOptions(["--port", "tcp:0", "--ready-file", "/only-there/ready.json"])
    assert options.settings.ready_file == "/only-there/ready.json"


@pytest.mark.parametrize("is_in_background", [False, True])
def test_in_the_background_there_is_no_standard_output(is_in_background: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setattr("sys.__stderr__", err)
    options = Options({})
    parent: Any = {"nodaemon": not is_in_background}
    options.parent = parent
    with pytest.raises(SystemExit) if is_in_background else nullcontext():
        options.parseOptions(["--ready-file", "-"])
        assert options.observer is not None
        Logger(namespace="here", observer=options.observer).info("hello")
    told = "echod: --ready-file -: twistd without -n has no standard output\n"
    assert err.getvalue().endswith(told if is_in_background else " [here] hello\n")
    assert out.getvalue() == ""


FOREIGN = 1
"""The id of a running process that is not this one."""


@pytest.mark.parametrize(("more", "is_told"), [({}, True), ({"chroot": "/"}, False), ({"pidfile": ""}, False)])
def test_a_pid_file_in_the_way_is_a_usage_error(
    more: dict[str, str], is_told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    path = tmp_path / "twistd.pid"
    path.write_text(str(FOREIGN))
    options = Options()
    parent: Any = {"pidfile": str(path), "nodaemon": True, **more}
    options.parent = parent
    if is_told:
        with pytest.raises(SystemExit):
            options.parseOptions([])
        fault = pid_file_fault(path)
        assert err.getvalue() == f"echod: the pid file {path} {fault}, or start twistd with --pidfile= for none\n"
    else:
        options.parseOptions([])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse("--version")
    assert not exit_.value.code
    assert capsys.readouterr().out == f"echod {__version__}\n"


VALID = "echod: the options, and the files that they name, are valid\n"


def test_validation_reads_all_and_exits_with_0(certificate: Certificate, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"NOTIFY_SOCKET": "/no/such/socket"}
    options = Options(environment)
    parent: Any = {"pidfile": __file__, "logfile": "/no/such/folder/log"}  # neither is the validation's to use
    options.parent = parent
    words = ("--port", f"ssl:0:privateKey={certificate.path}", "--admin", "tcp:0", "--validate")
    with pytest.raises(SystemExit) as exit_:
        options.parseOptions(words)
    assert not exit_.value.code
    assert capsys.readouterr().out == VALID
    assert environment


def test_validation_tells_which_certificates_clients_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon starts with them, so the status is 0."""
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    expired = Certificate(tmp_path / "expired.pem", age=2, rest=-1)
    text = f"ssl:0:privateKey={expired.path}"
    with pytest.raises(SystemExit) as exit_:
        parse("--admin", text, "--validate")
    assert not exit_.value.code
    assert capsys.readouterr().out == VALID
    assert re.fullmatch(f"echod: {text}: the certificate for localhost .* has expired\n", err.getvalue())


@pytest.mark.parametrize("port", ["systemd", "haproxy:systemd", "systemd:domain=INET:index=0"])
def test_validation_needs_no_sockets_of_the_service(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse("--port", port, "--admin", port, "--validate")
    assert not exit_.value.code
    assert "'tcp:no'" in refusal(monkeypatch, "--validate", "--port", port, "--port", "tcp:no")


def test_validation_finds_what_contradicts_the_options_of_twistd(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    options = Options({})
    parent: Any = {"syslog": True}
    options.parent = parent
    with pytest.raises(SystemExit):
        options.parseOptions(["--validate", "--log-format", "json"])
    assert err.getvalue() == "echod: --log-format can't be combined with twistd's --logger or --syslog\n"


@pytest.mark.parametrize("words", [("--log-format", "xml"), ("--port", "tcp:no"), ("--port", "ssl:0:privateKey=/no")])
def test_validation_finds_mistakes(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert words[0] in refusal(monkeypatch, "--validate", *words)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_output(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(option)
    assert not exit_.value.code
    assert "--max-connections NUMBER" in capsys.readouterr().out


def test_help_names_every_option_with_its_default() -> None:
    text = " ".join(str(Options()).split())
    for words in (
        "--port ENDPOINT endpoint to listen on",
        "[tcp:8080]",
        "[16MiB]",
        "[256MiB]",
        "[20s]",
        "--log-messages",
        "--origin PATTERN",
    ):
        assert words in text


def test_a_service_is_made() -> None:
    options = Options()
    options.parseOptions(["--port", "tcp:0"])
    assert isinstance(makeService(options), EchoService)


def test_all_throwaway_endpoints_have_the_same_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options({})
    ports = ["throwaway:0", "haproxy:throwaway:0:fault=expired"]
    options.parseOptions(
        ["--port", ports[0], "--port", ports[1], "--admin", "throwaway:1", "--authority-file", "authority.pem"]
    )
    assert options.settings.authority_file == str(tmp_path / "authority.pem")
    assert options.issued.authority.count("BEGIN CERTIFICATE") == 1
    assert list(options.issued.identities) == ["throwaway:0", "throwaway:0:fault=expired", "throwaway:1"]
    assert cast(Any, makeService(options)).issued == options.issued


# Workers.


def test_as_many_workers_as_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3, 4})
    assert parse("--workers", "auto").workers == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, workers in ((5, 5), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert parse("--workers", "auto").workers == workers


def test_with_workers_there_is_another_service() -> None:
    options = Options({})
    options.parseOptions(["--workers", "2", "--port", "tcp:0"])
    service = makeService(options)
    assert isinstance(service, Supervisor)
    assert service._command[-4:] == ["--workers", "2", "--port", "tcp:0"]


def test_a_worker_has_a_service_of_its_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        authority = Authority()
        authority.serve("throwaway:8080", Wanted())
        ports = (("haproxy:throwaway:8080", passed.fileno()), ("unix:/run/echod", unix.fileno()))
        role = Role(1, ports, issued=authority.issued)
        environment = {VARIABLE: role.encode()}
        options = Options(environment)
        twist: Any = {}
        options.parent = twist
        options.parseOptions(["--workers", "2", "--max-connections", "5", "--max-buffered", "1MiB", "--admin", "tcp:0"])
        assert not environment
        assert (options.settings.max_connections, options.settings.max_buffered) == (2, 2**19)
        assert [text for text, _ in options.endpoints] == ["haproxy:throwaway:8080", "unix:/run/echod"]
        ((_, throwaway),) = thrown_away(options.endpoints)
        assert throwaway.certificate == authority.serve("throwaway:8080", Wanted()).certificate
        assert isinstance(twist["fileLogObserverFactory"](None), Limiter)
        service = makeService(options)
        assert isinstance(service, Worker)
        assert service.issued == authority.issued


def test_a_worker_tells_its_parent_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr("echod.options.tell_refusal", told.append)
    missing = "ssl:8443:privateKey=/nowhere/key.pem"
    options = Options({VARIABLE: Role(0, ((missing, 0),)).encode()})
    twist: Any = {}
    options.parent = twist
    with pytest.raises(SystemExit) as ended:
        options.parseOptions(["--workers", "2", "--port", missing])
    assert ended.value.code == 1
    assert told == ["--port: /nowhere/key.pem: No such file or directory"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "twistd", "told"),
    [
        (["--max-connections", "1"], {}, "--max-connections 1 is less than one for each of 2 workers"),
        (
            ["--max-buffered", "100KiB"],
            {},
            "--max-buffered is less than 128KiB, the size of one read for each of 2 workers",
        ),
        (
            [],
            {"chroot": "/srv"},
            "--workers can't be used with twistd's --chroot: the new root has no Python to start a worker with",
        ),
    ],
)
def test_limits_that_workers_can_not_share_are_refused(
    words: list[str], twistd: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    options = Options({})
    options.parent = twistd
    with pytest.raises(SystemExit):
        options.parseOptions(["--workers", "2", *words])
    assert err.getvalue() == f"echod: {told}\n"


@pytest.mark.parametrize(("made", "is_refused"), [((), True), (("dev",), True), (("dev", "dev/null"), False)])
def test_a_chroot_without_what_twisted_needs_is_refused(
    made: Sequence[str], is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in made:
        (tmp_path / name).mkdir()
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    options = Options({})
    options.parent = cast(Any, {"chroot": str(tmp_path), "logfile": None, "syslog": False, "nodaemon": True})
    with pytest.raises(SystemExit) if is_refused else nullcontext():
        options.parseOptions([])
    assert err.getvalue() == (f"echod: --chroot {tmp_path}: Twisted needs a dev/null there\n" if is_refused else "")


@pytest.mark.parametrize("chroot", [None, "/"])
def test_a_missing_rundir_is_one_line(chroot: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    options = Options({})
    options.parent = cast(Any, {"chroot": chroot, "rundir": str(tmp_path / "no")})
    with pytest.raises(SystemExit):
        options.parseOptions([])
    assert err.getvalue() == f"echod: --rundir {tmp_path}/no: there is no such folder\n"


# Sockets that systemd passes.


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Yield listening sockets of two families that are passed to this process."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        sockets = [tcp, unix]
        monkeypatch.setattr(
            _SystemdParser, "_sddaemon", ListenFDs([found.fileno() for found in sockets], ["first", "second"])
        )
        yield sockets


@pytest.mark.parametrize(
    "ports",
    [
        [],
        ["systemd"],
        ["haproxy:systemd"],
        ["systemd", "tcp:0"],
        ["systemd:domain=INET:index=0", "haproxy:systemd:domain=UNIX:name=second"],
    ],
)
def test_passed_sockets_are_served(ports: list[str], passed: list[socket.socket]) -> None:
    options = Options({})
    options.parseOptions([word for port in ports for word in ("--port", port)])
    texts = [text for text, _ in options.endpoints]
    assert [text for text in texts if "systemd:domain=" in text][: len(passed)] == texts[: len(passed)]
    assert len(texts) == 3 if "tcp:0" in ports else 2


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        (["tcp:0"], "no --port serves socket 0 from systemd; add --port systemd"),
        (
            ["systemd:domain=INET:index=0"],
            "no --port serves socket 1 from systemd; add --port systemd",
        ),
        (
            ["systemd", "systemd:domain=UNIX:index=1"],
            "more than one --port serves socket 1 from systemd",
        ),
        (
            ["systemd:domain=UNIX:index=2"],
            "--port 'systemd:domain=UNIX:index=2' is not a server endpoint: systemd passed no such socket",
        ),
        (
            ["haproxy:systemd:domain=INET:name=x"],
            "--port 'haproxy:systemd:domain=INET:name=x' is not a server endpoint: systemd passed no such socket",
        ),
        (
            ["systemd:domain=UNIX:name=x"],
            "--port 'systemd:domain=UNIX:name=x' is not a server endpoint: systemd passed no such socket",
        ),
    ],
)
@pytest.mark.usefixtures("passed")
def test_each_passed_socket_is_served_once(ports: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit):
        parse(*[word for port in ports for word in ("--port", port)])
    assert err.getvalue() == f"echod: {told}\n"


def test_systemd_needs_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit):
        parse("--port", "systemd")
    assert err.getvalue() == "echod: --port 'systemd' has no sockets: systemd passed none to this process\n"


def test_the_environment_is_read_and_cleared() -> None:
    environment = {"NOTIFY_SOCKET": "/no/such/socket", "LISTEN_FDNAMES": "a:b", "ECHOD_NATIVE": "0"}
    options = Options(environment)
    options.parseOptions([])
    assert environment == {"ECHOD_NATIVE": "0"}


def test_a_wrong_choice_of_the_express_lane_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    with pytest.raises(SystemExit):
        Options({"ECHOD_NATIVE": "yes"}).parseOptions([])
    assert err.getvalue() == "echod: ECHOD_NATIVE=yes: expected 1 (required), 0 (off), or unset (used when built)\n"
