"""Columns of texts as the bytes in which they came. No string is made of one until somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.ingest.records import NOTHING

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Texts:
    """A column of texts: the i-th lies in the buffer, in UTF-8, from `start[i]` to `stop[i]`; both are NOTHING where there is none."""

    buffer: bytes
    start: Ints
    stop: Ints

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Texts:
        """The same from strings; "" is none."""
        parts = [b"" if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
        stop = np.cumsum([len(part) for part in parts], dtype=np.int64)
        start = np.concatenate((np.zeros(min(1, len(parts)), np.int64), stop[:-1]))
        absent = start == stop
        return cls(b"".join(parts), np.where(absent, NOTHING, start), np.where(absent, NOTHING, stop))

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, i: int) -> str | None:
        return self.rows(np.array([i])).strings()[0]

    def rows(self, order: Ints) -> Texts:
        """Some of the entries, in that order."""
        return Texts(self.buffer, self.start[order], self.stop[order])

    def present(self) -> Ints:
        """Which entries there are."""
        return np.flatnonzero(self.start != NOTHING)

    def strings(self) -> list[str | None]:
        """The column itself."""
        places = zip(self.start.tolist(), self.stop.tolist(), strict=True)
        return [None if start == NOTHING else self.buffer[start:stop].decode("utf-8", "surrogatepass") for start, stop in places]
