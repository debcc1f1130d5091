"""The console in a real Chromium, as a person uses it. Elements are found by their visible text, not by their code."""

from __future__ import annotations

import json
import re
import signal
import zlib
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from echod.faults.table import ROWS
from tests.browser.conftest import SCREENSHOTS, open_page
from tests.daemon import Daemon
from tests.faults.test_query import RIGHT, WRONG
from tests.ports import held_port
from tests.tls import Certificate

WIDTHS = (1280, 800, 360, 320)
"""Widths in CSS pixels: a desktop, a tablet, a phone, and the smallest width that WCAG 2.2 requires (1.4.10)."""

BEYOND = """
[...document.querySelectorAll("main *")]
  .filter((element) => !element.closest(".hidden, datalist") && element.getBoundingClientRect().right > innerWidth)
  .map((element) => element.outerHTML.slice(0, 80))
"""
"""Returns the elements that reach beyond the right edge."""

MOST_ROWS = 300


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def field(page: Page, name: str) -> Locator:
    """Return a field, and open its group of the form, as a person would."""
    found = page.get_by_label(name, exact=True)
    found.evaluate_all("(fields) => fields.forEach((one) => one.closest('details')?.toggleAttribute('open', true))")
    return found


def status(page: Page) -> Locator:
    return page.locator("#status")


def rows(page: Page) -> Locator:
    """Return the rows of the list of messages, the newest first."""
    return page.get_by_role("log").get_by_role("listitem")


def connect(page: Page) -> None:
    button(page, "Connect").click()
    expect(status(page)).to_contain_text("Connected.")


def choose(page: Page, kind: str) -> None:
    page.get_by_role("radio", name=kind).check(force=True)


def send(page: Page) -> None:
    button(page, "Send").click()


# Connecting.


def test_the_url_is_that_of_the_page(browser: Browser, daemon: Daemon, errors: list[str]) -> None:
    page = open_page(browser, daemon, errors, "/?delay=20ms&other=1")
    expect(field(page, "URL")).to_have_value(f"{daemon.url}/?delay=20ms&other=1")
    expect(field(page, "Delay delay")).to_have_value("20ms")
    page.context.close()
    assert not errors


def test_a_page_that_came_over_tls_connects_over_tls(
    browser: Browser, certificate: Certificate, errors: list[str]
) -> None:
    port = f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}:certKey={certificate.path}"
    with Daemon(ports=[port]) as daemon:
        page = open_page(browser, daemon, errors)
        expect(field(page, "URL")).to_have_value(f"{daemon.url}/")
        assert daemon.url.startswith("wss://")
        connect(page)
        send(page)
        expect(rows(page).first).to_contain_text("echo of #1")
        page.context.close()
    assert not errors


def test_connect_and_disconnect_with_code_and_reason(page: Page) -> None:
    field(page, "Subprotocols").fill("chat.v2, chat.v1")
    connect(page)
    expect(status(page)).to_contain_text("subprotocol chat.v2")
    page.get_by_text("Close with a code and a reason").click()
    field(page, "Code").fill("999")
    button(page, "Disconnect").click()
    expect(page.get_by_role("alert")).to_contain_text("Can't close with these")
    field(page, "Code").fill("3001")
    field(page, "Reason").fill("tschüß")
    button(page, "Disconnect").click()
    expect(status(page)).to_contain_text("Closed: 3001, reason “tschüß”.")
    expect(rows(page).first).to_contain_text("tschüß")
    expect(button(page, "Disconnect")).to_be_disabled()
    expect(button(page, "Send")).to_be_disabled()
    connect(page)


def test_the_number_of_a_connection_to_info(browser: Browser, errors: list[str]) -> None:
    """The path that the page shows is that of the connection's frames on the admin site."""
    with Daemon("--log-frames", "--compression=off", "--admin=tcp:0:interface=127.0.0.1") as daemon:
        page = open_page(browser, daemon, errors, "/")
        connect(page)
        send(page)
        expect(rows(page).first).to_contain_text("echo of #1")
        expect(page.locator("#number")).to_be_hidden()
        field(page, "Path").fill("/info")
        button(page, "Reconnect").click()
        expect(page.locator("#number")).to_be_visible()
        path = page.locator("#number-path").inner_text()
        send(page)
        expect(rows(page).first).to_contain_text("echo of #1")
        told = json.loads(urlopen(daemon.admin_urls[0] + path, timeout=30).read())
        assert page.locator("#number-itself").inner_text() == f"#{told['number']}"
        assert "Hello, echo!" in told["frames"][-1]["payload"]
        page.context.close()
    assert not errors


def test_the_frames_of_this_browser(page: Page) -> None:
    expect(page.locator("#frames")).to_be_hidden()
    field(page, "Path").fill("/frames")
    connect(page)
    send(page)
    row = page.locator("#frame-rows tr").first
    expect(row).to_contain_text("is a whole message")
    expect(row).to_contain_text("FIN")
    # Chromium deflates, and a payload is shown as it is on the wire.
    inflated = zlib.decompressobj(-15).decompress(bytes.fromhex(row.locator("td").last.inner_text()) + b"\0\0\xff\xff")
    assert inflated.decode() == field(page, "Text to send").input_value()


def test_the_lines_that_repeat_what_was_clicked(page: Page, daemon: Daemon) -> None:
    field(page, "Close with code close").fill("1001")
    field(page, "Reason reason").fill("it's over")
    page.get_by_text("The same in a link, a shell, Python and JavaScript").click()
    # Over TLS curl would otherwise speak HTTP/2, which has no upgrade.
    expect(page.locator("#again-shell")).to_contain_text("curl --http1.1 ")
    url = f"{daemon.url}/?close=1001&reason=it%27s%20over"
    expect(page.locator("#again-python")).to_have_text(f"python -m websockets '{url}'")
    expect(page.locator("#again-javascript")).to_contain_text(f'new WebSocket("{url}")')
    expect(page.locator("#again-shell")).to_contain_text(f"'{url.replace('ws:', 'http:')}' -H 'Connection: Upgrade'")
    assert (page.locator("#again-link").get_attribute("href") or "").startswith("./?close=1001&reason=it")


def test_the_lines_for_what_only_http_2_has(page: Page, daemon: Daemon) -> None:
    """Neither curl nor websockets has WebSockets over HTTP/2."""
    page.get_by_text("The same in a link, a shell, Python and JavaScript").click()
    field(page, "URL").fill(f"{daemon.url}/?goaway")
    expect(page.locator("#again-shell")).to_have_text(f"echod check --http2 '{daemon.url}/?goaway'")
    expect(page.locator("#again-python")).to_be_hidden()
    field(page, "URL").fill(f"{daemon.url}/")
    expect(page.locator("#again-shell")).to_contain_text("curl --http1.1 ")
    expect(page.locator("#again-python")).to_be_visible()


def test_several_fields_go_to_the_url_and_back(page: Page) -> None:
    field(page, "Another field header").fill("X-A: b\nX-C: d")
    query = urlsplit(field(page, "URL").input_value()).query
    assert query == "header=X-A%3A%20b&header=X-C%3A%20d"
    field(page, "URL").fill(field(page, "URL").input_value() + "&bad=masked")
    expect(field(page, "Another field header")).to_have_value("X-A: b\nX-C: d")
    expect(field(page, "A wrong frame bad")).to_be_visible()
    expect(page.locator("#promise")).to_contain_text("answer with the field “X-A: b”, “X-C: d”")


@pytest.mark.parametrize("first", ["no JSON", "null", '{"number": "17/../../x"}', '{"number": {}}'])
def test_a_number_that_is_none(page: Page, first: str) -> None:
    """Any server may be at the other end, and its first message may say anything."""
    page.evaluate("(first) => { socket = { url: 'ws://a.example/info' }; showNumber(first); socket = null; }", first)
    expect(page.locator("#number")).to_be_hidden()


def test_the_download_of_the_authority(browser: Browser, page: Page, errors: list[str]) -> None:
    expect(page.get_by_role("link", name="Download authority.pem")).to_be_hidden()
    with Daemon(ports=["tcp:0:interface=127.0.0.1", "throwaway:0:interface=127.0.0.1"]) as daemon:
        window = open_page(browser, daemon, errors)
        with window.expect_download() as download:
            window.get_by_role("link", name="Download authority.pem").click()
        assert download.value.suggested_filename == "authority.pem"
        assert download.value.path().read_text().startswith("-----BEGIN CERTIFICATE-----")
        window.context.close()
    errors[:] = [url for url in errors if not url.endswith("/authority.pem")]


def test_a_code_that_a_browser_may_not_send(page: Page) -> None:
    connect(page)
    page.get_by_text("Close with a code and a reason").click()
    field(page, "Code").fill("1002")
    button(page, "Disconnect").click()
    expect(page.get_by_role("alert")).to_contain_text("1002")
    expect(status(page)).to_contain_text("Connected.")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "ws://", "ws://127.0.0.1:99999/"])
def test_an_invalid_url(page: Page, url: str) -> None:
    field(page, "URL").fill(url)
    button(page, "Connect").click()
    expect(page.get_by_role("alert")).to_contain_text("Can't connect")
    expect(status(page)).to_contain_text("Not connected.")


def test_an_invalid_subprotocol(page: Page) -> None:
    field(page, "Subprotocols").fill("one two")
    button(page, "Connect").click()
    expect(page.get_by_role("alert")).to_contain_text("Can't connect")


def test_no_server(page: Page) -> None:
    with held_port() as port:
        address = f"ws://127.0.0.1:{port}/"
        field(page, "URL").fill(address)
        button(page, "Connect").click()
        expect(status(page)).to_contain_text("Could not connect.")
    expect(rows(page).first).to_contain_text(address)
    expect(button(page, "Connect")).to_be_enabled()


def test_messages_about_a_connection_vanish_with_it(page: Page) -> None:
    field(page, "URL").fill(field(page, "URL").input_value() + "?close=1001&after=1")
    connect(page)
    page.get_by_text("Close with a code and a reason").click()
    field(page, "Code").fill("999")
    button(page, "Disconnect").click()
    expect(page.get_by_role("alert")).to_contain_text("Can't close with these")
    field(page, "URL").fill("ws://127.0.0.1:1/")
    expect(page.get_by_text("The URL has changed")).to_be_visible()
    send(page)
    expect(status(page)).to_contain_text("Closed: 1001")
    expect(page.get_by_text("The URL has changed")).to_be_hidden()
    expect(page.get_by_text("Can't close with these")).to_be_hidden()


def test_connecting_again_replaces_the_old_connection(page: Page, daemon: Daemon) -> None:
    connect(page)
    field(page, "URL").fill(f"{daemon.url}/json")
    expect(page.get_by_text("The URL has changed")).to_be_visible()
    button(page, "Reconnect").click()
    expect(page.get_by_text("The URL has changed")).to_be_hidden()
    expect(status(page)).to_contain_text("Connected.")
    choose(page, "JSON")
    send(page)
    expect(rows(page).first).to_contain_text("compacted")


def test_a_server_that_shuts_down(browser: Browser, errors: list[str]) -> None:
    with Daemon() as daemon:
        page = open_page(browser, daemon, errors)
        connect(page)
        daemon.send_signal(signal.SIGTERM)
        expect(status(page)).to_contain_text("Closed: 1001 (going away)")
        expect(rows(page).first).to_contain_text("1001")
        assert daemon.wait() == 0
        page.screenshot(path=SCREENSHOTS / "drained.png")
        page.context.close()
    assert not errors


# Messages.


def test_text_with_emoji(page: Page) -> None:
    connect(page)
    text = "Grüße, 👩‍👩‍👧‍👦 — 你好, שלום\nsecond line"
    field(page, "Text to send").fill(text)
    send(page)
    echo = rows(page).first
    expect(echo).to_contain_text(re.compile("↓ Received .*text .*bytes .*echo of #1", re.DOTALL))
    expect(echo).to_contain_text(f"{len(text.encode())} bytes")
    expect(echo).to_contain_text(re.compile(r"[0-9.]+ ms"))
    expect(echo).to_contain_text(re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}"))
    assert echo.locator("p").text_content() == text
    expect(rows(page).nth(1)).to_contain_text("↑ Sent #1")


def test_a_message_is_never_markup(page: Page, errors: list[str]) -> None:
    connect(page)
    field(page, "Text to send").fill("<img src=x onerror=alert(1)><b>bold</b>")
    send(page)
    expect(rows(page).first.locator("p")).to_have_text("<img src=x onerror=alert(1)><b>bold</b>")
    assert not errors


def test_a_file_and_hex(page: Page) -> None:
    connect(page)
    choose(page, "Binary")
    content = bytes(range(256)) * 4096
    field(page, "File").set_input_files({"name": "data.bin", "mimeType": "application/octet-stream", "buffer": content})
    send(page)
    expect(rows(page).first).to_contain_text(re.compile(r"Received .*binary .*1,048,576 bytes .*echo of #1", re.DOTALL))
    expect(rows(page).first).to_contain_text("00 01 02 03")
    button(page, "No file").click()
    field(page, "Bytes in hex").fill("C0 ffee\n01")
    send(page)
    expect(rows(page).first).to_contain_text("echo of #2")
    expect(rows(page).first.locator("p")).to_have_text("c0 ff ee 01")


@pytest.mark.parametrize(
    ("hexadecimal", "problem"),
    [
        ("0g", "digits 0–9 and a–f are allowed"),  # noqa: RUF001
        ("012", "one digit too many"),
    ],
)
def test_invalid_hex(page: Page, hexadecimal: str, problem: str) -> None:
    connect(page)
    choose(page, "Binary")
    field(page, "Bytes in hex").fill(hexadecimal)
    send(page)
    expect(page.get_by_role("alert")).to_contain_text(problem)
    expect(rows(page)).to_have_count(2)


def test_an_empty_message(page: Page) -> None:
    connect(page)
    field(page, "Text to send").fill("")
    send(page)
    expect(rows(page).first).to_contain_text(re.compile("text 0 bytes .*echo of #1", re.DOTALL))


def test_json(page: Page) -> None:
    field(page, "Path").fill("/json")
    connect(page)
    choose(page, "JSON")
    field(page, "JSON to send").fill('{"a": [1.50, "\\ud800"],\n "a": null}')
    send(page)
    expect(rows(page).first.locator("p")).to_have_text('{"a":[1.50,"\\ud800"],"a":null}')
    field(page, "JSON to send").fill("{'a': 1}")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("not JSON")


def test_the_list_is_bounded(page: Page) -> None:
    connect(page)
    for number in range(MOST_ROWS // 2 + 10):
        field(page, "Text to send").fill(f"{number}")
        field(page, "Text to send").press("Control+Enter")
    expect(rows(page).first).to_contain_text(f"echo of #{MOST_ROWS // 2 + 10}")
    expect(rows(page)).to_have_count(MOST_ROWS)
    expect(page.get_by_text(f"Only the last {MOST_ROWS} lines are kept; 22 older lines removed.")).to_be_visible()
    field(page, "Text to send").fill("x" * 100_000)
    send(page)
    expect(rows(page).first).to_contain_text("100,000 bytes")
    assert len(rows(page).first.inner_text()) < 600
    button(page, "Show more").first.click()
    assert 20_000 < len(rows(page).first.inner_text()) < 21_000
    button(page, "Show less").click()
    assert len(rows(page).first.inner_text()) < 600
    button(page, "Clear").click()
    expect(rows(page)).to_have_count(0)


# The URL's parameters.


def test_a_newcomer_finds_how_to_close_with_1001_after_three_messages(page: Page, daemon: Daemon) -> None:
    expect(page.locator("#promise")).to_have_text("The server will echo each message.")
    page.get_by_label("Close with code").fill("1001")
    page.get_by_label("After this many messages").fill("3")
    expect(field(page, "URL")).to_have_value(f"{daemon.url}/?close=1001&after=3")
    expect(page.locator("#promise")).to_have_text("The server will echo 3 messages, then close with 1001.")
    button(page, "Connect").click()
    for number in (1, 2, 3):
        expect(status(page)).to_contain_text("Connected.")
        field(page, "Text to send").fill(f"message {number}")
        send(page)
    expect(status(page)).to_contain_text("Closed: 1001 (going away)")
    expect(rows(page).filter(has_text="echo of #3")).to_have_count(1)
    # After the end of the connection the page promises nothing about it.
    expect(page.locator("#promise")).to_have_text(
        "Connect again, and the server will echo 3 messages, then close with 1001."
    )
    expect(page.locator("#plan")).to_have_text("The server will echo 3 messages, then close with 1001.")
    button(page, "Connect").click()
    expect(status(page)).to_contain_text("Connected.")
    expect(page.locator("#promise")).to_have_text("The server will echo 3 messages, then close with 1001.")


def test_an_example_replaces_all_parameters(page: Page, daemon: Daemon) -> None:
    field(page, "Delay delay").fill("1s")
    button(page, "Close with 1001 after 3 messages").click()
    expect(field(page, "URL")).to_have_value(f"{daemon.url}/?close=1001&after=3")
    button(page, "No faults").click()
    expect(field(page, "URL")).to_have_value(f"{daemon.url}/")


EXAMPLES = {
    "Close with 1001 after 3 messages": "Connected.",
    "Echo 250 ms late": "Connected.",
    "Lose one in ten": "Connected.",
    "Refuse with 503": "Could not connect.",
    "Send a masked frame": "Connected.",
    "No faults": "Connected.",
}


def test_what_the_page_promises(page: Page, daemon: Daemon) -> None:
    promises = {
        "/?accept=twice": "answer with Sec-WebSocket-Accept twice (only over HTTP/1.1), echo each message",
        "/?fail=2&key=a": "first refuse 2 times, echo each message",
        "/?pong=no&close-reply=2s": "echo each message, answer pings not at all, answer a Close frame 2s late",
        "/?bad=utf8&after=2": "echo each message, send a wrong frame (utf8) after 2 messages",
        "/?bad=utf8": "echo each message, send a wrong frame (utf8)",
        "/?cut=3": "echo each message, end TCP after 3 bytes",
        "/?cut=3&abort": "echo each message, reset TCP after 3 bytes",
        "/?every=1s&count=3": "echo each message, send a numbered message every 1s, 3 of them",
        "/?goaway": "at once send GOAWAY (only over HTTP/2)",
        "/frames": "tell of each frame that comes",
        "/frames?close=1001": "tell of each frame that comes, at once close with 1001",
    }
    for target, promise in promises.items():
        field(page, "URL").fill(f"{daemon.url}{target}")
        expect(page.locator("#promise")).to_have_text(f"The server will {promise}.")


@pytest.mark.parametrize(("example", "outcome"), EXAMPLES.items())
def test_the_server_knows_the_examples(page: Page, example: str, outcome: str) -> None:
    button(page, example).click()
    button(page, "Connect").click()
    expect(status(page)).to_contain_text(outcome)


def test_an_example_shows_its_fields(page: Page) -> None:
    status_code = page.get_by_label("HTTP status status", exact=True)
    expect(status_code).to_be_hidden()
    expect(page.get_by_text("accept, without, upgrade")).to_be_visible()
    button(page, "Refuse with 503").click()
    expect(status_code).to_have_value("503")
    expect(status_code).to_be_visible()
    expect(page.get_by_text("accept, without, upgrade")).to_be_hidden()


def test_lost_messages_are_marked(page: Page) -> None:
    field(page, "Drop drop").fill("0.5")
    field(page, "Seed seed").fill("7")
    connect(page)
    for number in range(1, 6):
        field(page, "Text to send").fill(f"message {number}")
        send(page)
    # docs/url.md has the numbers of these messages as its example.
    expect(rows(page).filter(has_text="↓ Received").first).to_contain_text("echo of #5")
    assert [row.inner_text().split()[2:] for row in rows(page).filter(has_text="Lost").all()] == [["#4"], ["#1", "#2"]]
    field(page, "Messages").last.fill("200")
    button(page, "Start").click()
    expect(page.locator("#burst-summary")).to_contain_text("of 200 messages came back")
    assert 50 < int(page.locator("dl div", has_text="Lost").locator("dd").inner_text()) < 150


def test_a_reset_and_what_the_server_sees(page: Page) -> None:
    field(page, "Path").fill("/info")
    field(page, "Reset abort").check()
    field(page, "After this many messages after").fill("1")
    connect(page)
    first = rows(page).filter(has_text="↓ Received").first
    expect(first).to_contain_text("not an echo")
    expect(first).to_contain_text('"peer"')
    send(page)
    expect(status(page)).to_contain_text("Closed: 1006 (no Close frame)")


def test_the_page_tells_over_which_http_it_came(page: Page) -> None:
    expect(page.locator("#came-over")).to_contain_text("This page came over HTTP/1.1.")


PARAMETERS = {
    "Delay delay": ("delay", "250ms"),
    "Close with code close": ("close", "4000"),
    "Reason reason": ("reason", "so long, & thanks"),
    "After this many messages after": ("after", "3"),
    "HTTP status status": ("status", "503"),
    "Handshake delay handshake-delay": ("handshake-delay", "2s"),
    "Fragment fragment": ("fragment", "1000"),
    "Ping ping": ("ping", "5s"),
    "Drop drop": ("drop", "0.1"),
    "Seed seed": ("seed", "7"),
    "Compression compression": ("compression", "deflate"),
}


def test_every_parameter_goes_to_the_url_and_back(page: Page) -> None:
    for label, (_, value) in PARAMETERS.items():
        field(page, label).fill(value)
    for label in ("Reset abort", "End HTTP/2 goaway", "Stall stall"):
        field(page, label).check()
    field(page, "Path").fill("/any")
    url = urlsplit(field(page, "URL").input_value())
    assert url.path == "/any"
    words = set(url.query.split("&"))
    assert words == {
        "abort",
        "goaway",
        "stall",
        *(f"{name}={value}" for name, value in PARAMETERS.values() if name != "reason"),
        "reason=so%20long%2C%20%26%20thanks",
    }
    button(page, "No faults").click()
    assert not urlsplit(field(page, "URL").input_value()).query
    field(page, "URL").fill(url.geturl() + "&own=1")
    for label, (_, value) in PARAMETERS.items():
        expect(field(page, label)).to_have_value(value)
    expect(field(page, "Stall stall")).to_be_checked()
    field(page, "Seed seed").fill("")
    words = set(urlsplit(field(page, "URL").input_value()).query.split("&"))
    assert "own=1" in words
    assert "seed=7" not in words


def test_the_form_has_every_parameter(page: Page) -> None:
    for row in ROWS:
        expect(page.locator(f"#fault-{row.name}")).to_have_count(1)


@pytest.mark.parametrize(
    ("mode", "promise"), [("mirror", "deflated as it came"), ("deflate", "deflated anew"), ("off", "not deflated")]
)
def test_another_compression(page: Page, mode: str, promise: str) -> None:
    field(page, "Compression compression").fill(mode)
    expect(page.locator("#promise")).to_have_text(f"The server will echo each message {promise}.")
    connect(page)
    agreed = expect(status(page))
    (agreed.not_to_contain_text if mode == "off" else agreed.to_contain_text)("permessage-deflate")
    send(page)
    expect(rows(page).first).to_contain_text("echo of #1")


MISTAKES = [
    ("After this many messages after", "3", "needs close"),
    ("Reason reason", "bye", "needs close"),
    ("Seed seed", "7", "needs drop"),
    ("Close with code close", "99", "close must be a close code"),
    ("HTTP status status", "x", "status must be a whole number from 300 to 599"),
    ("Delay delay", "soon", "delay must be a duration"),
    ("Compression compression", "gzip", "compression must be mirror, deflate or off"),
]


@pytest.mark.parametrize(("label", "value", "problem"), MISTAKES)
def test_the_page_shows_what_the_server_would_refuse(page: Page, label: str, value: str, problem: str) -> None:
    field(page, label).fill(value)
    expect(page.locator("#promise")).to_contain_text("The server would refuse this")
    expect(page.locator("#promise")).to_contain_text(problem)
    button(page, "Connect").click()
    expect(status(page)).to_contain_text("Could not connect.")
    field(page, label).fill("")
    expect(page.locator("#promise")).to_have_text("Connect again, and the server will echo each message.")


@pytest.mark.parametrize(
    ("queries", "is_refused"), [([query for query, _ in RIGHT], False), ([query for query, _ in WRONG], True)]
)
def test_the_page_and_the_server_refuse_the_same(
    page: Page, daemon: Daemon, queries: list[str], is_refused: bool
) -> None:
    promised = {}
    for query in queries:
        field(page, "URL").fill(f"{daemon.url}/?{query}")
        promised[query] = "The server would refuse this" in page.locator("#promise").inner_text()
    # The page can't know the limit on the length of the server's messages.
    promised.pop("fragment=16777217", None)
    assert [query for query, mistake in promised.items() if mistake != is_refused] == []
    assert len(promised) > 20


# Bursts.


@pytest.mark.parametrize("is_binary", [False, True])
def test_a_burst(page: Page, is_binary: bool) -> None:
    connect(page)
    field(page, "Messages").last.fill("3000")
    field(page, "Bytes in each").fill("500")
    field(page, "In flight").fill("20")
    page.get_by_label("binary", exact=True).set_checked(is_binary)
    before = page.evaluate("document.querySelectorAll('*').length")
    button(page, "Start").click()
    summary = page.locator("#burst-summary")
    expect(summary).to_contain_text("3,000 of 3,000 messages came back")
    expect(summary).to_contain_text(re.compile(r"per second, median [0-9.]+ ms, p99 [0-9.]+ ms"))
    for name in ("Rate", "Median", "p99", "Slowest"):
        expect(page.locator("dl div", has_text=name).locator("dd")).to_contain_text(re.compile("[0-9]"))
    expect(page.locator("dl div", has_text="Lost").locator("dd")).to_have_text("0")
    expect(page.get_by_role("img", name="Round-trip times")).to_have_attribute(
        "aria-label", re.compile("3,000 of 3,000")
    )
    assert (
        page.evaluate(
            "new Set(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 300, 200).data).size"
        )
        > 10
    )
    assert page.evaluate("document.querySelectorAll('*').length") < before + 30
    page.screenshot(path=SCREENSHOTS / "burst.png", full_page=True)
    send(page)
    expect(rows(page).first).to_contain_text("echo of #1")


def test_a_burst_is_stopped_or_ends_with_the_connection(page: Page) -> None:
    # Without the delay the echoes come so fast that on a busy machine the page has no time to handle a click.
    field(page, "Delay delay").fill("20ms")
    connect(page)
    field(page, "Messages").last.fill("1000000")
    button(page, "Start").click()
    expect(page.locator("#burst-rate")).to_contain_text("/s")
    button(page, "Stop").click()
    expect(page.locator("#burst-summary")).to_contain_text("Stopped.")
    expect(button(page, "Start")).to_be_enabled()
    # Echoes come in order. After this one all earlier echoes have come, and the page shows none of them.
    send(page)
    expect(rows(page).first).to_contain_text("echo of #1")
    expect(rows(page).filter(has_text="not an echo")).to_have_count(0)
    button(page, "Start").click()
    expect(page.locator("#burst-summary")).to_have_text("Running …")
    button(page, "Disconnect").click()
    expect(page.locator("#burst-summary")).to_contain_text("The connection was closed.")
    expect(button(page, "Start")).to_be_disabled()


@pytest.mark.parametrize(
    ("name", "value"), [("Messages", "0"), ("Bytes in each", "7"), ("In flight", ""), ("In flight", "1.5")]
)
def test_an_invalid_burst(page: Page, name: str, value: str) -> None:
    connect(page)
    field(page, name).last.fill(value)
    button(page, "Start").click()
    expect(page.get_by_role("alert")).to_contain_text(f"{name}: a whole number from ")
    expect(button(page, "Start")).to_be_enabled()


# Accessibility.


def test_by_keyboard_alone(page: Page) -> None:
    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    def focused() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.textContent"))

    def tab_to(name: str, most: int = 30) -> None:
        for _ in range(most):
            press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            around = page.evaluate(
                "getComputedStyle(document.activeElement.closest('label') || document.body).outlineStyle"
            )
            assert "none" not in (outline, around) or outline != around, f"{focused()} shows no focus"
            if focused() == name:
                return
        raise AssertionError(f"the Tab key does not reach {name}")

    tab_to("url")
    press("Enter")
    expect(status(page)).to_contain_text("Connected.")
    tab_to("text")
    press("Control+a")
    page.keyboard.type("by keyboard")
    press("Control+Enter")
    expect(rows(page).first).to_contain_text("by keyboard")
    press("Shift+Tab", "ArrowRight", "ArrowRight")
    expect(field(page, "Bytes in hex")).to_be_visible()
    tab_to("send")
    press("Space")
    expect(rows(page).first).to_contain_text("echo of #2")
    tab_to("burst-start")
    press("Enter")
    expect(page.locator("#burst-summary")).to_contain_text("came back")
    tab_to("Close with 1001 after 3 messages")
    press("Space")
    expect(field(page, "URL")).to_have_value(re.compile(r"close=1001&after=3$"))
    tab_to("fault-stall")
    press("Space")
    expect(field(page, "URL")).to_have_value(re.compile(r"stall&after=3$"))


def fill_with_life(page: Page) -> None:
    """Bring the page into a state in which nearly all of its parts are visible."""
    page.get_by_text("Close with a code and a reason").click()
    connect(page)
    button(page, "Close with 1001 after 3 messages").click()
    send(page)
    expect(rows(page).first).to_contain_text("echo of #1")
    field(page, "Text to send").fill("long" * 400)
    send(page)
    choose(page, "JSON")
    field(page, "JSON to send").fill("nonsense")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("not JSON")
    field(page, "Messages").last.fill("1000")
    button(page, "Start").click()
    expect(page.locator("#burst-summary")).to_contain_text("came back")
    field(page, "Reason reason").fill("a" * 123)
    expect(page.get_by_text("The URL has changed")).to_be_visible()


@pytest.fixture(params=["light", "dark"])
def colours(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_at_any_width_in_light_and_dark(browser: Browser, daemon: Daemon, errors: list[str], colours: str) -> None:
    page = open_page(browser, daemon, errors, color_scheme=colours, has_touch=True)
    for state, prepare in (("empty", lambda _: None), ("full", fill_with_life)):
        prepare(page)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 740})
            page.screenshot(path=SCREENSHOTS / f"{colours}-{width}-{state}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert not page.evaluate(BEYOND)
    page.context.close()
    assert not errors


def test_axe_finds_no_fault(browser: Browser, daemon: Daemon, errors: list[str], colours: str) -> None:
    """Apply axe-core's rules: names and roles of all controls, contrast (WCAG 2.2 AA), order of headings, and about 80
    others."""
    page = open_page(browser, daemon, errors, color_scheme=colours)
    options = {"resultTypes": ["violations", "incomplete"]}
    for prepare in (lambda _: None, fill_with_life):
        prepare(page)
        found = Axe().run(page, options=options)
        assert not found.violations_count, found.generate_report()
        undecided = [entry["id"] for entry in found.response["incomplete"]]
        assert not undecided, json.dumps(found.response["incomplete"], indent=1)[:4000]
    page.context.close()
    assert not errors


def test_nothing_moves_with_reduced_motion(browser: Browser, daemon: Daemon, errors: list[str]) -> None:
    page = open_page(browser, daemon, errors, reduced_motion="reduce")
    durations = page.evaluate(
        "[...document.querySelectorAll('*')].map(e => getComputedStyle(e)).flatMap(s => "
        "[s.transitionDuration, s.animationName])"
    )
    assert set(durations) == {"0s", "none"}
    page.context.close()
    assert not errors


def test_the_policy_is_in_force(page: Page, errors: list[str]) -> None:
    assert page.evaluate("crossOriginIsolated")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))"
    )
    page.evaluate("fetch('/healthz').catch(() => 0)")
    assert page.evaluate("window.ran") is None
    assert len(errors) >= 2
    assert all("Content Security Policy" in error for error in errors)
    errors.clear()
