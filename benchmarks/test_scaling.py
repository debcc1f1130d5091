"""The figures of `benchmarks.scaling` measure what their names say."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from benchmarks import build
from benchmarks.scaling import slab_octets

SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
TCPv6                 26     26   2496   13    8 : tunables    0    0    0
TCP                   10     14   2368   13    8 : tunables    0    0    0
dentry            747075 747075    192   21    1 : tunables    0    0    0
sock_inode_cache      20     39    832   39    8 : tunables    0    0    0
"""


def test_only_the_caches_of_sockets_count() -> None:
    assert slab_octets(SLABINFO) == 10 * 2368 + 20 * 832


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read /proc/slabinfo: run the tests as root")
def test_it_measures() -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.scaling",
        "--connections",
        "200",
        "--many",
        "300",
        "--seconds",
        "4",
        "--interval",
        "0.5",
    ]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    line = r"^(\d+) connections.* KiB in the daemon, .* us for each of ([\d,]+) pings; without any ([\d. +]+) MiB$"
    lines = re.findall(line, done.stdout, re.MULTILINE)
    assert [(int(count), len(memory.split(" + "))) for count, _, memory in lines] == [
        (200, 1),
        (40, 1),
        (200, 3),
        (300, 3),
    ]
    for count, pings, _ in lines:
        assert int(pings.replace(",", "")) >= 2 * int(count), "each client is pinged every half second"
