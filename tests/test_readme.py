"""The README and docs/ stay true: options and defaults, limits, the line to try, make targets, rooms, figures, links.

Knows the form of the tables. Other tests check what echod does; this file checks that the documents say the same.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from echod.check.command import INTERRUPTED
from echod.check.report import MAX_SIZE, CheckOutcome, Plan
from echod.core import log
from echod.core.quantities import format_duration, format_size
from echod.http import ws_url
from echod.options import HTTP2_LIMITS
from echod.run.report import describe_lane
from echod.serve import ServeOptions
from echod.settings import Settings
from tests import documents
from tests.daemon import Daemon
from tests.stock.readme import Readme
from tests.test_layout import FOLDER, ROOMS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
CHECK = (ROOT / "docs/check.md").read_text()
HTTP2 = (ROOT / "docs/http2.md").read_text()
COMPRESSION = (ROOT / "docs/compression.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
PERFORMANCE = (ROOT / "docs/performance.md").read_text()

INDEX = ROOT / "docs/index.md"

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path != INDEX)
"""The pages of docs/, which the index lists."""

FOR_EVERYONE = ("docs/index.md", "docs/console.png", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md")
"""What the README has to link to."""

DOCUMENTS = (
    "README.md",
    *(name for name in FOR_EVERYONE if name.endswith(".md")),
    *(f"docs/{name}" for name in PAGES),
)


def section(text: str, title: str) -> str:
    """Return the text under a heading."""
    _, _, rest = text.partition(f"\n## {title}\n")
    assert rest, f"there is no section {title!r}"
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of all tables in `text`. A `\\|` does not separate cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def option_rows() -> dict[str, str]:
    """Return the default of each option as docs/operating.md gives it."""
    found = {}
    for cells in rows(section(OPERATING, "Options")):
        if name := re.search(r"`--([a-z0-9-]+)[ `]", cells[0]):
            found[name[1]] = cells[1]
    return found


def default(option: str) -> str:
    """Return an option's default as docs/operating.md must write it, or nothing for an option that only prints."""
    plural = {"port": "ports", "origin": "origins", "admin": "admins", "admin-host": "admin_hosts"}
    if option == "http2-limit":
        return "none"
    if option == "fault-cap":
        return "none"
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
    names = {name.rstrip("=") for name in ServeOptions().longOpt}
    assert option_rows() == {name: default(name) for name in names}


# This process has a reactor already. test_running.py starts daemons with others.
@pytest.mark.parametrize(
    "cells", [cells for cells in rows(section(OPERATING, "Options")) if re.search("`--(?!reactor)", cells[0])]
)
def test_each_option_has_an_example_that_works(cells: list[str]) -> None:
    (name,) = re.findall(r"--[a-z0-9-]+", cells[0])
    words = shlex.split(cells[3].strip("`"))
    assert name in words
    assert not cells[1] or cells[1] not in words, "the example is the default"
    with pytest.raises(SystemExit) as ended:
        ServeOptions().parseOptions([*words, "--validate"])
    assert not ended.value.code


def test_the_limits_are_those_in_force() -> None:
    settings = Settings()
    limits = {cells[0]: cells[1:] for cells in rows(section(OPERATING, "Limits"))}
    text, log_text, admin = (" ".join(section(OPERATING, title).split()) for title in ("Limits", "Log", "Admin site"))
    for cells in limits.values():
        left = cells[0]
        for option in re.findall(r"`--([a-z0-9-]+)`", cells[1]):
            assert default(option) in left, option
            left = left.replace(default(option), "", 1)
    assert limits["frames in one message"][0] == f"{settings.max_fragments:,}"
    assert limits["values in a text to `/json`"][0] == f"{settings.max_json_values:,}"
    assert limits["request head"][0] == f"{format_size(settings.max_request_head)}, {settings.max_head_lines} lines"
    assert limits["memory held by one connection for `?delay`"][0] == format_size(settings.max_delayed)
    assert limits["time of a connection with `?stall`"][0] == format_duration(settings.max_stall)
    assert (limits["connections with `?stall` or `?handshake-delay`"][0], settings.max_unread) == ("half of all", 0.5)
    assert f" for {format_duration(settings.full_timeout)};" in limits["memory held by all connections together"][2]
    kept_back = (
        f"less {settings.reserved_descriptors} for other use, and less {settings.max_admin_connections} for "
        "the admin site"
    )
    assert kept_back in text
    assert f"at most {settings.max_admin_connections} connections" in admin
    assert f"allows {format_duration(settings.admin_timeout)} for each answer" in admin
    assert f"100 on a page, or `?per-page=` up to {settings.max_page:,}" in admin
    assert f"at most {log.EVENTS_PER_SECOND} of a kind in a second" in log_text
    assert f"cut at {settings.log_cut} characters" in log_text
    assert f"cut at {settings.log_cut} bytes" in log_text
    assert f"at most {settings.log_frames_rate} lines of each kind" in log_text
    assert f"its last {settings.kept_frames} frames at `/connections/17`" in log_text
    assert f"its last {settings.kept_frames} frames |" in admin
    assert f"an echo of less than {settings.min_deflated} bytes" in " ".join(COMPRESSION.split())
    assert f"its window is {2**settings.deflate_window_bits // 1024} KiB" in " ".join(COMPRESSION.split())


def test_the_limits_of_http2_are_those_in_force() -> None:
    settings = Settings()
    found = {cells[0].strip("`"): cells[1].removesuffix(" ¹") for cells in rows(section(HTTP2, "Limits"))[2:]}
    for name in HTTP2_LIMITS:
        value = getattr(settings, name.replace("-", "_"))
        shown = format_size if name == "max-header-list" else "{:,}".format
        assert found.pop(name) == (format_duration(value) if isinstance(value, float) else shown(value))
    assert not found


def test_the_options_and_statuses_of_check_are_the_real_ones() -> None:
    cells = rows(CHECK)
    listed = {name[1]: cell[1] for cell in cells if (name := re.match(r"`(--[a-z0-9]+)", cell[0]))}
    done = subprocess.run(
        [sys.executable, "-m", "echod", "check", "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    assert set(listed) == set(re.findall(r"^  (--[a-z0-9]+)", done.stdout, re.MULTILINE))
    plan = Plan(ws_url.parse("ws://localhost"))
    defaults = {
        "--count": str(plan.count),
        "--size": format_size(plan.size),
        "--timeout": format_duration(plan.timeout),
    }
    assert {name: default for name, default in listed.items() if name in defaults} == defaults
    assert f"up to {format_size(MAX_SIZE)} " in CHECK.replace(" |", " ")
    statuses = {int(cell[0]) for cell in cells if cell[0].isdigit()}
    assert statuses == {*map(int, CheckOutcome), os.EX_USAGE, os.EX_IOERR, INTERRUPTED}


def test_the_log_lines_about_the_express_lane_are_the_real_ones() -> None:
    native: Any = SimpleNamespace(isa="avx2")
    lanes = [
        SimpleNamespace(takes_tls=tls, takes_deflate=deflate)
        for tls, deflate in ((True, True), (False, True), (True, False))
    ]
    factories: list[Any] = [SimpleNamespace(lane=lane, settings=Settings(), wants_each=[]) for lane in (None, *lanes)]
    for settings, option in (
        (Settings(max_connections_per_address=1), "--max-connections-per-address"),
        (Settings(log_messages=True), "--log-messages"),
    ):
        factories.append(SimpleNamespace(lane=lanes[0], settings=settings, wants_each=[option]))
    said = {describe_lane(None, factories[0]), *(describe_lane(native, factory) for factory in factories)}
    listed = re.findall(r"^    express lane: (.*?)  +\S", section(OPERATING, "Log"), re.MULTILINE)
    assert {line.replace("…", "pump and codec") for line in listed} == said


def test_the_line_to_try_works(tmp_path: Path) -> None:
    readme = Readme()
    documents.prepare(tmp_path)
    with Daemon() as daemon:
        done = documents.run_line(f"{readme.path}\n{readme.to_try}", tmp_path, daemon.port)
    assert done.stdout.startswith(readme.printed)
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_lines_for_wss_work(tmp_path: Path) -> None:
    """Only the port is another, because that of the README may be in use."""
    readme = Readme()
    serve, ask = [line for line in readme.others if "authority.pem" in line]
    *command, option, port, file_option, file = serve.split()
    assert (command, option, port) == (["echod", "serve"], "--port", "throwaway:8443")
    documents.prepare(tmp_path)
    with Daemon(file_option, str(tmp_path / file), ports=["throwaway:0"]) as daemon:
        assert ask.count("//localhost:8443") == 1
        ask = ask.replace(":8443", f":{urlsplit(daemon.url).port}")
        done = subprocess.run(
            ["sh", "-c", f"{readme.path}\n{ask}"],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("OK - 10 messages")


def test_the_line_for_a_close_works(tmp_path: Path) -> None:
    readme = Readme()
    (line,) = [line for line in readme.others if "?close=" in line]
    (said,) = re.findall(r"^after three messages, and the check says so: `(.*)`\.$", README, re.MULTILINE)
    documents.prepare(tmp_path)
    with Daemon() as daemon:
        done = documents.run_line(f"{readme.path}\n{line}", tmp_path, daemon.port)
    assert said in done.stdout.partition("\n")[0]
    assert done.returncode == 1


def test_the_line_for_http2_works(tmp_path: Path) -> None:
    readme = Readme()
    (line,) = [line for line in readme.others if "--http2" in line]
    documents.prepare(tmp_path)
    with Daemon() as daemon:
        done = documents.run_line(f"{readme.path}\n{line}", tmp_path, daemon.port)
    assert done.stdout.startswith(readme.printed)
    assert (done.stderr, done.returncode) == ("", 0)


def test_the_lines_for_a_test_suite_work(tmp_path: Path) -> None:
    readme = Readme()
    (start,) = [number for number, line in enumerate(readme.others) if "--ready-file" in line]
    documents.prepare(tmp_path)
    script = "\n".join([readme.path, *readme.others[start : start + 2], "wait"])
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    (url,) = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["urls"]
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+", url)
    assert not (tmp_path / "ready.json").exists()


def test_the_lines_of_the_first_five_minutes_are_found() -> None:
    """`tests.stock` runs these lines on bare Debians, which takes too long here."""
    readme = Readme()
    assert (readme.tools, readme.compiler) == ("apt-get install make python3-venv", "apt-get install gcc python3-dev")
    assert (readme.run, readme.test) == ("make run", "make test")
    assert readme.install[-1].endswith("pip install .")
    assert readme.serve == "echod serve"
    assert readme.path_of_pip == 'export PATH="$HOME/.local/echod/bin:$PATH"'


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_line_needs_what_a_stock_debian_lacks(name: str) -> None:
    """Debian has no `python` and no `pip`. Its `python3` serves only to make virtual environments."""
    text = re.sub(r"^```python\n.*?^```$", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(
        r"^(?: {4})?(\S.*)$",
        "\n".join(re.findall(r"^ {4}\S.*$|^```sh\n.*?^```$", text, re.MULTILINE | re.DOTALL)),
        re.MULTILINE,
    )
    for line in lines:
        assert not re.match(r"(python|pip|pip3|twistd|twist) ", line), line
        assert not re.match(r"python3 (?!-m venv )", line), line


@pytest.mark.parametrize(
    "path", [*(ROOT / name for name in DOCUMENTS), *(path for path in (ROOT / "etc").rglob("*") if path.is_file())]
)
def test_no_line_leaves_a_pid_file_in_the_current_folder(path: Path) -> None:
    """The README's prose says what happens without `--pidfile=`."""
    for line in re.findall(r"^(?: {4}|# {5}).*twistd -n.*", path.read_text(), re.MULTILINE):
        assert " --pidfile= " in line, line


def test_make_has_the_targets_and_lists_them() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", done.stdout, re.MULTILINE))
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == set(" ".join(phony).split())
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", README, re.MULTILINE))
    assert named <= listed
    table = rows(section(ARCHITECTURE, "Targets of make"))
    in_table = {cells[0].removeprefix("`make ").rstrip("`") for cells in table if cells[0].startswith("`make")}
    assert in_table == listed - {"help", "run"}


def test_the_architecture_lists_the_rooms_in_their_order() -> None:
    assert re.findall(r"^\| `([a-z_]+)(?:\.py|/)` \| \S", ARCHITECTURE, re.MULTILINE) == ROOMS


def test_the_figures_are_those_of_the_benchmarks() -> None:
    """The README gives the same figures as docs/performance.md, of the same day."""
    text = section(README, "Numbers")
    (heads, _, *lines), (all_heads, _, *all_lines) = (
        rows(text),
        rows(PERFORMANCE.partition("\n### Rates\n")[2].partition("\n### ")[0]),
    )
    rates = {cells[0]: dict(zip(all_heads, cells, strict=True)) for cells in all_lines}
    assert len(lines) == 5
    for name, *figures in lines:
        assert figures == [rates[name][head] for head in heads[1:]], name
    (day,) = re.findall(r"^- date: (\S+)$", PERFORMANCE, re.MULTILINE)
    assert day in text


def anchors(text: str) -> set[str]:
    """Return the names that links can give to headings, as GitHub derives them from the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_link_leads_somewhere(name: str) -> None:
    path = ROOT / name
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_path_leads_somewhere(name: str) -> None:
    """From the checkout, `etc/`, `echod/` or one of its rooms. Capitals, as in `tests/ROOM/test_X.py`, are no path."""
    folders = (ROOT, ROOT / "etc", FOLDER, *FOLDER.iterdir())
    endings = "py|c|h|html|md|yml|yaml|json|cfg|conf|txt"
    for path in re.findall(rf"`((?!build/|reports/)[a-z_.]+/[a-z0-9_/.]+\.(?:{endings}))`", (ROOT / name).read_text()):
        assert any((folder / path).exists() for folder in folders), path


@pytest.mark.parametrize("name", FOR_EVERYONE)
def test_the_readme_links_to_every_file(name: str) -> None:
    assert f"({name})" in README
    assert (ROOT / name).is_file()


def test_the_index_lists_every_page_once() -> None:
    assert sorted(re.findall(r"^\| \[[^]]+\]\(([a-z0-9]+\.md)\)", INDEX.read_text(), re.MULTILINE)) == PAGES
