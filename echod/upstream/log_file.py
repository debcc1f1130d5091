"""twistd's log file, opened for appending.

Twisted's own log file writes where its last line ended. So the lines of two processes overwrite each other, and after
a log rotation that copies and truncates the file (logrotate's `copytruncate`) the next line follows a hole of zeros.

Knows the file. Must never know what is written to it.
"""

from __future__ import annotations

import fcntl
import os

from twisted.python.logfile import LogFile


class AppendedLogFile(LogFile):
    """Writes each line at the end of the file, wherever the end is at that time."""

    def _openFile(self) -> None:
        super()._openFile()
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)
