"""twistd's log file, opened for appending.

Twisted's own writes where its last line ended: the lines of two processes overwrite each other, and a file that is
copied and cut by whoever rotates logs (logrotate's `copytruncate`) goes on behind a hole of zeros.

Knows the file. Must never know what is written.
"""

from __future__ import annotations

import fcntl
import os

from twisted.python.logfile import LogFile


class AppendedLogFile(LogFile):
    """Writes each line to the end of the file, wherever that is by then."""

    def _openFile(self) -> None:
        super()._openFile()
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)
