"""The budget-burn judge: spend against the plan's share for the same time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from alerts.detect.deviation import in_words
from alerts.detect.history import DAY, SECOND, Bools, Floats, History
from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Expected, Severity
from alerts.pacing.days import day_bounds, local
from alerts.pacing.plan import MICROS, Plan, profile
from alerts.rules.model import BurnWindow, Rule

#: The vectorised first look takes a day as 24 h long; on the day of a clock change it is off by a twenty-fourth.
FIRST_LOOK = 0.9
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
        paced = _paced(history)
        met: dict[int, tuple[BurnWindow, _Burn]] = {}
        hot: set[int] = set()
        for line in sorted(rule.burn, key=lambda b: (b.severity is not Severity.CRITICAL, b.long)):
            for row in _candidates(rule, line, history, paced):
                plan = _with_profile(paced.plans[row], history, row)
                long, short = _burn(plan, history, row, line.long), _burn(plan, history, row, line.short)
                if long.rate >= line.factor and short.rate >= line.factor * CALM and _matters(rule, long):
                    hot.add(row)
                    if short.rate >= line.factor:
                        met.setdefault(row, (line, long))
        calm = np.ones(len(history.rows), np.bool_)
        calm[sorted(hot)] = False
        verdicts = [_verdict(history, row, line, long, paced.plans[row]) for row, (line, long) in sorted(met.items())]
        return Judgement(history.rows, verdicts, calm, len(paced.plans), absent_is_calm=True)


@dataclass(slots=True)
class _Paced:
    plans: dict[int, Plan]
    #: Planned micros per second of the leanest day that a window may touch, 0 where only the exact share can tell.
    per_second: Floats
    rows: Bools


@dataclass(slots=True)
class _Burn:
    seconds: int
    spend: int
    share: int
    clicks: int

    @property
    def rate(self) -> float:
        return self.spend / self.share if self.share else (float("inf") if self.spend else 0.0)


def _paced(history: History) -> _Paced:
    plans: dict[int, Plan] = {}
    per_second = np.zeros(len(history.rows))
    for index, row in enumerate(history.rows):
        plan = history.plan_of(row)
        if plan is None or not plan.paced:
            continue
        plans[index] = plan
        if plan.weights is None and not plan.by_profile:
            if plan.monthly is None and not plan.calendar:
                per_second[index] = (plan.daily or 0) / 86_400
            else:
                budgets = (plan.day_budget(history.end - 1) or 0, plan.day_budget(history.end - DAY) or 0)
                per_second[index] = min(budgets) / 86_400
    mask = np.zeros(len(history.rows), np.bool_)
    mask[list(plans)] = True
    return _Paced(plans, per_second, mask)


def _candidates(rule: Rule, line: BurnWindow, history: History, paced: _Paced) -> list[int]:
    """Rows that may meet a line, by a cheap look at all of them; what is exact comes after."""
    spend = history.trailing("spend", line.long)
    bound = paced.per_second * line.long * line.factor * FIRST_LOOK
    likely = paced.rows & (spend >= bound) & (spend >= int(rule.min_money * MICROS)) & (spend > 0)
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
    explanation = (
        f"{history.title_of(key)}: {money(long.spend)} {currency} spent in {in_words(long.seconds)}, {long.rate:.1f} times the"
        f" {money(long.share)} {currency} of its plan; that is {money(per_hour)} {currency} an hour too much."
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
