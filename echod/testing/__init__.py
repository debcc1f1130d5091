"""A daemon for a test suite: `Server` starts it in a process of its own, and tells what clients sent.

    from echod.testing import Server

    with Server() as server:
        ...  # connect to server.url or server.tls_url
        (connection,) = server.trace()
        assert [message.payload for message in connection.messages] == ["hello"]

Knows the command line of `echod serve`, its ready file and its log, as any other program may. Must never import the
daemon, nor pytest.
"""

from echod.testing.server import Server, StartError
from echod.testing.trace import Connection, End, Frame, Message, Trace, TraceError

__all__ = ["Connection", "End", "Frame", "Message", "Server", "StartError", "Trace", "TraceError"]
