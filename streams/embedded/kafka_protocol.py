"""The one Kafka request that tells whether a broker is ready: Metadata, spoken without a client library's retries."""

from __future__ import annotations

import socket
import struct

_METADATA, _VERSION, _CORRELATION = 3, 1, 7
#: Request header v1 (no client id), then an empty list of topics.
_BODY = struct.pack(">hhihi", _METADATA, _VERSION, _CORRELATION, -1, 0)
_LARGEST = 1 << 20


def knows_a_broker(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether the server at host:port answers a Metadata request with at least one live broker. Raises OSError if it is away."""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(struct.pack(">i", len(_BODY)) + _BODY)
        (length,) = struct.unpack(">i", _read(connection, 4))
        if not 8 <= length <= _LARGEST:
            return False
        correlation, brokers = struct.unpack(">ii", _read(connection, length)[:8])
        return bool(correlation == _CORRELATION and brokers > 0)


def _read(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        chunk = connection.recv(length - len(received))
        if not chunk:
            raise ConnectionResetError("the connection was closed in the middle of an answer")
        received += chunk
    return received
