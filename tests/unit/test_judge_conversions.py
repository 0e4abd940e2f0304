"""The conversions judge: missing conversions are a fault only when clicks do not explain them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from alerts.detect.conversions import ConversionsJudge
from alerts.detect.history import FINE
from alerts.detect.judge import Judgement
from tests.unit.judging import STEPS, Ints, history_of, negative_binomial, standard

NOON = 1_795_435_200_000
TRACKING = standard("conversion_tracking")


def day(seed: int, after: int = 40) -> tuple[Ints, Ints]:
    """Clicks (4/s) and conversions (0.7/s) of one row: two hours and `after` steps."""
    rng = np.random.default_rng(seed)
    clicks = negative_binomial(rng, np.full((1, STEPS + after), 40.0))
    return clicks, rng.binomial(clicks, 0.175)


def judge(clicks: Ints, conversions: Ints, step: int) -> Judgement:
    window = slice(step, STEPS + step)
    revenue = conversions[:, window] * 20_000_000
    counts = {"clicks": clicks[:, window], "conversions": conversions[:, window], "revenue": revenue}
    return ConversionsJudge().judge(TRACKING, history_of(counts, NOON + step * FINE))


@pytest.mark.parametrize("seed", range(20))
def test_an_outage_is_seen_within_a_minute(seed: int) -> None:
    clicks, conversions = day(seed)
    conversions[:, STEPS:] = 0
    assert next(step * 10 for step in range(1, 40) if judge(clicks, conversions, step).verdicts) <= 60


def test_an_outage_says_what_is_missing_and_what_it_is_worth() -> None:
    clicks, conversions = day(0)
    conversions[:, STEPS:] = 0
    (verdict,) = judge(clicks, conversions, 6).verdicts
    assert verdict.measure == "conversions"
    assert verdict.observed == 0
    assert verdict.money_at_stake is not None
    assert Decimal(300) < verdict.money_at_stake < Decimal(1_500)
    assert "clicks are there" in verdict.explanation


def test_fewer_clicks_explain_fewer_conversions() -> None:
    clicks, conversions = day(1)
    clicks[:, STEPS:] //= 50
    conversions[:, STEPS:] = 0
    assert all(judge(clicks, conversions, step).verdicts == [] for step in range(1, 40))


def test_clicks_that_buy_nothing_do_not_raise_the_expectation() -> None:
    clicks, conversions = day(2)
    clicks[:, STEPS:] *= 8
    assert all(judge(clicks, conversions, step).verdicts == [] for step in range(1, 40))


def test_conversions_that_follow_returning_clicks_with_a_delay_are_no_fault() -> None:
    """Traffic is gone for five minutes; conversions come back half a minute after the clicks."""
    clicks, conversions = day(3, after=80)
    clicks[:, STEPS : STEPS + 30] = 0
    conversions[:, STEPS : STEPS + 33] = 0
    assert all(judge(clicks, conversions, step).verdicts == [] for step in range(1, 80))


def test_it_is_calm_soon_after_the_outage() -> None:
    clicks, conversions = day(4, after=60)
    conversions[:, STEPS : STEPS + 12] = 0
    assert not judge(clicks, conversions, 12).calm[0]
    assert judge(clicks, conversions, 12 + 6).calm[0]


def test_rare_conversions_are_not_judged() -> None:
    clicks, conversions = day(5)
    judgement = judge(clicks // 40, conversions * 0, 6)
    assert judgement.verdicts == []
    assert judgement.judged == 0
