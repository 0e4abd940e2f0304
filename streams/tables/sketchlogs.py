"""Sketches of one cube in one pane, as the owner of the partition keeps them: what is new goes to the end of a log.

A log's entry is 8 bytes: row code (32 bits), then a user's hash (32), or a bucket (16) and a count (16). Logs of any panes and partitions
merge by being read one after the other, so a reader needs no more than the bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.kpis.sketches import REGISTERS, SPARSE_LIMIT, register_and_rank
from streams.tables.sortedkeys import SortedKeys

Ints = NDArray[np.int64]
Entries = NDArray[np.uint64]
Bools = NDArray[np.bool_]

_32 = np.uint64(32)
_LOW_32 = np.uint64(0xFFFF_FFFF)
_MAX_COUNT = 0xFFFF


class ReachLog:
    """Distinct users per row. An entry is kept only when it changes what a reader would estimate."""

    def __init__(self, entries: Entries | None = None) -> None:
        self._seen = SortedKeys()
        self._count: dict[int, int] = {}
        self._dense: dict[int, NDArray[np.uint8]] = {}
        self._pending: list[Entries] = []
        if entries is not None and len(entries):
            self.add(np.unique(entries))
            self._pending.clear()

    def add(self, entries: Entries) -> Bools:
        """Add entries, ascending and different from each other; returns which of them changed a row."""
        changed = np.zeros(len(entries), np.bool_)
        codes = (entries >> _32).astype(np.int64)
        dense = np.isin(codes, list(self._dense))
        sparse = np.flatnonzero(~dense)
        if len(sparse):
            new = self._seen.add(entries[sparse], np.zeros(len(sparse), np.int64))
            changed[sparse[new]] = True
            for code, count in zip(*np.unique(codes[sparse[new]], return_counts=True), strict=True):
                self._count[int(code)] = self._count.get(int(code), 0) + int(count)
                if self._count[int(code)] >= SPARSE_LIMIT:
                    self._make_dense(int(code))
        for code in np.unique(codes[dense]):
            at = np.flatnonzero(codes == code)
            changed[at] = self._raise(self._dense[int(code)], entries[at])
        if changed.any():
            self._pending.append(entries[changed])
        return changed

    def take(self) -> bytes:
        """What is to be appended to the log since the last call."""
        result = np.concatenate(self._pending).tobytes() if self._pending else b""
        self._pending.clear()
        return result

    @property
    def cells(self) -> int:
        """Memory held, in table cells of 8 bytes."""
        return self._seen.cells + len(self._dense) * REGISTERS // 8

    def _make_dense(self, code: int) -> None:
        entries, _ = self._seen.items()
        self._dense[code] = np.zeros(REGISTERS, np.uint8)
        self._raise(self._dense[code], entries[(entries >> _32) == np.uint64(code)])

    @staticmethod
    def _raise(registers: NDArray[np.uint8], entries: Entries) -> Bools:
        register, rank = register_and_rank((entries & _LOW_32).astype(np.uint32))
        higher = rank > registers[register]
        np.maximum.at(registers, register, rank)
        return higher


class CountLog:
    """Values per row and logarithmic bucket. The log is written anew when it has become twice as long as its content."""

    def __init__(self, entries: Entries | None = None) -> None:
        self._counts = SortedKeys()
        self._pending: list[Entries] = []
        self._length = 0
        if entries is not None and len(entries):
            keys, counts = split_counts(entries)
            unique, inverse = np.unique(keys, return_inverse=True)
            self._counts = SortedKeys(unique, np.bincount(inverse, weights=counts.astype(np.float64)).astype(np.int64))
            self._length = len(entries)

    def add(self, keys: Entries, counts: Ints) -> None:
        """Add counts to keys (code << 16 | bucket), which must ascend and be different from each other."""
        self._counts.add(keys, counts)
        self._pending.append(_count_entries(keys, counts))

    def take(self) -> tuple[bytes, bool]:
        """What is to be written since the last call, and whether it replaces the log instead of being appended."""
        if not self._pending:
            return b"", False
        entries = np.concatenate(self._pending)
        self._pending.clear()
        self._length += len(entries)
        if self._length > 2 * len(self._counts) + 64:
            keys, counts = self._counts.items()
            entries = _count_entries(keys, counts)
            self._length = len(entries)
            return entries.tobytes(), True
        return entries.tobytes(), False

    @property
    def cells(self) -> int:
        """Memory held, in table cells of 8 bytes."""
        return self._counts.cells


def split_counts(entries: Entries) -> tuple[Entries, Ints]:
    """Entries of a count log -> keys (code << 16 | bucket) and counts."""
    return entries >> np.uint64(16), (entries & np.uint64(_MAX_COUNT)).astype(np.int64)


def _count_entries(keys: Entries, counts: Ints) -> Entries:
    result = []
    while len(counts):
        now = np.minimum(counts, _MAX_COUNT)
        result.append((keys << np.uint64(16)) | now.astype(np.uint64))
        more = counts > _MAX_COUNT
        keys, counts = keys[more], counts[more] - _MAX_COUNT
    return np.concatenate(result) if result else np.empty(0, np.uint64)
