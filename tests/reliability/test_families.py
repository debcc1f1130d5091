"""A host without IPv6: an endpoint without an interface serves IPv4 there, and logs no error."""

from __future__ import annotations

import socket
import subprocess

from tests.client import Client
from tests.reliability import namespaces
from tests.reliability.daemon import Daemon
from tests.tools import give_up

WITHOUT_IPV6 = ("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")


def test_a_host_without_ipv6() -> None:
    if reason := namespaces.missing():
        give_up(reason)
    with namespaces.wire() as wire:
        subprocess.run([*wire.prefix, *WITHOUT_IPV6], check=True)
        with Daemon(interface="", prefix=wire.prefix) as daemon:
            client = wire.at_client(lambda: Client((namespaces.SERVER_ADDRESS, daemon.port)))
            assert client.echo() == b"hello"
            assert client.socket.family == socket.AF_INET
            client.leave()
