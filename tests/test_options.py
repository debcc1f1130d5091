"""The command line: every value that is right becomes a setting, every other one line and exit status 1."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from echod import __version__
from echod.options import Options, makeService
from echod.service import EchoService
from echod.settings import Compression, LogFormat, Settings
from tests.tls import Certificate


def parse(*arguments: str) -> Settings:
    options = Options({})
    options.parseOptions(list(arguments))
    return options.settings


def test_without_options_all_is_as_the_settings_say() -> None:
    assert parse() == Settings()


def test_every_option_is_a_setting() -> None:
    settings = parse(
        *["-p", "tcp:0", "--port", "tcp:1:interface=127.0.0.1", "--max-message-size", "1GiB", "--max-buffered", "64KiB"],
        *["--max-connections", "10", "--max-connections-per-address", "2", "--origin", "https://a", "--origin", "https://*.b"],
        *["--trust-proxy", "2", "--compression", "off", "--ping-interval", "0", "--ping-timeout", "1m", "--handshake-timeout", "250ms"],
        *["--close-timeout", "1.5s", "--drain-timeout", "3", "--no-faults", "--log-messages", "--log-format", "json", "--no-console"],
    )
    assert settings == Settings(
        ports=("tcp:0", "tcp:1:interface=127.0.0.1"),
        max_message_size=2**30,
        max_buffered=2**16,
        max_connections=10,
        max_connections_per_address=2,
        origins=("https://a", "https://*.b"),
        trust_proxy=2,
        compression=Compression.OFF,
        ping_interval=0,
        ping_timeout=60,
        handshake_timeout=0.25,
        close_timeout=1.5,
        drain_timeout=3,
        has_faults=False,
        has_console=False,
        log_messages=True,
        log_format=LogFormat.JSON,
    )
    assert settings.message_limit == 2**15


WRONG = [
    ("--max-message-size", "16M"),
    ("--max-message-size", "0"),
    ("--max-message-size", "-1"),
    ("--max-message-size", "1025GiB"),
    ("--max-message-size", "١"),  # noqa: RUF001  # a digit, but not one of ours
    ("--max-buffered", ""),
    ("--max-buffered", "63KiB"),
    ("--max-connections", "0"),
    ("--max-connections", "many"),
    ("--trust-proxy", "-1"),
    ("--trust-proxy", "yes"),
    ("--compression", "gzip"),
    ("--log-format", "xml"),
    ("--ping-interval", "5h"),
    ("--ping-interval", "1000000s"),
    ("--handshake-timeout", "-5s"),
    ("--close-timeout", "0"),
    ("--port", "no such endpoint"),
    ("--port", "tcp:port"),
    ("--port", "tcp:1:2:3:4:5"),
    ("--port", "haproxy:no"),
    ("--port", "ssl:8443:privateKey=/no/such/file.pem"),
    ("--port", "tls:/no/such/folder:port=0"),
    ("--port", ""),
    ("--no-such-option", None),
    ("argument", None),
]


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


def test_a_certificate_that_is_there(certificate: Certificate) -> None:
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


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse("--version")
    assert not exit_.value.code
    assert capsys.readouterr().out == f"echod {__version__}\n"


def test_help_names_every_option_with_its_default() -> None:
    text = " ".join(str(Options()).split())
    for words in ("--port= Twisted server ENDPOINT", "[tcp:8080]", "[16MiB]", "[256MiB]", "[20s]", "--log-messages", "--origin="):
        assert words in text


def test_a_service_is_made() -> None:
    options = Options()
    options.parseOptions(["--port", "tcp:0"])
    assert isinstance(makeService(options), EchoService)
