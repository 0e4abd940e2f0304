"""The order of a page's rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.api.query import Sort
from streams.kpis.formulas import evaluate_rows, is_measure
from streams.kpis.measures import APPROXIMATE
from streams.tables.windows import Window


def ordered(window: Window, matching: NDArray[np.int64], sort: Sort | None, needed: int) -> list[int]:
    """Positions of the first `needed` of the matching rows in the wanted order; rows that are equal go by their key."""

    def by_key(position: int) -> tuple[tuple[bool, str], ...]:
        return tuple((value is None, value or "") for value in window.rows[position])

    if sort is None:
        return sorted(matching.tolist(), key=by_key)
    if sort.name in window.dimensions:
        at = window.dimensions.index(sort.name)
        ordered = sorted(matching.tolist(), key=by_key)
        having = [i for i in ordered if window.rows[i][at] is not None]
        having.sort(key=lambda i: window.rows[i][at] or "", reverse=sort.descending)
        return having + [i for i in ordered if window.rows[i][at] is None]

    scores = _scores(window, sort)[matching]
    if needed < len(matching):
        # Only rows that can be on the page are put in order; the rest are known to come after it.
        candidates = np.flatnonzero(scores <= np.partition(scores, needed - 1)[needed - 1])
        matching, scores = matching[candidates], scores[candidates]
    score_of = dict(zip(matching.tolist(), scores.tolist(), strict=True))
    return sorted(score_of, key=lambda position: (score_of[position], by_key(position)))


def _scores(window: Window, sort: Sort) -> NDArray[Any]:
    """Numbers per row that ascend in the wanted order, rows without a value at the end."""
    name = sort.name
    if is_measure(name):
        exact = window.measures.get(name, np.zeros(len(window.rows), np.int64))
        # ~x descends as -x does, and cannot overflow.
        return ~exact if sort.descending else exact
    values = window.estimates.get(name) if name in APPROXIMATE else evaluate_rows(window, [name])[name]
    if values is None:
        values = np.full(len(window.rows), np.nan)
    return np.where(np.isnan(values), np.inf, -values if sort.descending else values)
