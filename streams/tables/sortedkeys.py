"""Sorted 64-bit keys with an integer each: 16 bytes an entry, loaded as stored, asked and extended in whole batches.

What came last stands in a small array of its own, which is merged into the large one when it has grown to a part of it, so that an addition
costs little however large the whole is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: The small array is merged when it holds more than this share of the large one, and at least so many.
_SHARE, _AT_LEAST = 8, 4_096


class SortedKeys:
    """Keys given in one call must ascend and be different from each other."""

    def __init__(self, keys: Keys | None = None, values: Ints | None = None) -> None:
        self._keys = np.empty(0, np.uint64) if keys is None else keys
        self._values = np.zeros(len(self._keys), np.int64) if values is None else values
        self._new_keys = np.empty(0, np.uint64)
        self._new_values = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._keys) + len(self._new_keys)

    @property
    def cells(self) -> int:
        """Memory held, in cells of 8 bytes."""
        return 2 * len(self)

    def add(self, keys: Keys, values: Ints) -> Bools:
        """Add to the values of the keys; returns which keys were new. New ones start from 0."""
        new = _added(self._keys, self._values, keys, values)
        rest = np.flatnonzero(new)
        if len(rest):
            new[rest] = _added(self._new_keys, self._new_values, keys[rest], values[rest])
            fresh = np.flatnonzero(new)
            if len(fresh):
                self._new_keys, self._new_values = _merged(self._new_keys, self._new_values, keys[fresh], values[fresh])
                if len(self._new_keys) > max(_AT_LEAST, len(self._keys) // _SHARE):
                    self._settle()
        return new

    def items(self) -> tuple[Keys, Ints]:
        """Every key, ascending, and its value."""
        self._settle()
        return self._keys, self._values

    def _settle(self) -> None:
        if len(self._new_keys):
            self._keys, self._values = _merged(self._keys, self._values, self._new_keys, self._new_values)
            self._new_keys, self._new_values = np.empty(0, np.uint64), np.empty(0, np.int64)


def _added(known: Keys, held: Ints, keys: Keys, values: Ints) -> Bools:
    """Add the values of keys that are known to what is held; returns which are not known."""
    if not len(known):
        return np.ones(len(keys), np.bool_)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    found = known[at] == keys
    held[at[found]] += values[found]
    unknown: Bools = ~found
    return unknown


def _merged(keys: Keys, values: Ints, more: Keys, more_values: Ints) -> tuple[Keys, Ints]:
    """Two tables without a common key as one."""
    at = np.searchsorted(keys, more)
    return np.insert(keys, at, more), np.insert(values, at, more_values)
