"""The rows that a reader has met, numbered per cube over all partitions and days, so that an answer need not decode their keys again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streams.tables.opentables import unpack_rows
from streams.tables.windows import RowKey

Ints = NDArray[np.int64]

#: Codes and row keys that are remembered; what would be more is forgotten as a whole and learned again. About 100 bytes each.
_MOST = 1_000_000


class CubeRows:
    """The rows of one cube."""

    def __init__(self) -> None:
        #: Row keys by number.
        self.keys: list[RowKey] = []
        self._number: dict[RowKey, int] = {}
        #: Key in Redis -> the codes' row keys as last stored there, and the number of each code.
        self._stored: dict[str, tuple[bytes, Ints]] = {}

    def __len__(self) -> int:
        return len(self.keys) + sum(len(numbers) for _, numbers in self._stored.values())

    def known(self, key: str) -> Ints | None:
        """The number of each code, as it was when `key` was last read; None if it never was."""
        found = self._stored.get(key)
        return None if found is None else found[1]

    def learn(self, key: str, stored: bytes) -> Ints:
        """The number of each code, given what `key` holds now."""
        before, numbers = self._stored.get(key, (b"", np.empty(0, np.int64)))
        if stored == before and key in self._stored:
            return numbers
        if not stored.startswith(before):
            # Not what it was with something behind it: the tables were made anew.
            before, numbers = b"", numbers[:0]
        numbers = np.concatenate([numbers, self._numbers(unpack_rows(stored[len(before) :]))])
        self._stored[key] = stored, numbers
        return numbers

    def _numbers(self, keys: list[RowKey]) -> Ints:
        for key in keys:
            if key not in self._number:
                self._number[key] = len(self.keys)
                self.keys.append(key)
        return np.fromiter((self._number[key] for key in keys), np.int64, len(keys))


class KnownRows:
    """The rows of every cube that was read."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._cubes: dict[str, CubeRows] = {}

    def of(self, cube: str) -> CubeRows:
        """The rows of a cube. An answer goes on with those that it began with."""
        if sum(map(len, self._cubes.values())) > self._most:
            self._cubes.clear()
        return self._cubes.setdefault(cube, CubeRows())


class ChosenRows:
    """The rows of one answer: those of a cube that fulfil `where` (dimension -> value), then numbered among themselves."""

    def __init__(self, cube: CubeRows, dimensions: tuple[str, ...], where: Mapping[str, str | None] | None) -> None:
        self.cube = cube
        self._conditions = [(dimensions.index(name), value) for name, value in (where or {}).items()]
        self._keys: list[RowKey] = []
        #: Per number of the cube the one here, -1 for rows that are not wanted.
        self._own = np.empty(0, np.int64)

    @property
    def keys(self) -> list[RowKey]:
        """Row keys by number."""
        return self._keys if self._conditions else self.cube.keys

    def numbers(self, numbers: Ints) -> Ints:
        """The numbers here for numbers of the cube; -1 for rows that are not wanted."""
        if not self._conditions:
            return numbers
        fresh = self.cube.keys[len(self._own) :]
        if fresh:
            wanted = np.fromiter((all(key[at] == value for at, value in self._conditions) for key in fresh), np.bool_, len(fresh))
            own = np.full(len(fresh), -1, np.int64)
            own[wanted] = len(self._keys) + np.arange(int(wanted.sum()))
            self._keys += [fresh[i] for i in np.flatnonzero(wanted).tolist()]
            self._own = np.concatenate([self._own, own])
        result: Ints = self._own[numbers]
        return result
