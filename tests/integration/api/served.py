"""What the tests of the pages share: known tables, and the pages being served over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aiohttp import ClientSession
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from streams.api.health import Health
from streams.api.incidents import StoredIncidents
from streams.api.server import Server, build_app, serve
from streams.config import Settings, Topic
from streams.tables.reader import TableReader
from tests.integration.filling import Fact

#: 2026-11-23T12:00:00Z; the clock stands 3.5 s behind it.
NOON = 1_795_435_200_000
CLOCK = NOON + 3_500
MICRO = 1_000_000


def facts() -> dict[tuple[Topic, int], list[Fact]]:
    """A minute and more of events: c-1 (search), c-2 (social), one event without a campaign; the two click partitions both know c-1."""

    def click(at: int, campaign: str | None, cost: int, user: int, channel: str = "search") -> Fact:
        dimensions = {"channel": channel, **({"campaign_id": campaign} if campaign else {})}
        return Fact(NOON - at, dimensions, {"clicks": 1, "event_cost": cost, "spend": cost}, user)

    def impression(at: int, campaign: str, user: int, channel: str) -> Fact:
        return Fact(NOON - at, {"campaign_id": campaign, "channel": channel}, {"engagements_impression": 1}, user)

    def sale(at: int, campaign: str, value: int) -> Fact:
        values = {"conversions": 1, "conversions_purchase": 1, "revenue": value, "conversions_new": 1}
        return Fact(NOON - at, {"campaign_id": campaign, "channel": "search"}, values)

    refund = Fact(NOON - 4_000, {"campaign_id": "c-1", "channel": "search"}, {"conversions_refund": 1, "refunds": MICRO})
    rated = {"engagements_rating": 1, "rating_sum": 455, "rating_count": 1}
    rating = Fact(NOON - 4_000, {"campaign_id": "c-2", "channel": "social"}, rated)
    seen = [impression(20_000 + i, "c-1", i, "search") for i in range(50)]
    return {
        (Topic.CLICKS, 0): [
            click(15_000, "c-1", 120_001, 1),
            click(95_000, "c-1", 100_000, 1),
            click(5_000, "c-2", 4_000_000, 2, "social"),
        ],
        (Topic.CLICKS, 1): [click(4_000, "c-1", 300_000, 2), click(7_000, None, 1, 3)],
        (Topic.ENGAGEMENTS, 0): [*seen, impression(9_000, "c-3", 9, "display"), rating],
        (Topic.CONVERSIONS, 0): [sale(14_000, "c-1", 10 * MICRO), refund],
    }


CAMPAIGNS: dict[str, dict[str, Any]] = {
    "c-1": {"campaign_id": "c-1", "name": "Spring", "owner": "ann", "channel": "search", "labels": {"team": "north"}},
    "c-2": {"campaign_id": "c-2", "name": "[red] Summer", "owner": "bob", "channel": "social"},
    "c-9": {"campaign_id": "c-9", "name": "Not begun", "owner": "bob"},
}


def incident(incident_id: str, change: str, minutes: int) -> dict[str, Any]:
    """The newest change of an incident, as the alerts process stores it."""
    at = f"2026-11-23T11:{minutes:02}:00Z"
    return {
        "incident_id": incident_id,
        "change": change,
        "seq": 2,
        "at": at,
        "rule": "traffic-drop",
        "severity": "critical",
        "cube": "campaign",
        "key": {"campaign_id": "c-1"},
        "measure": "clicks",
        "observed": 3,
        "expected": {"low": 80, "mid": 100, "high": 120},
        "window": {"from": "2026-11-23T11:00:00Z", "to": at},
        "money_at_stake": 12.5,
        "explanation": "Clicks fell.",
        "offsets": {"marketing.clicks:0": 7},
        "opened_at": at,
    }


@dataclass
class Pages:
    """The pages being served, over tables that `facts` filled."""

    server: Server
    settings: Settings
    client: ClientSession
    health: list[Health] = field(default_factory=lambda: [Health(True, True, {"lag": 0})])

    async def get(self, path: str, **parameters: Any) -> tuple[int, Any]:
        """Status and JSON; a list gives a parameter several times."""
        query = [(k.rstrip("_"), str(v)) for k, vs in parameters.items() for v in (vs if isinstance(vs, list) else [vs])]
        async with self.client.get(self.server.url + path, params=query) as answer:
            return answer.status, json.loads(await answer.text(), parse_float=Decimal)

    async def ok(self, path: str, **parameters: Any) -> Any:
        """The JSON of an answer that must be 200."""
        status, content = await self.get(path, **parameters)
        assert status == 200, content
        return content

    async def refused(self, path: str, **parameters: Any) -> str:
        """What is said with a 400: error and hint."""
        status, content = await self.get(path, **parameters)
        assert status == 400, content
        return f"{content['error']}. {content.get('hint', '')}"


async def start(
    settings: Settings, redis: Redis, health: Callable[[], Health], registry: CollectorRegistry | None = None, *, incidents: bool = True
) -> Server:
    async def exposition(accept: str) -> tuple[bytes, str]:
        return f"# {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"

    async def asked() -> Health:
        return health()

    app = build_app(
        settings,
        TableReader(redis, settings),
        clock=lambda: CLOCK,
        metrics=exposition,
        health=asked,
        incidents=StoredIncidents(redis, settings) if incidents else None,
        registry=registry,
    )
    return await serve(app, "127.0.0.1", 0)
