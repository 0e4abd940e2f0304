"""KPIs: the formulas of the contract, what cannot be divided, and money to the last digit."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.api.encoding import encode
from streams.kpis.formulas import KPIS, evaluate, rows, shown
from streams.kpis.measures import APPROXIMATE, MEASURES, with_derived
from streams.tables.windows import Window

LARGEST = 9 * 10**18  # micros: sums are exact to 9e12 units

#: The contract's formulas, written by hand: numerator and denominator in display units.
CONTRACT: dict[str, Callable[[dict[str, Fraction]], tuple[Fraction, Fraction]]] = {
    "ctr": lambda m: (m["clicks"], m["impressions"]),
    "cvr": lambda m: (m["conversions"], m["clicks"]),
    "cpc": lambda m: (m["spend"], m["clicks"]),
    "cpm": lambda m: (1000 * m["spend"], m["impressions"]),
    "cpa": lambda m: (m["spend"], m["conversions"]),
    "cac": lambda m: (m["spend"], m["conversions_new"]),
    "roas": lambda m: (m["net_revenue"], m["spend"]),
    "roi": lambda m: (m["net_revenue"] - m["spend"], m["spend"]),
    "aov": lambda m: (m["net_revenue"], m["conversions_purchase"]),
    "engagement_rate": lambda m: (m["engagements"], m["impressions"]),
    "share_rate": lambda m: (m["engagements_share"], m["impressions"]),
    "arpu": lambda m: (m["net_revenue"], m["reach"]),
}
MONEY = ("spend", "net_revenue")
COUNTS = ("clicks", "impressions", "conversions", "conversions_new", "conversions_purchase", "engagements", "engagements_share")


def window(stored: dict[str, list[int]], keys: list[str | None], estimates: dict[str, list[float]] | None = None) -> Window:
    arrays = {name: np.array(values, np.int64) for name, values in stored.items()}
    return Window(
        cube="campaign",
        dimensions=("campaign_id",),
        start=0,
        end=60_000,
        alignment=10_000,
        complete=True,
        rows=[(key,) for key in keys],
        measures=with_derived(arrays, len(keys)),
        estimates_of=lambda rows: {name: np.array(values)[rows] for name, values in (estimates or {}).items()},
    )


def test_every_kpi_of_the_contract_is_declared() -> None:
    assert set(KPIS) == set(CONTRACT)


def test_every_part_of_a_kpi_is_something_that_is_counted() -> None:
    for kpi in KPIS.values():
        for part in (*kpi.parts, kpi.gate.measure):
            assert part in MEASURES or part in APPROXIMATE or part in ("conversions_purchase", "engagements_share"), (kpi.name, part)


@given(
    counts=st.fixed_dictionaries({name: st.integers(0, 10**12) for name in COUNTS}),
    spend=st.integers(0, LARGEST),
    net=st.integers(-LARGEST, LARGEST),
    reach=st.one_of(st.none(), st.integers(0, 10**9)),
)
def test_a_kpi_is_its_formula_in_display_units(counts: dict[str, int], spend: int, net: int, reach: int | None) -> None:
    raw = {**counts, "spend": spend, "net_revenue": net}
    got = evaluate(
        {name: np.array([value]) for name, value in raw.items()},
        {"reach": np.array([np.nan if reach is None else reach])},
    )
    shown_values = {name: Fraction(value, 10**6) if name in MONEY else Fraction(value) for name, value in raw.items()}
    shown_values["reach"] = Fraction(reach or 0)
    for name, formula in CONTRACT.items():
        numerator, denominator = formula(shown_values)
        if denominator == 0:
            assert np.isnan(got[name][0]), name
        else:
            expected = numerator / denominator
            assert abs(Fraction(float(got[name][0])) - expected) <= abs(expected) / 10**14, name


def test_a_division_by_zero_is_unknown_and_not_zero() -> None:
    (row,) = rows(window({"event_cost": [0], "engagements_like": [1]}, ["c-1"]))
    for kpi in KPIS:
        assert row[kpi] is None


def test_a_kpi_without_its_measures_is_unknown_for_every_row() -> None:
    assert np.isnan(evaluate({"clicks": np.array([1, 2])}, {}, ["aov"])["aov"]).tolist() == [True, True]


def test_kpis_of_a_series_have_its_shape() -> None:
    clicks = np.array([[1, 2], [3, 4]])
    got = evaluate({"clicks": clicks, "conversions": clicks * 2}, {}, ["cvr"])
    assert got["cvr"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert list(got) == ["cvr"]


@given(st.integers(-LARGEST, LARGEST), st.sampled_from([0, 2, 6]))
def test_display_units_lose_no_digit(value: int, places: int) -> None:
    assert Fraction(shown(value, places)) == Fraction(value, 10**places)


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0"),
        (420_000, "0.42"),
        (1, "0.000001"),
        (-1, "-0.000001"),
        (1_000_000, "1"),
        (100_000_000, "100"),
        (-2_500_000, "-2.5"),
        (LARGEST - 1, "8999999999999.999999"),
    ],
)
def test_money_is_written_with_all_its_digits(micros: int, text: str) -> None:
    (row,) = rows(window({"spend": [micros]}, ["c-1"]), columns={"spend"})
    assert encode(row) == f'{{"campaign_id":"c-1","spend":{text}}}'.encode()


@given(st.lists(st.integers(0, LARGEST), min_size=1, max_size=4))
def test_money_survives_json(micros: list[int]) -> None:
    content = encode(rows(window({"event_cost": micros}, [f"c-{i}" for i in range(len(micros))])))
    back = json.loads(content, parse_float=Decimal)
    assert [Fraction(row["event_cost"]) for row in back] == [Fraction(value, 10**6) for value in micros]


def test_a_row_is_flat_and_in_display_units() -> None:
    found = window(
        {
            "clicks": [4, 0],
            "engagements_impression": [100, 7],
            "engagements_rating": [2, 0],
            "conversions": [1, 0],
            "conversions_purchase": [1, 0],
            "revenue": [30_000_000, 0],
            "refunds": [10_000_000, 0],
            "event_cost": [5_000_000, 0],
            "spend": [5_000_000, 0],
            "rating_sum": [905, 0],
            "rating_count": [2, 0],
        },
        ["c-1", None],
        {"reach": [39.6, np.nan], "dwell_p50": [120.5, np.nan]},
    )
    first, second = rows(found)
    expected: dict[str, Any] = {
        "campaign_id": "c-1",
        "impressions": 100,
        "clicks": 4,
        "conversions": 1,
        "conversions_purchase": 1,
        "net_revenue": 20,
        "spend": 5,
        "rating_sum": Decimal("9.05"),
        "engagements": 2,
        "reach": 40,
        "dwell_p50": 120.5,
        "ctr": 0.04,
        "cpc": 1.25,
        "cpm": 50.0,
        "roas": 4.0,
        "roi": 3.0,
        "aov": 20.0,
        "arpu": 0.5,
    }
    assert {name: first[name] for name in expected} == expected
    assert (second["campaign_id"], second["clicks"], second["reach"], second["ctr"], second["cpc"]) == (None, 0, None, 0.0, None)


def test_rows_are_picked_and_ordered_by_position() -> None:
    found = window({"clicks": [1, 2, 3]}, ["a", "b", "c"])
    assert [row["campaign_id"] for row in rows(found, [2, 0])] == ["c", "a"]
    assert rows(found, []) == []


def test_a_column_that_nobody_sent_is_zero() -> None:
    found = window({"clicks": [1]}, ["a"])
    assert rows(found, columns={"conversions_lead", "ctr"}) == [{"campaign_id": "a", "conversions_lead": 0, "ctr": None}]
