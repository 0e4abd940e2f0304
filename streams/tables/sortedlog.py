"""A sketch's log as a reader holds it: in runs that ascend, so that the entries of some rows are found without a look at the others.

What a row's users come to in HyperLogLog registers is kept too once it was asked for: a row of a few may have a hundred thousand entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.kpis.sketches import REGISTERS, Registers, raise_registers

Ints = NDArray[np.int64]
Entries = NDArray[np.uint64]

_32 = np.uint64(32)
_NEXT = np.uint64(1) << _32
_ENTRY_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class SortedLog:
    """Entries of 8 bytes, the row's code in their upper half. Never changed: what is appended makes another one."""

    #: Each is at least twice as long as the next, so that there are few, and no entry is sorted again often.
    runs: tuple[Entries, ...]
    _registers: dict[int, Registers] = field(default_factory=dict)

    @classmethod
    def of_bytes(cls, stored: bytes) -> SortedLog:
        """From the bytes in Redis."""
        return cls.of_entries(np.frombuffer(stored, np.uint64))

    @classmethod
    def of_entries(cls, entries: Entries) -> SortedLog:
        """From entries in any order."""
        return cls((np.sort(entries),))

    def with_more(self, stored: bytes) -> SortedLog:
        """With the bytes that were appended since."""
        if not stored:
            return self
        new = np.sort(np.frombuffer(stored, np.uint64))
        registers = {}
        for code, known in self._registers.items():
            registers[code] = raised = known.copy()
            raise_registers(raised, SortedLog((new,)).of_row(code).astype(np.uint32))
        runs = list(self.runs)
        while runs and len(runs[-1]) < 2 * len(new):
            new = np.sort(np.concatenate([runs.pop(), new]))
        return SortedLog((*runs, new), registers)

    @property
    def length(self) -> int:
        """Bytes in Redis."""
        return sum(map(len, self.runs)) * _ENTRY_BYTES

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.length + REGISTERS * len(self._registers)

    def counts(self, codes: Ints) -> Ints:
        """How many entries each of these rows has."""
        return sum((end - begin for _, begin, end in self._bounds(codes)), np.zeros(len(codes), np.int64))

    def registers(self, code: int) -> Registers:
        """The registers that a row's users fill; not to be changed."""
        if code not in self._registers:
            filled = self._registers[code] = np.zeros(REGISTERS, np.uint8)
            raise_registers(filled, self.of_row(code).astype(np.uint32))
        return self._registers[code]

    def of_row(self, code: int) -> Entries:
        """The entries of one row."""
        bounds = np.array([code, code + 1], np.uint64) << _32
        return np.concatenate([run[slice(*np.searchsorted(run, bounds))] for run in self.runs])

    def of_rows(self, codes: Ints) -> Entries:
        """The entries of the rows with these codes, which ascend and are different from each other."""
        found = []
        for run, begin, end in self._bounds(codes):
            lengths = end - begin
            before = np.cumsum(lengths) - lengths
            found.append(run[np.repeat(begin - before, lengths) + np.arange(int(lengths.sum()))])
        return np.concatenate(found)

    def _bounds(self, codes: Ints) -> Iterator[tuple[Entries, Ints, Ints]]:
        """Each run, and where the entries of each of these rows begin and end in it."""
        low = codes.astype(np.uint64) << _32
        for run in self.runs:
            yield run, np.searchsorted(run, low), np.searchsorted(run, low + _NEXT)


def codes_of(entries: Entries) -> Ints:
    """The row code of each entry."""
    return (entries >> _32).astype(np.int64)
