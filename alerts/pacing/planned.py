"""The plans of many rows at once: which rows have one, and about what share of it a window is due.

Budgets are exact integers and shares exact fractions, which thousands of rows cannot be asked for in every tick. So all rows are looked at
here first, in floating point; who may be over is then judged exactly by the plan itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from alerts.pacing.days import HOUR_MS, HOURS, day_bounds, local, slices_of
from alerts.pacing.plan import Plan
from streams.tables.windows import RowKey

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Budget of the plan that stands for all plans of a shape, micros: parts of it are far finer than what a look needs.
_STANDARD = 10**15


@dataclass(slots=True)
class Shape:
    """Rows whose plans differ in their amounts only, and in the days on which they run."""

    #: A plan of this shape that runs on all days, whose daily budget, or monthly where there is no daily one, is `_STANDARD`.
    standard: Plan
    places: list[int] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    #: First and last day of each row.
    runs: list[tuple[date | None, date | None]] = field(default_factory=list)
    _concentrated: dict[date, Floats] = field(default_factory=dict, init=False, repr=False)

    def concentrated(self, at: int) -> Floats:
        """How many times the standard plan's part of the month each row is due on the local day of `at`; 0 where it does not run."""
        day = local(at, self.standard.zone).date()
        known = self._concentrated.get(day)
        if known is None:
            always = self.standard.part_of_month(day)
            times = {
                (first, last): float(replace(self.standard, starts_on=first, ends_on=last).part_of_month(day) / always) if always else 0.0
                for first, last in set(self.runs)
            }
            known = np.array([times[run] for run in self.runs])
            # A window has no more than two days.
            self._concentrated = {day: known, **dict(list(self._concentrated.items())[:1])}
        return known


@dataclass(slots=True)
class Planned:
    """The rows of a history that have a plan."""

    #: Place of the row -> its plan, in the order of the rows.
    plans: dict[int, Plan]
    shapes: list[Shape]
    #: Rows with a monthly budget, by time zone.
    by_month: dict[ZoneInfo, list[int]]

    @classmethod
    def of(cls, rows: Sequence[RowKey], plans: Mapping[str, Plan]) -> Planned:
        """The plans of rows keyed by campaign."""
        found: dict[int, Plan] = {}
        shapes: dict[object, Shape] = {}
        by_month: dict[ZoneInfo, list[int]] = {}
        for place, row in enumerate(rows):
            plan = plans.get(row[0]) if row and row[0] is not None else None
            if plan is None:
                continue
            found[place] = plan
            if plan.monthly is not None:
                by_month.setdefault(plan.zone, []).append(place)
            key = (plan.zone.key, plan.daily is None, plan.weights, plan.paced, plan.by_profile, tuple(sorted(plan.calendar.items())))
            shape = shapes.get(key)
            if shape is None:
                daily, monthly = (None, _STANDARD) if plan.daily is None else (_STANDARD, None)
                shape = shapes[key] = Shape(replace(plan, daily=daily, monthly=monthly, starts_on=None, ends_on=None))
            shape.places.append(place)
            shape.runs.append((plan.starts_on, plan.ends_on))
            amount = plan.daily if plan.daily is not None else plan.monthly
            shape.amounts.append(amount or 0)
        return cls(found, list(shapes.values()), by_month)

    @property
    def paced(self) -> int:
        """How many rows are held to a pace."""
        return sum(len(shape.places) for shape in self.shapes if shape.standard.paced)

    def shares(self, start: int, end: int, rows: int, hours: tuple[Ints, int] | None) -> Floats:
        """About how many micros each of `rows` rows is due in [start, end), epoch ms; NaN for rows that are held to no pace.

        For monthly budgets across midnight it may be less, of campaigns that begin, end, or have another share of the other day's month.
        `hours`: spend per row in past hours and the end of the last one, for plans by profile.
        """
        result = np.full(rows, np.nan)
        for shape in self.shapes:
            if not shape.standard.paced:
                continue
            places = np.array(shape.places, np.int64)
            whole: float | Floats = float(shape.standard.share(start, end) or 0)
            if shape.standard.by_profile and hours is not None:
                whole = _by_profile(shape.standard, start, end, hours[0][places], hours[1], float(whole))
            if shape.standard.daily is None:
                whole = whole * np.minimum(shape.concentrated(start), shape.concentrated(end - 1))
            result[places] = np.array(shape.amounts, np.float64) / _STANDARD * whole
        return result

    def today(self, at: int) -> list[tuple[ZoneInfo, Ints, list[int]]]:
        """Rows with a daily budget, by time zone: their places, and what each may spend on its own day of `at`, exactly."""
        found = []
        for shape in self.shapes:
            if shape.standard.daily is not None:
                weight = shape.standard.calendar.get(local(at, shape.standard.zone).date(), Fraction(1))
                budgets = shape.amounts if weight == 1 else [int(amount * weight) for amount in shape.amounts]
                found.append((shape.standard.zone, np.array(shape.places, np.int64), budgets))
        return found


def _by_profile(standard: Plan, start: int, end: int, hourly: Ints, hours_end: int, even: float) -> Floats:
    """What `plan.profile` and `Plan.share` come to for many rows: the standard budget's part that is due in [start, end)."""
    number = hourly.shape[1]
    hour_of = np.array([local(hours_end - (number - i) * HOUR_MS, standard.zone).hour for i in range(number)], np.int64)
    of_hour = (hour_of[:, None] == np.arange(HOURS)).astype(np.float64)
    begun = np.where(hourly.any(axis=1), (hourly != 0).argmax(axis=1), number)
    there = (np.arange(number) >= begun[:, None]).astype(np.float64)
    weights = hourly.astype(np.float64) @ of_hour / np.maximum(there @ of_hour, 1.0)
    known = (number - begun >= HOURS) & weights.any(axis=1)
    due = np.zeros(len(hourly))
    at = start
    while at < end:
        day_start, day_end = day_bounds(at, standard.zone)
        until = min(end, day_end)
        whole = weights @ _covered(day_start, day_end, standard.zone)
        part = np.where(
            whole > 0, weights @ _covered(at, until, standard.zone) / np.maximum(whole, 1e-300), (until - at) / (day_end - day_start)
        )
        due += (standard.day_budget(at) or 0) * part
        at = until
    return np.where(known, due, even)


def _covered(start: int, end: int, zone: ZoneInfo) -> Floats:
    lengths = np.zeros(HOURS)
    for part, length in slices_of(start, end, zone, HOURS):
        lengths[part] += length
    return lengths
