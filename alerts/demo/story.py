"""What the demo knows at a moment, for whoever shows it, and how it is read from the product's own HTTP pages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from alerts.demo.slack_stand_in import SlackStandIn
from streams.api.times import read_time
from streams.simulate.faults import Fault
from streams.simulate.world import World

Json = dict[str, Any]
#: What the table of campaigns looks back on.
WINDOW, WINDOW_SECONDS = "5m", 300
#: Time over which events/s are measured, ms.
_RATE_MS = 5_000


@dataclass(slots=True)
class Story:
    """Everything that a view shows. Times are epoch ms."""

    world: World
    #: Reporting currency per unit of the others.
    rates: Mapping[str, float]
    phase: str = "starting"
    #: Records of history that Kafka has, and about how many it will be.
    played: int = 0
    to_play: int = 0
    live_at: int | None = None
    ends_at: int | None = None
    faults: Sequence[Fault] = ()
    urls: dict[str, str] = field(default_factory=dict)
    slack: SlackStandIn | None = None
    #: Content of the product's pages, as of the last look.
    partitions: list[Json] = field(default_factory=list)
    rows: list[Json] = field(default_factory=list)
    incidents: list[Json] = field(default_factory=list)
    #: What was said, newest last.
    said: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=200))
    _counts: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=64))

    @property
    def read(self) -> int:
        """Records in the ledger."""
        return sum(entry["in"] for entry in self.partitions)

    def note_ledger(self, partitions: list[Json], now: int) -> None:
        """Keep a new look at the ledger."""
        self.partitions = partitions
        self._counts.append((now, self.read))
        while len(self._counts) > 2 and now - self._counts[1][0] >= _RATE_MS:
            self._counts.popleft()

    @property
    def events_per_second(self) -> float:
        """Records that were applied per second in the last seconds."""
        if len(self._counts) < 2:
            return 0.0
        (start, before), (end, after) = self._counts[0], self._counts[-1]
        return (after - before) / max(1, end - start) * 1000

    def watermark(self) -> int | None:
        """The slowest watermark of the partitions that are never idle."""
        marks = [e["watermark"] for e in self.partitions if e["watermark"] and e["topic"].endswith((".clicks", ".engagements"))]
        return min(map(read_time, marks), default=None)

    def burn(self, row: Json) -> float | None:
        """Spend of the window divided by the plan's share for it: 1.0 spends the daily budget in a day."""
        campaign = next((c for c in self.world.campaigns if c.campaign_id == row["campaign_id"]), None)
        if campaign is None:
            return None
        return float(row["spend"]) / (self.budget(campaign.campaign_id) * WINDOW_SECONDS / 86_400)

    def budget(self, campaign_id: str) -> float:
        """A campaign's budget for a day, in the reporting currency."""
        campaign = next(c for c in self.world.campaigns if c.campaign_id == campaign_id)
        return float(campaign.daily_budget) * self.rates.get(campaign.market.currency, 1.0)


class View(Protocol):
    """Shows a story."""

    def say(self, line: str) -> None:
        """Something happened; once each."""
        ...

    def update(self, now: int) -> None:
        """Show how things stand."""
        ...


class Pages:
    """Reads the pages of the two processes into the story. A page that does not answer leaves what was known."""

    def __init__(self, story: Story, http: aiohttp.ClientSession) -> None:
        self._story = story
        self._http = http

    async def get(self, role: str, path: str) -> Json:
        """A page's JSON. Raises aiohttp.ClientError, OSError or TimeoutError."""
        async with self._http.get(self._story.urls[role] + path) as response:
            response.raise_for_status()
            content: Json = await response.json()
            return content

    async def look_at_ledger(self, now: int) -> None:
        """Only how much has been applied."""
        if "streams" in self._story.urls:
            try:
                self._story.note_ledger((await self.get("streams", "/api/ledger"))["partitions"], now)
            except (aiohttp.ClientError, OSError, TimeoutError):
                return

    async def look(self, now: int) -> None:
        """Everything that the view shows."""
        await asyncio.gather(self.look_at_ledger(now), self._look_at_campaigns(), self._look_at_incidents())

    async def _look_at_campaigns(self) -> None:
        columns = "impressions,clicks,conversions,spend,ctr,cvr,cpa,roas"
        try:
            page = await self.get("streams", f"/api/kpis?cube=campaign&window={WINDOW}&sort=-spend&limit=1000&columns={columns}")
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError):
            return
        self._story.rows = page["rows"]

    async def _look_at_incidents(self) -> None:
        try:
            self._story.incidents = (await self.get("alerts", "/api/incidents?state=all"))["incidents"]
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError):
            return
