"""What a running leader reads again: everything that may have changed since."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alerts.app.feed import CubeFeed, Registry
from alerts.detect.history import DAY, FINE, HOUR, MINUTE, QUARTER, History, Strip
from alerts.pacing.exhaustion import BudgetExhaustedJudge
from alerts.rules import load_rules
from streams.config import Settings
from streams.tables.reader import TableReader
from streams.tables.windows import Registered, RowKey, Series, Window
from tests.unit.judging import standard

#: A whole hour; noon of the 23rd of November.
NOON = 1_795_435_200_000
AT = datetime.fromtimestamp(NOON / 1000, UTC)
#: Ticks within which everything has been read again, and hours.
QUARTER_OF_AN_HOUR, HALF_AN_HOUR = 90, 180


class Tables:
    """Tables that change while a leader reads them. Every measure is worth what was spent."""

    def __init__(self) -> None:
        self.registry: dict[str, Registered] = {}
        #: When (epoch ms), which campaign, micros.
        self.spent: list[tuple[int, str, int]] = []
        self.steps_read = 0

    async def campaigns(self) -> dict[str, Registered]:
        return dict(self.registry)

    async def series(self, cube: str, start: int, end: int, step: int, *, measures: Collection[str]) -> Series:
        chosen = [(at, campaign, micros) for at, campaign, micros in self.spent if start <= at < end]
        names = sorted({campaign for _, campaign, _ in chosen})
        values = np.zeros((len(names), (end - start) // step), np.int64)
        for at, campaign, micros in chosen:
            values[names.index(campaign), (at - start) // step] += micros
        self.steps_read += values.shape[1]
        times = np.arange(start, end, step)
        rows: list[RowKey] = [(name,) for name in names]
        return Series(cube, ("campaign_id",), times, step, times < end, rows, dict.fromkeys(measures, values))

    async def window(self, cube: str, start: int, end: int, *, measures: Collection[str], estimates: bool) -> Window:
        found = await self.series(cube, start, end, end - start, measures=measures)
        sums = {name: values[:, 0] for name, values in found.measures.items()}
        return Window(cube, ("campaign_id",), start, end, QUARTER, True, found.rows, sums)

    def report(self, campaign: str, start: int, end: int, micros: int) -> None:
        """A report of the platform, spread over its minutes."""
        minutes = range(start, end, MINUTE)
        self.spent += [(at, campaign, micros // len(minutes)) for at in minutes]


class Leader:
    """One that has the default rules on the cube `campaign`."""

    def __init__(self, tables: Tables) -> None:
        reader = cast(TableReader, cast(Any, tables))
        rules = [rule for rule in load_rules(Settings()) if rule.cube == "campaign"]
        self.registry = Registry(reader, Settings())
        self.feed = CubeFeed(reader, Settings(), "campaign", rules)

    async def tick(self, now: int) -> History:
        await self.registry.refresh(datetime.fromtimestamp(now / 1000, UTC))
        return await self.feed.history(now, self.registry, {})


def by_row(history: History, strip: Strip | None) -> dict[RowKey, dict[str, list[int]]]:
    """The lines of rows that have anything."""
    assert strip is not None
    lines = {row: {name: values[place].tolist() for name, values in strip.measures.items()} for place, row in enumerate(history.rows)}
    return {row: line for row, line in lines.items() if any(map(any, line.values()))}


async def test_the_registry_is_read_every_half_a_minute_also_when_the_clock_is_set_back() -> None:
    tables = Tables()
    registry = Leader(tables).registry

    async def names_at(at: datetime, written: str) -> list[str]:
        tables.registry = {written: {"campaign_id": written, "budget": {"daily": "100"}}}
        await registry.refresh(at)
        assert list(registry.plans) == list(registry.campaigns)
        return list(registry.campaigns)

    assert await names_at(AT, "c-1") == ["c-1"]
    assert await names_at(AT + timedelta(seconds=29), "c-2") == ["c-1"]
    assert await names_at(AT + timedelta(seconds=30), "c-3") == ["c-3"]
    an_hour_back = AT - timedelta(hours=1)
    assert await names_at(an_hour_back, "c-4") == ["c-4"]
    assert await names_at(an_hour_back + timedelta(seconds=29), "c-5") == ["c-4"]


async def test_a_report_that_comes_late_reaches_todays_spend_of_a_running_leader_within_a_quarter_of_an_hour() -> None:
    tables = Tables()
    tables.registry = {"c-1": {"campaign_id": "c-1", "budget": {"daily": "100"}}}
    leader = Leader(tables)
    midnight = NOON - 12 * HOUR
    now = NOON
    assert (await leader.tick(now)).rows == []
    # Of the hour from ten to eleven at half past twelve; and of yesterday, which is no spend of today.
    while now < NOON + HOUR // 2:
        await leader.tick(now := now + FINE)
    tables.report("c-1", NOON - 2 * HOUR, NOON - HOUR, 120_000_000)
    tables.report("c-1", midnight - DAY, midnight, 10_000_000_000)
    for _ in range(QUARTER_OF_AN_HOUR):
        history = await leader.tick(now := now + FINE)
    assert history.spent_since(midnight).tolist() == [120_000_000]
    (verdict,) = BudgetExhaustedJudge().judge(standard("budget_exhausted"), history).verdicts
    assert verdict.observed == 120.0
    # A higher revision replaces it.
    tables.spent.clear()
    tables.report("c-1", NOON - 2 * HOUR, NOON - HOUR, 60_000_000)
    for _ in range(QUARTER_OF_AN_HOUR):
        history = await leader.tick(now := now + FINE)
    assert history.spent_since(midnight).tolist() == [60_000_000]
    assert BudgetExhaustedJudge().judge(standard("budget_exhausted"), history).verdicts == []


async def test_a_late_report_reaches_the_month_within_an_hour_and_the_profile_within_half_of_one() -> None:
    tables = Tables()
    tables.registry = {"c-1": {"campaign_id": "c-1", "budget": {"monthly": "3000"}, "pacing": "profile"}}
    tables.report("c-1", NOON - 7 * DAY, NOON - 6 * DAY, 14_400_000)
    leader = Leader(tables)
    now = NOON + 10 * MINUTE
    await leader.tick(now)
    tables.report("c-1", NOON - 3 * DAY, NOON - 2 * DAY, 1_440_000_000)
    for _ in range(HALF_AN_HOUR):
        history = await leader.tick(now := now + FINE)
    new = await Leader(tables).tick(now)
    assert by_row(history, history.hours) == by_row(new, new.hours)
    for _ in range(HALF_AN_HOUR):
        history = await leader.tick(now := now + FINE)
    assert history.month_spend is not None
    assert history.month_spend.tolist() == [1_454_400_000]


Late = tuple[int, int, str, int]


@settings(max_examples=20)
@given(
    late=st.lists(
        st.tuples(
            st.integers(0, 30),
            st.one_of(st.integers(0, 20 * MINUTE), st.integers(0, 3 * HOUR), st.integers(0, 27 * HOUR)),
            st.sampled_from(["c-1", "c-2", "c-3"]),
            st.integers(1, 10**9),
        ),
        max_size=12,
    ),
    begin=st.integers(0, 90),
)
@example(late=[(3, 90 * MINUTE, "c-1", 1)], begin=0)
def test_a_running_leader_sees_within_a_quarter_of_an_hour_what_a_new_one_sees(late: list[Late], begin: int) -> None:
    """`late`: the tick at which it comes, how old it is then, of which campaign, and micros."""

    async def check() -> None:
        tables = Tables()
        tables.registry = {"c-2": {"campaign_id": "c-2", "budget": {"daily": "100"}}}
        tables.spent = [(NOON - 30 * MINUTE, "c-2", 1_000_000)]
        leader = Leader(tables)
        last = max((tick for tick, *_ in late), default=0) + QUARTER_OF_AN_HOUR
        for tick in range(last + 1):
            now = NOON + (begin + tick) * FINE
            tables.spent += [(now - 1 - age, campaign, micros) for when, age, campaign, micros in late if when == tick]
            tables.steps_read = 0
            history = await leader.tick(now)
            # The first look reads everything, those behind it little, so that they take as long as each other.
            assert not tick or tables.steps_read < 60
        new = await Leader(tables).tick(now)
        for seen, right in ((history.fine, new.fine), (history.minutes, new.minutes), (history.quarters, new.quarters)):
            assert by_row(history, seen) == by_row(new, right)

    asyncio.run(check())
