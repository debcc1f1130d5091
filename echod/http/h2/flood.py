"""What a client may do only so often, because it costs the client nothing and the server some work or memory: reset
streams, send pings, and the like.

Knows the headers of frames, the limits, and the time. Must never know a stream, nor what a frame does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from echod.http.h2 import frames
from echod.http.h2.frames import Frame
from echod.settings import Settings

RESETS, EMPTY, WITHOUT_EFFECT = "resets", "empty DATA frames", "frames without effect"
_COUNTED = {
    frames.SETTINGS: "SETTINGS frames",
    frames.PING: "PING frames",
    frames.WINDOW_UPDATE: "WINDOW_UPDATE frames",
}
"""What a client may do only so often. The names are those of the log and of GOAWAY."""


class FloodError(Exception):
    """A client does more than it may. The text says of what."""


class Allowance:
    """What one client may do, by its kind: `most` times in `seconds`. It may do all of it at once, and then gets it
    back evenly."""

    __slots__ = ("_left", "_most", "_seconds")

    def __init__(self, most: Mapping[str, int], seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._left: dict[str, tuple[float, float]] = {}

    def use(self, kind: str, now: float) -> bool:
        """Note one use at the time `now`, and tell whether there was one left."""
        most = self._most[kind]
        left, before = self._left.get(kind, (float(most), now))
        left = min(float(most), left + (now - before) * most / self._seconds) - 1
        self._left[kind] = max(left, 0.0), now
        return left >= 0


class FloodWatch:
    """Watches the frames of one client. Raises `FloodError`."""

    def __init__(self, settings: Settings, clock: Any) -> None:
        self._settings = settings
        self._clock = clock
        self._allowance = Allowance(
            {
                RESETS: settings.max_resets,
                EMPTY: settings.max_empty,
                WITHOUT_EFFECT: settings.max_priorities,
                _COUNTED[frames.SETTINGS]: settings.max_settings,
                _COUNTED[frames.PING]: settings.max_pings,
                _COUNTED[frames.WINDOW_UPDATE]: settings.max_window_updates,
            },
            settings.flood_time,
        )
        self._block_frames = 0
        self.block_size = 0
        """Bytes of the header block that is not complete."""
        self._window_updates = 0
        """WINDOW_UPDATE frames that the client may send for the DATA frames that it has got."""

    def check(self, frame: Frame, is_open: bool, is_late: bool) -> None:
        """Check a frame that has come. `is_open`: its stream is open; `is_late`: its stream was, and has ended."""
        if frame.kind in (frames.HEADERS, frames.CONTINUATION):
            self._check_block(frame)
            if frame.kind == frames.HEADERS and is_late:
                self.use(WITHOUT_EFFECT)
        elif frame.kind == frames.DATA:
            if is_late and not frame.payload_size:
                self.use(EMPTY)
        elif frame.kind == frames.WINDOW_UPDATE and self._window_updates:
            self._window_updates -= 1
        else:
            if frame.kind == frames.SETTINGS:
                self.check_settings(frame.payload_size // frames.SETTING_SIZE)
            self.use(_kind_of(frame, is_open))

    def check_settings(self, number: int) -> None:
        """Check how many settings one frame has, or the client altogether."""
        if number > self._settings.max_setting_entries:
            raise FloodError("too many settings")

    def _check_block(self, frame: Frame) -> None:
        """Check a part of a header block."""
        if frame.kind == frames.HEADERS:
            self._block_frames = self.block_size = 0
        else:
            self._block_frames += 1
        self.block_size += frame.payload_size
        if self._block_frames > self._settings.max_continuations:
            raise FloodError("too many CONTINUATION frames")
        if self.block_size > self._settings.max_header_list:
            raise FloodError("a header list that is too large")
        if frame.flags & frames.END_HEADERS:
            self.block_size = 0

    def use(self, kind: str) -> None:
        """Note that the client has done something of this kind once more."""
        if not self._allowance.use(kind, self._clock.seconds()):
            raise FloodError(f"too many {kind}")

    def gave_data(self) -> None:
        """Note that the client has got a DATA frame, for which it may open windows."""
        self._window_updates += self._settings.window_updates_per_data


def _kind_of(frame: Frame, is_open: bool) -> str:
    """Return which of the limits a frame counts for."""
    if frame.kind == frames.RST_STREAM:
        return RESETS if is_open else WITHOUT_EFFECT
    if frame.kind in (frames.SETTINGS, frames.PING) and frame.flags & frames.ACK:
        return WITHOUT_EFFECT
    return _COUNTED.get(frame.kind, WITHOUT_EFFECT)
