"""The budget-burn judge: spend against the plan's share for the same time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from alerts.detect.deviation import in_words
from alerts.detect.history import SECOND, History
from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Expected, Severity
from alerts.pacing.days import day_bounds, local
from alerts.pacing.plan import MICROS, Plan, profile
from alerts.pacing.planned import Planned
from alerts.rules.model import BurnWindow, Rule

#: Rows that reach this part of a factor at the first look, which is not exact, are looked at exactly.
FIRST_LOOK = 0.99
#: A line of the table that is not met any more in its short window below this part of its factor is calm.
CALM = 0.75


class BudgetBurnJudge:
    """Multi-window burn rates, after the Site Reliability Workbook (Beyer et al., 2018), chapter 5, with a day's budget as the objective.

    A burn rate is the spend of a window divided by what the plan gives that window. A line of the rule's table is met when both of
    its windows reach its factor, the overspend of the long one is worth `min_money`, and it is worth `min_clicks` clicks
    at the window's own price, so that a few dear clicks of a small campaign are not a trend. The severest line that is met is told.
    """

    def judge(self, rule: Rule, history: History) -> Judgement:
        """One verdict per campaign that burns too fast. Campaigns without a budget, or paced `asap`, are never judged."""
        plans = history.with_plans()
        met: dict[int, tuple[BurnWindow, _Burn]] = {}
        hot: set[int] = set()
        for line in sorted(rule.burn, key=lambda b: (b.severity is not Severity.CRITICAL, b.long)):
            for row in _candidates(rule, line, history, plans):
                plan = _with_profile(plans.plans[row], history, row)
                long, short = _burn(plan, history, row, line.long), _burn(plan, history, row, line.short)
                if long.rate >= line.factor and short.rate >= line.factor * CALM and _matters(rule, long):
                    hot.add(row)
                    if short.rate >= line.factor:
                        met.setdefault(row, (line, long))
        calm = np.ones(len(history.rows), np.bool_)
        calm[sorted(hot)] = False
        verdicts = [_verdict(history, row, line, long, plans.plans[row]) for row, (line, long) in sorted(met.items())]
        return Judgement(history.rows, verdicts, calm, plans.paced, absent_is_calm=True)


@dataclass(slots=True)
class _Burn:
    seconds: int
    spend: int
    share: int
    clicks: int

    @property
    def rate(self) -> float:
        return self.spend / self.share if self.share else (float("inf") if self.spend else 0.0)


def _candidates(rule: Rule, line: BurnWindow, history: History, plans: Planned) -> list[int]:
    """Rows that may meet a line, or keep it hot, by a look at all of them; what is exact comes after."""
    if not plans.paced:
        return []
    hours = None if history.hours is None else (history.hours.measures["spend"], history.hours.end)
    likely = history.trailing("spend", line.long) >= max(1, int(rule.min_money * MICROS))
    for seconds, factor in ((line.long, line.factor), (line.short, line.factor * CALM)):
        due = plans.shares(history.end - seconds * SECOND, history.end, len(history.rows), hours)
        # A comparison with NaN, which stands for rows without a pace, is false.
        likely &= history.trailing("spend", seconds) >= (due - 1) * (factor * FIRST_LOOK)
    return [int(row) for row in np.flatnonzero(likely)]


def _with_profile(plan: Plan, history: History, row: int) -> Plan:
    """A plan by profile gets its weights from the history; without enough of it, it is even."""
    if not plan.by_profile or history.hours is None:
        return plan
    weights = profile(history.hours.measures["spend"][row].tolist(), history.hours.end, plan.zone)
    return replace(plan, weights=weights)


def _burn(plan: Plan, history: History, row: int, seconds: int) -> _Burn:
    start = history.end - seconds * SECOND
    return _Burn(
        seconds=seconds,
        spend=int(history.trailing("spend", seconds)[row]),
        share=plan.share(start, history.end) or 0,
        clicks=int(history.trailing("clicks", seconds)[row]),
    )


def _matters(rule: Rule, long: _Burn) -> bool:
    over = long.spend - long.share
    if over < rule.min_money * MICROS:
        return False
    # Without clicks (spend per impression) there is no price of a click to hold it against.
    return not long.clicks or over * long.clicks >= rule.min_clicks * long.spend


def _verdict(history: History, row: int, line: BurnWindow, long: _Burn, plan: Plan) -> Verdict:
    key = history.rows[row]
    currency = history.currency
    per_hour = (long.spend - long.share) * 3_600 // long.seconds
    planned = f"{long.rate:.1f} times the {money(long.share)} {currency} of its plan" if long.share else "of which its plan has nothing"
    explanation = (
        f"{history.title_of(key)}: {money(long.spend)} {currency} spent in {in_words(long.seconds)}, {planned};"
        f" that is {money(per_hour)} {currency} an hour too much."
        f" {_outlook(history, row, long, plan)}"
        " Look first at the last change of bids, budget or targeting, and pause it if nobody meant this."
    )
    return Verdict(
        row=key,
        direction=Direction.BURN,
        severity=line.severity,
        measure="spend",
        observed=long.spend / MICROS,
        expected=Expected(low=0.0, mid=long.share / MICROS, high=long.share * line.factor / MICROS),
        start=history.end - long.seconds * SECOND,
        end=history.end,
        explanation=explanation,
        money_at_stake=Decimal(per_hour).scaleb(-6).quantize(Decimal("0.01")),
    )


def _outlook(history: History, row: int, long: _Burn, plan: Plan) -> str:
    """What today's budget has left, and when it is gone at this speed."""
    budget = plan.day_budget(history.end - 1)
    if not budget:
        return "There is no budget for today."
    start, day_end = day_bounds(history.end - 1, plan.zone)
    spent = int(history.spent_since(start)[row])
    said = f"Today {money(spent)} of {money(budget)} {history.currency} are spent"
    if spent >= budget:
        return f"{said}."
    gone = history.end + (budget - spent) * long.seconds * SECOND // long.spend
    if gone >= day_end:
        return f"{said}."
    return f"{said}; at this speed the rest is gone at {local(gone, plan.zone):%H:%M} ({plan.zone.key})."


def money(micros: int) -> str:
    """Micros as people read them: 1,234.50; rounded half-even."""
    return f"{Decimal(micros).scaleb(-6).quantize(Decimal('0.01')):,}"
