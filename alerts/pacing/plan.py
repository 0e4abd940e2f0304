"""A campaign's plan for its money: the budget in the reporting currency and how much of a day's budget a window is due."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from alerts.pacing.days import HOUR_MS, HOURS, day_bounds, local, slices_of, zone_of
from streams.tables.windows import Registered

MICROS = 1_000_000


Weights = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Budgets in micros of the reporting currency; None where there is none."""

    zone: ZoneInfo
    daily: int | None
    monthly: int | None
    #: Weights of equal slices of the local day; None for an even plan.
    weights: Weights | None
    #: False for `asap`: any speed is according to plan.
    paced: bool
    #: Whether the weights are to come from the campaign's own history.
    by_profile: bool = False
    #: How many ordinary days a special day weighs; ordinary ones are left out.
    calendar: Mapping[date, Fraction] = field(default_factory=dict)
    #: First and last day on which the campaign runs; None where it has none. They bound what a monthly budget is shared by.
    starts_on: date | None = None
    ends_on: date | None = None

    def day_budget(self, at: int) -> int | None:
        """Micros that the local day of `at` may cost: the daily budget times the day's weight, else the day's part of the monthly one."""
        today = local(at, self.zone).date()
        if self.daily is not None:
            return int(self.daily * self.calendar.get(today, Fraction(1)))
        return None if self.monthly is None else int(self.monthly * self.part_of_month(today))

    def part_of_month(self, today: date) -> Fraction:
        """A day's weight in all days of its month on which the campaign runs; 0 for a day on which it does not."""
        whole = sum((self._weight(today.replace(day=number + 1)) for number in range(monthrange(today.year, today.month)[1])), Fraction(0))
        return self._weight(today) / whole if whole else Fraction(0)

    def _weight(self, day: date) -> Fraction:
        runs = (self.starts_on is None or self.starts_on <= day) and (self.ends_on is None or day <= self.ends_on)
        return self.calendar.get(day, Fraction(1)) if runs else Fraction(0)

    def share(self, start: int, end: int) -> int | None:
        """Micros planned for [start, end), epoch ms, rounded down; None without a budget.

        Even plans spread a day's budget over the day's real length; weights give each slice of the local day its part.
        """
        total = Fraction(0)
        at = start
        while at < end:
            day_start, day_end = day_bounds(at, self.zone)
            budget = self.day_budget(at)
            if budget is None:
                return None
            until = min(end, day_end)
            total += budget * self._part(at, until, day_start, day_end)
            at = until
        return int(total)

    def _part(self, start: int, end: int, day_start: int, day_end: int) -> Fraction:
        even = Fraction(end - start, day_end - day_start)
        if self.weights is None:
            return even
        whole = _weigh(self.weights, day_start, day_end, self.zone)
        return _weigh(self.weights, start, end, self.zone) / whole if whole else even


@lru_cache(maxsize=4_096)
def _weigh(weights: Weights, start: int, end: int, zone: ZoneInfo) -> Fraction:
    return sum((weights[part] * length for part, length in slices_of(start, end, zone, len(weights))), Fraction(0))


def to_micros(amount: object, currency: str, reporting: str, rates: Mapping[str, Decimal]) -> int | None:
    """An amount of the registry (string or number, in `currency`) as micros of the reporting currency, rounded down.

    None for no amount, one that is not above 0, or a currency without a rate: a budget is not guessed.
    """
    value = _fraction(amount)
    rate = Decimal(1) if currency == reporting else rates.get(currency)
    if rate is None or value is None or value <= 0:
        return None
    return int(value * Fraction(rate) * MICROS)


def _fraction(value: object) -> Fraction | None:
    if not isinstance(value, (str, int, float, Decimal)) or isinstance(value, bool):
        return None
    try:
        return Fraction(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        return None


def plan_of(campaign: Registered, reporting: str, rates: Mapping[str, Decimal]) -> Plan | None:
    """The plan that a campaign of the registry stands for; None when it has no daily or monthly budget that can be used."""
    budget = campaign.get("budget") or {}
    currency = str(campaign.get("currency") or reporting).upper()
    daily = to_micros(budget.get("daily"), currency, reporting, rates)
    monthly = to_micros(budget.get("monthly"), currency, reporting, rates)
    if daily is None and monthly is None:
        return None
    pacing = campaign.get("pacing") or "even"
    return Plan(
        zone=zone_of(campaign.get("time_zone")),
        daily=daily,
        monthly=monthly,
        weights=None if isinstance(pacing, str) else _curve(pacing),
        paced=pacing != "asap",
        by_profile=pacing == "profile",
        calendar=_calendar(campaign.get("calendar")),
        starts_on=_day(campaign.get("starts_on")),
        ends_on=_day(campaign.get("ends_on")),
    )


def _curve(curve: object) -> Weights | None:
    if not isinstance(curve, Sequence):
        return None
    weights = tuple(w for w in map(_fraction, curve) if w is not None and w >= 0)
    return weights if len(weights) == len(curve) and any(weights) else None


def _calendar(calendar: object) -> dict[date, Fraction]:
    days: dict[date, Fraction] = {}
    for name, factor in calendar.items() if isinstance(calendar, Mapping) else ():
        day, weight = _day(name), _fraction(factor)
        if day is not None and weight is not None and weight >= 0:
            days[day] = weight
    return days


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


def profile(hourly: Sequence[int], end: int, zone: ZoneInfo) -> Weights | None:
    """24 weights by local hour from past hourly spend (oldest first, the last hour ends at `end`); None with less than a day of it."""
    begun = next((i for i, micros in enumerate(hourly) if micros), len(hourly))
    if len(hourly) - begun < HOURS:
        return None
    sums, counts = [0] * HOURS, [0] * HOURS
    for i in range(begun, len(hourly)):
        hour = local(end - (len(hourly) - i) * HOUR_MS, zone).hour
        sums[hour] += int(hourly[i])
        counts[hour] += 1
    weights = tuple(Fraction(s, c) if c else Fraction(0) for s, c in zip(sums, counts, strict=True))
    return weights if any(weights) else None
