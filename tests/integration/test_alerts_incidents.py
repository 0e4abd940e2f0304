"""From tables to incidents: a fault in the tables opens one incident, with evidence, and it resolves when the fault is over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from alerts.app.evaluator import Evaluator
from alerts.app.lease import Lease
from alerts.app.metrics import AlertsMetrics
from alerts.incidents.change import Change, ChangeKind
from alerts.incidents.store import IncidentStore, LeaseLost
from alerts.rules import load_rules
from streams.api.incidents import StoredIncidents
from streams.config import Alerts, Settings, Topic
from streams.tables.keys import alerts_key
from streams.tables.reader import TableReader
from tests.integration.filling import Fact, Filled, fill

#: A whole minute.
NOON = 1_795_435_200_000
STEP = 10_000


def facts(until: int, clicks: dict[str, list[tuple[int, int]]]) -> list[Fact]:
    """Ninety minutes of clicks at 0.50 up to `until`: 30 per 10 s, or what (from, number) pairs say from then on.

    Long ago a whole minute's clicks come at once, since nothing looks that closely there.
    """
    rng = np.random.default_rng(1)
    found = []
    for campaign_id, changes in clicks.items():
        recent = NOON - 1_200_000
        for at in (*range(NOON - 5_400_000, recent, 60_000), *range(recent, until, STEP)):
            mean = next((n for start, n in reversed(changes) if at >= start), 30)
            number = int(rng.poisson(mean if at >= recent else 6 * mean))
            if number:
                values = {"clicks": number, "event_cost": number * 500_000, "spend": number * 500_000}
                found.append(Fact(at, {"campaign_id": campaign_id, "channel": "search"}, values))
    return found


async def tables_at(redis: Redis, settings: Settings, now: int, clicks: dict[str, list[tuple[int, int]]]) -> None:
    """The tables as they are when the watermark is at `now`."""
    topic = settings.topic(Topic.CLICKS)
    for key in [key async for key in redis.scan_iter(f"{settings.redis.namespace}:{{{topic}:*")]:
        await redis.delete(key)
    lateness = int(settings.streams.lateness * 1000)
    events = facts(now, clicks)
    events.append(Fact(now + lateness, {"campaign_id": "c-other", "channel": "email"}, {"clicks": 1}))
    await fill(redis, settings, Filled(Topic.CLICKS, 0, events, now + lateness))
    campaigns = {"c-1": {"campaign_id": "c-1", "name": "Spring sale", "budget": {"daily": "1000000"}, "currency": "USD"}}
    await fill(redis, settings, Filled(Topic.CAMPAIGNS, 0, record_time=now, campaigns=campaigns))


class Term:
    """A leader whose ticks are driven by hand."""

    def __init__(self, redis: Redis, settings: Settings, token: str) -> None:
        rules = load_rules(settings)
        self.redis = redis
        self.settings = settings
        self.metrics = AlertsMetrics(rules)
        self.evaluator = Evaluator(settings, rules, TableReader(redis, settings), IncidentStore(redis, settings), self.metrics, token)

    async def tick(self, now: int, clicks: dict[str, list[tuple[int, int]]], wait: int = 7) -> str:
        await tables_at(self.redis, self.settings, now, clicks)
        return await self.evaluator.tick(datetime.fromtimestamp(now / 1000 + wait, UTC))


async def lead(redis: Redis, settings: Settings, name: str) -> Term:
    settings = settings.model_copy(update={"alerts": Alerts(http_port=0, lease=600)})
    await redis.delete(alerts_key(settings.redis.namespace, "lease"))
    token = await Lease(redis, settings, name).acquire()
    assert token is not None
    return Term(redis, settings, token)


async def outbox(redis: Redis, settings: Settings) -> list[Change]:
    entries: Any = await redis.xrange(alerts_key(settings.redis.namespace, "outbox"))
    return [Change.model_validate_json(fields[b"change"]) for _, fields in entries]


async def test_a_spike_opens_one_incident_and_it_resolves_after_the_spike(redis: Redis, settings: Settings) -> None:
    spike: dict[str, list[tuple[int, int]]] = {"c-1": [(NOON, 240), (NOON + 120_000, 30)], "c-2": []}
    term = await lead(redis, settings, "first")
    opened_after = resolved_after = None
    for now in range(NOON - 10_000, NOON + 300_000, STEP):
        assert await term.tick(now, spike) == "judged"
        kinds = [change.change for change in await outbox(redis, settings)]
        if opened_after is None and kinds:
            opened_after = (now - NOON) // 1000
        if resolved_after is None and ChangeKind.RESOLVED in kinds:
            resolved_after = (now - NOON - 120_000) // 1000
    changes = await outbox(redis, settings)
    assert [(c.change, c.rule, c.key) for c in changes] == [
        (ChangeKind.OPENED, "traffic", {"campaign_id": "c-1"}),
        (ChangeKind.RESOLVED, "traffic", {"campaign_id": "c-1"}),
    ]
    assert opened_after is not None and opened_after <= 30
    assert resolved_after is not None and resolved_after <= 110
    first = changes[0]
    assert first.name == "Spring sale"
    assert first.measure == "clicks"
    assert first.offsets[f"{settings.topic(Topic.CLICKS)}:0"] > 0
    assert first.expected.low < first.expected.mid < first.observed
    assert await StoredIncidents(redis, settings)("open") == []
    (shown,) = await StoredIncidents(redis, settings)("resolved")
    assert shown["incident_id"] == first.incident_id
    metrics = term.metrics.render("text/plain")[0].decode()
    assert 'campaignwatch_alerts_incidents_open{rule="traffic",severity="critical"} 0.0' in metrics
    assert 'campaignwatch_alerts_changes_total{change="opened",rule="traffic"} 1.0' in metrics
    assert "campaignwatch_alerts_outbox_length 2.0" in metrics


async def test_a_new_leader_goes_on_with_the_incidents_of_the_old_one(redis: Redis, settings: Settings) -> None:
    spike: dict[str, list[tuple[int, int]]] = {"c-1": [(NOON, 240)]}
    first = await lead(redis, settings, "first")
    await first.tick(NOON + 60_000, spike)
    second = await lead(redis, settings, "second")
    await second.tick(NOON + 70_000, spike)
    assert [c.change for c in await outbox(redis, settings)] == [ChangeKind.OPENED]
    ended: dict[str, list[tuple[int, int]]] = {"c-1": [(NOON, 240), (NOON + 70_000, 30)]}
    with pytest.raises(LeaseLost):
        await first.tick(NOON + 110_000, ended)
    assert [c.change for c in await outbox(redis, settings)] == [ChangeKind.OPENED]
    (kept,) = await IncidentStore(redis, settings).load()
    assert kept.is_open


async def test_a_budget_that_burns_opens_an_incident_of_its_own(redis: Redis, settings: Settings) -> None:
    """Spend is 1.50 per 10 s; the registry allows as much in a minute."""
    steady: dict[str, list[tuple[int, int]]] = {"c-1": []}
    term = await lead(redis, settings, "first")
    await tables_at(redis, settings, NOON, steady)
    campaigns: dict[str, Any] = {"c-1": {"campaign_id": "c-1", "name": "Spring sale", "budget": {"daily": "2160"}, "currency": "USD"}}
    await redis.delete(*[key async for key in redis.scan_iter(f"{settings.redis.namespace}:{{{settings.topic(Topic.CAMPAIGNS)}:*")])
    await fill(redis, settings, Filled(Topic.CAMPAIGNS, 0, record_time=NOON, campaigns=campaigns))
    await term.evaluator.tick(datetime.fromtimestamp(NOON / 1000 + 7, UTC))
    changes = {c.rule: c for c in await outbox(redis, settings)}
    assert set(changes) == {"budget_burn", "budget_exhausted"}
    assert changes["budget_burn"].measure == "spend"
    assert "plan" in changes["budget_burn"].explanation


async def test_nothing_is_judged_without_news_or_on_old_news(redis: Redis, settings: Settings) -> None:
    steady: dict[str, list[tuple[int, int]]] = {"c-1": []}
    term = await lead(redis, settings, "first")
    assert await term.evaluator.tick(datetime.fromtimestamp(NOON / 1000, UTC)) == "no_data"
    assert await term.tick(NOON, steady, wait=301) == "behind"
    assert await term.tick(NOON, steady) == "judged"
    assert await term.tick(NOON, steady) == "nothing_new"
    assert await outbox(redis, settings) == []
