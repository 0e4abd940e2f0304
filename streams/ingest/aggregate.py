"""Facts of a batch -> cells: what each row of each cube gains in each of the finest panes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.ingest.coded import Coded
from streams.ingest.grouping import numbered, sum_by
from streams.tables.windows import RowKey

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint32]
Value = TypeVar("Value", bound=np.generic)


@dataclass(slots=True)
class Facts:
    """What happened, one entry per fact: a time (ms), dimensions and amounts. The optional columns hold (fact number, value) pairs."""

    times: Ints
    dimensions: Mapping[str, Coded]
    #: Stored measure -> amount per fact.
    values: dict[str, Ints]
    #: Which facts have a user, and the user's hash.
    users: tuple[Ints, Hashes] | None = None
    #: Sketch name -> which facts have a value, and its bucket.
    buckets: dict[str, tuple[Ints, Ints]] = field(default_factory=dict)

    def in_order(self, order: Ints) -> Facts:
        """The same facts in another order; the pairs of the optional columns then follow it."""
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        return Facts(
            self.times[order],
            {name: column.rows(order) for name, column in self.dimensions.items()},
            {measure: amounts[order] for measure, amounts in self.values.items()},
            None if self.users is None else _pairs_in_order(place, *self.users),
            {sketch: _pairs_in_order(place, *pairs) for sketch, pairs in self.buckets.items()},
        )


def _pairs_in_order(place: Ints, facts: Ints, values: NDArray[Value]) -> tuple[Ints, NDArray[Value]]:
    moved = place[facts]
    order = np.argsort(moved, kind="stable")
    return moved[order], values[order]


@dataclass(slots=True)
class Cells:
    """One cube's gains: a cell is a row in one of the finest panes. Panes ascend, so that those of a coarser pane lie side by side."""

    #: Row keys that `rows` number.
    keys: list[RowKey]
    #: Per cell: start of its pane (ms), number of its row.
    panes: Ints
    rows: Ints
    #: Stored measure -> gain per cell.
    values: dict[str, Ints]
    #: (cell, hash) pairs, their panes ascending; perhaps more than once.
    users: tuple[Ints, Hashes] | None
    #: Sketch name -> (cell, bucket, count), panes ascending.
    buckets: dict[str, tuple[Ints, Ints, Ints]]


def aggregate(facts: Facts, cubes: Mapping[str, tuple[str, ...]], pane: int) -> dict[str, Cells]:
    """Sum facts into the cells of every cube; `pane` is the finest pane's length in ms."""
    pane_of_fact = facts.times - facts.times % pane
    if (pane_of_fact[1:] < pane_of_fact[:-1]).any():
        # Once here, so that nothing has to be sorted for each cube and level.
        order = np.argsort(pane_of_fact, kind="stable")
        facts, pane_of_fact = facts.in_order(order), pane_of_fact[order]
    return {cube: _cells(facts, dimensions, pane_of_fact) for cube, dimensions in cubes.items()}


def _cells(facts: Facts, dimensions: tuple[str, ...], pane_of_fact: Ints) -> Cells:
    keys, row = _rows(facts.dimensions, dimensions, len(facts.times))
    pane_number = np.cumsum(np.diff(pane_of_fact, prepend=pane_of_fact[:1]) != 0)
    cell, first = numbered(pane_number * len(keys) + row)
    size = len(first)
    values = {}
    for measure, amounts in facts.values.items():
        summed = sum_by(cell, amounts, size)
        if summed.any():
            values[measure] = summed
    users = None
    if facts.users is not None and len(facts.users[0]):
        users = (cell[facts.users[0]], facts.users[1])
    buckets = {}
    for sketch, (fact, bucket) in facts.buckets.items():
        pairs_, counts = np.unique((cell[fact] << 16) | bucket, return_counts=True)
        buckets[sketch] = (pairs_ >> 16, pairs_ & 0xFFFF, counts.astype(np.int64))
    return Cells(keys, pane_of_fact[first], row[first], values, users, buckets)


def _rows(columns: Mapping[str, Coded], dimensions: tuple[str, ...], length: int) -> tuple[list[RowKey], Ints]:
    """The different row keys of a cube, and the number of each fact's row among them."""
    row, first = np.zeros(length, np.int64), np.zeros(1, np.int64)
    for dimension in dimensions:
        # Compact at every step, so that no product of many wide columns can overflow.
        column = columns[dimension]
        row, first = numbered(row * len(column.values) + column.codes)
    return list(zip(*(columns[d].rows(first).strings() for d in dimensions), strict=True)) if dimensions else [()], row
