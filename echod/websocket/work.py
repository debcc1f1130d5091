"""What a connection has to write, and its work that takes long, in the order in which it was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from echod.core.turns import Tasks
from echod.websocket.pauses import Pause, Pausing


class Working(Pausing):
    """A connection's tasks, and its writing."""

    _tasks: Tasks | None = None
    _answers: list[bytes] | None = None
    """What the current event has to send; None between two events, when octets are written at once."""

    # Tasks.

    def do(self, task: Iterator[bytes], size: int, is_long: bool = False) -> None:
        """Do in turns what may take long, after all that was to be done before. `is_long`: do not begin now.

        `size` is how many octets the task holds. Nothing is read until it is done, and what is sent meanwhile waits.
        """
        if self._tasks is not None:
            self._tasks.add(task, size)
            return
        self._tasks = Tasks(self.account)
        self._tasks.add(task, size)
        if not is_long:
            self.do_tasks()
        if self._tasks is not None:
            self.is_held = True
            self.factory.turns.add(self.whole)
            self.pause(Pause.BEHIND)

    def do_tasks(self) -> None:
        """Do as much of the tasks as there is time for in this turn."""
        while self._tasks:
            octets = self._tasks.step()
            if octets:
                self._write(octets)
            if self.factory.turns.is_over:
                break
        if not self._tasks:
            self._tasks = None

    def do_in_order(self, action: Callable[[], None]) -> None:
        """Call `action` now, or after the tasks that are still to be done."""
        if self._tasks:
            self._tasks.add(_calling(action), 0)
        else:
            action()

    def forget_tasks(self) -> None:
        """Leave undone what was still to be done."""
        if self._tasks is not None:
            self._tasks.clear()
            self._tasks = None

    def fail_instead(self, code: int, reason: str) -> None:
        """Fail the connection in the place of an answer, within its task.

        The answers that were to follow are left, but for a Close frame.
        """
        if self.in_open_state:
            assert self._tasks is not None
            self._tasks.clear()
        self.fail(code, reason)

    @property
    def has_tasks(self) -> bool:
        """Whether tasks are still to be done, or are being done."""
        return self._tasks is not None

    # Writing.

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:  # noqa: ARG002
        """Write, behind what is still to be done. All that Autobahn sends comes this way."""
        if self._tasks:
            self._tasks.add(iter((data,)), len(data))
        else:
            self._write(data)

    def _write(self, octets: bytes) -> None:
        """Write: in one go for all pongs and echoes of an event."""
        if self._answers is None:
            self.carrier.write(octets)
        else:
            self._answers.append(octets)

    def flush(self) -> None:
        """Write what the current event has to send so far."""
        if self._answers:
            answers, self._answers = self._answers, []
            self.carrier.write(answers[0] if len(answers) == 1 else b"".join(answers))


def _calling(action: Callable[[], None]) -> Iterator[bytes]:
    """Make a task of one step."""
    action()
    yield b""
