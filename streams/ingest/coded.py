"""Columns of strings as numbers: what is different about them is kept once, and everything else is done by numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


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

    def present(self) -> set[str | None]:
        """The values that an entry has."""
        return {self.values[code] for code in np.unique(self.codes).tolist()}


class Numbering(dict[str | None, int]):
    """Numbers strings in the order in which they come, and says of each whether it is fine, looking at every one only once."""

    def __init__(self, judge: Callable[[str | None], bool] | None = None) -> None:
        super().__init__()
        self._judge = judge
        self._fine: list[bool] = []

    def __missing__(self, value: str | None) -> int:
        number = self[value] = len(self)
        if self._judge is not None:
            self._fine.append(self._judge(value))
        return number

    def of(self, column: Iterable[str | None], length: int) -> Ints:
        """The numbers of a column of that length."""
        return np.fromiter(map(self.__getitem__, column), np.int64, length)

    def fine(self, codes: Ints) -> Bools:
        """Which of the numbered strings are fine."""
        if self._judge is None or all(self._fine):
            return np.ones(len(codes), np.bool_)
        return np.array(self._fine, np.bool_)[codes]

    def coded(self, codes: Ints, as_kept: Callable[[str | None], str | None] | None = None) -> Coded:
        """The column of these numbers, its values as they are to be kept; those that are then the same become one."""
        if as_kept is None:
            return Coded(codes, list(self))
        kept = Numbering()
        final = kept.of(map(as_kept, self), len(self))
        return Coded(final[codes], list(kept))


def encode(column: Sequence[str | None]) -> Coded:
    """Number the different strings of a column."""
    numbering = Numbering()
    return numbering.coded(numbering.of(column, len(column)))
