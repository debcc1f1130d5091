"""The README and docs/architecture.md stay true: options and defaults, limits, the line to try, the targets of make, the rooms.

Knows how the README's tables are written. What echod does is for other tests; here it only must say the same.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from echod import log, ws_url
from echod.check import INTERRUPTED
from echod.options import Options
from echod.probe import MAX_SIZE, Outcome, Plan
from echod.quantities import format_duration, format_size
from echod.settings import Settings
from tests.daemon import Daemon
from tests.test_layout import ROOMS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

FOR_EVERYONE = (
    "docs/architecture.md",
    "docs/compression.md",
    "docs/console.png",
    "docs/metrics.md",
    "docs/operating.md",
    "docs/packaging.md",
    "docs/performance.md",
    "docs/proxies.md",
    "docs/scaling.md",
    "docs/url.md",
    "LICENSE",
)


def section(title: str) -> str:
    """The text under a heading."""
    _, _, rest = README.partition(f"\n## {title}\n")
    assert rest, f"there is no section {title!r}"
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables in `text`; a `\\|` is no border."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def option_rows() -> dict[str, str]:
    """The default of each option, as the README has it."""
    found = {}
    for cells in rows(section("Options")):
        if name := re.search(r"`--([a-z-]+)[ `]", cells[0]):
            found[name[1]] = cells[1]
    return found


def default(option: str) -> str:
    """An option's default as the README is to write it; nothing for one that only prints."""
    plural = {"port": "ports", "origin": "origins", "admin": "admins"}
    if option.startswith("no-"):
        return "off" if getattr(Settings(), option.replace("no-", "has_", 1)) else "on"
    value = getattr(Settings(), plural.get(option, option).replace("-", "_"), "")
    match value:
        case None:
            return "from `RLIMIT_NOFILE`" if option == "max-connections" else "none"
        case tuple():
            return ", ".join(value) or ("any" if option == "origin" else "none")
        case bool():
            value = "on" if value else "off"
        case float():
            value = format_duration(value)
        case int():
            value = format_size(value)
    return str(value)


def test_the_table_has_every_option_with_its_default() -> None:
    names = {name.rstrip("=") for name in Options().longOpt}
    assert option_rows() == {name: default(name) for name in names}


def test_the_limits_are_those_in_force() -> None:
    settings = Settings()
    limits = {cells[0]: cells[1:] for cells in rows(section("Limits"))}
    for cells in limits.values():
        for option in re.findall(r"`--([a-z-]+)`", cells[1]):
            assert default(option) in cells[0], option
    assert limits["frames in one message"][0] == f"{settings.max_fragments:,}"
    assert limits["values in a text to `/json`"][0] == f"{settings.max_json_values:,}"
    assert limits["request head"][0] == f"{format_size(settings.max_head_size)}, {settings.max_head_lines} lines"
    assert limits["held by one connection for `?delay`"][0] == format_size(settings.max_delayed)
    assert limits["a connection with `?stall`"][0] == format_duration(settings.max_stall)
    assert (limits["connections with `?stall` or `?handshake-delay`"][0], settings.max_unread) == ("half of all", 0.5)
    assert f"after {format_duration(settings.full_timeout)} " in limits["held by all connections together"][2]
    assert f"less {settings.reserved_descriptors} for other use" in section("Limits")
    assert f"at most {settings.max_admin_connections} connections" in section("Admin site")
    assert f"{format_duration(settings.admin_timeout)} for each answer" in section("Admin site")
    assert f"100 on a page, or `?per-page=` up to {settings.max_page:,}" in section("Admin site")
    assert f"at most {log.EVENTS_PER_SECOND} of a kind in a second" in section("Log")
    assert f"cut at {settings.log_cut} characters" in section("Log")
    assert f"an answer of less than {settings.min_deflated} octets" in section("What it answers")
    assert f"a window of {2**settings.deflate_window_bits // 1024} KiB" in section("What it answers")


def test_the_options_and_statuses_of_check_are_those_it_has() -> None:
    cells = rows(section("Is it up?"))
    listed = {name[1]: cell[1] for cell in cells if (name := re.match(r"`(--[a-z]+)", cell[0]))}
    done = subprocess.run([sys.executable, "-m", "echod", "check", "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert set(listed) == set(re.findall(r"^  (--[a-z]+)", done.stdout, re.MULTILINE))
    plan = Plan(ws_url.parse("ws://localhost"))
    defaults = {"--count": str(plan.count), "--size": format_size(plan.size), "--timeout": format_duration(plan.timeout)}
    assert {name: default for name, default in listed.items() if name in defaults} == defaults
    assert f"up to {format_size(MAX_SIZE)} " in section("Is it up?").replace(" |", " ")
    statuses = {int(cell[0]) for cell in cells if cell[0].isdigit()}
    assert statuses == {*map(int, Outcome), os.EX_USAGE, os.EX_IOERR, INTERRUPTED}


def test_the_line_to_try_works() -> None:
    """As a shell takes it, but for the port, which may be in use, and the Python, which need not be in .venv."""
    (line,) = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert line.count(".venv/bin/python ") == line.count("127.0.0.1:8080") == 1
    printed = re.search(r"^It prints `(.*?)`", README, re.MULTILINE)
    assert printed is not None
    with Daemon() as daemon:
        command = line.replace(".venv/bin/python ", f'"{sys.executable}" ').replace("127.0.0.1:8080", f"127.0.0.1:{daemon.port}")
        # The locale where tests run need not be a terminal's.
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, encoding="utf-8", timeout=30, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"{printed[1]}\n", "", 0)


def test_make_has_the_targets_and_lists_them() -> None:
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", done.stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert listed == set(phony[1].split())
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, re.MULTILINE))
    assert named <= listed
    in_table = {cells[0].removeprefix("`make ").rstrip("`") for cells in rows(section("Development")) if cells[0].startswith("`make")}
    assert in_table == listed - {"help", "run"}


def test_the_architecture_lists_the_rooms_in_their_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert re.findall(r"^\| `([a-z_]+)(?:\.py|/)` \| \S", text, re.MULTILINE) == ROOMS


@pytest.mark.parametrize("name", FOR_EVERYONE)
def test_what_it_points_to_is_there(name: str) -> None:
    assert f"({name})" in README
    assert (ROOT / name).is_file()
