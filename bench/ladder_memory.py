"""What the ladder of panes costs in Redis: a pane of each level is filled with what a campaign sends in that time, and weighed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from redis.asyncio import Redis

from bench.table_filling import NOW, Partition, events, names_of
from streams.config import Settings, Topic
from streams.panes.ladder import Ladder, Level

MINUTE = 60_000
#: Of a campaign's events: nine in ten are impressions and other engagements, the rest clicks and a few conversions.
MIX = {Topic.CLICKS: 0.09, Topic.CONVERSIONS: 0.01, Topic.ENGAGEMENTS: 0.90}
#: Cubes whose rows grow with the number of campaigns; the others have as many rows however many campaigns there are.
BY_CAMPAIGN = ("account", "campaign", "campaign_channel", "campaign_creative")
#: A pane is written in this many parts or more, each of at most as many events as the product applies at once.
_PARTS, _FLUSH = 30, 10_000


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes in Redis: exact measures, and sketches (reach and dwell times)."""

    exact: float
    sketches: float

    @property
    def all(self) -> float:
        return self.exact + self.sketches


@dataclass(frozen=True, slots=True)
class Step:
    """One pane of a level, all topics together: what each campaign adds to it, and what it weighs besides."""

    pane_s: int
    kept_panes: int
    events_per_campaign: float
    per_campaign: Weight
    shared: Weight

    def panes_after(self, days: int) -> int:
        return min(self.kept_panes, days * 86_400 // self.pane_s)


async def measure_ladder(url: str, campaigns: int, rate: float) -> list[Step]:
    """Every level of the default ladder, with `campaigns` in one partition of each topic and `rate` events a minute of each campaign."""
    settings = Settings()
    by_campaign = {name: settings.all_cubes[name] for name in BY_CAMPAIGN}
    shared = {name: dimensions for name, dimensions in settings.all_cubes.items() if name not in BY_CAMPAIGN}
    steps = []
    for pane in settings.streams.ladder:
        ladder = Ladder([pane])
        level = ladder.levels[0]
        of_campaigns = await _weigh(url, settings, ladder, by_campaign, campaigns, rate)
        besides = await _weigh(url, settings, ladder, shared, campaigns, rate)
        each = Weight(of_campaigns.exact / campaigns, of_campaigns.sketches / campaigns)
        steps.append(Step(level.size // 1000, level.keep // level.size, rate * level.size / MINUTE, each, besides))
    return steps


async def _weigh(url: str, settings: Settings, ladder: Ladder, cubes: Mapping[str, tuple[str, ...]], campaigns: int, rate: float) -> Weight:
    exact = sketches = 0
    chance = np.random.default_rng(9)
    names = names_of(campaigns)
    level: Level = ladder.levels[0]
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        for topic, share in MIX.items():
            partition = await Partition.claimed(redis, settings, topic, 0, ladder, cubes)
            left = int(chance.poisson(campaigns * rate * share * level.size / MINUTE))
            part = min(left // _PARTS + 1, _FLUSH)
            while left:
                count = min(left, part)
                campaign = chance.integers(0, campaigns, count)
                await partition.flush(events(topic, campaign, np.full(count, NOW - level.size), chance, names, sketches=True))
                left -= count
            async for key in redis.scan_iter(match=f"{partition.keys.tag}*", count=1_000):
                kind = key.decode().removeprefix(partition.keys.tag).partition(":")[0]
                if kind == "pane":
                    exact += await redis.memory_usage(key, samples=0) or 0
                elif kind in partition.keys.sketches:
                    sketches += await redis.memory_usage(key, samples=0) or 0
    return Weight(exact, sketches)


def print_ladder(steps: Sequence[Step]) -> None:
    print(f"{'':>32} {'a campaign and pane, B':>25} {'besides, a pane, B':>25} {'a campaign, kept panes, KiB':>28}")
    heads = (f"{'pane':>8}", f"{'kept':>6}", f"{'events':>16}", *(f"{head:>12}" for head in ("exact", "sketches") * 2))
    print(" ".join(heads) + f" {'exact':>13} {'sketches':>14}")
    for s in steps:
        weights = " ".join(f"{weight:>12,.0f}" for each in (s.per_campaign, s.shared) for weight in (each.exact, each.sketches))
        kept = f"{s.kept_panes * s.per_campaign.exact / 1024:>13,.0f} {s.kept_panes * s.per_campaign.sketches / 1024:>14,.0f}"
        print(f"{s.pane_s:>6} s {s.kept_panes:>6} {s.events_per_campaign:>16,.1f} {weights} {kept}")
    for days in (1, 35, 400):
        exact = sum(s.panes_after(days) * s.per_campaign.exact for s in steps)
        sketches = sum(s.panes_after(days) * s.per_campaign.sketches for s in steps)
        besides = sum(s.panes_after(days) * s.shared.all for s in steps)
        terms = " + ".join(f"{s.panes_after(days):,} x {s.per_campaign.all:,.0f}" for s in steps)
        print(f"\nafter {days} day{'s' if days > 1 else ''}, a campaign that is active all the time: {terms} B")
        print(f"  = {(exact + sketches) / 2**20:.2f} MiB, of which exact {exact / 2**20:.2f}; besides {besides / 2**20:,.0f} MiB for all")
