"""The simulated marketing day: its world, its counts, its funnel, its faults, and that playing it leaves no seam."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from streams.config import Topic
from streams.simulate.broken import KINDS, broken_event
from streams.simulate.catalogue import RATES
from streams.simulate.faults import RUNAWAY_FACTOR, Fault, FaultKind, plan_faults, timing
from streams.simulate.history import Playback
from streams.simulate.traffic import BROKEN_SHARE, DISPERSION, DUPLICATE_SHARE, LATE_MAX, LATE_SHARE, Record, Traffic
from streams.simulate.world import MIN_CAMPAIGNS, World, build_world, rhythm

#: A Wednesday noon in UTC, epoch seconds; a whole minute.
START = int(datetime(2026, 11, 18, 12, tzinfo=UTC).timestamp())


def world(seed: int = 7, **options: Any) -> World:
    return build_world(np.random.default_rng(seed), **options)


def traffic(of: World, seed: int = 8, start: int = START) -> Traffic:
    return Traffic(of, np.random.default_rng(seed), start)


def play(of: World, seconds: int, faults: list[Fault] | None = None) -> list[Record]:
    source = traffic(of)
    source.inject(faults or [])
    return source.records_until((START + seconds) * 1000)


def sound(records: list[Record]) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Valid events, each once."""
    seen = set()
    for record in records:
        try:
            event = json.loads(record.value)
        except json.JSONDecodeError:
            continue
        broken = not isinstance(event.get("channel"), str) or "campaign_id" not in event or event.get("currency") == "XTS"
        at = event.get("occurred_at")
        broken = broken or (isinstance(at, int) and at != record.occurred_at) or (isinstance(at, str) and at[:4] == "2027")
        if broken or at == "2026-01-15T08:30:00" or event["event_id"] in seen:
            continue
        seen.add(event["event_id"])
        yield record, event


@pytest.fixture(scope="module")
def ten_minutes() -> list[Record]:
    return play(world(), 600)


def test_the_world_is_as_varied_as_promised() -> None:
    campaigns = world().campaigns
    assert len(campaigns) >= 40
    assert len({c.channel.name for c in campaigns}) == 6
    assert len({c.platform for c in campaigns}) == 4
    assert len({c.market.account_id for c in campaigns}) == 3
    assert len({c.market.time_zone for c in campaigns}) >= 4
    assert {c.market.currency for c in campaigns} == {"USD", *RATES}
    assert any(c.experiment_id for c in campaigns)
    assert any(c.reported for c in campaigns)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_variety_is_there_with_any_seed_and_few_campaigns(seed: int) -> None:
    campaigns = world(seed, campaigns=MIN_CAMPAIGNS).campaigns
    assert len({c.channel.name for c in campaigns}) == 6
    assert len({c.market.account_id for c in campaigns}) == 3
    assert len({c.campaign_id for c in campaigns}) == MIN_CAMPAIGNS


def test_the_same_seed_gives_the_same_world_and_events_however_they_are_played() -> None:
    assert world(3) == world(3)
    assert world(3) != world(4)
    in_one = traffic(world()).records_until((START + 30) * 1000)
    by_steps = traffic(world())
    stepwise = [r for tenth in range(1, 301) for r in by_steps.records_until(START * 1000 + tenth * 100)]
    assert stepwise == in_one
    assert [r.value for r in in_one] != [r.value for r in traffic(world(), seed=9).records_until((START + 30) * 1000)]


def test_sizes_are_zipf_like_and_the_largest_can_be_judged_within_a_minute() -> None:
    sizes = world().impressions()
    assert sizes[0] > 30
    assert sizes[0] > 100 * sizes[-1]
    largest = world().campaigns[0]
    assert largest.clicks > 4
    assert largest.clicks * largest.cvr > 0.7


@pytest.mark.parametrize(("campaigns", "rate"), [(11, 280.0), (5_001, 280.0), (48, 0.0)])
def test_a_world_that_cannot_be_is_refused(campaigns: int, rate: float) -> None:
    with pytest.raises(ValueError, match=r"campaigns|rate"):
        world(campaigns=campaigns, rate=rate)


def test_the_rhythm_is_quiet_at_night_busy_in_the_afternoon_and_1_on_average() -> None:
    hours = np.arange(0, 24, 0.05)
    values = np.array([rhythm(h) for h in hours])
    assert values.mean() == pytest.approx(1.0)
    assert 3 <= hours[values.argmin()] <= 5
    assert 14 <= hours[values.argmax()] <= 18
    # Nowhere so steep that an hour would look like another level.
    assert np.abs(np.diff(values)).max() / 0.05 < 0.12


def test_each_campaign_follows_the_clock_of_its_own_market() -> None:
    of = world()
    at_noon_utc = dict(zip((c.market.time_zone for c in of.campaigns), of.rhythms(START), strict=True))
    assert at_noon_utc["Europe/London"] == pytest.approx(rhythm(12))
    assert at_noon_utc["Asia/Tokyo"] == pytest.approx(rhythm(21))
    assert at_noon_utc["America/New_York"] == pytest.approx(rhythm(7))


def test_a_day_of_normal_traffic_stays_inside_the_budget_and_far_below_twice_the_plan() -> None:
    for campaign in world().campaigns:
        spend_per_second = campaign.clicks * campaign.cpc
        plan = float(campaign.daily_budget) / 86_400
        assert spend_per_second / plan < 0.8
        assert spend_per_second / plan * max(rhythm(h) for h in range(24)) < 1.0


def test_the_total_rate_is_the_one_asked_for() -> None:
    of = world(rate=100.0)
    events = sum(1 for _ in sound(play(of, 600)))
    # The mean over a day; at this hour it is the campaigns' rhythm, weighted by size, and the end of the funnel is still to come.
    expected = 600 * 100.0 * float(np.average(of.rhythms(START + 300), weights=of.impressions()))
    assert events == pytest.approx(expected, rel=0.06)


def test_counts_are_over_dispersed_as_declared() -> None:
    per_ten_seconds: Counter[int] = Counter()
    for record in set(play(world(), 2_400)):
        if record.campaign == 0 and b'"kind":"impression"' in record.value:
            per_ten_seconds[record.occurred_at // 10_000] += 1
    counts = np.array([per_ten_seconds[START // 10 + i] for i in range(220)])
    ratio = counts.var() / counts.mean()
    # The standard error of a variance from 220 values is 10 percent.
    assert ratio == pytest.approx(DISPERSION, rel=0.3)
    assert ratio > 1.0


def test_the_funnel_narrows_and_takes_time(ten_minutes: list[Record]) -> None:
    kinds: Counter[str] = Counter()
    lags = []
    for record, event in sound(ten_minutes):
        kinds[event.get("kind") or record.topic.value] += 1
        if record.topic is Topic.CONVERSIONS and "clicked_at" in event:
            lags.append((record.occurred_at - event["clicked_at"]) / 1000)
    assert kinds["impression"] > kinds["clicks"] > kinds["page_view"] > kinds["dwell"] > kinds["purchase"] > kinds["refund"] > 0
    assert {"lead", "signup", "rating", "like", "share", "view", "spend"} <= set(kinds)
    assert kinds["clicks"] / kinds["impression"] == pytest.approx(0.12, abs=0.02)
    assert min(lags) > 1
    assert max(lags) <= 62
    assert 8 < float(np.median(lags)) < 25


def test_some_events_are_late_some_come_twice_and_some_are_broken(ten_minutes: list[Record]) -> None:
    ids: Counter[bytes] = Counter(record.value for record in ten_minutes)
    repeats = sum(n - 1 for n in ids.values())
    assert repeats / len(ten_minutes) == pytest.approx(DUPLICATE_SHARE, rel=0.15)
    good = sum(1 for _ in sound(ten_minutes))
    assert (len(ten_minutes) - repeats - good) / len(ten_minutes) == pytest.approx(BROKEN_SHARE, rel=0.35)
    late = 0
    source = traffic(world())
    for second in range(1, 301):
        due = source.records_until((START + second) * 1000)
        ages = [(START + second) * 1000 - r.occurred_at for r in due if r.topic is not Topic.SPEND]
        assert max(ages) < (LATE_MAX + 60) * 1000
        late += sum(age > 5_000 for age in ages)
    assert late / (len(ten_minutes) / 2) == pytest.approx(LATE_SHARE + DUPLICATE_SHARE / 2, abs=0.01)


@pytest.mark.parametrize("which", range(len(KINDS)))
@pytest.mark.parametrize("at", [1_795_400_000_000, "2026-11-18T12:00:00.250Z"])
def test_a_broken_event_differs_from_the_good_one_and_has_its_own_id(which: int, at: int | str) -> None:
    good = {"event_id": "a", "occurred_at": at, "campaign_id": "c-1", "channel": "search", "currency": "EUR"}
    broken = broken_event(which, json.dumps(good).encode(), "b")
    assert b'"b"' in broken
    try:
        assert json.loads(broken) != {**good, "event_id": "b"}
    except json.JSONDecodeError:
        assert which == 0


def test_reports_say_to_the_cent_fraction_what_the_clicks_of_their_minute_would_have_cost(ten_minutes: list[Record]) -> None:
    of = world()
    latest: dict[tuple[str, str], tuple[int, Decimal]] = {}
    for record, event in sound(ten_minutes):
        assert not (record.topic is Topic.CLICKS and of.campaigns[record.campaign].reported and event.get("cost"))
        if record.topic is Topic.SPEND:
            period = (event["campaign_id"], event["period_start"])
            latest[period] = max(latest.get(period, (-1, Decimal(0))), (event.get("revision", 0), Decimal(event["amount"])))
    assert any(revision == 1 for revision, _ in latest.values())
    reported: dict[str, Decimal] = defaultdict(Decimal)
    for (campaign_id, _), (_, amount) in latest.items():
        reported[campaign_id] += amount
    minutes = len({start for _, start in latest})
    big = next(c for c in of.campaigns if c.reported)
    busy = float(of.rhythms(START + 300)[of.campaigns.index(big)])
    assert float(reported[big.campaign_id]) == pytest.approx(big.clicks * big.cpc * 60 * minutes * busy, rel=0.12)


def test_there_is_no_step_at_the_start_not_even_at_the_end_of_the_funnel() -> None:
    conversions = [r.occurred_at // 1000 - START for r in play(world(), 900) if r.topic is Topic.CONVERSIONS]
    first, later = sum(s < 60 for s in conversions), sum(s < 840 for s in conversions) / 14
    assert min(conversions) >= 0
    assert first == pytest.approx(later, rel=0.2)


def _clicks(records: list[Record], campaign_id: str, start: int, end: int) -> list[dict[str, Any]]:
    wanted = range(start, end)
    return [e for r, e in sound(records) if r.topic is Topic.CLICKS and e["campaign_id"] == campaign_id and r.occurred_at in wanted]


def test_each_fault_does_what_it_is_called_while_it_lasts_and_nothing_before() -> None:
    of = world()
    begin, end = (START + 240) * 1000, (START + 480) * 1000
    campaigns = dict(zip(FaultKind, ("c-001", "c-002", "c-003", "c-004"), strict=True))
    records = play(of, 600, [Fault(kind, campaign, begin, end) for kind, campaign in campaigns.items()])

    def clicks_before_and_during(kind: FaultKind) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        settled = begin + 20_000  # clicks follow their impressions
        return (
            _clicks(records, campaigns[kind], begin - (end - settled), begin),
            _clicks(records, campaigns[kind], settled, end),
        )

    before, during = clicks_before_and_during(FaultKind.TRAFFIC_SPIKE)
    assert len(during) / len(before) == pytest.approx(8, rel=0.2)
    before, during = clicks_before_and_during(FaultKind.TRAFFIC_DROP)
    assert len(during) < 0.1 * len(before)
    before, during = clicks_before_and_during(FaultKind.BUDGET_RUNAWAY)
    assert len(during) == pytest.approx(len(before), rel=0.25)
    assert sum(e["cost"] for e in during) / sum(e["cost"] for e in before) == pytest.approx(RUNAWAY_FACTOR, rel=0.3)
    before, during = clicks_before_and_during(FaultKind.TRACKING_OUTAGE)
    assert len(during) == pytest.approx(len(before), rel=0.25)
    lost = [
        r
        for r in records
        if r.topic is Topic.CONVERSIONS
        and of.campaigns[r.campaign].campaign_id == campaigns[FaultKind.TRACKING_OUTAGE]
        and begin <= r.occurred_at < end
    ]
    assert not lost


@pytest.mark.parametrize("duration", [0, 100, 250, 260, 300, 360, 420, 600, 3_600])
def test_faults_are_spread_over_the_run_so_that_each_can_open_and_resolve(duration: int) -> None:
    when = timing(duration)
    assert all(start + when.length <= duration - 150 for start in when.starts)
    assert all(start >= 20 for start in when.starts)
    for at in range(duration):
        assert sum(start <= at < start + when.length for start in when.starts) <= 2
    assert len(when.starts) == {0: 0, 100: 0, 250: 0, 260: 1, 300: 2, 360: 3}.get(duration, 4)


def test_ten_minutes_have_four_faults_of_two_minutes_from_the_first_minute_on() -> None:
    faults = plan_faults(world(), START * 1000, 600)
    assert [f.kind for f in faults] == [
        FaultKind.TRAFFIC_SPIKE,
        FaultKind.TRAFFIC_DROP,
        FaultKind.BUDGET_RUNAWAY,
        FaultKind.TRACKING_OUTAGE,
    ]
    assert [(f.start // 1000 - START, f.end // 1000 - START) for f in faults] == [(60, 180), (140, 260), (220, 340), (300, 420)]
    assert len({f.campaign_id for f in faults}) == 4
    by_id = {c.campaign_id: c for c in world().campaigns}
    assert not any(by_id[f.campaign_id].reported for f in faults)


@pytest.mark.parametrize("hour", range(24))
def test_the_outage_can_be_judged_within_a_minute_at_any_hour(hour: int) -> None:
    of = world()
    at = START + hour * 3_600
    outage = plan_faults(of, at * 1000, 600)[-1]
    place = [c.campaign_id for c in of.campaigns].index(outage.campaign_id)
    conversions = of.campaigns[place].clicks * of.campaigns[place].cvr * of.rhythms(at)[place]
    assert conversions * 60 > 30


class _Collected:
    """Stands where the producer would."""

    def __init__(self) -> None:
        self.sent: list[Record] = []

    async def send(self, records: list[Record], now: int) -> None:
        self.sent.extend(records)


async def test_history_runs_into_the_present_without_gap_or_repeat() -> None:
    of = world(rate=60.0)
    # A clock that goes on by 50 ms whenever somebody looks at it.
    clock = itertools.count((START + 600) * 1000, 50)
    sender = _Collected()
    playback = Playback(traffic(of), sender, START * 1000, lambda: next(clock))
    total = await playback.catch_up()
    assert next(clock) - playback.position <= 1_200
    assert total == len(sender.sent) > 20_000
    playback.end = playback.position + 1_000
    await playback.follow()
    assert playback.position == playback.end
    assert sender.sent == traffic(of).records_until(playback.position)
