"""The traffic judge sees faults quickly and invents none. Everything is seeded."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import nbinom

from alerts.detect.conversions import ConversionsJudge
from alerts.detect.history import FINE, MINUTE, Mask
from alerts.detect.judge import Direction
from alerts.detect.tail import lower_tail, upper_tail
from alerts.detect.traffic import TrafficJudge, running
from tests.unit.judging import STEPS, Ints, history_of, negative_binomial, standard

#: A Monday noon; a whole quarter of an hour.
NOON = 1_795_435_200_000
TRAFFIC = standard("traffic")


def steady(per_second: float, factor: float = 1.0, seed: int = 0, after: int = 60) -> Ints:
    """Two hours of one row at `per_second`, then `after` steps at `factor` times that."""
    mean = np.full((1, STEPS + after), per_second * 10.0)
    mean[:, STEPS:] *= factor
    return negative_binomial(np.random.default_rng(seed), mean)


def delay(impressions: Ints, most: int = 30) -> int:
    """Seconds of fault until the judge sees it, in steps of 10 s; 999 for never."""
    for step in range(1, most + 1):
        history = history_of({"impressions": impressions[:, step : STEPS + step]}, NOON + step * FINE)
        if TrafficJudge().judge(TRAFFIC, history).verdicts:
            return step * 10
    return 999


@given(
    count=st.integers(0, 3_000),
    mean=st.floats(0.5, 2_000),
    dispersion=st.floats(1e-4, 1.0),
)
def test_the_tails_are_those_of_the_negative_binomial(count: int, mean: float, dispersion: float) -> None:
    size = 1 / dispersion
    law = nbinom(size, size / (size + mean))
    args = np.array([float(count)]), np.array([mean]), np.array([dispersion])
    assert upper_tail(*args)[0] == pytest.approx(law.sf(count - 1), rel=1e-6, abs=1e-200)
    assert lower_tail(*args)[0] == pytest.approx(law.cdf(count), rel=1e-6, abs=1e-200)


@pytest.mark.parametrize("factor", [3.0, 8.0, 0.2, 0.01])
def test_a_fault_of_a_campaign_with_thirty_impressions_a_second_is_seen_within_thirty_seconds(factor: float) -> None:
    assert max(delay(steady(30, factor, seed)) for seed in range(20)) <= 30


@pytest.mark.parametrize(("per_second", "within"), [(3.5, 40), (0.7, 90), (0.1, 600)])
def test_smaller_campaigns_take_longer_but_are_seen(per_second: float, within: int) -> None:
    assert max(delay(steady(per_second, 8.0, seed), 60) for seed in range(10)) <= within


def test_a_verdict_carries_its_evidence() -> None:
    impressions = steady(30, 0.01)[:, 3 : STEPS + 3]
    campaign = {"campaign_id": "c-0", "name": "Spring sale"}
    history = history_of({"impressions": impressions}, NOON + 3 * FINE, {"c-0": campaign})
    (verdict,) = TrafficJudge().judge(TRAFFIC, history).verdicts
    assert verdict.row == ("c-0",)
    assert verdict.direction is Direction.DROP
    assert verdict.measure == "impressions"
    assert (verdict.start, verdict.end) == (NOON + FINE, NOON + 3 * FINE)
    assert verdict.observed == impressions[0, -2:].sum()
    assert verdict.expected.low < 600 < verdict.expected.high
    assert verdict.expected.mid == pytest.approx(600, rel=0.05)
    assert "Spring sale (c-0)" in verdict.explanation
    assert "20 s" in verdict.explanation
    assert "Look first" in verdict.explanation


def rhythm(rows: int, steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means per 10 s of campaigns of all sizes with a strong daily rhythm, each at its own time of day."""
    hours = np.arange(steps) / 360
    wave = 1 + 0.6 * np.cos(2 * np.pi * (hours[None] - rng.uniform(0, 24, rows)[:, None]) / 24)
    sizes = 10 ** rng.uniform(-1.5, 2.0, rows)[:, None]
    result: NDArray[np.float64] = 10 * sizes * wave
    return result


@pytest.mark.parametrize("fano", [1.2, 4.0])
def test_a_day_of_a_hundred_campaigns_with_a_daily_rhythm_raises_no_alarm(fano: float) -> None:
    rng = np.random.default_rng(7)
    impressions = negative_binomial(rng, rhythm(100, 8_640 + STEPS, rng), fano)
    clicks = rng.binomial(impressions, 0.12)
    conversions = rng.binomial(clicks, 0.17)
    tracking = standard("conversion_tracking")
    told: list[str] = []
    judged = 0
    for step in range(STEPS, impressions.shape[1], 12):
        window = slice(step - STEPS, step)
        counts = {"impressions": impressions[:, window], "clicks": clicks[:, window], "conversions": conversions[:, window]}
        history = history_of(counts, NOON + step * FINE)
        for judgement in (TrafficJudge().judge(TRAFFIC, history), ConversionsJudge().judge(tracking, history)):
            judged += judgement.judged
            told += [v.explanation for v in judgement.verdicts]
    assert told == []
    assert judged > 50_000


def test_noise_that_lasts_for_minutes_is_learned_and_raises_no_alarm() -> None:
    """Rates that wander: a gamma factor of 30% that holds for a minute."""
    rng = np.random.default_rng(11)
    minutes = 600
    wander = np.repeat(rng.gamma(1 / 0.09, 0.09, (20, minutes)), 6, axis=1)
    impressions = negative_binomial(rng, 300 * wander)
    for step in range(STEPS, impressions.shape[1], 2):
        history = history_of({"impressions": impressions[:, step - STEPS : step]}, NOON + step * FINE)
        assert TrafficJudge().judge(TRAFFIC, history).verdicts == []


@pytest.mark.parametrize("per_hour", [2.0, 0.5])
def test_a_level_that_doubles_or_halves_within_an_hour_is_no_fault(per_hour: float) -> None:
    rng = np.random.default_rng(5)
    growth = per_hour ** (np.maximum(np.arange(STEPS + 720) - STEPS, 0) / 360)
    impressions = negative_binomial(rng, 300 * growth[None].repeat(10, axis=0))
    for step in range(0, 720, 3):
        history = history_of({"impressions": impressions[:, step : STEPS + step]}, NOON + step * FINE)
        assert TrafficJudge().judge(TRAFFIC, history).verdicts == []


def test_without_half_an_hour_of_history_the_judge_is_silent() -> None:
    impressions = steady(30, 8.0)[:, 6 : STEPS + 6]
    impressions[:, : STEPS - 30 * 6] = 0
    judgement = TrafficJudge().judge(TRAFFIC, history_of({"impressions": impressions}, NOON + 6 * FINE))
    assert judgement.verdicts == []
    assert judgement.judged == 0
    assert not judgement.calm.any()


def test_an_incident_does_not_become_the_baseline() -> None:
    """After 40 minutes at 8 times the level, back to normal is calm and not a drop, when the incident is masked."""
    impressions = steady(30, 1.0, after=0)
    impressions[:, -250:-10] *= 8
    end = NOON
    mask = Mask(end - 250 * FINE - MINUTE, end - 10 * FINE)
    history = history_of({"impressions": impressions}, end)
    history.masks = {("c-0",): [mask]}
    judgement = TrafficJudge().judge(TRAFFIC, history)
    assert judgement.verdicts == []
    assert judgement.calm.tolist() == [True]
    history.masks = {}
    assert TrafficJudge().judge(TRAFFIC, history).calm.tolist() == [False]


def test_a_group_mask_under_the_empty_row_is_for_every_row() -> None:
    impressions = np.repeat(steady(30, 1.0, after=0), 3, axis=0)
    impressions[:, -250:-10] *= 8
    history = history_of({"impressions": impressions}, NOON)
    history.masks = {(): [Mask(NOON - 250 * FINE - MINUTE, NOON - 10 * FINE)]}
    assert TrafficJudge().judge(TRAFFIC, history).verdicts == []


def test_after_a_fault_the_row_is_calm_within_half_a_minute() -> None:
    impressions = steady(30, 8.0, after=12)
    impressions = np.concatenate([impressions, steady(30, 1.0, seed=1, after=0)[:, :6]], axis=1)
    ended = STEPS + 12
    calm_after = next(
        step * 10
        for step in range(1, 7)
        if TrafficJudge()
        .judge(TRAFFIC, history_of({"impressions": impressions[:, ended + step - STEPS : ended + step]}, NOON + step * FINE))
        .calm[0]
    )
    assert calm_after <= 30


def test_a_drop_after_the_last_day_of_the_campaign_is_no_fault() -> None:
    impressions = steady(30, 0.0)[:, 6 : STEPS + 6]
    over = {"campaign_id": "c-0", "name": "Over", "time_zone": "UTC", "ends_on": "2026-11-22"}
    history = history_of({"impressions": impressions}, NOON + 6 * FINE, {"c-0": over})
    assert TrafficJudge().judge(TRAFFIC, history).verdicts == []
    assert running(None, NOON)
    assert running({"ends_on": "2026-11-23", "time_zone": "Asia/Tokyo"}, NOON)
    assert not running({"starts_on": "2026-11-24", "time_zone": "UTC"}, NOON)


def test_a_row_has_one_verdict_for_its_least_probable_measure() -> None:
    impressions = steady(30, 3.0)[:, 6 : STEPS + 6]
    clicks = steady(4, 20.0)[:, 6 : STEPS + 6]
    history = history_of({"impressions": impressions, "clicks": clicks}, NOON + 6 * FINE)
    verdicts = TrafficJudge().judge(TRAFFIC, history).verdicts
    assert [v.row for v in verdicts] == [("c-0",)]


def test_ten_thousand_campaigns_are_judged_well_under_a_second() -> None:
    rng = np.random.default_rng(3)
    impressions = negative_binomial(rng, np.full((10_000, 210), 20.0))
    impressions = np.concatenate([impressions] * 4, axis=1)[:, -STEPS:]
    history = history_of({"impressions": impressions, "clicks": impressions // 5}, NOON)
    best = math.inf
    for _ in range(3):
        begun = time.perf_counter()
        judgement = TrafficJudge().judge(TRAFFIC, history)
        best = min(best, time.perf_counter() - begun)
    assert judgement.judged == 10_000
    assert best < 1.0
