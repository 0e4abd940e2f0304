"""The KPIs, declared as data, and the two things done with them: evaluating them, and writing a window as flat rows.

A KPI is a quotient of measures. What cannot be divided is NaN here and null in every answer, never 0: no clicks means that the cost of a
click is unknown, not that it is free.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.kpis.measures import APPROXIMATE, KIND_FAMILIES, MEASURES, Unit, unit_of
from streams.tables.windows import Window

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class KpiUnit(StrEnum):
    """What a KPI's number means."""

    SHARE = "share"
    """A part of a whole; 0.01 is shown as 1%."""
    MONEY = "money"
    """Units (not micros) of the reporting currency."""
    MULTIPLE = "multiple"
    """Times something; 2.5 is shown as 2.50x."""


class Direction(StrEnum):
    """Which way is good, for whoever colours or judges it."""

    HIGHER = "higher is better"
    LOWER = "lower is better"


@dataclass(frozen=True, slots=True)
class Gate:
    """Volume below which a KPI is arithmetic but not yet evidence: too few events to judge it by."""

    measure: str
    at_least: int


@dataclass(frozen=True, slots=True)
class Kpi:
    """factor * numerator / denominator. The numerator is a sum of (measure, sign) pairs of one unit."""

    name: str
    meaning: str
    numerator: tuple[tuple[str, int], ...]
    denominator: str
    unit: KpiUnit
    direction: Direction
    gate: Gate
    factor: int = 1

    @property
    def parts(self) -> frozenset[str]:
        """Every measure that the formula needs, exact or approximate."""
        return frozenset((*(name for name, _ in self.numerator), self.denominator))

    @property
    def is_approximate(self) -> bool:
        """Whether one of its parts is."""
        return not self.parts.isdisjoint(APPROXIMATE)

    @property
    def formula(self) -> str:
        """The formula in words, `1000 * spend / impressions`."""
        terms = " ".join(f"{'- ' if sign < 0 else '+ '}{name}" for name, sign in self.numerator).removeprefix("+ ")
        over = f"({terms})" if len(self.numerator) > 1 else terms
        return f"{f'{self.factor} * ' if self.factor != 1 else ''}{over} / {self.denominator}"


_UP, _DOWN = Direction.HIGHER, Direction.LOWER
_SHARE, _MONEY, _MULTIPLE = KpiUnit.SHARE, KpiUnit.MONEY, KpiUnit.MULTIPLE
_SPEND, _NET = (("spend", 1),), (("net_revenue", 1),)

_DECLARED = (
    Kpi("ctr", "click-through rate", (("clicks", 1),), "impressions", _SHARE, _UP, Gate("impressions", 1_000)),
    Kpi("cvr", "conversion rate", (("conversions", 1),), "clicks", _SHARE, _UP, Gate("clicks", 100)),
    Kpi("cpc", "cost per click", _SPEND, "clicks", _MONEY, _DOWN, Gate("clicks", 30)),
    Kpi("cpm", "cost per thousand impressions", _SPEND, "impressions", _MONEY, _DOWN, Gate("impressions", 1_000), factor=1_000),
    Kpi("cpa", "cost per acquisition", _SPEND, "conversions", _MONEY, _DOWN, Gate("conversions", 10)),
    Kpi("cac", "cost of a new customer", _SPEND, "conversions_new", _MONEY, _DOWN, Gate("conversions_new", 10)),
    Kpi("roas", "return on ad spend", _NET, "spend", _MULTIPLE, _UP, Gate("conversions", 10)),
    Kpi("roi", "return on investment", (("net_revenue", 1), ("spend", -1)), "spend", _SHARE, _UP, Gate("conversions", 10)),
    Kpi("aov", "average order value", _NET, "conversions_purchase", _MONEY, _UP, Gate("conversions_purchase", 10)),
    Kpi("engagement_rate", "interactions per impression", (("engagements", 1),), "impressions", _SHARE, _UP, Gate("impressions", 1_000)),
    Kpi("share_rate", "shares per impression", (("engagements_share", 1),), "impressions", _SHARE, _UP, Gate("impressions", 1_000)),
    Kpi("arpu", "net revenue per user reached", _NET, "reach", _MONEY, _UP, Gate("reach", 100)),
)

#: Name -> KPI, in the order in which tables show them.
KPIS: dict[str, Kpi] = {kpi.name: kpi for kpi in _DECLARED}

#: Decimal places between a measure's integer and the unit it is shown in.
_PLACES = {Unit.COUNT: 0, Unit.MONEY: 6, Unit.MILLISECONDS: 0, Unit.HUNDREDTHS: 2}

#: A measure of a kind family: any kind that a producer may send.
_OF_A_KIND = re.compile(rf"(?:{'|'.join(KIND_FAMILIES)})[a-z][a-z0-9_]{{0,63}}")

#: Above this a sum of two int64 may not fit any more.
_INT64_SAFE = 9.0e18


def is_measure(name: str) -> bool:
    """Whether `name` is an exact measure: a declared one, or one of a kind family with a kind that there can be."""
    return name in MEASURES or _OF_A_KIND.fullmatch(name) is not None


def places_of(measure: str) -> int:
    """Decimal places of a measure: 6 for money (micros), 2 for ratings (hundredths), else 0; approximate ones are whole or ms."""
    return _PLACES[unit_of(measure)] if is_measure(measure) else 0


def shown(value: int, places: int) -> Decimal | int:
    """`value` / 10**places, exactly: 420000 micros -> Decimal("0.42"); an int where there are no places."""
    if not places:
        return value
    whole, rest = divmod(abs(value), 10**places)
    text = f"{whole}.{rest:0{places}d}".rstrip("0") if rest else str(whole)
    return Decimal(f"-{text}" if value < 0 else text)


def evaluate(measures: Mapping[str, Ints], estimates: Mapping[str, Floats], names: Collection[str] | None = None) -> dict[str, Floats]:
    """The KPIs (all, or `names`) of every row, in display units; NaN for x / 0.

    `measures` are exact measures in their own integers (money in micros), `estimates` the approximate ones, all of one shape, which is also
    that of the results. A measure that is not there counts as 0, an estimate that is not there as unknown.
    """
    shape = next((array.shape for array in (*measures.values(), *estimates.values())), (0,))
    return _evaluate(measures, estimates, shape, names)


def evaluate_rows(window: Window, names: Collection[str] | None = None) -> dict[str, Floats]:
    """The KPIs (all, or `names`) of every row of a window, as `evaluate` does."""
    approximate = any(kpi.is_approximate for name, kpi in KPIS.items() if names is None or name in names)
    return _evaluate(window.measures, window.estimates if approximate else {}, (len(window.rows),), names)


def _evaluate(
    measures: Mapping[str, Ints], estimates: Mapping[str, Floats], shape: tuple[int, ...], names: Collection[str] | None
) -> dict[str, Floats]:
    return {name: _quotient(kpi, measures, estimates, shape) for name, kpi in KPIS.items() if names is None or name in names}


def _quotient(kpi: Kpi, measures: Mapping[str, Ints], estimates: Mapping[str, Floats], shape: tuple[int, ...]) -> Floats:
    exact = np.zeros(shape, np.int64)
    rough = np.zeros(shape, np.float64)
    for name, sign in kpi.numerator:
        if name in measures:
            exact = exact + sign * measures[name]
            rough = rough + sign * measures[name].astype(np.float64)
    # Integers first, so that close sums cancel exactly; floats only where the integers would have wrapped around.
    numerator = np.where(np.abs(rough) < _INT64_SAFE, exact.astype(np.float64), rough)
    denominator: Floats
    if kpi.denominator in APPROXIMATE:
        # The whole number that is shown, so that a reader who divides what the row says gets what the row says.
        denominator = np.rint(estimates[kpi.denominator]) if kpi.denominator in estimates else np.full(shape, np.nan)
    elif kpi.denominator in measures:
        denominator = measures[kpi.denominator].astype(np.float64)
    else:
        denominator = np.zeros(shape, np.float64)
    # One division of two (usually exact) integers is rounded once only.
    scale = Fraction(kpi.factor * 10 ** places_of(kpi.denominator), 10 ** places_of(kpi.numerator[0][0]))
    result = np.full(shape, np.nan)
    np.divide(numerator * scale.numerator, denominator * scale.denominator, out=result, where=(denominator != 0) & ~np.isnan(denominator))
    return result


def rows(window: Window, order: Sequence[int] | None = None, columns: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The window as flat rows, as `/api/kpis` writes them: the dimensions, the exact measures, the estimates, the KPIs.

    Counts are ints, money (units of the reporting currency) and ratings exact Decimals, `reach` an int, the other estimates and the KPIs
    floats; None where there is nothing to tell. `order` picks rows by position, in that order; `columns` picks measures and KPIs by name.
    """
    picked = np.arange(len(window.rows)) if order is None else np.asarray(order, np.int64)
    names: list[str] = list(window.dimensions)
    values: list[list[Any]] = [[window.rows[i][d] for i in picked.tolist()] for d in range(len(window.dimensions))]

    measures = {name: array[picked] for name, array in window.measures.items()}
    estimates = window.estimates_of(picked)
    for name in (*measures, *(c for c in sorted(columns or ()) if is_measure(c) and c not in measures)):
        if columns is None or name in columns:
            places = places_of(name)
            names.append(name)
            numbers = measures[name].tolist() if name in measures else [0] * len(picked)
            values.append([shown(number, places) for number in numbers] if places else numbers)
    for name in APPROXIMATE:
        if name in estimates and (columns is None or name in columns):
            names.append(name)
            values.append([None if n != n else round(n) if name == "reach" else n for n in estimates[name].tolist()])
    wanted = [k for k in KPIS if columns is None or k in columns]
    for name, array in _evaluate(measures, estimates, picked.shape, wanted).items():
        names.append(name)
        values.append([None if n != n else n for n in array.tolist()])
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


#: Every declared measure, estimate and KPI, in the order in which a row shows them (kinds seen come after the declared measures).
COLUMNS: tuple[str, ...] = (*MEASURES, *APPROXIMATE, *KPIS)
