"""What docs/url.md promises, as a page in Chromium sees it: close codes and reasons, resets, stalls, refusals, late
messages, and lost messages.

A page never learns the HTTP status of a failed handshake. It sees close code 1006 (the WebSockets standard, section
7.1).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.daemon import Daemon
from tests.loop import needed_native

CODES = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]

QUIET = 2.0
"""Seconds without a message after which a page gives up waiting for one."""

WATCH = """
([url, messages, patience]) => new Promise((resolve) => {
  const seen = { opened: null, messages: [], times: [], code: null, reason: null, wasClean: null };
  const began = performance.now(), seconds = () => (performance.now() - began) / 1000;
  const socket = new WebSocket(url);
  let quiet;
  const wait = () => { clearTimeout(quiet); quiet = setTimeout(() => resolve(seen), patience * 1000); };
  socket.onopen = () => { seen.opened = seconds(); messages.forEach((message) => socket.send(message)); wait(); };
  socket.onmessage = (event) => { seen.messages.push(event.data); seen.times.push(seconds()); wait(); };
  socket.onclose = (event) => {
    clearTimeout(quiet);
    resolve({ ...seen, code: event.code, reason: event.reason, wasClean: event.wasClean });
  };
})
"""
"""Resolves to what a page sees once the connection has ended, or once nothing has come for `patience` seconds."""


def watch(
    page: Page, daemon: Daemon, query: str, messages: Sequence[str] = (), patience: float = 30.0
) -> dict[str, Any]:
    seen: dict[str, Any] = page.evaluate(WATCH, [f"{daemon.url}/?{query}", list(messages), patience])
    return seen


@pytest.mark.parametrize("code", CODES)
def test_a_close_code_and_its_reason(page: Page, daemon: Daemon, code: int) -> None:
    for query, reason in (("", ""), ("&reason=gr%C3%BC%C3%9F+dich", "grüß dich"), (f"&reason={123 * 'x'}", 123 * "x")):
        seen = watch(page, daemon, f"close={code}&after=2{query}", ["one", "two"])
        assert seen["messages"] == ["one", "two"]
        assert (seen["code"], seen["reason"], seen["wasClean"]) == (code, reason, True)


@pytest.mark.parametrize(
    ("query", "code", "was_clean"), [("close=1005", 1005, True), ("close=1006", 1006, False), ("abort", 1006, False)]
)
def test_an_end_without_a_code(page: Page, daemon: Daemon, query: str, code: int, was_clean: bool) -> None:
    seen = watch(page, daemon, f"{query}&after=2", ["one", "two"])
    assert seen["messages"] == ["one", "two"]
    assert (seen["code"], seen["reason"], seen["wasClean"]) == (code, "", was_clean)


def test_a_stall(page: Page, daemon: Daemon) -> None:
    seen = watch(page, daemon, "stall&after=2", ["one", "two", "three"], QUIET)
    assert (seen["messages"], seen["code"]) == (["one", "two"], None)


@pytest.mark.parametrize("query", ["status=401", "status=429", "status=503", "close=1004"])
def test_a_refusal(page: Page, daemon: Daemon, query: str) -> None:
    seen = watch(page, daemon, query)
    assert (seen["opened"], seen["code"], seen["wasClean"]) == (None, 1006, False)


def test_a_late_handshake(page: Page, daemon: Daemon) -> None:
    seen = watch(page, daemon, "handshake-delay=1s&close=1000&after=1", ["one"])
    assert seen["opened"] >= 0.99
    assert (seen["messages"], seen["code"]) == (["one"], 1000)


def test_a_late_refusal(page: Page, daemon: Daemon) -> None:
    began = time.monotonic()
    assert watch(page, daemon, "handshake-delay=1s&status=503")["code"] == 1006
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("size", [1, 7, 126])
def test_fragments(page: Page, daemon: Daemon, size: int) -> None:
    """This includes deflated fragments, because Chromium always offers permessage-deflate."""
    messages = ["", "Grüße aus 東京 😀", 1000 * "ü", "".join(map(chr, range(0x20, 0x2000)))]
    seen = watch(page, daemon, f"fragment={size}&close=1000&after={len(messages)}", messages)
    assert seen["messages"] == messages
    assert seen["code"] == 1000


def test_lost_messages(page: Page, daemon: Daemon) -> None:
    for _ in range(2):
        seen = watch(page, daemon, "drop=0.5&seed=7", list("ABCDEFGH"), QUIET)
        assert (seen["messages"], seen["code"]) == (["C", "E", "H"], None)


def test_late_messages(page: Page, daemon: Daemon) -> None:
    messages = [str(number) for number in range(100)]
    seen = watch(page, daemon, "delay=500ms&ping=100ms&close=1000&after=100", messages)
    assert seen["messages"] == messages
    assert seen["times"][0] - seen["opened"] >= 0.49
    assert seen["code"] == 1000


ECHO = """
([url, parts]) => new Promise((resolve, reject) => {
  // The page generates and compares the messages, so that no megabytes need to be carried into and out of it.
  const random = (seed) => () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  const chance = random(7), words = parts.split(" ");
  const make = () => {
    const size = [0, 1, 63, 64, 65, 2000, Math.floor(300 * 1024 * chance() ** 3)][Math.floor(chance() * 7)];
    const text = Array.from({ length: size / 3 + 1 }, () => words[Math.floor(chance() * words.length)])
        .join(" ").slice(0, size);
    if (chance() < 0.5) return text;
    const octets = chance() < 0.5 ? new TextEncoder().encode(text) : new Uint8Array(size).map(() => chance() * 256);
    return octets.buffer;
  };
  const same = (one, other) => typeof one === typeof other && (typeof one === "string" ? one === other
    : one.byteLength === other.byteLength
        && new Uint8Array(one).every((octet, at) => octet === new Uint8Array(other)[at]));
  const socket = new WebSocket(url), sent = [];
  let right = 0, left = 300;
  const send = (count) => { for (; count && left; count--, left--) { sent.push(make()); socket.send(sent.at(-1)); } };
  socket.binaryType = "arraybuffer";
  socket.onopen = () => send(1);
  socket.onmessage = (event) => {
    if (!same(sent.shift(), event.data)) return reject(new Error(`message ${right} came back as another`));
    right += 1;
    if (!sent.length && !left) resolve([right, socket.extensions]);
    // Mostly one after the other, now and then many at once.
    else if (!sent.length) send(chance() < 0.3 ? 20 : 1);
  };
  socket.onclose = (event) => reject(new Error(`closed with ${event.code} ${event.reason}`));
})
"""


@pytest.mark.parametrize("native", ["1", "0"], ids=["lane", "no lane"])
@pytest.mark.parametrize("mode", ["mirror", "deflate"])
def test_deflated_messages(page: Page, mode: str, native: str) -> None:
    """Chromium compresses with context takeover, and allows the server to request a smaller window."""
    if native == "1":
        needed_native()
    with Daemon("--compression", mode, env={"ECHOD_NATIVE": native}) as daemon:
        words = " ".join(Path(__file__).read_text().split())
        assert page.evaluate(ECHO, [daemon.url, words]) == [300, "permessage-deflate; client_max_window_bits=12"]
