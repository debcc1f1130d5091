"""Real proxies with the sample configurations of etc/, in front of real daemons: Debian's HAProxy, nginx and nghttpx,
and Envoy.

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
from tests.system import nspawn
from tests.tls import Certificate
from tests.tools import find_program, give_up, how_to_get, needed

ETC = Path(__file__).parent.parent.parent / "etc"

NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
"""The path of the module in Debian, where it has a package of its own."""


_TOOLS = ETC.parent / ".venv-system" / "bin"


def look_for_tool(name: str) -> str | None:
    """Return the path of a tool in requirements.txt, which `make system` installs."""
    return shutil.which(name, path=f"{_TOOLS}:{os.environ.get('PATH', os.defpath)}")


def find_tool(name: str) -> str:
    """Return the path of such a tool, or give up."""
    return look_for_tool(name) or give_up(f"no {name}: make system installs it")


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
    is_over_http2: bool = False
    """Whether the proxy speaks HTTP/2 to the copies."""
    tries_again: bool = True
    """Whether the proxy passes a handshake that a full copy refuses to another copy."""
    release: str | None = None
    """The Debian release whose package of the program runs; None: this host's."""

    @property
    def is_nginx(self) -> bool:
        """Whether the sample is for nginx."""
        return self.program == "nginx"

    def missing(self) -> str | None:
        """Return one line that says which program is missing, and how to get it; None if nothing is missing."""
        if self.release is not None:
            return nspawn.missing()
        if self.program == "envoy":
            return None if look_for_tool("envoy") else "no envoy: make system installs it"
        if find_program(self.program) is None:
            return how_to_get(self.program, _PACKAGES.get(self.program))
        if self.path.name == "stream.conf" and not NGINX_STREAM.exists():
            return how_to_get("stream module for nginx", "libnginx-mod-stream")
        return None

    @property
    def program(self) -> str:
        """The proxy's program."""
        return self.path.parent.name


_TCP = "tcp:{port}:interface=127.0.0.1"
_TLS = "haproxy:tls:{folder}:port={port}:interface=127.0.0.1"
_TRUST = ("--trust-proxy", "1")

_PACKAGES = {"nghttpx": "nghttp2-proxy"}
"""Debian's packages, where a name differs from that of the program."""

_ADDRESSES = {"nghttpx": "127.0.0.1,{}", "envoy": "port_value: {}"}
"""How a sample writes the address of a copy with the port, where that is not `127.0.0.1:{}`."""

SAMPLES = {
    "haproxy-http": Sample(ETC / "haproxy/http.cfg", _TCP, _TRUST, True, ("timeout tunnel 60s",)),
    "haproxy-http2": Sample(ETC / "haproxy/http2.cfg", _TCP, _TRUST, True, ("timeout tunnel 60s",), is_over_http2=True),
    "haproxy3-http2": Sample(
        ETC / "haproxy/http2.cfg",
        _TCP,
        _TRUST,
        True,
        ("timeout tunnel 60s",),
        is_over_http2=True,
        release="trixie",
    ),
    "haproxy-tcp": Sample(ETC / "haproxy/tcp.cfg", _TLS, times=("timeout client 60s", "timeout server 60s")),
    "nginx-http": Sample(
        ETC / "nginx/http.conf",
        _TCP,
        _TRUST,
        True,
        ("proxy_read_timeout 60s", "proxy_send_timeout 60s"),
    ),
    "nginx-stream": Sample(ETC / "nginx/stream.conf", _TLS, times=("proxy_timeout 60s",)),
    "nghttpx-http2": Sample(
        ETC / "nghttpx/http2.conf",
        _TCP,
        _TRUST,
        True,
        ("frontend-read-timeout=60s", "frontend-http2-read-timeout=60s", "backend-read-timeout=60s"),
        is_over_http2=True,
        tries_again=False,
    ),
    "envoy-http2": Sample(
        ETC / "envoy/http2.yaml", _TCP, _TRUST, True, ("stream_idle_timeout: 60s",), is_over_http2=True
    ),
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
    def plain_address(self) -> tuple[str, int]:
        """Where clients without TLS connect; only for a proxy that ends TLS itself."""
        assert self.sample.ends_tls
        return "127.0.0.1", self.plain_port

    @property
    def plain_url(self) -> str:
        """The URL for these clients."""
        return f"ws://localhost:{self.plain_address[1]}"

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
        prepare = {
            "haproxy": self._prepare_haproxy,
            "nginx": self._prepare_nginx,
            "nghttpx": self._prepare_nghttpx,
            "envoy": self._prepare_envoy,
        }
        command = prepare[self.sample.program]()
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
        status = self._process.poll()
        assert status is None, f"the proxy ended by itself with {status}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.tls_port)) == 0

    def _text(self, changes: Mapping[str, str]) -> str:
        text = self.sample.path.read_text()
        times = {line: line.replace("60s", self.idle) for line in self.sample.times}
        address = _ADDRESSES.get(self.sample.program, "127.0.0.1:{}")
        ports = {address.format(8081 + index): address.format(port) for index, port in enumerate(self.ports)}
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
        # If the root is read-only, nspawn can show a folder only inside of what it provides itself, such as /run.
        shown = self.folder if self.sample.release is None else Path("/run/proxy")
        if self.sample.ends_tls:
            shutil.copyfile(self.certificate.path, self.folder / "echod.pem")
            changes |= {
                "bind :80": f"bind 127.0.0.1:{self.plain_port}",
                "/etc/haproxy/echod.pem": str(shown / "echod.pem"),
            }
        (self.folder / "haproxy.cfg").write_text(self._text(changes))
        words = ["-f", str(shown / "haproxy.cfg")]
        if self.sample.release is None:
            return [needed("haproxy"), *words]
        root = nspawn.base(self.sample.release, ("haproxy",))
        folder = f"--bind-ro={self.folder}:{shown}"
        return [*nspawn.command_line(root, "--read-only", folder, has_network=True), "/usr/sbin/haproxy", *words]

    def _prepare_nginx(self) -> list[str]:
        changes = {"listen 443": f"listen 127.0.0.1:{self.tls_port}"}
        if self.sample.ends_tls:
            changes |= {"listen 80": f"listen 127.0.0.1:{self.plain_port}", **self._certificate_and_key()}
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

    def _prepare_nghttpx(self) -> list[str]:
        changes = {
            "frontend=*,443": f"frontend=127.0.0.1,{self.tls_port}",
            "frontend=*,80": f"frontend=127.0.0.1,{self.plain_port}",
        }
        (self.folder / "sample.conf").write_text(self._text({**changes, **self._certificate_and_key()}))
        return [needed("nghttpx"), f"--conf={self.folder / 'sample.conf'}"]

    def _prepare_envoy(self) -> list[str]:
        changes = {
            "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {self.tls_port}",
            "address: 0.0.0.0, port_value: 80 ": f"address: 127.0.0.1, port_value: {self.plain_port} ",
        }
        (self.folder / "sample.yaml").write_text(self._text({**changes, **self._certificate_and_key()}))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return [find_tool("envoy"), "-c", str(self.folder / "sample.yaml"), *options]

    def _certificate_and_key(self) -> dict[str, str]:
        """Return what replaces a sample's paths of a certificate and its key."""
        key = self.folder / "key.pem"
        key.write_bytes(self.certificate.key_pem)
        place = f"/etc/{self.sample.program}/echod"
        return {f"{place}.pem": str(self.certificate.path), f"{place}.key": str(key)}
