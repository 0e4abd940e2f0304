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
    return bool(_ports_of_brokers(host, port, timeout))


def knows_broker_at(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether the server at host:port names itself among the live brokers. Raises OSError if it is away."""
    return port in _ports_of_brokers(host, port, timeout)


def _ports_of_brokers(host: str, port: int, timeout: float) -> list[int]:
    """The ports of the live brokers in an answer to Metadata; none when it is no such answer."""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(struct.pack(">i", len(_BODY)) + _BODY)
        (length,) = struct.unpack(">i", _read(connection, 4))
        if not 8 <= length <= _LARGEST:
            return []
        answer = _read(connection, length)
    correlation, count = struct.unpack_from(">ii", answer)
    if correlation != _CORRELATION:
        return []
    found, at = [], 8
    for _ in range(count):
        # node id, host, port, rack (-1: none)
        (size,) = struct.unpack_from(">h", answer, at + 4)
        port_at = at + 6 + size
        broker_port, rack = struct.unpack_from(">ih", answer, port_at)
        found.append(broker_port)
        at = port_at + 6 + max(rack, 0)
    return found


def _read(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        chunk = connection.recv(length - len(received))
        if not chunk:
            raise ConnectionResetError("the connection was closed in the middle of an answer")
        received += chunk
    return received
