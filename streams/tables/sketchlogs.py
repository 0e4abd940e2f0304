"""Sketches of one cube in one pane, as the owner of the partition keeps them: what is new goes to the end of a log.

A log's entry is 8 bytes: row code (32 bits), then a user's hash (32), or a bucket (16) and a count (16). Logs of any panes and partitions
merge by being read one after the other, so a reader needs no more than the bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.compiled import AHEAD, compiled, compiled_for_any, prefetch
from streams.kpis.sketches import RANK_BITS, REGISTERS, SPARSE_LIMIT, Registers
from streams.tables.sortedkeys import SortedKeys

Ints = NDArray[np.int64]
Entries = NDArray[np.uint64]
Bools = NDArray[np.bool_]
#: A number per row code.
Rows = NDArray[np.int32]

_32 = np.uint64(32)
_LOW_32 = np.uint64(0xFFFF_FFFF)
_MAX_COUNT = 0xFFFF
#: The share of a hash table's slots that may be taken, and how many slots there are at least.
_LOAD, _FEWEST_SLOTS = 0.6, 64
#: Rows beyond the limit wait for registers until one has this many times as much: the whole table is walked for it.
_PATIENCE = 2
#: Entries up to which a log is a Python set, and what one of them takes there, in cells of 8 bytes.
_FEW, _CELLS_OF_FEW = 32, 10
#: What a log begins with; never written to.
_NO_ENTRIES, _NO_COUNTS = np.zeros(0, np.uint64), np.zeros(0, np.int64)
_NO_ROWS, _NO_REGISTERS = np.zeros(0, np.int32), np.zeros(0, np.uint8)


class ReachLog:
    """Distinct users per row. An entry is kept only when it changes what a reader would estimate."""

    def __init__(self, entries: Entries | None = None) -> None:
        #: The entries while they are few: late events touch very many panes, and a hash table for each takes longer than they do.
        self._few: set[int] | None = set()
        #: The entries of rows that are counted exactly, each plus one: a hash table with open addressing, 0 where a slot is free.
        self._table = _NO_ENTRIES
        #: Slots of the table that are taken, and the most users of a row without registers: an array, since compiled code counts them.
        self._taken = _NO_COUNTS
        #: Per row code: distinct users while they are counted exactly, and which block of registers it has, -1 for none.
        self._count = self._block = _NO_ROWS
        self._blocks = 0
        self._registers = _NO_REGISTERS
        self._pending: list[Entries] = []
        if entries is not None and len(entries):
            if len(entries) > _FEW:
                self._make_table(len(entries))
            self.add(entries.copy())
            self._pending.clear()

    def add(self, entries: Entries) -> Bools:
        """Add entries, in any order and perhaps more than once; returns which of them changed a row."""
        if self._few is not None and len(self._few) + len(entries) > _FEW:
            self._make_table(len(self._few) + len(entries))
        changed = self._add_many(entries) if self._few is None else _add_few(self._few, entries)
        kept = entries if changed.all() else entries[changed]
        if len(kept):
            self._pending.append(kept)
        return changed

    def _add_many(self, entries: Entries) -> Bools:
        self._make_room(int(entries.max() >> _32) + 1)
        changed = np.zeros(len(entries), np.bool_)
        done = 0
        while done < len(entries):
            done = _add(entries, done, changed, self._table, self._taken, self._count, self._block, self._registers)
            if done < len(entries):
                self._move(2 * int(self._taken[0]))
        if self._taken[1] >= _PATIENCE * SPARSE_LIMIT:
            self._taken[1] = 0
            self._make_dense(np.flatnonzero((self._count >= SPARSE_LIMIT) & (self._block < 0)))
        return changed

    def take(self) -> bytes:
        """What is to be appended to the log since the last call."""
        result = np.concatenate(self._pending).tobytes() if self._pending else b""
        self._pending.clear()
        return result

    @property
    def cells(self) -> int:
        """Memory held, in table cells of 8 bytes."""
        few = _CELLS_OF_FEW * len(self._few) if self._few is not None else 0
        return few + len(self._table) + len(self._count) + len(self._registers) // 8

    def _make_table(self, expected: int) -> None:
        """Go over to a hash table, with room for so many entries."""
        few, self._few = self._few, None
        self._taken = np.zeros(2, np.int64)
        self._move(expected)
        if few:
            self._add_many(np.fromiter(few, np.uint64, len(few)))

    def _make_room(self, rows: int) -> None:
        if rows > len(self._count):
            more = max(rows, 2 * len(self._count)) - len(self._count)
            self._count = np.concatenate((self._count, np.zeros(more, np.int32)))
            self._block = np.concatenate((self._block, np.full(more, -1, np.int32)))

    def _make_dense(self, codes: Ints) -> None:
        """Give these rows registers instead of their entries in the table."""
        self._block[codes] = np.arange(self._blocks, self._blocks + len(codes))
        self._blocks += len(codes)
        if (missing := self._blocks * REGISTERS - len(self._registers)) > 0:
            self._registers = np.concatenate((self._registers, np.zeros(max(missing, len(self._registers)), np.uint8)))
        self._move(int(self._taken[0] - self._count[codes].sum()))

    def _move(self, expected: int) -> None:
        """Into a table with room for so many entries; those of rows with registers go there."""
        slots = max(_FEWEST_SLOTS, 1 << int(expected / _LOAD).bit_length())
        old, self._table = self._table, np.zeros(slots, np.uint64)
        self._taken[0] = 0
        _refill(old, self._table, self._taken, self._block, self._registers)


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


def _add_few(known: set[int], entries: Entries) -> Bools:
    changed = np.ones(len(entries), np.bool_)
    for i, entry in enumerate(entries.tolist()):
        if entry in known:
            changed[i] = False
        else:
            known.add(entry)
    return changed


@compiled
def _first_slot(table: Entries, entry: Any) -> int:
    """Where an entry stands unless others stand there."""
    mixed = entry * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed ^ (mixed >> _32)) & np.uint64(len(table) - 1))  # type: ignore[return-value]  # compiled


@compiled
def _slot_of(table: Entries, entry: Any) -> int:
    """The slot of an entry, or the free one where it belongs."""
    mask = len(table) - 1
    slot = _first_slot(table, entry)
    while table[slot] != 0 and table[slot] != entry + np.uint64(1):
        slot = (slot + 1) & mask
    return slot


@compiled
def _raise(registers: Registers, block: int, entry: Any) -> bool:
    """Whether the entry raises a register of its row: see `kpis.sketches.register_and_rank`."""
    value = np.int64(entry & _LOW_32)
    place = block * REGISTERS + (value >> RANK_BITS)
    rank = 1
    while rank <= RANK_BITS and not (value >> (RANK_BITS - rank)) & 1:
        rank += 1
    if rank <= registers[place]:
        return False
    registers[place] = rank
    return True


@compiled_for_any
def _add(entries: Entries, first: int, changed: Bools, table: Entries, taken: Ints, count: Rows, block: Rows, registers: Registers) -> int:
    """Add the entries from the `first` on. Returns how far that went: up to the end, or until the table was full."""
    most = np.int64(_LOAD * len(table))
    for i in range(first, len(entries)):
        if i + AHEAD < len(entries):
            prefetch(table, _first_slot(table, entries[i + AHEAD]))
        code = np.int64(entries[i] >> _32)
        if block[code] >= 0:
            changed[i] = _raise(registers, block[code], entries[i])
            continue
        slot = _slot_of(table, entries[i])
        if table[slot] == 0:
            if taken[0] >= most:
                return i
            table[slot] = entries[i] + np.uint64(1)
            taken[0] += 1
            count[code] += 1
            taken[1] = max(taken[1], count[code])
            changed[i] = True
    return len(entries)


@compiled_for_any
def _refill(old: Entries, table: Entries, taken: Ints, block: Rows, registers: Registers) -> None:
    for k in range(len(old)):
        if k + AHEAD < len(old) and old[k + AHEAD] != 0:
            prefetch(table, _first_slot(table, old[k + AHEAD] - np.uint64(1)))
        if old[k] == 0:
            continue
        entry = old[k] - np.uint64(1)
        if block[np.int64(entry >> _32)] >= 0:
            _raise(registers, block[np.int64(entry >> _32)], entry)
        else:
            table[_slot_of(table, entry)] = old[k]
            taken[0] += 1
