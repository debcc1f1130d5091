"""What `twistd echod` loads: the options and the service; but first of all it hears SIGTERM.

What it imports takes half of the start's time. Until the service sets its own handlers, SIGTERM's default action ends
the process. Process 1 of a container has no default action: the kernel drops the signal. Knows signals. Must never
know options.
"""

from __future__ import annotations

import os
import signal

__all__ = ["Options", "makeService"]


def hear_sigterm(pid: int) -> None:
    """Let SIGTERM end this process, whose id is `pid`, from now on.

    The process may have been started with SIGTERM blocked, as in the image (`env --block-signal=TERM`). The kernel
    keeps a blocked signal, also for process 1, and delivers it here.
    """
    if pid == 1:
        # Nothing is served yet, nor is there anything to leave behind. An exception could be caught on the way.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


hear_sigterm(os.getpid())

from echod.options import Options, makeService  # noqa: E402  # they take long
