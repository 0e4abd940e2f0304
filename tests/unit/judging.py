"""Histories for the judges' tests, from arrays of counts per 10 seconds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from alerts.detect.history import FINE, MINUTE, QUARTER, History, Strip
from alerts.pacing.plan import plan_of
from alerts.rules import Rule, load_rules
from streams.config import Settings
from streams.tables.windows import Registered

Ints = NDArray[np.int64]

#: 10-second steps of a history: two hours.
STEPS = 720
ALL = ("impressions", "clicks", "conversions", "revenue", "spend")


def negative_binomial(rng: np.random.Generator, mean: NDArray[np.float64], fano: float = 1.2) -> Ints:
    """Counts whose variance is `fano` times their mean."""
    counts: Ints = rng.negative_binomial(np.maximum(mean, 1e-12) / (fano - 1), 1 / fano).astype(np.int64)
    return counts


def history_of(
    steps: Mapping[str, Ints], end: int, campaigns: Mapping[str, Registered] | None = None, rates: Mapping[str, Decimal] | None = None
) -> History:
    """The history at `end` (epoch ms) of arrays (rows, 10 s steps) whose last step ends there; measures left out are zero."""
    shape = next(iter(steps.values())).shape
    filled = {name: steps.get(name, np.zeros(shape, np.int64)) for name in ALL}
    minute = end // MINUTE * MINUTE
    over = (end - minute) // FINE
    minutes = (shape[1] - over) // 6
    fine_steps = 90 + over

    def by_minute(values: Ints) -> Ints:
        whole = values[:, shape[1] - over - minutes * 6 : shape[1] - over]
        sums: Ints = whole.reshape(shape[0], minutes, 6).sum(axis=2)
        return sums

    quarter = end // QUARTER * QUARTER
    past = (end - quarter) // FINE
    quarters = (shape[1] - past) // 90

    def by_quarter(values: Ints) -> Ints:
        whole = values[:, shape[1] - past - quarters * 90 : shape[1] - past]
        sums: Ints = whole.reshape(shape[0], quarters, 90).sum(axis=2)
        return sums

    registered = dict(campaigns or {})
    plans = {name: plan_of(c, "USD", rates or {}) for name, c in registered.items()}
    return History(
        cube="campaign",
        dimensions=("campaign_id",),
        rows=[(f"c-{i}",) for i in range(shape[0])],
        end=end,
        fine=Strip(FINE, end, {name: values[:, -fine_steps:] for name, values in filled.items()}),
        minutes=Strip(MINUTE, minute, {name: by_minute(values)[:, -120:] for name, values in filled.items()}),
        quarters=Strip(QUARTER, quarter, {"spend": by_quarter(filled["spend"])}),
        campaigns=registered,
        plans={name: plan for name, plan in plans.items() if plan is not None},
    )


def standard(name: str) -> Rule:
    """A standard rule."""
    return next(rule for rule in load_rules(Settings()) if rule.name == name)
