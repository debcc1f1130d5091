"""What `twistd echod` and `echod serve` load: the options and the service. First of all, SIGTERM is heard.

The imports take half of the time of a start. Until the service handles signals, SIGTERM ends the process at once.
"""

from __future__ import annotations

import os

from echod.run.signals import hear_sigterm

__all__ = ["Options", "makeService"]

hear_sigterm(os.getpid())

from echod.options import Options, makeService  # noqa: E402  # they take long
