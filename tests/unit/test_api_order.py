"""The order of rows: by value, nulls last, equal ones by key, and the same whichever page is asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.api.order import ordered
from streams.api.query import Sort
from streams.kpis.formulas import evaluate
from streams.kpis.measures import with_derived
from streams.tables.windows import Window

NAMES = ("clicks", "spend", "ctr", "cpc", "reach", "campaign_id", "net_revenue")
KEYS = st.one_of(st.none(), st.text("ab\u00e9", min_size=1, max_size=3))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    keys = draw(st.lists(KEYS, unique=True, max_size=12))
    few = st.integers(0, 3)

    def column() -> list[int]:
        return draw(st.lists(few, min_size=len(keys), max_size=len(keys)))

    stored = {name: np.array(column(), np.int64) for name in ("clicks", "spend", "engagements_impression", "revenue", "refunds")}
    reach = np.array([value or np.nan for value in column()], np.float64)
    measures = with_derived(stored, len(keys))
    return Window("campaign", ("campaign_id",), 0, 10, 10, True, [(k,) for k in keys], measures, lambda rows: {"reach": reach[rows]})


def value_of(window: Window, name: str, row: int) -> float | str | None:
    if name == "campaign_id":
        return window.rows[row][0]
    if name in window.measures:
        return int(window.measures[name][row])
    found = window.estimates[name] if name in window.estimates else evaluate(window.measures, window.estimates)[name]
    return None if np.isnan(found[row]) else float(found[row])


@given(windows(), st.sampled_from(NAMES), st.booleans(), st.integers(1, 5))
def test_any_page_is_a_part_of_the_one_true_order(window: Window, name: str, descending: bool, size: int) -> None:
    by_key = sorted(range(len(window.rows)), key=lambda i: (window.rows[i][0] is None, window.rows[i][0] or ""))
    having = [i for i in by_key if value_of(window, name, i) is not None]
    having.sort(key=lambda i: value_of(window, name, i), reverse=descending)  # type: ignore[arg-type, return-value]
    expected = having + [i for i in by_key if value_of(window, name, i) is None]
    everything = np.arange(len(window.rows))
    for first in range(0, len(expected), size):
        got = ordered(window, everything, Sort(name, descending), first + size)
        assert got[first : first + size] == expected[first : first + size]


@given(windows())
def test_without_a_wish_rows_go_by_their_key(window: Window) -> None:
    got = [window.rows[i][0] for i in ordered(window, np.arange(len(window.rows)), None, 100)]
    assert got == sorted([key for key in got if key is not None]) + [None] * (None in got)


def test_only_matching_rows_are_put_in_order() -> None:
    measures = {"clicks": np.array([3, 1, 2, 9], np.int64)}
    window = Window("campaign", ("campaign_id",), 0, 10, 10, True, [("a",), ("b",), ("c",), ("d",)], measures)
    assert ordered(window, np.array([0, 1, 2]), Sort("clicks", descending=True), 2)[:2] == [0, 2]
