"""Tables of many campaigns with as much of the past as the default rules look at, and their next ten seconds, again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from bench.table_filling import NOW, Ints, Partition, names_of
from streams.config import Settings, Topic
from streams.ingest.aggregate import Facts
from streams.ingest.coded import Coded
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.keys import PartitionKeys

FINE, MINUTE, QUARTER = 10_000, 60_000, 900_000
#: What is filled by the product itself before the first tick; the past before it are copies of it.
FILLED = 2 * MINUTE
#: The end of what is filled: the ticks that follow pass a minute's end twice and a quarter's end once.
BEGIN = NOW - 9 * 3_600_000 - 90_000
#: How far copies reach back. The month so far is in panes of a day.
FINE_BACK, MINUTES_BACK, QUARTERS_BACK, HOURS_BACK = 20 * MINUTE, 130 * MINUTE, 27 * 3_600_000, 170 * 3_600_000
_MONTH = 23 * DAY_MS

CAMPAIGN = {"campaign": ("campaign_id",)}
#: Events in 10 s of a campaign of middling size; sizes are spread by a factor of ten both ways.
_RATES = {Topic.CLICKS: 8.0, Topic.CONVERSIONS: 0.4, Topic.ENGAGEMENTS: 80.0}
#: Budgets of a day and a month in units of what a campaign of that size spends in a day, and their plans.
_PLANS: tuple[dict[str, Any], ...] = (
    {"daily": 1.5, "time_zone": "Europe/Berlin"},
    {"daily": 1.5, "time_zone": "America/New_York"},
    {"daily": 1.5, "monthly": 45.0},
    {"monthly": 45.0, "time_zone": "Asia/Tokyo"},
    {"daily": 1.5, "pacing": ["1", "1", "2", "3", "3", "2", "1", "1"]},
    {"daily": 1.5, "calendar": {"2026-11-27": "3"}},
    {"daily": 1.5, "pacing": "asap"},
    {},
)
_BY_PROFILE: dict[str, Any] = {"daily": 1.5, "pacing": "profile"}
_A_DAY = 8_640 * _RATES[Topic.CLICKS] * 0.4


@dataclass(slots=True)
class Campaigns:
    """Filled tables. `end` is the event time up to which they hold everything, epoch ms."""

    redis: Redis
    settings: Settings
    campaigns: int
    abnormal: float
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))
    end: int = BEGIN
    _partitions: dict[tuple[Topic, int], Partition] = field(default_factory=dict)
    _sizes: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))

    async def fill(self, *, by_profile: bool) -> None:
        """Everything that a first tick reads. `by_profile`: some campaigns are paced by their own week, in hours."""
        self._sizes = np.exp(self.chance.normal(0.0, 1.15, self.campaigns))
        ladder = Ladder(self.settings.streams.ladder)
        for topic in _RATES:
            for number in range(self.settings.kafka.partitions):
                self._partitions[topic, number] = await Partition.claimed(self.redis, self.settings, topic, number, ladder, CAMPAIGN)
        self.end = BEGIN - FILLED
        while self.end < BEGIN:
            await self.advance()
        for partition in self._partitions.values():
            await self._copy_back(partition.keys, HOURS_BACK if by_profile else QUARTERS_BACK)
        await self._register(by_profile=by_profile)

    async def advance(self) -> None:
        """The next ten seconds of all campaigns."""
        lateness = int(self.settings.streams.lateness * 1000)
        for (topic, number), partition in self._partitions.items():
            own = np.arange(number, self.campaigns, self.settings.kafka.partitions)
            mean = _RATES[topic] * self._sizes[own]
            if self.end >= BEGIN:
                # Some are in trouble from the first tick on: traffic stops, or comes tenfold.
                mean[own % 2_000 < 2_000 * self.abnormal / 2] = 0.0
                mean[own % 2_000 >= 2_000 * (1 - self.abnormal / 2)] *= 10.0
            count = self.chance.poisson(mean)
            on = np.flatnonzero(count)
            facts = self._facts(topic, own[on], count[on])
            # One event behind it lets the watermark pass what was sent.
            await partition.flush(facts, event_time=self.end + FINE + lateness)
        self.end += FINE

    def _facts(self, topic: Topic, campaign: Ints, count: Ints) -> Facts:
        values: dict[str, Ints]
        if topic is Topic.CLICKS:
            cost = count * self.chance.integers(300_000, 500_000, len(count))
            values = {"clicks": count, "event_cost": cost, "spend": cost}
        elif topic is Topic.CONVERSIONS:
            values = {"conversions": count, "conversions_purchase": count, "revenue": count * 30_000_000}
        else:
            values = {"engagements_impression": count, "engagements_view": count // 3}
        names = names_of(self.campaigns)
        return Facts(np.full(len(count), self.end), {"campaign_id": Coded(campaign, names)}, values)

    async def _copy_back(self, keys: PartitionKeys, quarters: int) -> None:
        first_day, today = (BEGIN - _MONTH) // DAY_MS + 1, BEGIN // DAY_MS
        pipe = self.redis.pipeline(transaction=False)
        for day in range(first_day, today):
            pipe.copy(keys.rows("campaign", today), keys.rows("campaign", day), replace=True)
            pipe.copy(keys.pane(DAY_MS, today * DAY_MS), keys.pane(DAY_MS, day * DAY_MS), replace=True)
        for size, back in ((FINE, FINE_BACK), (MINUTE, MINUTES_BACK), (QUARTER, quarters)):
            whole = BEGIN // size * size
            filled = [start for start in range(whole - size, BEGIN - FILLED - 1, -size) if start >= BEGIN - FILLED] or [whole]
            first = min(filled) - size
            for number, start in enumerate(range(first, BEGIN - back, -size)):
                pipe.copy(keys.pane(size, filled[number % len(filled)]), keys.pane(size, start), replace=True)
        await pipe.execute()

    async def _register(self, *, by_profile: bool) -> None:
        partition = await Partition.claimed(self.redis, self.settings, Topic.CAMPAIGNS, 0, Ladder(self.settings.streams.ladder), CAMPAIGN)
        registry: dict[Any, Any] = {}
        for number, name in enumerate(names_of(self.campaigns)):
            plan: dict[str, Any] = dict(_BY_PROFILE if by_profile and number % 50 == 49 else _PLANS[number % len(_PLANS)])
            spent = _A_DAY * float(self._sizes[number])
            budget = {period: f"{plan.pop(period) * spent:.2f}" for period in ("daily", "monthly") if period in plan}
            campaign = {"campaign_id": name, "name": f"Campaign {number}", "owner": f"owner {number % 40}", "budget": budget, **plan}
            registry[name] = json.dumps(campaign)
        items = list(registry.items())
        for first in range(0, len(items), 5_000):
            await self.redis.hset(partition.keys.registry(), mapping=dict(items[first : first + 5_000]))
