"""Trailing windows of tables in memory, so that a tick reads only what is new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alerts.detect.history import Strip
from streams.tables.windows import RowKey, Series

Ints = NDArray[np.int64]


class Rows:
    """The rows of a cube in the order in which they were first seen; shared by its strips, so that one index serves all."""

    def __init__(self) -> None:
        self.keys: list[RowKey] = []
        #: Grows when rows are forgotten: then places mean other rows than before.
        self.forgot = 0
        self._places: dict[RowKey, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def places(self, keys: list[RowKey]) -> Ints:
        """Place of each key; new ones are added at the end."""
        for key in keys:
            if key not in self._places:
                self._places[key] = len(self.keys)
                self.keys.append(key)
        return np.fromiter((self._places[key] for key in keys), np.int64, len(keys))

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Forget all others."""
        self.forgot += 1
        self.keys = [key for key, kept in zip(self.keys, chosen.tolist(), strict=True) if kept]
        self._places = {key: place for place, key in enumerate(self.keys)}


class Rolling:
    """The last `steps` steps of some measures for all rows. 8 bytes a number; all rows of a step lie together, as they are summed."""

    def __init__(self, rows: Rows, step: int, steps: int, measures: tuple[str, ...]) -> None:
        self.step = step
        self.steps = steps
        self.measures = measures
        self.end: int | None = None
        #: How far the round that reads everything again has come, epoch ms.
        self.read_again = 0
        self._rows = rows
        self._data = {name: np.zeros((steps, 0), np.int64) for name in measures}

    def merge(self, series: Series) -> None:
        """Take in a series. Steps behind the strip's end move it on, those within it are replaced: late events are in the new ones."""
        if series.step != self.step:
            raise ValueError(f"a series of {series.step} ms steps does not fit a strip of {self.step} ms")
        places = self._rows.places(series.rows)
        self._fit()
        begin, until = int(series.times[0]), int(series.times[-1]) + self.step
        end = until if self.end is None else max(self.end, until)
        shift = self.steps if self.end is None else min(self.steps, (end - self.end) // self.step)
        first = self.steps - (end - begin) // self.step
        for name, data in self._data.items():
            # Step by step, so that no copy of everything is needed.
            for step in range(self.steps - shift if shift else 0):
                data[step] = data[step + shift]
            data[self.steps - shift :] = 0
            for step in range(max(0, -first), len(series.times)):
                data[first + step] = 0
                data[first + step, places] = series.measures[name][:, step]
        self.end = end

    def strip(self, steps: int | None = None) -> Strip:
        """The last `steps` steps (all), a view that is valid until the next merge."""
        if self.end is None:
            raise ValueError("nothing was merged yet")
        self._fit()
        first = self.steps - (self.steps if steps is None else steps)
        return Strip(self.step, self.end, {name: data[first:, : len(self._rows)].T for name, data in self._data.items()})

    def active(self) -> NDArray[np.bool_]:
        """Per row, whether anything was counted."""
        self._fit()
        found = np.zeros(len(self._rows), np.bool_)
        for data in self._data.values():
            found |= data[:, : len(self._rows)].any(axis=0)
        return found

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Drop the lines of rows that are about to be forgotten."""
        self._fit()
        self._data = {name: data[:, np.flatnonzero(chosen)] for name, data in self._data.items()}

    def _fit(self) -> None:
        """A line for every row, with room to grow."""
        have = next((data.shape[1] for data in self._data.values()), 0)
        if len(self._rows) > have:
            room = max(len(self._rows), have + have // 2) - have
            self._data = {name: np.pad(data, ((0, 0), (0, room))) for name, data in self._data.items()}
