"""Sketches of one cube in one pane, as the owner of the partition keeps them: what is new goes to the end of a log.

A log's entry is 8 bytes: row code (32 bits), then a user's hash (32), or a bucket (16) and a count (16). Logs of any panes and partitions
merge by being read one after the other, so a reader needs no more than the bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streams.kpis.sketches import REGISTERS, SPARSE_LIMIT, register_and_rank
from streams.tables.sortedkeys import SortedKeys, SortedSet, ascending

Ints = NDArray[np.int64]
Entries = NDArray[np.uint64]
Bools = NDArray[np.bool_]

_32 = np.uint64(32)
_LOW_32 = np.uint64(0xFFFF_FFFF)
_MAX_COUNT = 0xFFFF


class ReachLog:
    """Distinct users per row. An entry is kept only when it changes what a reader would estimate."""

    def __init__(self, entries: Entries | None = None) -> None:
        self._seen = SortedSet()
        #: Per row code: distinct users while they are counted exactly, and which block of registers it has, -1 for none.
        self._count = np.zeros(0, np.int32)
        self._block = np.zeros(0, np.int32)
        self._blocks = 0
        self._registers = np.zeros(0, np.uint8)
        self._pending: list[Entries] = []
        if entries is not None and len(entries):
            self.add(ascending(entries))
            self._pending.clear()

    def add(self, entries: Entries) -> Bools:
        """Add entries, ascending and different from each other; returns which of them changed a row."""
        codes = (entries >> _32).astype(np.int64)
        self._make_room(int(codes[-1]) + 1)
        if self._blocks:
            block = self._block[codes]
            dense = block >= 0
            changed = np.empty(len(entries), np.bool_)
            changed[dense] = self._raise(block[dense], entries[dense])
            changed[~dense] = self._count_exactly(codes[~dense], entries[~dense])
        else:
            changed = self._count_exactly(codes, entries)
        kept = entries if changed.all() else entries[changed]
        if len(kept):
            self._pending.append(kept)
        return changed

    def take(self) -> bytes:
        """What is to be appended to the log since the last call."""
        result = np.concatenate(self._pending).tobytes() if self._pending else b""
        self._pending.clear()
        return result

    @property
    def cells(self) -> int:
        """Memory held, in table cells of 8 bytes."""
        return len(self._seen) + len(self._count) + len(self._registers) // 8

    def _make_room(self, rows: int) -> None:
        if rows > len(self._count):
            more = max(rows, 2 * len(self._count)) - len(self._count)
            self._count = np.concatenate((self._count, np.zeros(more, np.int32)))
            self._block = np.concatenate((self._block, np.full(more, -1, np.int32)))

    def _count_exactly(self, codes: Ints, entries: Entries) -> Bools:
        if not len(entries):
            return np.zeros(0, np.bool_)
        new = self._seen.add(entries)
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        rows = codes[starts]
        self._count[rows] += np.add.reduceat(new, starts, dtype=np.int32)
        for code in rows[self._count[rows] >= SPARSE_LIMIT].tolist():
            self._make_dense(code)
        return new

    def _make_dense(self, code: int) -> None:
        block = self._blocks
        self._blocks += 1
        if self._blocks * REGISTERS > len(self._registers):
            self._registers = np.concatenate((self._registers, np.zeros(max(REGISTERS, len(self._registers)), np.uint8)))
        self._block[code] = block
        entries = self._seen.between(code << 32, (code + 1) << 32)
        self._raise(np.full(len(entries), block, np.int32), entries)

    def _raise(self, block: NDArray[np.int32], entries: Entries) -> Bools:
        register, rank = register_and_rank((entries & _LOW_32).astype(np.uint32))
        place = block.astype(np.int64) * REGISTERS + register
        higher: Bools = rank > self._registers[place]
        np.maximum.at(self._registers, place[higher], rank[higher])
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
