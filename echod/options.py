"""The command line: `echod serve` and `twistd echod` turn the same options into a `Settings`. Every bad value is one
line and exit status 1.

Knows the options, their values, and the programs of Twisted (twistd and twist) that echod may run under. Must never
decide what a value does.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage

from echod import __version__
from echod.core import output
from echod.core.budget import READ_SIZE
from echod.core.log import Limiter, LogFormat, stderr_line
from echod.core.quantities import (
    KIB,
    format_duration,
    format_size,
    parse_count,
    parse_duration,
    parse_positive_duration,
    parse_size,
)
from echod.faults.query import FaultError, check_version, names_in
from echod.faults.query import parse as parse_query
from echod.faults.table import CAPS, PARAMETERS
from echod.help import make_parser
from echod.lane import native
from echod.net import proxy_header
from echod.net.endpoints import parse_endpoint
from echod.net.tls import endpoint as tls_endpoint
from echod.net.tls.pem import FileFault
from echod.net.tls.throwaway import Authority, is_own_authority
from echod.run import log_place, ready, report, signals, systemd, whole_file
from echod.run.process import folder_fault, pid_file_fault
from echod.run.service import EchoService
from echod.run.workers.launch import make_command, make_environment, twist
from echod.run.workers.role import Role, take_role
from echod.run.workers.supervisor import Supervisor
from echod.run.workers.to_parent import make_log, tell_refusal
from echod.run.workers.worker import Worker
from echod.settings import Compression, Http2Mode, Settings, parse_choice
from echod.upstream import clock, endpoints, names

MAX_WORKERS = 256
"""More workers are a typing mistake."""

LEAST_HEAD = KIB
"""Bytes. A browser's own fields take some 600."""

MOST_HEAD = 64 * KIB
"""Bytes. A head is checked in one turn of the event loop, which takes 0.6 ms for this size, and 10 ms if the whole head
offers extensions."""


def parse_buffer_size(text: str) -> int:
    """Return a size in bytes that is at least one read; raises `ValueError`."""
    size = parse_size(text)
    if size < READ_SIZE:
        raise ValueError(f"is less than {format_size(READ_SIZE)}, the size of one read")
    return size


def parse_head_size(text: str) -> int:
    """Return a size in bytes that is allowed for a request head; raises `ValueError`."""
    size = parse_size(text)
    if not LEAST_HEAD <= size <= MOST_HEAD:
        raise ValueError(f"is not between {format_size(LEAST_HEAD)} and {format_size(MOST_HEAD)}")
    return size


def parse_hops(text: str) -> int:
    """Return a number of hops; raises `ValueError`."""
    if not re.fullmatch("[0-9]{1,3}", text):
        raise ValueError("is not a whole number")
    return int(text)


def parse_workers(text: str) -> int:
    """Return a number of processes; `auto` is the number of usable processors; raises `ValueError`."""
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        workers = parse_count(text)
    except ValueError as error:
        raise ValueError(f"{error}, and not auto") from None
    if workers > MAX_WORKERS:
        raise ValueError(f"is more than {MAX_WORKERS}")
    return workers


def parse_host(text: str) -> str:
    """Return a host name in lower case and without a final dot; raises `ValueError`."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", text):
        raise ValueError("is not a host name without a port, such as echod.example.com")
    return text.lower().removesuffix(".")


def parse_path(text: str) -> str:
    """Return the absolute path of a file: twistd may change its directory before the file is written. Raises
    `ValueError`."""
    if not text:
        raise ValueError("is no path of a file")
    return str(Path(text).absolute())


def parse_authority_file(text: str) -> str:
    """Return the absolute path of a file; raises `ValueError`, also for what elsewhere means standard output."""
    if text == ready.STANDARD_OUTPUT:
        raise ValueError("is no path of a file: only --ready-file can be standard output, and has the certificate, too")
    return parse_path(text)


def parse_ready_file(text: str) -> str:
    """Return the absolute path of a file, or `-`; raises `ValueError`."""
    return text if text == ready.STANDARD_OUTPUT else parse_path(text)


HTTP2_LIMITS: Mapping[str, Callable[[str], Any]] = {
    "max-header-list": parse_head_size,
    "max-continuations": parse_count,
    "max-setting-entries": parse_count,
    "max-settings": parse_count,
    "max-pings": parse_count,
    "max-resets": parse_count,
    "max-empty": parse_count,
    "max-window-updates": parse_count,
    "max-priorities": parse_count,
    "flood-time": parse_positive_duration,
}
"""The limits that `--http2-limit` sets, and what parses the value of each."""


def parse_http2_limit(text: str) -> tuple[str, Any]:
    """Return the name of a setting and its value; raises `ValueError`."""
    name, equals, value = text.partition("=")
    if name not in HTTP2_LIMITS or not equals:
        raise ValueError(f"is not NAME=VALUE, with one of these names: {', '.join(HTTP2_LIMITS)}")
    return name.replace("-", "_"), HTTP2_LIMITS[name](value)


def parse_fault(text: str) -> str:
    """Return a query of known parameters, without its `?`; raises `ValueError`. Their values depend on other
    options."""
    query = text.removeprefix("?")
    unknown = names_in(query) - PARAMETERS.keys()
    if unknown or not query:
        raise ValueError("is not a query of known parameters, such as close=1001&after=3")
    return query


def parse_cap(text: str) -> tuple[str, float]:
    """Return a setting that caps faults, and its stricter value; raises `ValueError`.

    The defaults are the largest for which no connection takes long or much from the others, so no cap can be looser.
    """
    name, equals, value = text.partition("=")
    setting = name.replace("-", "_")
    if name not in FAULT_CAPS or not equals:
        raise ValueError(f"is not NAME=VALUE, with one of these names: {', '.join(FAULT_CAPS)}")
    default = getattr(_DEFAULT, setting)
    is_duration = isinstance(default, float)
    cap: float = parse_positive_duration(value) if is_duration else parse_size(value)
    if cap < default if name.startswith("min-") else cap > default:
        raise ValueError(f"is not as strict as {format_duration(default) if is_duration else format_size(default)}")
    return setting, cap


_DEFAULT = Settings()

_VALUES: dict[str, tuple[Callable[[str], Any], str]] = {
    "authority-file": (
        parse_authority_file,
        "PATH of a file to write: the certificate of the authority of throwaway: endpoints [none]",
    ),
    "max-message-size": (
        parse_size,
        f"maximum SIZE of a message; a longer one gets close code 1009 [{format_size(_DEFAULT.max_message_size)}]",
    ),
    "max-buffered": (
        parse_buffer_size,
        "maximum SIZE of unfinished and unsent messages that all connections hold together "
        f"[{format_size(_DEFAULT.max_buffered)}]",
    ),
    "max-connections": (
        parse_count,
        "maximum NUMBER of connections; excess connections get HTTP 503 [what RLIMIT_NOFILE allows]",
    ),
    "max-connections-per-address": (
        parse_count,
        "maximum NUMBER of connections from one IP address; excess connections get HTTP 429 [none]",
    ),
    "max-request-head": (
        parse_head_size,
        f"maximum SIZE of a request head; a longer one gets HTTP 431 [{format_size(_DEFAULT.max_request_head)}]",
    ),
    "trust-proxy": (
        parse_hops,
        f"NUMBER of X-Forwarded-For hops to trust, counted from the nearest proxy [{_DEFAULT.trust_proxy}]",
    ),
    "compression": (
        partial(parse_choice, Compression),
        f"MODE of permessage-deflate: mirror, deflate or off [{_DEFAULT.compression}]",
    ),
    "http2": (
        partial(parse_choice, Http2Mode),
        f"MODE of HTTP/2: on, off, or no-websocket for HTTP/2 without WebSockets over it [{_DEFAULT.http2}]",
    ),
    "max-streams": (
        parse_count,
        f"maximum NUMBER of open streams of one HTTP/2 connection; excess streams are refused [{_DEFAULT.max_streams}]",
    ),
    "http2-idle": (
        parse_duration,
        "DURATION that an HTTP/2 connection may have no stream, before it gets GOAWAY; 0 disables the limit "
        f"[{format_duration(_DEFAULT.http2_idle)}]",
    ),
    "fault": (
        parse_fault,
        "QUERY whose parameters every connection has that its own URL does not name, such as bad=masked [none]",
    ),
    "ping-interval": (
        parse_duration,
        "DURATION of silence after which the server sends a ping; 0 disables pings "
        f"[{format_duration(_DEFAULT.ping_interval)}]",
    ),
    "ping-timeout": (
        parse_duration,
        "DURATION of silence after a ping until the server drops the connection; 0 disables the timeout "
        f"[{format_duration(_DEFAULT.ping_timeout)}]",
    ),
    "handshake-timeout": (
        parse_duration,
        "maximum DURATION of the opening handshake, including TLS; 0 disables the timeout "
        f"[{format_duration(_DEFAULT.handshake_timeout)}]",
    ),
    "close-timeout": (
        parse_positive_duration,
        "maximum DURATION of a close; it restarts whenever the client takes bytes "
        f"[{format_duration(_DEFAULT.close_timeout)}]",
    ),
    "max-close-time": (
        parse_positive_duration,
        "maximum DURATION of a close during which the client keeps taking bytes "
        f"[{format_duration(_DEFAULT.max_close_time)}]",
    ),
    "drain-timeout": (
        parse_duration,
        f"maximum DURATION from SIGTERM to the end of the process [{format_duration(_DEFAULT.drain_timeout)}]",
    ),
    "log-frames-rate": (
        parse_count,
        "maximum NUMBER of lines a second, for --log-frames, of each kind: openings, answers, frames and ends "
        f"[{_DEFAULT.log_frames_rate}]",
    ),
    "log-format": (
        partial(parse_choice, LogFormat),
        f"FORMAT of a log line: text, json or journal [{_DEFAULT.log_format}]",
    ),
    "ready-file": (
        parse_ready_file,
        "PATH of a file, or - for standard output, that gets one JSON object once every endpoint listens [none]",
    ),
    "workers": (
        parse_workers,
        f"NUMBER of serving processes, or auto for one per processor [{_DEFAULT.workers}]",
    ),
}
"""The options that take one value: what parses the value, and the option's help."""


FAULT_CAPS = tuple(name for name in (cap.replace("_", "-") for cap in CAPS) if name not in _VALUES)
"""The caps that `--fault-cap` sets. One of the others has an option of its own."""

HANDLED: Mapping[str, str] = {
    "port": "ENDPOINT to listen on; `systemd`: its sockets, the default if there are any; may be repeated [tcp:8080]",
    "admin": "ENDPOINT of the admin site: metrics, readiness, live connections; may be repeated [none]",
    "admin-host": (
        "extra NAME of the admin site, beside IP addresses and localhost; others: HTTP 421; may be repeated [none]"
    ),
    "http2-limit": "LIMIT of what an HTTP/2 client may do, such as max-resets=100; may be repeated [none]",
    "fault-cap": "CAP of faults to make stricter, such as max-bomb=16MiB; may be repeated [none]",
    "origin": ("PATTERN of an allowed Origin, such as https://*.example.com; others: HTTP 403; may be repeated [any]"),
    "help": "show this help and exit",
    "version": "show the version and exit",
}
"""The help of the options that have a method. Twisted takes it from docstrings, which `python -OO` removes."""


def _tell_and_exit(text: str) -> NoReturn:
    sys.exit(output.write(f"{text}\n", sys.stdout, sys.__stderr__))


class Options(usage.Options):
    """What `twistd echod --help` shows."""

    synopsis = "[options]"

    command = "twistd -n echod"
    """What the examples of the help begin with."""

    # The value None stands for the default in `Settings`, which the help shows.
    optParameters = [[name, None, None, text] for name, (_, text) in _VALUES.items()]  # noqa: RUF012
    optFlags = [  # noqa: RUF012
        ["no-faults", None, "ignore the fault parameters of a URL, such as ?delay=250ms [off]"],
        ["no-console", None, "answer a plain GET with HTTP 426 instead of the console page [off]"],
        ["log-frames", None, "log a line for each opening handshake, frame and end of a connection [off]"],
        ["log-messages", None, "log a line for each message [off]"],
        ["validate", None, "read the options, endpoints and certificates, then exit with status 0 or 1"],
    ]

    handled = HANDLED

    role: Role | None = None
    """The role of this process if it is a worker."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self.environment = environment
        super().__init__()
        self.docs.update(self.handled)
        self["port"] = []
        self["admin"] = []
        self["admin-host"] = []
        self["origin"] = []
        self["http2-limit"] = []
        self["fault-cap"] = []

    def opt_port(self, endpoint: str) -> None:
        """Add an endpoint to listen on."""
        self["port"].append(endpoint)

    opt_p = opt_port

    def opt_admin(self, endpoint: str) -> None:
        """Add an endpoint of the admin site."""
        self["admin"].append(endpoint)

    def opt_admin_host(self, name: str) -> None:
        """Add a name of the admin site."""
        self["admin-host"].append(name)

    def opt_origin(self, pattern: str) -> None:
        """Add a pattern of allowed origins."""
        self["origin"].append(pattern)

    def opt_http2_limit(self, limit: str) -> None:
        """Add a limit of HTTP/2."""
        self["http2-limit"].append(limit)

    def opt_fault_cap(self, cap: str) -> None:
        """Add a cap of faults."""
        self["fault-cap"].append(cap)

    def getUsage(self, width: int | None = None) -> str:  # noqa: ARG002  # argparse finds it out
        """Return the help."""
        parser, _ = self.described()
        return "\n" + parser.format_help()

    def described(self) -> tuple[argparse.ArgumentParser, dict[str, argparse.Action]]:
        """Return a parser that describes the options and parses nothing, and what it has for each option."""
        flags = [name for name in self.longOpt if not name.endswith("=")]
        short = {name: letter for letter, name in self.synonyms.items() if len(letter) == 1}
        return make_parser(self.command, self.docs, flags, short)

    def opt_help(self) -> NoReturn:
        """Show this help and exit."""
        _tell_and_exit(str(self))

    opt_h = opt_help

    def opt_version(self) -> NoReturn:
        """Show the version and exit."""
        _tell_and_exit(f"echod {__version__}")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse. A wrong option is one line on standard error and exit status 1; twistd itself would exit with 0."""
        self.arguments = list(options or ())
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if self.role is None:
                stderr_line(f"echod: {error}")
            else:
                tell_refusal(str(error))
            sys.exit(1)

    def parseArgs(self, *args: str) -> None:
        """Refuse arguments."""
        if args:
            raise usage.UsageError(f"{args[0]} is not an option, and echod takes no arguments")

    def postOptions(self) -> None:
        """Check every value while a mistake can still be reported in one line."""
        from twisted.internet import reactor  # noqa: PLC0415  # --reactor has installed its choice only now

        self.reactor = reactor
        self.role = take_role(self.environment)
        if (fault := names.fault()) is not None:
            raise usage.UsageError(fault)
        clock.make_monotonic(reactor)
        if self.role is None:
            self._be_daemon()
        else:
            self._be_worker(self.role)
        try:
            self.native = native.load(self.settings.native)
        except native.NativeError as error:
            raise usage.UsageError(str(error)) from error
        if self["validate"]:
            self._report_validity()

    def _report_validity(self) -> NoReturn:
        for text, certificates in tls_endpoint.served((*self.endpoints, *self.admin_endpoints)):
            for identity, fault in report.certificate_faults(certificates):
                # The daemon starts with such a certificate, too.
                stderr_line(f"echod: {text}: the certificate for {identity} {fault}")
        _tell_and_exit("echod: the options, and the files that they name, are valid")

    def program_of_workers(self) -> Sequence[str]:
        """Return the program that runs a worker, as words after `python -m`."""
        return twist(self.reactor)

    def _be_worker(self, role: Role) -> None:
        signals.end_with_parent()
        # The user of the daemon may not be allowed to enter the folder; absolute paths may work nevertheless.
        with suppress(OSError):
            os.chdir(role.folder)
        self.settings = self._make_settings(_DEFAULT.ports).share(role.index)
        self.issued = role.issued
        authority = Authority(role.issued)
        self.endpoints = [
            (
                text,
                self._checked(
                    "port", text, partial(parse_endpoint, self.reactor, descriptor=descriptor, authority=authority)
                ),
            )
            for text, descriptor in role.ports
        ]
        self.log, observer = make_log()
        log_place.put(self.parent, observer)
        self.observer: Limiter | None = observer

    def _be_daemon(self) -> None:
        for name in ("fault", "fault-cap"):
            if self["no-faults"] and self[name]:
                raise usage.UsageError(f"--{name} has no effect with --no-faults")
        sockets = endpoints.passed_descriptors()
        # By default echod serves what systemd listens on: connections to a socket that nobody serves wait for ever.
        self.settings = self._make_settings((systemd.ALL,) if sockets else _DEFAULT.ports)
        self._check_folders()
        self._check_files_to_write()
        self._check_shares()
        authority = Authority()
        self.endpoints = self._make_endpoints(
            "port",
            authority,
            [
                text
                for given in self._judged(self.settings.ports, sockets)
                for text in self._checked(
                    "port", given, lambda given: systemd.expand(given, sockets, proxy_header.PREFIX)
                )
            ],
        )
        self.admin_endpoints = self._make_endpoints("admin", authority, self._judged(self.settings.admins, sockets))
        self.issued = authority.issued
        if self.settings.authority_file is not None and not self.issued.authority:
            raise usage.UsageError("--authority-file needs a throwaway: endpoint, such as --port throwaway:8443")
        self._check_sockets(sockets)
        if self["validate"]:  # a daemon that runs in this folder has a pid file and a log, and keeps both
            self._use_log(log_place.check)
        else:
            self._check_pid_file()
            self.notifier = systemd.take(self.environment)
            self.observer = self._take_log()

    def _judged(self, texts: Sequence[str], sockets: Sequence[int]) -> Sequence[str]:
        """Return the endpoints to judge: all, or with --validate those that need no sockets from systemd.

        systemd passes sockets to the service, and not to what its unit runs beside it.
        """
        if sockets or not self["validate"]:
            return texts
        kinds = {text: text.removeprefix(proxy_header.PREFIX).partition(":")[0] for text in texts}
        return [text for text, kind in kinds.items() if kind != systemd.ALL]

    def _make_endpoints(
        self, name: str, authority: Authority, texts: Sequence[str]
    ) -> list[tuple[str, IStreamServerEndpoint]]:
        parse = partial(parse_endpoint, self.reactor, authority=authority)
        return [(text, self._checked(name, text, parse)) for text in texts]

    def _check_pid_file(self) -> None:
        twistd: Any = self.parent or {}  # or twist, which has no pid file
        name = twistd.get("pidfile")
        if name and not twistd.get("chroot") and (fault := pid_file_fault(Path(name))) is not None:
            raise usage.UsageError(
                f"the pid file {Path(name).absolute()} {fault}, or start twistd with --pidfile= for none"
            )

    def _check_faults(self, settings: Settings) -> Settings:
        """Check what every connection is to have. If HTTP/2 does not have it, let clients open their WebSockets over
        HTTP/1.1, where they meet it: over HTTP/2 each of them would be refused."""
        if settings.min_ping > settings.max_ping:
            raise usage.UsageError("--fault-cap min-ping is more than max-ping")
        try:
            asked = parse_query("", settings)
        except FaultError as error:
            raise usage.UsageError(f"--fault {settings.fault!r} is refused: {error}") from None
        try:
            check_version(asked, "2")
        except FaultError:
            return settings if self["http2"] else replace(settings, http2=Http2Mode.NO_WEBSOCKET)
        return settings

    def _check_folders(self) -> None:
        twistd: Any = self.parent or {}  # or twist, which changes no folder
        chroot, rundir = twistd.get("chroot"), twistd.get("rundir")
        if chroot and self.settings.workers > 1:
            raise usage.UsageError(
                "--workers can't be used with twistd's --chroot: the new root has no Python to start a worker with"
            )
        if (fault := folder_fault(chroot, rundir)) is not None:
            raise usage.UsageError(fault)

    def _check_files_to_write(self) -> None:
        if self.has_output_taken and log_place.is_in_background(self.parent):
            raise usage.UsageError("--ready-file -: twistd without -n has no standard output")
        twistd: Any = self.parent or {}
        chroot = twistd.get("chroot") or ""
        taken: dict[Path, str] = {}
        for name, path, is_own in (
            ("ready-file", self.settings.ready_file, ready.is_own),
            ("authority-file", self.settings.authority_file, is_own_authority),
        ):
            if path is None or path == ready.STANDARD_OUTPUT:
                continue
            place = Path(f"{chroot}{path}")
            if (fault := whole_file.fault(place, is_own)) is not None:
                raise usage.UsageError(f"--{name} {path} {fault}")
            # A link at the path itself would be replaced, and not followed.
            other = taken.setdefault(place.parent.resolve() / place.name, name)
            if other != name:
                raise usage.UsageError(f"--{name} {path} is the file of --{other}; each needs a file of its own")

    @property
    def has_output_taken(self) -> bool:
        """Whether standard output is for the ready file, and the log has to go to standard error."""
        return self.settings.ready_file == ready.STANDARD_OUTPUT

    def _check_shares(self) -> None:
        settings = self.settings
        if settings.max_connections is not None and settings.max_connections < settings.workers:
            raise usage.UsageError(
                f"--max-connections {settings.max_connections} is less than one for each of {settings.workers} workers"
            )
        if settings.workers > 1 and settings.max_buffered // settings.workers < READ_SIZE:
            least = format_size(settings.workers * READ_SIZE)
            raise usage.UsageError(
                f"--max-buffered is less than {least}, the size of one read for each of {settings.workers} workers"
            )

    def _check_sockets(self, sockets: Sequence[int]) -> None:
        # The wrapper for the PROXY protocol hides the endpoint that it wraps.
        texts = [text.removeprefix(proxy_header.PREFIX) for text, _ in (*self.endpoints, *self.admin_endpoints)]
        served = Counter(
            endpoints.adopted_descriptor(parse_endpoint(self.reactor, text))
            for text in texts
            if text.startswith("systemd:")
        )
        for index, socket in enumerate(sockets):
            if served[socket] != 1:
                passed = f"socket {index} from systemd"
                raise usage.UsageError(
                    f"more than one --port serves {passed}"
                    if served[socket]
                    else f"no --port serves {passed}; add --port systemd"
                )

    def _make_settings(self, ports: tuple[str, ...]) -> Settings:
        values = {
            name.replace("-", "_"): self._checked(name, self[name], parse)
            for name, (parse, _) in _VALUES.items()
            if self[name] is not None
        }
        settings = Settings(
            ports=tuple(self["port"]) or ports,
            admins=tuple(self["admin"]),
            admin_hosts=tuple(self._checked("admin-host", name, parse_host) for name in self["admin-host"]),
            origins=tuple(self["origin"]),
            has_faults=not self["no-faults"],
            has_console=not self["no-console"],
            log_messages=bool(self["log-messages"]),
            log_frames=bool(self["log-frames"]),
            native=self.environment.get("ECHOD_NATIVE"),
            **values,
            **dict(self._checked("http2-limit", limit, parse_http2_limit) for limit in self["http2-limit"]),
            **dict(self._checked("fault-cap", cap, parse_cap) for cap in self["fault-cap"]),
        )
        return self._check_faults(settings)

    def _checked(self, name: str, text: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(text)
        except FileFault as error:
            raise usage.UsageError(f"--{name}: {error}") from error
        except ValueError as error:
            raise usage.UsageError(f"--{name} {text!r} {error}") from error

    def _take_log(self) -> Limiter | None:
        """Return the observer for the log, if a program of Twisted or this one writes it."""
        return self._use_log(
            partial(
                log_place.take,
                log_format=self.settings.log_format,
                output=sys.stderr if self.has_output_taken else sys.stdout,
            )
        )

    def _use_log(self, use: Callable[..., Limiter | None]) -> Limiter | None:
        try:
            return use(self.parent, is_chosen=self["log-format"] is not None, arguments=sys.argv)
        except ValueError as error:
            raise usage.UsageError(str(error)) from error


def makeService(options: Options) -> IService:
    """Return the service for `options`."""
    common = (options.settings, options.endpoints, options.reactor, options.observer, options.native)
    if options.role is not None:
        return Worker(*common, log=options.log, role=options.role, issued=options.issued)
    of_daemon: dict[str, Any] = {
        "admin_endpoints": options.admin_endpoints,
        "notifier": options.notifier,
        "issued": options.issued,
        "ready_file": ready.ReadyFile(options.settings.ready_file),
    }
    if options.settings.workers == 1:
        return EchoService(*common, **of_daemon)
    return Supervisor(
        *common,
        **of_daemon,
        command=make_command(options.program_of_workers(), options.arguments),
        environment=make_environment(options.environment),
    )
