"""The exhaustion judge: the day's or the month's budget, or a part of it that a rule names, is spent, and the campaign still runs."""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from alerts.detect.history import History, Ints
from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Expected, Severity
from alerts.pacing.burn import FIRST_LOOK, money
from alerts.pacing.days import day_bounds, month_bounds
from alerts.pacing.plan import MICROS, Plan
from alerts.pacing.planned import Planned
from alerts.rules.model import ExhaustionStep, Rule


class BudgetExhaustedJudge:
    """Spend since the start of the campaign's own day, or month, against the whole budget; whatever the pacing."""

    def judge(self, rule: Rule, history: History) -> Judgement:
        """One verdict per campaign: of day and month the severer one, of two alike the one that is further spent."""
        first = min(step.share for step in rule.exhaustion)
        plans = history.with_plans()
        today: dict[ZoneInfo, Ints] = {}
        verdicts = []
        calm = np.ones(len(history.rows), np.bool_)
        for index in _candidates(first, history, plans, today):
            plan = plans.plans[index]
            if plan.zone not in today:
                today[plan.zone] = history.spent_since(day_bounds(history.end - 1, plan.zone)[0])
            verdict = max(
                (
                    _verdict(history, index, plan, spent, budget, period, steps)
                    for spent, budget, period in _periods(plan, history, index, int(today[plan.zone][index]))
                    if (steps := reached(rule, spent, budget))
                ),
                key=lambda v: (v.severity is Severity.CRITICAL, v.observed / v.expected.mid),
                default=None,
            )
            if verdict is not None:
                calm[index] = False
                verdicts.append(verdict)
        return Judgement(history.rows, verdicts, calm, len(plans.plans), absent_is_calm=True)


def reached(rule: Rule, spent: int, budget: int) -> list[ExhaustionStep]:
    """The steps of the rule that micros spent of a budget have reached, in order; those beyond it once `min_money` too much is spent."""
    matters = spent - budget >= rule.min_money * MICROS
    return [
        step for step in sorted(rule.exhaustion, key=lambda s: s.share) if spent >= step.share * budget and (step.share <= 1 or matters)
    ]


def _candidates(share: float, history: History, plans: Planned, today: dict[ZoneInfo, Ints]) -> list[int]:
    """Rows that may have spent a share of a budget, by a look at all of them in floating point; `today` takes what each zone's day cost."""
    share *= FIRST_LOOK
    likely = np.zeros(len(history.rows), np.bool_)
    for zone, places, budgets in plans.today(history.end - 1):
        if zone not in today:
            today[zone] = history.spent_since(day_bounds(history.end - 1, zone)[0])
        likely[places] = today[zone][places] >= share * np.array(budgets, np.float64)
    if history.month_spend is not None:
        monthly = [(place, plan.monthly) for place, plan in plans.plans.items() if plan.monthly is not None]
        places = np.array([place for place, _ in monthly], np.int64)
        likely[places] |= history.month_spend[places] >= share * np.array([budget for _, budget in monthly], np.float64)
    return np.flatnonzero(likely).tolist()


def _periods(plan: Plan, history: History, index: int, today: int) -> list[tuple[int, int, str]]:
    periods = []
    if plan.daily is not None:
        budget = plan.day_budget(history.end - 1)
        if budget:
            periods.append((today, budget, "day"))
    if plan.monthly is not None and history.month_spend is not None:
        periods.append((int(history.month_spend[index]), plan.monthly, "month"))
    return periods


def _verdict(history: History, index: int, plan: Plan, spent: int, budget: int, period: str, steps: list[ExhaustionStep]) -> Verdict:
    row = history.rows[index]
    bounds = day_bounds if period == "day" else month_bounds
    start, _ = bounds(history.end - 1, plan.zone)
    currency = history.currency
    if spent >= budget:
        left = f"The plan has nothing left for the rest of the {period}."
        look = "Look first whether the platform knows this budget, then pause the campaign or raise the budget."
    else:
        left = f"{money(budget - spent)} {currency} are left for the rest of the {period}."
        look = "Look first whether that is enough for it, then slow the campaign down or raise the budget."
    return Verdict(
        row=row,
        direction=Direction.EXHAUSTED,
        severity=steps[-1].severity,
        measure="spend",
        observed=spent / MICROS,
        expected=Expected(low=0.0, mid=budget / MICROS, high=budget / MICROS),
        start=start,
        end=history.end,
        explanation=(
            f"{history.title_of(row)}: {money(spent)} {currency} spent since the start of the {period} ({plan.zone.key}),"
            f" {100 * spent // budget}% of the budget of {money(budget)} {currency}. {left} {look}"
        ),
        money_at_stake=Decimal(max(0, spent - budget)).scaleb(-6).quantize(Decimal("0.01")),
    )
