"""The bytes of a chunk: the exact measures of up to 128 neighbouring rows of a cube in one pane.

A chunk is a msgpack pair: the row numbers within the chunk (one byte each), and measure -> column. A column begins with a byte naming the
narrowest integer type that holds it; rows and columns of zeros are left out. 128 rows a chunk balance the two ways of reading: a table
wants many rows of few panes, a series few rows of many panes (docs/decisions.md has the measurements).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgpack
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
CHUNK = 128

_TYPES = {b"b": "<i1", b"h": "<i2", b"i": "<i4", b"q": "<i8"}
_LIMITS = ((b"b", 0x7F), (b"h", 0x7FFF), (b"i", 0x7FFF_FFFF))


def pack(columns: Mapping[str, Ints]) -> bytes:
    """Measures of one chunk, each an array of at most 128 values by row number -> bytes. Empty bytes where all is zero."""
    matrix = np.array(list(columns.values()))
    present = np.flatnonzero(matrix.any(axis=0)) if len(matrix) else np.empty(0, np.intp)
    if not len(present):
        return b""
    chosen = matrix[:, present]
    lowest, highest = chosen.min(axis=1).tolist(), chosen.max(axis=1).tolist()
    packed = {name: _narrow(row, low, high) for name, row, low, high in zip(columns, chosen, lowest, highest, strict=True) if low or high}
    result: bytes = msgpack.packb((present.astype(np.uint8).tobytes(), packed))
    return result


def unpack(chunk: bytes) -> tuple[Ints, dict[str, Ints]]:
    """Row numbers within the chunk, and measure -> values of those rows."""
    rows, packed = msgpack.unpackb(chunk)
    return (
        np.frombuffer(rows, np.uint8).astype(np.int64),
        {name: np.frombuffer(column, _TYPES[column[:1]], offset=1).astype(np.int64) for name, column in packed.items()},
    )


def _narrow(values: Ints, lowest: int, highest: int) -> bytes:
    # Of the lowest not the absolute value: the smallest integer of a type is one farther from zero than the largest.
    largest = max(highest, -1 - lowest)
    for code, limit in _LIMITS:
        if largest <= limit:
            return code + values.astype(_TYPES[code]).tobytes()
    return b"q" + values.tobytes()
