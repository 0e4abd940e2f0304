"""Answers to questions about KPIs: a page of a cube's rows, or a series. The HTTP pages and the command line both ask here.

Everything is checked before the tables are read, and what is unknown or cannot be is refused with a sentence that names what there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from streams.api.order import ordered
from streams.api.query import BadQuery, Condition, Sort
from streams.api.selection import selection_of
from streams.api.span import Span, bounds
from streams.api.times import write_length, write_time
from streams.config import Settings
from streams.kpis.formulas import COLUMNS, KPIS, evaluate, is_measure, places_of, rows, shown
from streams.kpis.measures import APPROXIMATE, KIND_FAMILIES
from streams.tables.reader import TableReader

#: Rows of a page when nothing is said, and the most there may be.
DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000


@dataclass(frozen=True, slots=True)
class KpiQuery:
    """Which rows of a cube, over which time, in which order. `columns` limits the measures and KPIs; None: all."""

    cube: str
    span: Span
    sort: Sort | None = None
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    where: tuple[Condition, ...] = ()
    columns: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class KpiPage:
    """An answer to a KpiQuery; `total` counts all rows that match, `rows` are those of the page (see `formulas.rows`)."""

    cube: str
    dimensions: tuple[str, ...]
    start: int
    end: int
    complete: bool
    total: int
    rows: list[dict[str, Any]]

    def content(self) -> dict[str, Any]:
        """The JSON of the contract."""
        span = {"from": write_time(self.start), "to": write_time(self.end)}
        return {"cube": self.cube, **span, "complete": self.complete, "total": self.total, "rows": self.rows}


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """One measure or KPI per `step` ms, over the sum of the rows that `where` selects."""

    cube: str
    span: Span
    step: int
    measure: str
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class KpiSeries:
    """An answer to a SeriesQuery: start, value (None for x / 0) and completeness of each step."""

    query: SeriesQuery
    start: int
    end: int
    times: list[int]
    values: list[int | float | Decimal | None]
    complete: list[bool]

    def content(self) -> dict[str, Any]:
        """The JSON of the contract."""
        return {
            "cube": self.query.cube,
            "measure": self.query.measure,
            "from": write_time(self.start),
            "to": write_time(self.end),
            "step": write_length(self.query.step),
            "points": [
                {"time": write_time(time), "value": value, "complete": complete}
                for time, value, complete in zip(self.times, self.values, self.complete, strict=True)
            ],
        }


async def answer(query: KpiQuery, reader: TableReader, settings: Settings, now: int) -> KpiPage:
    """The page of rows that `query` asks for; `now` in epoch ms. TableError (mostly BadQuery) for a question without an answer."""
    dimensions = _dimensions(query.cube, settings)
    _check_columns(query, dimensions)
    selection = await selection_of(query.where, dimensions, reader)
    books = await reader.bookkeeping()
    start, end = bounds(query.span, reader, books, settings, now)

    # All measures even when few are shown: whether a row had events must not depend on the columns.
    window = await reader.window(query.cube, start, end, estimates=_needs_estimates(query), where=selection.where, books=books)
    matching = selection.positions(window.rows)
    order = ordered(window, matching, query.sort, query.offset + query.limit)
    page = rows(window, order[query.offset : query.offset + query.limit], query.columns)
    return KpiPage(query.cube, dimensions, start, end, window.complete, len(matching), page)


async def series(query: SeriesQuery, reader: TableReader, settings: Settings, now: int) -> KpiSeries:
    """The series that `query` asks for; `now` in epoch ms. TableError (mostly BadQuery) for a question without an answer."""
    dimensions = _dimensions(query.cube, settings)
    parts = _series_parts(query.measure)
    selection = await selection_of(query.where, dimensions, reader)
    books = await reader.bookkeeping()
    start, end = bounds(query.span, reader, books, settings, now, query.step)

    # Every event is in one row of every cube, so that the sum of all rows is the row of `total`.
    cube = query.cube if query.where else "total"
    found = await reader.series(cube, start, end, query.step, measures=parts, where=selection.where, books=books)
    matching = selection.positions(found.rows)
    sums = {name: array[matching].sum(axis=0, dtype=np.int64) for name, array in found.measures.items()}
    zeros = np.zeros(len(found.times), np.int64)
    values: list[int | float | Decimal | None]
    if query.measure in KPIS:
        sums = sums or dict.fromkeys(parts, zeros)
        values = [None if math.isnan(v) else v for v in evaluate(sums, {}, [query.measure])[query.measure].tolist()]
    else:
        values = [shown(v, places_of(query.measure)) for v in sums.get(query.measure, zeros).tolist()]
    return KpiSeries(query, start, end, found.times.tolist(), values, found.complete.tolist())


def _dimensions(cube: str, settings: Settings) -> tuple[str, ...]:
    cubes = settings.all_cubes
    if cube not in cubes:
        raise BadQuery(f"unknown cube {cube!r}", f"there are: {', '.join(cubes)}")
    return tuple(cubes[cube])


def _check_columns(query: KpiQuery, dimensions: tuple[str, ...]) -> None:
    there_is = f"{', '.join(COLUMNS)}, and for any kind {', '.join(f'{family}<kind>' for family in KIND_FAMILIES)}"
    sort = query.sort
    if sort is not None and sort.name not in (*dimensions, *COLUMNS) and not is_measure(sort.name):
        raise BadQuery(f"sort: unknown measure or dimension {sort.name!r}", f"there are: {', '.join((*dimensions, there_is))}")
    for name in sorted(query.columns or ()):
        if name not in COLUMNS and not is_measure(name):
            raise BadQuery(f"unknown measure {name!r}", f"there are: {there_is}")


def _series_parts(measure: str) -> tuple[str, ...]:
    """The exact measures that a series of `measure` is made from."""
    approximate = [name for name in APPROXIMATE if name == measure or (measure in KPIS and name in KPIS[measure].parts)]
    if approximate:
        of = "is approximate" if measure in APPROXIMATE else f"needs {approximate[0]}, which is approximate"
        raise BadQuery(f"{measure} {of}, and there are series of exact measures only", "ask /api/kpis for one window at a time")
    if measure in KPIS:
        return tuple(sorted(KPIS[measure].parts))
    if is_measure(measure):
        return (measure,)
    there_is = [name for name in COLUMNS if name not in APPROXIMATE and not (name in KPIS and KPIS[name].is_approximate)]
    kinds = ", ".join(f"{family}<kind>" for family in KIND_FAMILIES)
    raise BadQuery(f"unknown measure {measure!r}", f"there are: {', '.join(there_is)}, and for any kind {kinds}")


def _needs_estimates(query: KpiQuery) -> bool:
    if query.columns is None:
        return True
    names = query.columns | ({query.sort.name} if query.sort else set())
    return any(name in APPROXIMATE or (name in KPIS and KPIS[name].is_approximate) for name in names)
