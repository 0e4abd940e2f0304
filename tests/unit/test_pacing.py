"""Plans and burn rates: money is exact, days are the campaign's own, and only a real burn is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.detect.history import FINE, HOUR, History, Strip
from alerts.detect.judge import Judgement
from alerts.incidents.change import Severity
from alerts.pacing.burn import BudgetBurnJudge
from alerts.pacing.days import day_bounds, month_bounds, slices_of
from alerts.pacing.exhaustion import BudgetExhaustedJudge, reached
from alerts.pacing.plan import Plan, plan_of, profile, to_micros
from alerts.pacing.planned import Planned
from alerts.rules.model import ExhaustionStep, Rule
from tests.unit.judging import STEPS, Ints, history_of, standard

NOON = 1_795_435_200_000
BURN = standard("budget_burn")
EXHAUSTED = standard("budget_exhausted")
RATES = {"EUR": Decimal("1.0842")}


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def campaign(daily: str | None = "864", **more: Any) -> dict[str, Any]:
    return {"campaign_id": "c-0", "name": "Spring sale", "budget": {"daily": daily}, "currency": "USD", "pacing": "even", **more}


def plan(**more: Any) -> Plan:
    made = plan_of(campaign(**more), "USD", RATES)
    assert made is not None
    return made


# Days.


def test_a_day_is_the_campaigns_own_and_may_have_23_or_25_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert day_bounds(ms("2026-11-23T23:30:00+00:00"), berlin) == (ms("2026-11-24T00:00:00+01:00"), ms("2026-11-25T00:00:00+01:00"))
    start, end = day_bounds(ms("2026-03-29T12:00:00+02:00"), berlin)
    assert end - start == 23 * HOUR
    start, end = day_bounds(ms("2026-10-25T02:30:00+01:00"), berlin)
    assert end - start == 25 * HOUR
    assert month_bounds(NOON, berlin) == (ms("2026-11-01T00:00:00+01:00"), ms("2026-12-01T00:00:00+01:00"))


@given(
    at=st.integers(ms("2024-01-01T00:00:00+00:00"), ms("2027-12-31T00:00:00+00:00")),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago"]),
)
def test_every_moment_is_within_its_own_day(at: int, zone: str) -> None:
    start, end = day_bounds(at, ZoneInfo(zone))
    assert start <= at < end
    assert 22 * HOUR <= end - start <= 26 * HOUR
    assert day_bounds(end, ZoneInfo(zone))[0] == end


@given(
    start=st.integers(0, 10**12),
    length=st.integers(0, 50 * HOUR),
    slices=st.sampled_from([1, 7, 24, 48, 1_440]),
)
def test_slices_cover_every_millisecond_once(start: int, length: int, slices: int) -> None:
    covered = slices_of(start, start + length, ZoneInfo("Europe/Berlin"), slices)
    assert sum(piece for _, piece in covered) == length
    assert all(0 <= number < slices and piece > 0 for number, piece in covered)


# Plans.


@pytest.mark.parametrize(
    ("amount", "currency", "micros"),
    [("100", "USD", 100_000_000), (100, "EUR", 108_420_000), ("0.333333", "EUR", 361_399), (12.5, "USD", 12_500_000)],
)
def test_budgets_are_converted_exactly(amount: object, currency: str, micros: int) -> None:
    assert to_micros(amount, currency, "USD", RATES) == micros


@pytest.mark.parametrize("amount", [None, "", "abc", 0, "-5", "NaN", "Infinity", True])
def test_what_is_no_amount_is_no_budget(amount: object) -> None:
    assert to_micros(amount, "USD", "USD", RATES) is None


def test_a_budget_in_a_currency_without_a_rate_is_not_guessed() -> None:
    assert plan_of(campaign(currency="JPY"), "USD", RATES) is None


def test_an_even_plan_gives_every_window_its_part_of_the_day() -> None:
    assert plan().share(NOON - 60_000, NOON) == 600_000
    assert plan(currency="EUR").share(NOON - 60_000, NOON) == 650_520


def test_on_the_day_of_a_clock_change_the_budget_is_spread_over_its_real_hours() -> None:
    berlin = plan(time_zone="Europe/Berlin", daily="230")
    noon = ms("2026-03-29T12:00:00+02:00")
    assert berlin.share(noon, noon + HOUR) == 10_000_000


def test_a_curve_of_weights_for_equal_slices_of_the_local_day() -> None:
    # Four slices of six hours: nothing before six, the double in the evening.
    curved = plan(pacing=[0, 1, 1, 2], daily="100")
    midnight = ms("2026-11-23T00:00:00+00:00")
    parts = [curved.share(midnight + i * 6 * HOUR, midnight + (i + 1) * 6 * HOUR) for i in range(4)]
    assert parts == [0, 25_000_000, 25_000_000, 50_000_000]


@given(weights=st.lists(st.decimals(0, 100, places=2), min_size=1, max_size=48).filter(any), hours=st.integers(1, 60))
def test_the_shares_of_consecutive_windows_add_up(weights: list[Decimal], hours: int) -> None:
    curved = plan(pacing=[str(w) for w in weights], time_zone="America/New_York")
    whole = curved.share(NOON, NOON + hours * HOUR)
    parts = [curved.share(NOON + i * HOUR, NOON + (i + 1) * HOUR) for i in range(hours)]
    assert whole is not None
    # Each part is rounded down to a whole micro.
    assert 0 <= whole - sum(p for p in parts if p is not None) <= hours


def test_a_monthly_budget_is_shared_by_the_days_and_a_special_day_weighs_more() -> None:
    monthly = plan(budget={"monthly": "300"})
    assert monthly.day_budget(NOON) == 10_000_000
    special = plan(budget={"monthly": "310"}, calendar={"2026-11-23": "2"})
    assert special.day_budget(NOON) == 20_000_000
    assert special.day_budget(NOON + 24 * HOUR) == 10_000_000


def test_a_monthly_budget_is_shared_by_the_days_on_which_the_campaign_runs() -> None:
    # NOON is the 23rd of November.
    ten_days = plan(budget={"monthly": "300"}, starts_on="2026-11-21")
    assert [ten_days.day_budget(NOON + days * 24 * HOUR) for days in (-3, -2, 0, 7, 8)] == [
        0,
        30_000_000,
        30_000_000,
        30_000_000,
        300_000_000 // 31,
    ]
    until_noon = plan(budget={"monthly": "300"}, starts_on="2026-10-05", ends_on="2026-11-23", calendar={"2026-11-23": 3, "2026-11-30": 5})
    assert [until_noon.day_budget(NOON + days * 24 * HOUR) for days in (-1, 0, 1)] == [12_000_000, 36_000_000, 0]


def test_the_days_on_which_a_campaign_runs_are_its_own() -> None:
    auckland = plan(budget={"monthly": "300"}, starts_on="2026-11-24", ends_on="2026-11-24", time_zone="Pacific/Auckland")
    assert auckland.share(NOON - 2 * HOUR, NOON) == 300_000_000 // 24


@given(first=st.none() | st.dates(date(2026, 10, 1), date(2026, 12, 31)), days=st.none() | st.integers(0, 60))
def test_the_days_of_a_month_add_up_to_its_budget(first: date | None, days: int | None) -> None:
    last = None if days is None else (first or date(2026, 10, 20)) + timedelta(days=days)
    monthly = plan(
        budget={"monthly": "3100"}, starts_on=first and first.isoformat(), ends_on=last and last.isoformat(), calendar={"2026-11-27": 3}
    )
    start = ms("2026-11-01T00:00:00+00:00")
    budgets = [monthly.day_budget(start + day * 24 * HOUR) or 0 for day in range(30)]
    runs = (first is None or first <= date(2026, 11, 30)) and (last is None or last >= date(2026, 11, 1))
    # Each day is rounded down to a whole micro.
    assert 0 <= (3_100_000_000 if runs else 0) - sum(budgets) <= 30


def test_a_day_of_the_registry_that_is_none_is_left_out() -> None:
    assert plan(budget={"monthly": "300"}, starts_on="soon", ends_on=7).day_budget(NOON) == 10_000_000


def test_a_profile_follows_the_spend_of_the_past_days() -> None:
    end = ms("2026-11-23T00:00:00+00:00")
    spend = [0] * 8 + [100] * 12 + [0] * 4
    weights = profile(spend * 3, end, ZoneInfo("UTC"))
    assert weights is not None
    assert [int(w) for w in weights] == spend
    assert profile(spend[8:], end, ZoneInfo("UTC")) is None


# Burn.


def spending(multiples: list[tuple[int, float]], price: int = 500_000, base: float = 0.7) -> dict[str, Ints]:
    """Spend of a campaign with 864 a day (0.1 per 10 s): `base` times plan, then (steps, multiple) pieces up to the end. And its clicks."""
    rate = np.full(STEPS, base)
    at = STEPS - sum(steps for steps, _ in multiples)
    for steps, multiple in multiples:
        rate[at : at + steps] = multiple
        at += steps
    micros = (rate * 100_000).astype(np.int64)[None]
    return {"spend": micros, "clicks": np.maximum(micros // price, 1)}


def burn(counts: dict[str, Ints], registered: dict[str, Any] | None = None, end: int = NOON) -> Judgement:
    return BudgetBurnJudge().judge(BURN, history_of(counts, end, {"c-0": registered or campaign()}, RATES))


def test_a_runaway_of_twenty_times_the_plan_is_seen_within_half_a_minute_and_says_why() -> None:
    # 28 cents a minute more: small money, so a campaign of a hundred times that.
    counts = {name: values * 100 for name, values in spending([(3, 20.0)]).items()}
    (verdict,) = burn(counts, campaign(daily="86400")).verdicts
    assert verdict.severity is Severity.CRITICAL
    assert (verdict.end - verdict.start) == 60_000
    assert verdict.observed == pytest.approx(621.0)
    assert verdict.expected.mid == pytest.approx(60.0)
    assert verdict.money_at_stake == Decimal("33660.00")
    assert "10.3 times" in verdict.explanation
    assert "86,400.00 USD" in verdict.explanation
    assert "Look first" in verdict.explanation


@pytest.mark.parametrize(
    ("pieces", "window", "severity"),
    [
        ([(12, 7.0)], 120, Severity.CRITICAL),
        ([(90, 4.5)], 900, Severity.CRITICAL),
        ([(360, 3.2)], 3_600, Severity.WARNING),
    ],
)
def test_the_table_of_windows(pieces: list[tuple[int, float]], window: int, severity: Severity) -> None:
    counts = {name: values * 100 for name, values in spending(pieces).items()}
    (verdict,) = burn(counts, campaign(daily="86400")).verdicts
    assert (verdict.end - verdict.start) // 1000 == window
    assert verdict.severity is severity


def test_a_burn_that_is_over_is_told_no_more() -> None:
    counts = {name: values * 100 for name, values in spending([(12, 20.0), (3, 0.7)]).items()}
    judgement = burn(counts, campaign(daily="86400"))
    assert judgement.verdicts == []
    assert judgement.calm.tolist() == [True]


def test_the_day_of_a_rhythm_is_no_burn() -> None:
    counts = {name: values * 100 for name, values in spending([(360, 2.0)]).items()}
    assert burn(counts, campaign(daily="86400")).verdicts == []


def test_a_few_dear_clicks_are_no_burn() -> None:
    spend = np.zeros((1, STEPS), np.int64)
    clicks = np.zeros((1, STEPS), np.int64)
    for step in (STEPS - 1, STEPS - 2, STEPS - 6):
        spend[0, step], clicks[0, step] = 4_000_000, 1
    assert burn({"spend": spend, "clicks": clicks}, campaign(daily="50")).verdicts == []


def test_asap_and_campaigns_without_a_budget_have_no_pace() -> None:
    counts = {name: values * 100 for name, values in spending([(12, 50.0)]).items()}
    assert burn(counts, campaign(daily="86400", pacing="asap")).verdicts == []
    assert burn(counts, campaign(daily=None)).verdicts == []


def test_a_budget_in_another_currency_burns_at_its_own_rate() -> None:
    counts = {name: values * 100 for name, values in spending([(6, 10.5)], base=0.7).items()}
    assert len(burn(counts, campaign(daily="86400")).verdicts) == 1
    assert burn(counts, campaign(daily="86400", currency="EUR")).verdicts == []


def test_a_monthly_budget_for_a_few_days_does_not_burn_when_it_is_spent_in_them() -> None:
    # 86,400 a day on ten days; an hour of twice that would be six times the plan if thirty days shared it.
    counts = {name: values * 100 for name, values in spending([(360, 2.0)]).items()}
    budget = {"monthly": "864000"}
    assert len(burn(counts, campaign(budget=budget)).verdicts) == 1
    assert burn(counts, campaign(budget=budget, starts_on="2026-11-21")).verdicts == []


def test_spend_outside_of_the_days_of_a_monthly_budget_burns() -> None:
    counts = {name: values * 100 for name, values in spending([]).items()}
    (verdict,) = burn(counts, campaign(budget={"monthly": "864000"}, ends_on="2026-11-22")).verdicts
    assert "42.00 USD spent in 60 s, of which its plan has nothing; that is 2,520.00 USD an hour too much." in verdict.explanation
    assert "There is no budget for today." in verdict.explanation


@given(
    dates=st.lists(st.tuples(*[st.none() | st.dates(date(2026, 10, 20), date(2026, 12, 10))] * 2), min_size=1, max_size=5),
    at=st.integers(ms("2026-11-20T00:00:00+00:00") // FINE, ms("2026-12-04T00:00:00+00:00") // FINE),
    seconds=st.sampled_from([20, 900, 3_600]),
    calendar=st.sampled_from([{}, {"2026-11-27": "3", "2026-12-01": "0"}]),
)
def test_a_look_at_all_plans_finds_no_more_than_each_is_due(
    dates: list[tuple[date | None, date | None]], at: int, seconds: int, calendar: dict[str, str]
) -> None:
    plans = {
        f"c-{i}": plan(
            budget={"monthly": "864000"},
            time_zone="Europe/Berlin",
            calendar=calendar,
            starts_on=first and first.isoformat(),
            ends_on=last and last.isoformat(),
        )
        for i, (first, last) in enumerate(dates)
    }
    end = at * FINE
    start = end - seconds * 1000
    planned = Planned.of([(name,) for name in plans], plans)
    assert len(planned.shapes) == 1
    shares = planned.shares(start, end, len(plans), None)
    exact = np.array([each.share(start, end) for each in plans.values()], np.float64)
    assert (shares <= exact * (1 + 1e-6) + 1).all()
    # It is exact but for windows across midnight.
    if day_bounds(start, ZoneInfo("Europe/Berlin")) == day_bounds(end - 1, ZoneInfo("Europe/Berlin")):
        assert shares == pytest.approx(exact, abs=1)


def test_a_curve_that_plans_the_evening_allows_the_evening() -> None:
    counts = {name: values * 100 for name, values in spending([(60, 12.0)]).items()}
    at_noon_only = [0] * 11 + [1] + [0] * 12
    assert len(burn(counts, campaign(daily="86400")).verdicts) == 1
    assert burn(counts, campaign(daily="86400", pacing=at_noon_only)).verdicts == []


def test_ten_thousand_plans_are_judged_well_under_a_second() -> None:
    import time

    spend = np.full((10_000, STEPS), 70_000, np.int64)
    counts = {"spend": spend, "clicks": spend // 50_000}
    registered = {f"c-{i}": {**campaign(), "campaign_id": f"c-{i}"} for i in range(10_000)}
    history = history_of(counts, NOON, registered)
    begun = time.perf_counter()
    judged = BudgetBurnJudge().judge(BURN, history).judged + BudgetExhaustedJudge().judge(EXHAUSTED, history).judged
    assert time.perf_counter() - begun < 1.0
    assert judged == 20_000


# Exhaustion.


def exhausted(spend_per_step: int, registered: dict[str, Any], month: int | None = None, rule: Rule = EXHAUSTED) -> Judgement:
    counts = {"spend": np.full((1, STEPS), spend_per_step, np.int64)}
    history = history_of(counts, NOON, {"c-0": registered}, RATES)
    if month is not None:
        history.month_spend = np.array([month], np.int64)
    return BudgetExhaustedJudge().judge(rule, history)


def with_steps(*steps: tuple[float, Severity]) -> Rule:
    return EXHAUSTED.model_copy(update={"exhaustion": tuple(ExhaustionStep(share=share, severity=severity) for share, severity in steps)})


def test_a_day_whose_budget_is_spent_is_told_and_grows_severe() -> None:
    # 720 steps of 1.00 since ten o'clock.
    (verdict,) = exhausted(1_000_000, campaign(daily="700")).verdicts
    assert verdict.severity is Severity.WARNING
    assert verdict.observed == 720.0
    assert verdict.money_at_stake == Decimal("20.00")
    assert "102% of the budget of 700.00 USD. The plan has nothing left for the rest of the day." in verdict.explanation
    (verdict,) = exhausted(1_000_000, campaign(daily="600")).verdicts
    assert verdict.severity is Severity.CRITICAL
    judgement = exhausted(1_000_000, campaign(daily="721"))
    assert judgement.verdicts == []
    assert judgement.calm.all()


@pytest.mark.parametrize(
    ("daily", "severity", "said"),
    [
        ("901", None, ""),
        ("900", Severity.WARNING, "80% of the budget of 900.00 USD. 180.00 USD are left for the rest of the day."),
        ("720.50", Severity.WARNING, "99% of the budget of 720.50 USD. 0.50 USD are left for the rest of the day."),
        ("720", Severity.CRITICAL, "100% of the budget of 720.00 USD. The plan has nothing left for the rest of the day."),
        ("719.50", Severity.CRITICAL, "100% of the budget of 719.50 USD. The plan has nothing left for the rest of the day."),
        ("600", Severity.CRITICAL, "120% of the budget of 600.00 USD. The plan has nothing left for the rest of the day."),
    ],
)
def test_steps_below_the_whole_budget_are_told_with_what_is_left(daily: str, severity: Severity | None, said: str) -> None:
    judgement = exhausted(1_000_000, campaign(daily=daily), rule=with_steps((0.8, Severity.WARNING), (1.0, Severity.CRITICAL)))
    assert [verdict.severity for verdict in judgement.verdicts] == ([severity] if severity else [])
    assert all(said in verdict.explanation for verdict in judgement.verdicts)
    assert judgement.calm.tolist() == [severity is None]


def test_a_step_beyond_the_whole_budget_counts_when_the_overspend_is_worth_the_money() -> None:
    # 0.72 of a budget of 0.60 is 120%, but 12 cents too much.
    (verdict,) = exhausted(1_000, campaign(daily="0.60")).verdicts
    assert verdict.severity is Severity.WARNING
    assert exhausted(1_000, campaign(daily="0.60"), rule=with_steps((1.1, Severity.CRITICAL))).verdicts == []
    (verdict,) = exhausted(10_000, campaign(daily="6.00")).verdicts
    assert verdict.severity is Severity.CRITICAL


@given(budget=st.integers(1, 10**9), spent=st.integers(0, 10**9))
def test_spending_more_never_takes_back_a_step(budget: int, spent: int) -> None:
    rule = with_steps((0.5, Severity.WARNING), (0.8, Severity.WARNING), (1.0, Severity.CRITICAL), (1.1, Severity.CRITICAL))
    assert len(reached(rule, spent, budget)) <= len(reached(rule, spent + 1, budget))
    assert bool(reached(rule, spent, budget)) == (spent >= 0.5 * budget)


def test_of_day_and_month_the_severer_is_told() -> None:
    # The day is at 120% of next to nothing, the month at 115%.
    (verdict,) = exhausted(1_000, campaign(budget={"daily": "0.60", "monthly": "5000"}), month=5_750_000_000).verdicts
    assert (verdict.severity, verdict.observed) == (Severity.CRITICAL, 5_750.0)


def test_the_day_begins_at_the_campaigns_own_midnight() -> None:
    # Eleven o'clock UTC is midnight in Auckland (UTC+13): only 360 of the steps are of today.
    assert exhausted(1_000_000, campaign(daily="400", time_zone="Pacific/Auckland")).verdicts == []
    (verdict,) = exhausted(1_000_000, campaign(daily="350", time_zone="Pacific/Auckland")).verdicts
    assert verdict.start == NOON - HOUR


def test_asap_is_judged_by_exhaustion_alone() -> None:
    assert len(exhausted(1_000_000, campaign(daily="700", pacing="asap")).verdicts) == 1


def test_the_month_is_judged_too() -> None:
    (verdict,) = exhausted(1_000, campaign(budget={"monthly": "5000"}), month=6_000_000_000).verdicts
    assert "month" in verdict.explanation
    assert verdict.severity is Severity.CRITICAL


def test_spend_since_midnight_joins_quarters_and_fine_steps() -> None:
    quarters = Strip(900_000, NOON - 300_000 * 3 + 0, {"spend": np.full((1, 40), 7, np.int64)})
    fine = Strip(FINE, NOON, {"spend": np.full((1, 90), 1, np.int64)})
    minutes = Strip(60_000, NOON, {"spend": np.zeros((1, 120), np.int64)})
    history = History("campaign", ("campaign_id",), [("c-0",)], NOON, fine, minutes, quarters)
    assert history.spent_since(quarters.end - 2 * 900_000).tolist() == [14 + 90]
    assert datetime.fromtimestamp(NOON / 1000, UTC).hour == 12
