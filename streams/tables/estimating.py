"""The approximate measures of an answer's rows, worked out for those rows that somebody looks at: a page shows fifty of many thousands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streams.kpis.measures import APPROXIMATE
from streams.kpis.sketches import SPARSE_LIMIT, Registers, distinct, quantiles
from streams.tables.sketchlogs import split_counts
from streams.tables.sortedlog import SortedLog, codes_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sketches:
    """The logs of one answer."""

    def __init__(self) -> None:
        #: Per pane of a partition the row number of each code, -1 for those that are not wanted, and its logs.
        self._parts: list[tuple[Ints, Mapping[str, SortedLog]]] = []

    def add(self, numbers: Ints, logs: Mapping[str, SortedLog]) -> None:
        """Add a pane's logs."""
        self._parts.append((numbers, logs))

    def estimates(self, rows: Ints) -> dict[str, Floats]:
        """Approximate measure -> value of each of the rows, which are given by number and differ. NaN where there is nothing to tell."""
        place_of = np.full(int(rows.max(initial=-1)) + 1, -1, np.int64)
        place_of[rows] = np.arange(len(rows))
        found = _Entries()
        chosen: dict[int, tuple[Ints, Ints]] = {}
        for numbers, logs in self._parts:
            if id(numbers) not in chosen:
                chosen[id(numbers)] = _chosen(numbers, place_of)
            for sketch, log in logs.items():
                found.add(sketch, log, *chosen[id(numbers)])
        result: dict[str, Floats] = {}
        for name, (sketch, quantile) in APPROXIMATE.items():
            place, entries = found.of(sketch)
            if quantile is None:
                result[name] = distinct(place, entries.astype(np.uint32), len(rows), found.dense)
            else:
                keys, counts = split_counts(entries)
                result[name] = quantiles(place, (keys & np.uint64(0xFFFF)).astype(np.int64), counts, len(rows), quantile)
        return result


class _Entries:
    """Entries of the wanted rows, by sketch, each with the place of its row among them."""

    def __init__(self) -> None:
        self._places: dict[str, list[Ints]] = {}
        self._entries: dict[str, list[NDArray[np.uint64]]] = {}
        #: Place of each row of which a log has no more than an estimate, and the registers of those logs.
        self.dense: dict[int, Registers] = {}

    def add(self, sketch: str, log: SortedLog, codes: Ints, place_of_code: Ints) -> None:
        if sketch == "reach":
            many = log.counts(codes) >= SPARSE_LIMIT
            for code in codes[many].tolist():
                place = int(place_of_code[code])
                registers = log.registers(code)
                known = self.dense.get(place)
                self.dense[place] = registers.copy() if known is None else np.maximum(known, registers, out=known)
            codes = codes[~many]
        entries = log.of_rows(codes)
        self._places.setdefault(sketch, []).append(place_of_code[codes_of(entries)])
        self._entries.setdefault(sketch, []).append(entries)

    def of(self, sketch: str) -> tuple[Ints, NDArray[np.uint64]]:
        """Places and entries of a sketch, but for the entries that are in registers already."""
        if sketch not in self._places:
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        return np.concatenate(self._places[sketch]), np.concatenate(self._entries[sketch])


def _chosen(numbers: Ints, place_of: Ints) -> tuple[Ints, Ints]:
    """The codes of wanted rows, and the place of each code."""
    known = (numbers >= 0) & (numbers < len(place_of))
    place_of_code = np.full(len(numbers), -1, np.int64)
    place_of_code[known] = place_of[numbers[known]]
    return np.flatnonzero(place_of_code >= 0), place_of_code
