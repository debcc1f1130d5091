"""Debian's HAProxy and nginx with the sample configurations of etc/, in front of real daemons.

A sample is used unchanged except for ports, paths and times. Each value to be replaced must be in the sample.

Knows the proxies' programs, and what their samples expect of echod. Must never know what is sent through them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.daemon import Daemon, wait_until
from tests.ports import held_port
from tests.tls import Certificate
from tests.tools import find_program, give_up, how_to_get, needed

ETC = Path(__file__).parent.parent.parent / "etc"

NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
"""The path of the module in Debian, where it has a package of its own."""


_TOOLS = ETC.parent / ".venv-system" / "bin"


def find_tool(name: str) -> str:
    """Return the path of a tool in requirements.txt, which `make system` installs."""
    found = shutil.which(name, path=f"{_TOOLS}:{os.environ.get('PATH', os.defpath)}")
    return found or give_up(f"no {name}: make system installs it")


def find_python() -> str:
    """Return the path of the Python with the packages of requirements.txt. Another Python may lack them, and may be a
    script that first looks for the real one, which takes long on a busy machine."""
    return shutil.which("python", path=_TOOLS) or give_up("no environment .venv-system: make system installs it")


@dataclass(frozen=True)
class Sample:
    """A sample configuration, and how to start echod behind it."""

    path: Path
    below: str
    """The endpoint of a copy of echod, without its port."""
    options: tuple[str, ...] = ()
    """Further options of a copy."""
    ends_tls: bool = False
    """Whether the proxy ends clients' TLS; otherwise echod does."""
    times: tuple[str, ...] = ()
    """The lines with the idle timeouts, each of 60 s."""

    @property
    def is_nginx(self) -> bool:
        """Whether the sample is for nginx; otherwise it is for HAProxy."""
        return self.path.parent.name == "nginx"

    def missing(self) -> str | None:
        """Return one line that says which program is missing, and how to get it; None if nothing is missing."""
        if find_program(self.program) is None:
            return how_to_get(self.program)
        if self.path.name == "stream.conf" and not NGINX_STREAM.exists():
            return how_to_get("stream module for nginx", "libnginx-mod-stream")
        return None

    @property
    def program(self) -> str:
        """The proxy's program."""
        return self.path.parent.name


_TCP = "tcp:{port}:interface=127.0.0.1"
_TLS = "haproxy:tls:{folder}:port={port}:interface=127.0.0.1"

SAMPLES = {
    "haproxy-http": Sample(ETC / "haproxy/http.cfg", _TCP, ("--trust-proxy", "1"), True, ("timeout tunnel 60s",)),
    "haproxy-http2": Sample(ETC / "haproxy/http2.cfg", _TCP, ("--trust-proxy", "1"), True, ("timeout tunnel 60s",)),
    "haproxy-tcp": Sample(ETC / "haproxy/tcp.cfg", _TLS, times=("timeout client 60s", "timeout server 60s")),
    "nginx-http": Sample(
        ETC / "nginx/http.conf",
        _TCP,
        ("--trust-proxy", "1"),
        True,
        ("proxy_read_timeout 60s", "proxy_send_timeout 60s"),
    ),
    "nginx-stream": Sample(ETC / "nginx/stream.conf", _TLS, times=("proxy_timeout 60s",)),
}


@dataclass
class Front:
    """A context manager: a proxy in front of two ports. The tests start and stop copies of echod at these ports.

    `idle` replaces the sample's idle timeouts. `changes` maps further texts in the sample to their replacements.
    """

    sample: Sample
    certificate: Certificate
    idle: str = "60s"
    changes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the ports, and hold them until the proxy stops."""
        if why := self.sample.missing():
            give_up(why)
        self._holders = ExitStack()
        self.tls_port, self.plain_port, *self.ports = (self._holders.enter_context(held_port()) for _ in range(4))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for clients with TLS."""
        return f"wss://localhost:{self.tls_port}"

    @property
    def tls_address(self) -> tuple[str, int]:
        """Where that is."""
        return "127.0.0.1", self.tls_port

    @property
    def plain_url(self) -> str:
        """The URL for clients without TLS; only for a proxy that ends TLS itself."""
        assert self.sample.ends_tls
        return f"ws://localhost:{self.plain_port}"

    def copy(self, index: int, *options: str, program_options: Sequence[str] = ()) -> Daemon:
        """Return the copy for one of the two ports. The caller starts it."""
        below = self.sample.below.format(port=self.ports[index], folder=self.certificate.path.parent)
        return Daemon(*self.sample.options, *options, ports=[below], program_options=program_options)

    def log(self) -> str:
        """Return the proxy's log so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def __enter__(self) -> Self:
        """Start the proxy, and wait until it listens."""
        self._folder = tempfile.TemporaryDirectory(prefix="echod-proxy-")
        self.folder = Path(self._folder.name)
        self._log_path = self.folder / "log"
        command = self._prepare_nginx() if self.sample.is_nginx else self._prepare_haproxy()
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(self._listens, f"{command[0]} to listen")
        except BaseException as error:
            error.add_note(self.log())
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        if error is not None:
            error.add_note(self.log()[-5000:])
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._folder.cleanup()
            self._holders.close()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the proxy ended by itself"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.tls_port)) == 0

    def _text(self, changes: Mapping[str, str]) -> str:
        text = self.sample.path.read_text()
        times = {line: line.replace("60s", self.idle) for line in self.sample.times}
        ports = {f"127.0.0.1:{8081 + index}": f"127.0.0.1:{port}" for index, port in enumerate(self.ports)}
        for old, new in {**ports, **times, **self.changes, **changes}.items():
            assert old in text, f"{self.sample.path.name} has no {old!r}"
            text = text.replace(old, new)
        return text

    def _prepare_haproxy(self) -> list[str]:
        changes = {
            "log /dev/log local0": "log stdout format raw local0",
            "bind :443": f"bind 127.0.0.1:{self.tls_port}",
        }
        # As many as the test machine may open.
        changes["maxconn 100000"] = "maxconn 1000"
        if self.sample.ends_tls:
            changes |= {
                "bind :80": f"bind 127.0.0.1:{self.plain_port}",
                "/etc/haproxy/echod.pem": str(self.certificate.path),
            }
        (self.folder / "haproxy.cfg").write_text(self._text(changes))
        return [needed("haproxy"), "-f", str(self.folder / "haproxy.cfg")]

    def _prepare_nginx(self) -> list[str]:
        changes = {"listen 443": f"listen 127.0.0.1:{self.tls_port}"}
        if self.sample.ends_tls:
            key = self.folder / "key.pem"
            key.write_bytes(self.certificate.key_pem)
            changes |= {
                "listen 80": f"listen 127.0.0.1:{self.plain_port}",
                "/etc/nginx/echod.pem": str(self.certificate.path),
                "/etc/nginx/echod.key": str(key),
            }
        (self.folder / "sample.conf").write_text(self._text(changes))
        include = f"include {self.folder}/sample.conf;"
        places = [
            f"{name}_temp_path {self.folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ]
        main = [
            *([f"load_module {NGINX_STREAM};"] if NGINX_STREAM.exists() else []),
            *(["user root;"] if os.geteuid() == 0 else []),
            f"daemon off; worker_processes 2; pid {self.folder}/pid; error_log stderr info; events "
            f"{{ worker_connections 500; }}",
            f"http {{ access_log off; {' '.join(places)} {include} }}" if self.sample.ends_tls else include,
        ]
        (self.folder / "nginx.conf").write_text("\n".join(main) + "\n")
        return [needed("nginx"), "-c", str(self.folder / "nginx.conf"), "-p", str(self.folder), "-e", "stderr"]
