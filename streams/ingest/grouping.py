"""Grouping of a batch's events: numbers for what is different, and sums per number, by compiled loops. None of it sorts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled_for_any

Ints = NDArray[np.int64]


def numbered(keys: Ints) -> tuple[Ints, Ints]:
    """Number the different keys, all at least 0, as they come. Returns the number of each entry, and where each key stands first."""
    numbers, firsts = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    # An open hash table: number of the key + 1, 0 where a slot is free; never more than half full.
    table = np.zeros(2 << len(keys).bit_length(), np.int64)
    return numbers, firsts[: _number(keys, table, numbers, firsts)]


def sum_by(index: Ints, amounts: Ints, size: int) -> Ints:
    """Sums of `amounts` per `index`, of length `size`; beyond int64 they wrap around."""
    result = np.zeros(size, np.int64)
    _sum(index, amounts, result)
    return result


def runs(values: Ints) -> Iterator[tuple[int, slice]]:
    """Each run of equal values, and where it stands."""
    if not len(values):
        return
    starts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    for begin, end in pairwise(starts):
        yield values.item(begin), slice(begin, end)


@compiled_for_any
def _number(keys: Ints, table: Ints, numbers: Ints, firsts: Ints) -> int:
    mask = np.uint64(len(table) - 1)
    found = 0
    for i in range(len(keys)):
        mixed = np.uint64(keys[i]) * np.uint64(0x9E3779B97F4A7C15)
        slot = (mixed ^ (mixed >> np.uint64(32))) & mask
        while table[slot] != 0 and keys[firsts[table[slot] - 1]] != keys[i]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] == 0:
            firsts[found] = i
            found += 1
            table[slot] = found
        numbers[i] = table[slot] - 1
    return found


@compiled_for_any
def _sum(index: Ints, amounts: Ints, result: Ints) -> None:
    for i in range(len(index)):
        result[index[i]] += amounts[i]
