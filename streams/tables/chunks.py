"""The bytes of a chunk: the exact measures of up to 128 neighbouring rows of a cube in one pane.

A chunk is a msgpack pair: the row numbers within the chunk (one byte each), and measure -> column. A column begins with a byte naming the
narrowest integer type that holds it; rows and columns of zeros are left out. 128 rows a chunk balance the two ways of reading: a table
wants many rows of few panes, a series few rows of many panes (docs/decisions.md has the measurements).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

import msgpack
import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled, compiled_for_any

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
CHUNK = 128

#: Rows up to which plain Python packs a chunk faster than numpy does.
_FEW = 16

_TYPES = {b"b": "<i1", b"h": "<i2", b"i": "<i4", b"q": "<i8"}
_SIZES = {code: int(name[-1]) for code, name in _TYPES.items()}
_LIMITS = ((b"b", 0x7F), (b"h", 0x7FFF), (b"i", 0x7FFF_FFFF))
#: msgpack's first bytes of: a pair, up to 15 entries, more of them, up to 255 bytes, more of them.
_PAIR, _FEW_ENTRIES, _ENTRIES, _FEW_BYTES, _BYTES = 0x92, 0x80, 0xDE, 0xC4, 0xC5


def pack_all(columns: Mapping[str, Ints], numbers: Sequence[int]) -> list[bytes]:
    """The chunks of those numbers, ascending, of measures that are arrays by row number. Empty bytes for a chunk where all is zero."""
    if not numbers or not columns:
        return [b""] * len(numbers)
    if len(numbers) == 1 and (few := _pack_few(columns, numbers[0] * CHUNK)) is not None:
        return [few]
    # Chunk by measure by row. All chunks are looked at together: a handful of calls for each would cost more than the bytes do.
    cells = np.zeros((len(numbers), len(columns), CHUNK), np.int64)
    wanted = np.array(numbers, np.int64)
    for measure, column in enumerate(columns.values()):
        whole = len(column) // CHUNK
        inside = int(np.searchsorted(wanted, whole))
        cells[:inside, measure] = column[: whole * CHUNK].reshape(whole, CHUNK)[wanted[:inside]]
        if inside < len(wanted) and wanted[inside] == whole:
            cells[inside, measure, : len(column) - whole * CHUNK] = column[whole * CHUNK :]
    names = [msgpack.packb(name) for name in columns]
    # A pair of rows and of columns, each with what begins it.
    most = 1 + (3 + CHUNK) + 3 + sum(map(len, names)) + len(names) * (3 + 1 + 8 * CHUNK)
    packed, ends = np.empty(len(numbers) * most, np.uint8), np.empty(len(numbers), np.int64)
    _pack(cells.reshape(-1), np.frombuffer(b"".join(names), np.uint8), np.cumsum([len(name) for name in names]), packed, ends)
    stored = packed[: ends[-1]].tobytes()
    return [stored[begin:end] for begin, end in itertools.pairwise([0, *ends.tolist()])]


def _pack_few(columns: Mapping[str, Ints], at: int) -> bytes | None:
    """The chunk that begins with the row `at`; None where it has more than a few rows.

    Late events touch very many chunks of few rows: a spend report of a month ahead nearly a million of one row each.
    """
    lists = [column[at : at + CHUNK].tolist() for column in columns.values()]
    if max(map(len, lists), default=0) <= _FEW:
        rows = sorted({row for values in lists for row, value in enumerate(values) if value})
    else:
        present = {row for column in columns.values() for row in column[at : at + CHUNK].nonzero()[0].tolist()}
        if len(present) > _FEW:
            return None
        rows = sorted(present)
    packed = {}
    for name, column in zip(columns, lists, strict=True):
        values = [column[row] if row < len(column) else 0 for row in rows]
        lowest, highest = min(values, default=0), max(values, default=0)
        if lowest or highest:
            code = _code(lowest, highest)
            packed[name] = code + b"".join([value.to_bytes(_SIZES[code], "little", signed=True) for value in values])
    return msgpack.packb((bytes(rows), packed)) if rows else b""


def unpack(chunk: bytes) -> tuple[Ints, dict[str, Ints]]:
    """Row numbers within the chunk, and measure -> values of those rows."""
    rows, packed = msgpack.unpackb(chunk)
    return (
        np.frombuffer(rows, np.uint8).astype(np.int64),
        {name: np.frombuffer(column, _TYPES[column[:1]], offset=1).astype(np.int64) for name, column in packed.items()},
    )


def unpack_all(stored: Sequence[bytes], wanted: Collection[str] | None = None) -> tuple[Ints, Ints, dict[str, Ints]]:
    """Many chunks at once: row numbers within their chunks, how many rows each chunk has, and measure -> values of all those rows.

    `wanted` limits the measures. What a chunk leaves out is 0.
    """
    opened = [msgpack.unpackb(chunk) for chunk in stored]
    lengths = np.fromiter((len(rows) for rows, _ in opened), np.int64, len(opened))
    rows = np.frombuffer(b"".join([rows for rows, _ in opened]), np.uint8).astype(np.int64)
    # Measure -> code of a type -> which chunks have such a column, and the columns.
    columns: dict[str, dict[bytes, tuple[list[int], list[bytes]]]] = {}
    for number, (_, packed) in enumerate(opened):
        for name, column in packed.items():
            if wanted is None or name in wanted:
                having, parts = columns.setdefault(name, {}).setdefault(column[:1], ([], []))
                having.append(number)
                parts.append(column[1:])
    return rows, lengths, {name: _column(by_type, lengths, len(rows)) for name, by_type in columns.items()}


def _column(by_type: Mapping[bytes, tuple[list[int], list[bytes]]], lengths: Ints, rows: int) -> Ints:
    result = np.zeros(rows, np.int64)
    for code, (having, parts) in by_type.items():
        values = np.frombuffer(b"".join(parts), _TYPES[code])
        if len(having) == len(lengths):
            return values.astype(np.int64)
        chosen = np.zeros(len(lengths), np.bool_)
        chosen[having] = True
        result[np.repeat(chosen, lengths)] = values
    return result


def _code(lowest: int, highest: int) -> bytes:
    """The narrowest type for values between these."""
    # Of the lowest not the absolute value: the smallest integer of a type is one farther from zero than the largest.
    largest = max(highest, -1 - lowest)
    for code, limit in _LIMITS:
        if largest <= limit:
            return code
    return b"q"


@compiled
def _begin_bytes(packed: Bytes, at: int, length: int) -> int:
    """What begins so many bytes; returns where they go."""
    if length < 1 << 8:
        packed[at], packed[at + 1] = _FEW_BYTES, length
        return at + 2
    packed[at], packed[at + 1], packed[at + 2] = _BYTES, length >> 8, length & 0xFF
    return at + 3


@compiled_for_any
def _pack(cells: Ints, names: Bytes, name_ends: Ints, packed: Bytes, ends: Ints) -> None:
    """The chunks of `cells`, which are chunk by measure by row, one behind the other; `ends` says where each ends.

    `names` are those of the measures, packed, one behind the other.
    """
    measures = len(name_ends)
    size = len(cells) // (len(ends) * measures)
    rows, widths = np.empty(size, np.uint8), np.empty(measures, np.int64)
    at = 0
    for chunk in range(len(ends)):
        first = chunk * measures * size
        length = 0
        for row in range(size):
            for measure in range(measures):
                if cells[first + measure * size + row]:
                    rows[length] = row
                    length += 1
                    break
        present = 0
        for measure in range(measures):
            largest = np.int64(0)
            zero = True
            for row in range(size):
                value = cells[first + measure * size + row]
                # The smallest integer of a type is one farther from zero than the largest.
                largest = max(largest, value if value >= 0 else -1 - value)
                zero = zero and value == 0
            widths[measure] = 0 if zero else 1 if largest <= 0x7F else 2 if largest <= 0x7FFF else 4 if largest <= 0x7FFF_FFFF else 8
            present += not zero
        if length:
            packed[at] = _PAIR
            at = _begin_bytes(packed, at + 1, length)
            packed[at : at + length] = rows[:length]
            at += length
            if present < 16:
                packed[at] = _FEW_ENTRIES | present
                at += 1
            else:
                packed[at], packed[at + 1], packed[at + 2] = _ENTRIES, present >> 8, present & 0xFF
                at += 3
        for measure in range(measures):
            width = widths[measure]
            if not width:
                continue
            for i in range(name_ends[measure - 1] if measure else 0, name_ends[measure]):
                packed[at] = names[i]
                at += 1
            at = _begin_bytes(packed, at, 1 + width * length)
            # b, h, i and q: what `_code` says in Python.
            packed[at] = 0x62 if width == 1 else 0x68 if width == 2 else 0x69 if width == 4 else 0x71
            at += 1
            for k in range(length):
                value = cells[first + measure * size + rows[k]]
                for byte in range(width):
                    packed[at] = (value >> (8 * byte)) & 0xFF
                    at += 1
        ends[chunk] = at
