"""What is counted: every exact measure, declared as data.

Stored measures are what the tables hold; derived ones are sums of those, made when a window is read. Kinds are the producers' own, so two
families are open-ended: `conversions_<kind>` and `engagements_<kind>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Unit(StrEnum):
    """What one step of a measure's integer means."""

    COUNT = "count"
    MONEY = "micros of the reporting currency"
    MILLISECONDS = "ms"
    HUNDREDTHS = "hundredths of a rating point"


@dataclass(frozen=True, slots=True)
class Measure:
    """An exact measure. `parts` is empty for a stored one; else (measure, sign) pairs that it is the sum of."""

    name: str
    unit: Unit
    meaning: str
    parts: tuple[tuple[str, int], ...] = ()


#: Engagement kinds that count as `engagements`: what a person did, beside being shown something.
INTERACTIONS = ("view", "like", "share", "comment", "save", "follow", "rating")

_DECLARED = (
    Measure("impressions", Unit.COUNT, "engagements of kind impression", (("engagements_impression", 1),)),
    Measure("clicks", Unit.COUNT, "click events"),
    Measure("conversions", Unit.COUNT, "conversions of every kind but refund"),
    Measure("conversions_new", Unit.COUNT, "conversions by new customers, refunds left out"),
    Measure("revenue", Unit.MONEY, "value of conversions of every kind but refund"),
    Measure("refunds", Unit.MONEY, "value of conversions of kind refund"),
    Measure("net_revenue", Unit.MONEY, "revenue less refunds", (("revenue", 1), ("refunds", -1))),
    Measure("event_cost", Unit.MONEY, "cost of clicks and engagements"),
    Measure("reported_spend", Unit.MONEY, "amount of the ad platforms' spend reports"),
    Measure("reported_minutes", Unit.COUNT, "minutes that spend reports cover, also those that report nothing spent"),
    Measure("spend", Unit.MONEY, "event_cost, or reported_spend for platforms whose spend source is reports"),
    Measure("engagements", Unit.COUNT, "interactions: " + ", ".join(INTERACTIONS), tuple((f"engagements_{k}", 1) for k in INTERACTIONS)),
    Measure("dwell_ms_sum", Unit.MILLISECONDS, "sum of dwell_ms"),
    Measure("dwell_count", Unit.COUNT, "engagements with a dwell_ms"),
    Measure("rating_sum", Unit.HUNDREDTHS, "sum of ratings"),
    Measure("rating_count", Unit.COUNT, "engagements with a rating"),
)

#: Name -> measure, in the order in which tables show them.
MEASURES: dict[str, Measure] = {m.name: m for m in _DECLARED}

#: Approximate measures, from sketches: name -> (sketch, quantile or None for a distinct count).
APPROXIMATE: dict[str, tuple[str, float | None]] = {
    "reach": ("reach", None),
    "dwell_p50": ("dwell", 0.50),
    "dwell_p90": ("dwell", 0.90),
    "load_p75": ("load", 0.75),
}

#: Prefixes of the open-ended families.
KIND_FAMILIES = ("conversions_", "engagements_")


def is_exact(name: str) -> bool:
    """Whether `name` is an exact measure, declared or of a family."""
    return name in MEASURES or name.startswith(KIND_FAMILIES)


def unit_of(name: str) -> Unit:
    """Unit of an exact measure; those of the kind families are counts."""
    return MEASURES[name].unit if name in MEASURES else Unit.COUNT


def stored_parts(name: str) -> tuple[tuple[str, int], ...]:
    """The stored measures, with signs, that `name` is the sum of; itself when stored."""
    measure = MEASURES.get(name)
    return measure.parts if measure is not None and measure.parts else ((name, 1),)


def with_derived(stored: Mapping[str, Ints], rows: int) -> dict[str, Ints]:
    """Every declared measure and every kind seen, as arrays of `rows` integers, from the stored ones (absent: zeros)."""
    zeros = np.zeros(rows, np.int64)
    result: dict[str, Ints] = {}
    for name in (*MEASURES, *sorted(k for k in stored if k not in MEASURES)):
        total = zeros
        for part, sign in stored_parts(name):
            if part in stored:
                total = total + sign * stored[part]
        result[name] = total
    return result
