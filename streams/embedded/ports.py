"""Free loopback ports for embedded servers."""

from __future__ import annotations

import errno
import random
import socket
from collections import deque

HOST = "127.0.0.1"

#: Below the ports that Linux (32768 up) and macOS (49152 up) hand to outgoing connections. A server that is killed and started
#: again needs its port back, and a client that keeps trying to reach a port of that range can be connected to itself and hold it.
FIRST, LAST = 20_000, 32_000

#: What was given out lately, and may not be listened on yet: servers that are made together must not choose the same one.
_given: deque[int] = deque(maxlen=1_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do, so that connections that linger after a restart are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port(second: int = 0) -> int:
    """A loopback port that nothing listens on, and that was not given out lately by this process.

    With `second`, the port that lies so far above it is free as well. Nothing is reserved: the caller tries again if another process
    takes it first.
    """
    source = random.SystemRandom()
    for _ in range(1_000):
        # With a second port, half of the range is below FIRST: both then stay below LAST.
        port = source.randint(FIRST - second // 2, LAST - second)
        both = {port, port + second}
        if both.isdisjoint(_given) and all(map(is_free, both)):
            _given.extend(both)
            return port
    raise OSError(errno.EADDRINUSE, f"no free port between {FIRST} and {LAST} on {HOST}")
