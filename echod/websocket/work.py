"""A connection's writing and its long work, both in the order in which they were asked for.

Work that takes long is a task, an iterator of short steps. Until all tasks are done, nothing is read, and everything
that is sent waits behind them. Connections with tasks stand in the line of `core.turns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from echod.core.turns import Tasks
from echod.websocket.pauses import Pause, Pausing


class Working(Pausing):
    """A connection's tasks, and its writing."""

    _tasks: Tasks | None = None
    """The tasks that are waiting or running; None if there are none. While a task runs that has dropped all tasks
    (`fail_instead`), this is empty and not None: nothing is read yet, but what is sent has nothing to wait for."""
    _to_send: list[bytes] | None = None
    """What the current event has to send; None between two events, when bytes are written at once."""

    # Tasks.

    def do(self, task: Iterator[bytes], size: int, is_long: bool = False) -> None:
        """Run a task that may take long, in turns, after all earlier tasks. `is_long`: do not begin now.

        `size` is how many bytes the task holds.
        """
        if self._tasks is not None:
            self._tasks.add(task, size)
            return
        self._tasks = Tasks(self.account)
        self._tasks.add(task, size)
        if not is_long:
            self.do_tasks()
        if self._tasks is not None:
            self.autobahn_is_frozen = True
            self.factory.turns.add(self.whole)
            self.pause(Pause.BEHIND)

    def do_tasks(self) -> None:
        """Do as many steps of the tasks as there is time for in this turn."""
        while self._tasks:
            octets = self._tasks.step()
            if octets:
                self._write(octets)
            if self.factory.turns.is_over:
                break
        if not self._tasks:
            self._tasks = None

    def do_in_order(self, action: Callable[[], None]) -> None:
        """Call `action` now, or after the tasks that are waiting."""
        if self._tasks:
            self._tasks.add(_calling(action), 0)
        else:
            action()

    def forget_tasks(self) -> None:
        """Drop all tasks."""
        if self._tasks is not None:
            self._tasks.clear()
            self._tasks = None

    def fail_instead(self, code: int, reason: str) -> None:
        """Fail the connection. Call this from a task, in place of its answer.

        The waiting tasks are dropped; only the Close frame is sent.
        """
        if self.in_open_state:
            assert self._tasks is not None
            self._tasks.clear()
        self.fail(code, reason)

    @property
    def has_tasks(self) -> bool:
        """Whether a task is waiting or running."""
        return self._tasks is not None

    # Writing.

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:  # noqa: ARG002
        """Write, after the waiting tasks. Everything that Autobahn sends comes this way."""
        if self._tasks:
            self._tasks.add(iter((data,)), len(data))
        else:
            self._write(data)

    def _write(self, octets: bytes) -> None:
        """Write: within an event, all pongs and echoes go out together at its end."""
        if self._to_send is None:
            self.carrier.write(octets)
        else:
            self._to_send.append(octets)

    def flush(self) -> None:
        """Write now what the current event has to send so far."""
        if self._to_send:
            answers, self._to_send = self._to_send, []
            self.carrier.write(answers[0] if len(answers) == 1 else b"".join(answers))


def _calling(action: Callable[[], None]) -> Iterator[bytes]:
    """Make `action` a task of one step."""
    action()
    yield b""
