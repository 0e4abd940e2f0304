"""Columns of strings as numbers: what is different about them is kept once, and everything else is done by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Coded:
    """A column of strings as numbers: `values[codes[i]]` is the i-th. The values are different from each other."""

    codes: Ints
    values: list[str | None]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, i: int) -> str | None:
        return self.values[int(self.codes[i])]

    def rows(self, order: Ints) -> Coded:
        """Some of the entries, in that order."""
        return Coded(self.codes[order], self.values)

    def strings(self) -> list[str | None]:
        """The column itself."""
        return [self.values[code] for code in self.codes.tolist()]

    def are(self, value: str) -> NDArray[np.bool_]:
        """Which entries are `value`."""
        return np.array([each == value for each in self.values], np.bool_)[self.codes]

    def present(self) -> set[str | None]:
        """The values that an entry has."""
        return {self.values[code] for code in np.unique(self.codes).tolist()}


def encode(column: Sequence[str | None]) -> Coded:
    """Number the different strings of a column, in the order in which they come."""
    numbers: dict[str | None, int] = {}
    codes = np.fromiter((numbers.setdefault(value, len(numbers)) for value in column), np.int64, len(column))
    return Coded(codes, list(numbers))
