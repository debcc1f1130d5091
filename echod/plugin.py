"""What `twistd echod` loads: the options and the service; but first of all it hears SIGTERM.

The rest takes half of the start's time to load. Until the service has its own handlers SIGTERM ends the process by its default, but for
process 1 of a container: there is no default for that one, and the kernel drops the signal. Knows signals. Must never know options.
"""

from __future__ import annotations

import os
import signal

__all__ = ["Options", "makeService"]


def hear_sigterm(pid: int) -> None:
    """Let SIGTERM end this process, whose id is `pid`, from now on.

    The process may have been started with SIGTERM blocked, as in the image (`env --block-signal=TERM`). The kernel keeps a blocked signal,
    also for process 1, and delivers it here.
    """
    if pid == 1:
        # Nothing is served yet, nor is there anything to leave behind. An exception could be caught on the way.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


hear_sigterm(os.getpid())

from echod.options import Options, makeService  # noqa: E402  # they take long
