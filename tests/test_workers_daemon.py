"""Workers as a user sees them: a real daemon with two workers that serve, die, hang, and end together.

Knows frames, HTTP and processes. Must never import the code that it tests.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests import metrics_text
from tests.client import Client
from tests.daemon import START_DEADLINE, STOP_DEADLINE, Daemon, run, script, wait_until
from tests.frames import CLOSE, Frame, close_payload
from tests.tls import Certificate, trusting

ADMIN = ("--admin", "tcp:0:interface=127.0.0.1")
TWO = ("--workers", "2", *ADMIN)

GOING_AWAY = Frame(CLOSE, close_payload(1001, "going away"))


class InfoClient(Client):
    """A connection to `/info`, which names the process that serves the connection."""

    def __init__(self, target: Any, context: ssl.SSLContext | None = None) -> None:
        super().__init__(target, context, "/info")
        self.process: int = json.loads(self.frame().payload)["process"]


@contextmanager
def clients(daemon: Daemon, count: int) -> Iterator[list[InfoClient]]:
    with ExitStack() as stack:
        found = [InfoClient(daemon.address) for _ in range(count)]
        for client in found:
            stack.enter_context(client.socket)
        yield found


def on_both(daemon: Daemon, count: int = 20) -> Any:
    """Open connections. Of 20, a worker gets none only once in half a million runs."""
    return clients(daemon, count)


def get(daemon: Daemon, path: str) -> tuple[int, str]:
    try:
        with urlopen(daemon.admin_urls[0] + path, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(daemon: Daemon) -> dict[str, float]:
    return metrics_text.samples(get(daemon, "/metrics")[1])


def is_ready(daemon: Daemon) -> bool:
    return get(daemon, "/readyz") == (200, "serving\n")


def workers(daemon: Daemon) -> set[int]:
    """Return the daemon's live child processes."""
    return {int(pid) for pid in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()}


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_two_serve_and_the_load_is_divided() -> None:
    with Daemon(*TWO) as daemon:
        assert is_ready(daemon)
        with clients(daemon, 200) as found:
            by_process = Counter(client.process for client in found)
            assert by_process.keys() == workers(daemon)
            # A fair coin, thrown 200 times, falls outside of this range once in ten billion runs.
            assert min(by_process.values()) > 50
            for client in found:
                assert client.echo() == b"hello"


def test_the_admin_site_adds_up_exactly() -> None:
    with Daemon(*TWO) as daemon, on_both(daemon) as found:
        ended, *open_ = found
        for client in found:
            assert client.echo(b"x" * 10) == b"x" * 10
        ended.close()
        assert ended.frame().opcode == CLOSE
        assert ended.is_lost()
        numbers = samples(daemon)
        assert numbers["echod_connections_open"] == len(open_)
        assert sum(value for name, value in numbers.items() if name.startswith("echod_messages_received_total")) == len(
            found
        )
        assert numbers['echod_closes_total{by="client",code="1000"}'] == 1
        assert numbers['echod_message_size_bytes_sum{type="text"}'] == 10 * len(found)
        assert numbers["echod_buffered_limit_bytes"] == 2**28
        (build,) = (value for name, value in numbers.items() if name.startswith("echod_build_info"))
        assert build == 1
        settings = json.loads(get(daemon, "/settings")[1])
        assert settings["max-connections"] == numbers["echod_connections_limit"]
        pages = [json.loads(get(daemon, f"/connections?per-page=7&page={number}")[1]) for number in (1, 2, 3, 4)]
        assert [(page["total"], page["pages"], len(page["connections"])) for page in pages] == [
            (19, 3, n) for n in (7, 7, 5, 0)
        ]
        listed = [(told["process"], told["peer"]) for page in pages for told in page["connections"]]
        assert sorted(listed) == sorted(
            (client.process, "{}:{}".format(*client.socket.getsockname())) for client in open_
        )
        assert (
            len({process for process, _ in listed[: [process for process, _ in listed].index(listed[-1][0])]}) == 1
        ), "worker by worker"
        status, page = get(daemon, "/")
        assert status == 200
        assert ">19<" in page
        for client in open_:
            client.socket.close()


def test_a_killed_worker_loses_only_its_connections_and_is_replaced() -> None:
    with Daemon(*TWO) as daemon, on_both(daemon) as found:
        for client in found:
            client.echo()
        before = sum(
            value for name, value in samples(daemon).items() if name.startswith("echod_messages_received_total")
        )
        # The parent keeps what the worker has reported.
        victim = found[0].process
        os.kill(victim, signal.SIGKILL)
        daemon.wait_for_log(f"worker {victim} was killed by SIGKILL; the next starts in 100ms")
        for client in found:
            if client.process == victim:
                assert client.is_lost()
            else:
                assert client.echo() == b"hello"
        wait_until(lambda: is_ready(daemon), "the next worker")
        assert len(workers(daemon)) == 2
        assert victim not in workers(daemon)
        with on_both(daemon) as others:
            assert {client.process for client in others} == workers(daemon)
            # Connections that waited at the dead worker's socket were served, and no total has fallen.
            after = sum(
                value for name, value in samples(daemon).items() if name.startswith("echod_messages_received_total")
            )
            survivors = sum(client.process != victim for client in found)
            assert after == before + survivors
        for client in found:
            client.socket.close()


def test_connections_while_a_worker_is_down_are_served_by_another() -> None:
    with Daemon(*TWO) as daemon:
        victim = min(workers(daemon))
        os.kill(victim, signal.SIGKILL)
        with on_both(daemon) as found:
            assert victim not in {client.process for client in found}
        wait_until(lambda: is_ready(daemon), "the next worker")
        with on_both(daemon) as found:
            assert {client.process for client in found} == workers(daemon)


def test_one_signal_drains_all_workers() -> None:
    with Daemon(*TWO, "--drain-timeout", "15s") as daemon, on_both(daemon) as found:
        daemon.send_signal(signal.SIGTERM)
        for client in found:
            assert client.frame() == GOING_AWAY
        assert get(daemon, "/readyz") == (503, "draining\n")
        # Each worker closes its socket in a turn of its own loop.
        wait_until(lambda: is_refused(daemon.address), "the sockets to be closed, before the drain is over", 10)
        for client in found:
            client.close(1001)
            assert client.is_lost()
        assert daemon.wait() == 0
        assert not daemon.log().count("Traceback")


def test_a_second_signal_ends_it_at_once() -> None:
    with Daemon(*TWO, "--drain-timeout", "60s") as daemon, on_both(daemon) as found:
        daemon.send_signal(signal.SIGTERM)
        for client in found:
            assert client.frame() == GOING_AWAY
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0


def test_a_hanging_worker_is_replaced() -> None:
    with Daemon(*TWO) as daemon, on_both(daemon) as found:
        victim = found[0].process
        os.kill(victim, signal.SIGSTOP)
        # Meanwhile the other workers are served, and are asked for their figures.
        assert samples(daemon)["echod_connections_open"] == sum(client.process != victim for client in found)
        daemon.wait_for_log(f"worker {victim} has not answered for 10s; killing it")
        daemon.wait_for_log(f"worker {victim} was killed by SIGKILL")
        wait_until(lambda: is_ready(daemon), "the next worker")
        assert victim not in workers(daemon)
        assert all(client.echo() == b"hello" for client in found if client.process != victim)


def test_a_worker_that_gets_sigterm_drains_and_is_replaced() -> None:
    with Daemon(*TWO) as daemon, on_both(daemon) as found:
        victim = found[0].process
        os.kill(victim, signal.SIGTERM)
        leaving = [client for client in found if client.process == victim]
        for client in leaving:
            assert client.frame() == GOING_AWAY
            client.close(1001)
        daemon.wait_for_log(f"worker {victim} ended; the next starts in 100ms")
        wait_until(lambda: is_ready(daemon), "the next worker")
        assert samples(daemon)['echod_closes_total{by="server",code="1001"}'] == len(leaving)


def test_without_the_parent_the_workers_end() -> None:
    with Daemon(*TWO, "--drain-timeout", "1s") as daemon, on_both(daemon) as found:
        left = [os.pidfd_open(pid) for pid in workers(daemon)]
        daemon.send_signal(signal.SIGKILL)
        for client in found:
            assert client.frame() == GOING_AWAY
        for descriptor in left:
            wait_until(lambda descriptor=descriptor: has_ended(descriptor), "a worker's end")  # type: ignore[misc]
            os.close(descriptor)
        assert daemon.wait() == -signal.SIGKILL


def has_ended(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_all_workers_have_the_same_throwaway_certificate() -> None:
    """So has a worker that takes another's place, and a SIGHUP changes nothing."""
    ports = ("tcp:0:interface=127.0.0.1", "throwaway:0:interface=127.0.0.1")
    with Daemon(*TWO, "--authority-file", "authority.pem", ports=ports) as daemon:
        host, port = daemon.address
        authority = (daemon.folder / "authority.pem").read_text()
        context = trusting(cadata=authority)
        url = urlsplit(daemon.urls[1])

        def look(wanted: int) -> tuple[set[int], set[bytes]]:
            """Return the processes and the certificates that clients see, from `wanted` processes."""
            processes: set[int] = set()
            certificates: set[bytes] = set()
            while len(processes) < wanted:
                client = InfoClient((url.hostname, url.port), context)
                assert client.echo() == b"hello"
                assert isinstance(client.socket, ssl.SSLSocket)
                processes.add(client.process)
                certificates.add(client.socket.getpeercert(binary_form=True) or b"")
                client.socket.close()
                with urlopen(f"http://{host}:{port}/authority.pem", timeout=20) as answer:
                    assert answer.read().decode() == authority
            return processes, certificates

        processes, (certificate,) = look(2)
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_log("reloaded\n")
        assert "keeps its old" not in daemon.log()
        assert look(2) == (processes, {certificate})
        gone = min(processes)
        os.kill(gone, signal.SIGKILL)
        daemon.wait_for_log(f"worker {gone} was killed")
        wait_until(lambda: get(daemon, "/readyz")[0] == 200, "the next worker to serve")
        assert look(2)[1] == {certificate}


def test_tls_and_a_unix_socket_and_new_certificates(tmp_path: Path) -> None:
    first, second = Certificate(tmp_path / "first.pem", rest=12), Certificate(tmp_path / "second.pem")
    expired = Certificate(tmp_path / "expired.pem", ["a.example"], age=2, rest=-1)
    path = str(tmp_path / "socket")
    tls, other = (
        f"{kind}:0:privateKey={each.path}:interface=127.0.0.1"
        for kind, each in (("ssl", first), ("haproxy:ssl", expired))
    )

    def certificates() -> dict[str, float]:
        name = "echod_certificate_not_after_timestamp_seconds"
        return {
            labels.removeprefix(name): value for labels, value in samples(daemon).items() if labels.startswith(name)
        }

    def told(end: Certificate) -> dict[str, float]:
        """The expiry is reported once, and not once for each worker."""
        ends = {(tls, "localhost"): end.certificate, (other, "a.example"): expired.certificate}
        return {
            f'{{endpoint="{port}",names="{names}"}}': each.not_valid_after_utc.timestamp()
            for (port, names), each in ends.items()
        }

    with Daemon(*TWO, *ADMIN, ports=(tls, f"unix:{path}", other)) as daemon:
        assert certificates() == told(first)
        assert daemon.log().count(" has expired") == 1
        processes: set[int] = set()
        for _ in range(20):
            client = InfoClient(daemon.address, first.client())
            processes.add(client.process)
            assert client.echo() == b"hello"
            client.socket.close()
            client = InfoClient(path)
            assert client.echo() == b"hello"
            client.socket.close()
        assert processes == workers(daemon)
        first.path.write_bytes(second.path.read_bytes())
        daemon.send_signal(signal.SIGHUP)
        for pid in workers(daemon):
            daemon.wait_for_log(f"worker {pid}: reloaded")
        assert certificates() == told(second)
        for _ in range(10):
            client = InfoClient(daemon.address, second.client())
            client.socket.close()
        first.path.write_text("broken\n")
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_log(r"\[echod\.service\] reload failed: ")
        for pid in workers(daemon):
            daemon.wait_for_log(f"worker {pid}: reload failed: ")
        first.path.write_bytes(second.path.read_bytes())
        os.kill(min(workers(daemon)), signal.SIGKILL)
        wait_until(lambda: is_ready(daemon) and len(workers(daemon)) == 2, "the next worker")
        assert Path(path).exists()
    assert not Path(path).exists()


def test_a_port_in_use_is_an_error_with_workers_too() -> None:
    with Daemon(*TWO) as daemon:
        for more in ((), ("--workers", "2")):
            command = [*daemon.command[:3], "echod", "--port", f"tcp:{daemon.port}:interface=127.0.0.1", *more]
            done = run(*command, cwd=daemon.folder)
            assert (done.returncode, done.stderr) == (
                1,
                f"echod: can't listen on tcp:{daemon.port}:interface=127.0.0.1: Address already in use\n",
            )


def test_each_failed_start_of_a_worker_is_logged(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "localhost.pem")
    with Daemon(*TWO, ports=[f"ssl:0:privateKey={certificate.path}:interface=127.0.0.1"]) as daemon:
        left, victim = sorted(workers(daemon))
        certificate.path.rename(tmp_path / "elsewhere")
        os.kill(victim, signal.SIGKILL)
        why = r"can't start: --port: /\S+/localhost\.pem: No such file or directory"
        for delay in ("200ms", "400ms", "800ms"):
            daemon.wait_for_log(rf"worker \d+ {why}; the next starts in {delay}\n")
        assert get(daemon, "/readyz") == (503, "starting\n")
        numbers = samples(daemon)
        assert (numbers["echod_workers_serving"], numbers["echod_workers_wanted"]) == (1, 2)
        assert left in workers(daemon)
        # The kernel keeps giving half of the connections to the ended worker's socket. The other worker serves these,
        # too.
        with ExitStack() as stack:
            for _ in range(40):
                client = InfoClient(daemon.address, certificate.client())
                stack.enter_context(client.socket)
                assert client.process == left
                assert client.echo() == b"hello"
        (tmp_path / "elsewhere").rename(certificate.path)
        wait_until(lambda: is_ready(daemon), "the next worker")
        client = InfoClient(daemon.address, certificate.client())
        # This client's worker serves until its drain ends. The other worker serves its sockets meanwhile.
        with client.socket:
            os.kill(client.process, signal.SIGTERM)
            assert client.frame() == GOING_AWAY
            for _ in range(20):
                other = InfoClient(daemon.address, certificate.client())
                with other.socket:
                    assert other.process != client.process
        wait_until(lambda: is_ready(daemon), "the next worker")
        assert daemon.stop() < STOP_DEADLINE
        assert is_refused(daemon.address)


def test_relative_paths_begin_where_the_daemon_was_started(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # `Daemon` starts the daemon in a folder of its own.
    relative = Certificate(tmp_path / "a.pem").path.relative_to(tempfile.gettempdir())
    port = f"ssl:0:privateKey=../{relative}:interface=127.0.0.1"
    with Daemon(*TWO, ports=[port], program_options=(f"--rundir={elsewhere}",)) as daemon:
        assert is_ready(daemon)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_with_closed_standard_streams_a_worker_gets_dev_null(closed: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [
        script("twistd"),
        "-n",
        "--pidfile=",
        f"--logfile={log}",
        "echod",
        "--port",
        "tcp:0:interface=127.0.0.1",
        "--workers",
        "2",
    ]
    with subprocess.Popen(["sh", "-c", f'exec "$@" {closed}', "sh", *command], cwd=tmp_path) as daemon:
        try:
            wait_until(lambda: log.exists() and "for each of 2 workers" in log.read_text(), "the workers")
            children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
            assert len(children) == 2
            for child in children:
                found = [os.readlink(f"/proc/{child}/fd/{number}") for number in range(closed.count("&"))]
                assert set(found) == {os.devnull}
        finally:
            daemon.terminate()
        assert daemon.wait(STOP_DEADLINE) == 0


@pytest.mark.parametrize("when", ["starting", "serving", "standing still"])
def test_workers_end_with_their_parent(when: str) -> None:
    with Daemon("--workers", "2") as daemon:
        if when == "starting":
            os.kill(max(workers(daemon)), signal.SIGKILL)
            daemon.wait_for_log("the next starts in")
            wait_until(lambda: len(workers(daemon)) == 2, "the next worker")
        ends = [os.pidfd_open(pid) for pid in workers(daemon)]
        try:
            if when == "standing still":
                for end in ends:
                    signal.pidfd_send_signal(end, signal.SIGSTOP)
            daemon.send_signal(signal.SIGKILL)
            assert daemon.wait() == -signal.SIGKILL
            if when == "standing still":
                for end in ends:
                    signal.pidfd_send_signal(end, signal.SIGCONT)
            for end in ends:
                assert select.select([end], [], [], STOP_DEADLINE)[0], "a worker is left"
        finally:
            for end in ends:
                os.close(end)


LOAD_FOR_EVER = """
import os, time
if "ECHOD_WORKER" in os.environ:
    time.sleep(3600)
"""


def test_a_signal_while_workers_start_ends_all_and_is_all_that_systemd_hears(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LOAD_FOR_EVER)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(START_DEADLINE)
        command = [
            script("twistd"),
            "-n",
            "--pidfile=",
            "echod",
            "--port",
            "tcp:0:interface=127.0.0.1",
            "--workers",
            "2",
        ]
        command += ["--drain-timeout", "1m"]
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PYTHONPATH": path}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as daemon:
            assert daemon.stdout is not None
            assert any("listening on" in line for line in daemon.stdout)
            wait_until(
                lambda: Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text(), "a worker that starts"
            )
            daemon.terminate()
            told = [manager.recv(4096).decode(), manager.recv(4096).decode()]
            daemon.communicate(timeout=STOP_DEADLINE)
            assert daemon.returncode == 0
        assert told[0].startswith("EXTEND_TIMEOUT_USEC=")
        assert told[1].startswith("STOPPING=1\n")
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: run the tests as root")
def test_a_failed_first_start_is_an_error(tmp_path: Path) -> None:
    # The parent reads the key as root, the workers as nobody.
    certificate = Certificate(tmp_path / "localhost.pem")
    certificate.path.chmod(0o600)
    port = f"ssl:0:privateKey={certificate.path}:interface=127.0.0.1"
    done = run(
        script("twistd"), "-n", "--pidfile=", "--uid=65534", "echod", "--port", port, "--workers", "2", cwd=tmp_path
    )
    assert done.returncode == 1, done.stdout
    # If nobody may not even run the tests' Python, the error is that a worker can't start.
    why = (
        rf"(?:worker \d+ can't start: --port: {re.escape(str(certificate.path))}|a worker can't start): "
        r"Permission denied"
    )
    assert re.fullmatch(rf"echod: {why}\n", done.stderr)
    assert re.search(why, done.stdout)
    assert "Traceback" not in done.stdout


def test_a_failed_first_start_is_an_error_under_twist(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nif 'ECHOD_WORKER' in os.environ: os._exit(3)\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = run(
        script("twist"), "echod", "--port", "tcp:0:interface=127.0.0.1", "--workers", "2", cwd=tmp_path, env=environment
    )
    assert done.returncode == 1, done.stdout
    assert re.fullmatch(r"echod: worker \d+ ended with exit status 3\n", done.stderr)


def test_each_process_reports_its_own_figures() -> None:
    with Daemon(*TWO) as daemon:
        lines = get(daemon, "/metrics")[1].splitlines()
        opened = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("process_open_fds")}
        assert opened.keys() == {"process_open_fds", 'process_open_fds{worker="0"}', 'process_open_fds{worker="1"}'}
        assert all(opened.values())


def test_messages_are_logged_by_every_worker() -> None:
    with Daemon(*TWO, "--log-messages", "--log-format", "json") as daemon, on_both(daemon) as found:
        for client in found:
            client.echo(b"{braces} \xc3\xa4")
        for pid in workers(daemon):
            message = rf'"message": "worker {pid}: #({pid}-[0-9]+): recv text: {{braces}} ä"'
            daemon.wait_for_log(message + r', "connection": "\1", "event": "message", "type": "text", "length": 11')


def test_frames_are_logged_by_every_worker() -> None:
    with Daemon(*TWO, "--log-frames", "--log-format", "json") as daemon, on_both(daemon) as found:
        for client in found:
            client.echo(b"{braces}")
        for pid in workers(daemon):
            message = rf'"message": "worker {pid}: #({pid}-[0-9]+): in text fin masked length=8: {{braces}}"'
            daemon.wait_for_log(message + r', "connection": "\1", "event": "frame", "direction": "in", "opcode": 1')


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_run_under_twist_and_daemonized(number: signal.Signals) -> None:
    with Daemon("--workers", "2", program="twist") as daemon, on_both(daemon) as found:
        assert len({client.process for client in found}) == 2
        for client in found:
            client.socket.close()
        daemon.stop(number)
    with Daemon("--workers", "2", is_daemonized=True) as daemon, on_both(daemon) as found:
        assert len({client.process for client in found}) == 2
        for client in found:
            client.socket.close()
        daemon.stop(number)
