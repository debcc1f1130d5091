"""What the door tells its host, and that nothing that goes wrong at the host reaches the reactor."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from twisted.logger import capturedLogs, eventAsText

from echod.lane.door import LEFT_LOST, LOST, TIMED_OUT, Door, Guest
from echod.lane.ended import Ended
from tests.frames import CLOSE, TEXT, client_frame, close_payload, handshake
from tests.lane.links import lane_of, with_library
from tests.lane.native.test_verdicts import answered
from tests.loop import DEADLINE, Bed

HEAD = handshake("/", "X-Kept: mine")


class FakeHost:
    """Notes what it is told, and closes what it is given."""

    room = 10

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.told_times = 0
        self.fails = False

    def _note(self, *words: object) -> None:
        self.heard.append(words)
        if self.fails:
            raise RuntimeError("the host fails")

    def arrived(self, endpoint: int, descriptor: int, octets: bytes, age: float, is_admitted: bool) -> None:
        assert 0 <= age < DEADLINE
        socket.close(descriptor)
        self._note("arrived", endpoint, octets, is_admitted)

    def accept(self, endpoint: int) -> None:
        self._note("accept", endpoint)

    def becomes(self, guest: Guest, ended: Ended) -> None:
        socket.close(guest.descriptor)
        assert 0 <= guest.silent <= guest.age < DEADLINE
        self._note("becomes", guest.endpoint, guest.head, guest.messages, guest.octets, ended)

    def left(self, age: float, code: int) -> None:
        assert 0 <= age < DEADLINE
        self._note("left", code)

    def passed(self, lost: int, timed_out: int) -> None:
        self._note("passed", lost, timed_out)

    def told(self) -> None:
        self.told_times += 1


def pending(scene: Scene) -> int:
    """Return how many bytes the only guest has not taken."""
    lease = scene.door._lib.echod_door_first(scene.door._door).lease
    return int(scene.door._lib.echod_lease_pending(lease))


class Scene:
    """A door, its host, and its clients."""

    def __init__(self, made: Bed) -> None:
        self.bed = made
        self.lane = lane_of(made)
        self.host = FakeHost()
        self.door: Door = self.lane.make_door(self.host, b"x-kept", 1000)
        assert self.lane.remember(HEAD, answered(HEAD), None)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        assert self.door.open(self.listener.fileno(), 7)
        self.clients: list[socket.socket] = []

    def dial(self, octets: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), timeout=DEADLINE)
        self.clients.append(client)
        client.sendall(octets)
        return client

    def until_heard(self, *heard: object) -> None:
        self.bed.loop.until(lambda: self.host.heard)
        assert self.host.heard == [*heard]
        self.host.heard.clear()

    def guest(self) -> socket.socket:
        client = self.dial(HEAD)
        before = self.door.guests
        self.bed.loop.until(lambda: self.door.guests > before)
        return client


@pytest.fixture
def scene(lane_bed: Bed) -> Iterator[Scene]:
    made = Scene(lane_bed)
    yield made
    made.host.fails = False
    made.door.close(7)
    made.door.turn_out(100)
    made.door.recall(100)
    assert made.door.count == 0
    for each in (made.listener, *made.clients):
        each.close()


BECOMES = ("becomes", 7, HEAD.replace(b"Key: ", b"Key:"), 0, 0)


def test_what_is_told(scene: Scene) -> None:
    scene.dial(b"hello")
    scene.until_heard(("arrived", 7, b"hello", True))
    scene.guest().close()
    scene.until_heard(("left", 0))
    scene.guest().sendall(client_frame(CLOSE, close_payload(1001, "")))
    scene.until_heard(("left", 1001))
    scene.dial().close()
    scene.until_heard(("passed", 1, 0))
    scene.guest().sendall(client_frame(11, b""))
    scene.until_heard((*BECOMES, Ended(b"", client_frame(11, b""), is_over=False, is_lost=False)))
    assert scene.host.told_times >= 4


def test_a_turn_without_news_tells_nothing(scene: Scene) -> None:
    """But each change is told of, also that a visitor or a guest has come: the host has to look after them."""
    guest = scene.guest()
    before = scene.host.told_times
    guest.sendall(client_frame(TEXT, b"hello"))
    scene.bed.loop.until(lambda: scene.lane.sums.text.messages)
    scene.lane.doRead()
    assert scene.host.told_times == before
    scene.dial()
    scene.bed.loop.until(lambda: scene.door.visitors == 1)
    assert scene.host.told_times == before + 1
    scene.guest()
    assert scene.host.told_times == before + 2
    assert scene.host.heard == []


def test_looks(scene: Scene) -> None:
    """Visitors and guests are told of when their time is over."""
    scene.guest()
    scene.dial()
    scene.bed.loop.until(lambda: scene.door.count == 2)
    scene.door.expire(DEADLINE)
    scene.door.set_keepalive(DEADLINE, 0)
    assert scene.door.look(5) == 1
    scene.door.judge()
    assert scene.host.heard == []
    scene.door.expire(-1)
    scene.until_heard(("passed", 0, 1))
    scene.door.set_keepalive(1e-9, 1e-9)
    assert scene.door.look(5) == 1
    scene.door.judge()
    scene.until_heard(("left", TIMED_OUT))
    assert (scene.lane._lib.ECHOD_LOST, scene.lane._lib.ECHOD_TIMED_OUT) == (LOST, TIMED_OUT)


def test_turned_out(scene: Scene) -> None:
    """As many go as are asked for."""
    for _ in range(3):
        scene.guest()
    scene.dial()
    scene.bed.loop.until(lambda: scene.door.count == 4)
    scene.door.turn_out(0)
    assert scene.host.heard == []
    scene.door.turn_out(2)
    scene.door.recall(2)
    assert [words[0] for words in scene.host.heard if isinstance(words, tuple)] == ["arrived", "becomes", "becomes"]
    assert (scene.door.count, scene.door.guests) == (1, 1)


def test_room(scene: Scene) -> None:
    """The host is asked before each turn."""
    scene.host.room = -5
    scene.dial(HEAD)
    scene.until_heard(("arrived", 7, b"", False))


def test_a_host_that_fails(scene: Scene) -> None:
    """It is told of the others all the same."""
    scene.guest()
    scene.dial()
    scene.bed.loop.until(lambda: scene.door.count == 2)
    scene.host.fails = True
    with capturedLogs() as events:
        scene.door.turn_out(5)
        scene.door.recall(5)
    texts = [eventAsText(event) for event in events]
    assert [text.partition("\n")[0].partition("] ")[2] or text for text in texts] != []
    assert sum("could not be made" in text for text in texts) == 2
    assert scene.door.count == 0


def test_an_endpoint_without_descriptors(scene: Scene) -> None:
    """The host accepts there."""
    native = scene.lane._native
    arrival = native.ffi.new("echod_arrival *", {"fd": -1, "endpoint": 7})
    scene.door._lib = with_library(native, echod_arrival_free=bool).lib
    scene.door._tell_arrival(arrival)
    assert scene.host.heard == [("accept", 7)]
    scene.host.heard.clear()


class NoMemory:
    """cffi's interface when memory is short."""

    def __init__(self, ffi: Any) -> None:
        self._ffi = ffi

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ffi, name)

    def buffer(self, *_: object) -> NoReturn:
        raise MemoryError

    def new(self, *_: object) -> NoReturn:
        raise MemoryError


@pytest.mark.parametrize("kind", ["arrival", "guest", "leaver"])
def test_no_memory_to_tell_of_a_connection(scene: Scene, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor is closed, and its end is counted."""
    client = scene.dial() if kind == "arrival" else scene.guest()
    if kind == "arrival":
        scene.bed.loop.until(lambda: scene.door.visitors)
    elif kind == "leaver":
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        scene.bed.loop.until(lambda: not pending(scene))
        assert not scene.door.see_off(b"\x88\x00")
        assert client.recv(2) == b"\x88\x00"
    monkeypatch.setattr(scene.door, "_ffi", NoMemory(scene.door._ffi))
    client.sendall(b"x" if kind == "arrival" else client_frame(11, b""))
    scene.until_heard({"arrival": ("passed", 1, 0), "guest": ("left", LOST), "leaver": ("left", LEFT_LOST)}[kind])
    client.setblocking(True)
    rest = client.recv(1000)
    assert rest == b"" or (kind == "guest" and rest.startswith(b"HTTP/1.1 101 ") and client.recv(1) == b"")
    assert scene.door.count == 0


def test_no_memory(lane_bed: Bed) -> None:
    lane = lane_of(lane_bed)
    null = lane._ffi.NULL
    lane._native = with_library(lane._native, echod_verdicts_new=lambda *_: null)
    with pytest.raises(MemoryError):
        lane.make_door(FakeHost(), b"", 1000)


def test_times_before_the_start() -> None:
    """A machine that has just started has no time that is long ago."""
    from echod.lane.door import _ago  # noqa: PLC0415

    assert _ago(time.monotonic() + 1000) == 0
