"""From a worker's note of a break to Slack: an incident that opens, is told, and ends when the pipeline has been quiet for an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from alerts.app.evaluator import Evaluator
from alerts.app.lease import Lease
from alerts.app.metrics import AlertsMetrics
from alerts.demo.slack_stand_in import SlackStandIn
from alerts.incidents.change import ChangeKind
from alerts.incidents.store import IncidentStore
from alerts.rules import load_rules
from streams.api.incidents import StoredIncidents
from streams.config import Settings, Topic
from streams.ingest.claiming import note
from streams.ingest.continuity import Break, Finding
from streams.tables.keys import PartitionKeys
from streams.tables.reader import TableReader
from streams.tables.store import PartitionStore
from tests.integration.test_alerts_incidents import outbox, tables_at
from tests.integration.test_notify import by_token, delivering, only_slack, seqs, until
from tests.integration.workers import applied, ledger, send, worker

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OPENED, UPDATED, RESOLVED = ChangeKind.OPENED, ChangeKind.UPDATED, ChangeKind.RESOLVED


async def break_at(redis: Redis, settings: Settings, at: datetime, kind: Break, records: int, topic: Topic = Topic.CLICKS) -> None:
    """What a worker that owns partition 0 does when it finds a break."""
    store = PartitionStore(redis, PartitionKeys(settings.redis.namespace, settings.topic(topic), 0), settings.all_cubes)
    await store.claim(0, int(at.timestamp() * 1000))
    await note(store, [Finding(kind, records, f"{records} of them, found by the test")], int(at.timestamp() * 1000))


async def a_term(redis: Redis, settings: Settings, name: str = "first") -> tuple[Evaluator, AlertsMetrics]:
    token = await Lease(redis, settings, name).acquire()
    assert token is not None
    rules = load_rules(settings)
    metrics = AlertsMetrics(rules)
    return Evaluator(settings, rules, TableReader(redis, settings), IncidentStore(redis, settings), metrics, token), metrics


async def test_a_noted_break_is_told_in_slack_and_ends_after_a_quiet_hour(redis: Redis, settings: Settings, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack, lease=600)
    evaluator, metrics = await a_term(redis, settings)
    topic = settings.topic(Topic.CLICKS)
    async with delivering(settings, redis, only_slack(settings, redis)):
        assert await evaluator.tick(NOON) == "no_data"
        await break_at(redis, settings, NOON + timedelta(seconds=1), Break.RECORDS_GONE, 50)
        assert await evaluator.tick(NOON + timedelta(seconds=10)) == "no_data", "it is told although there is no watermark"
        await until(lambda: len(slack.top_level()) == 1)
        (message,) = slack.top_level()
        assert "Records gone" in message.text
        assert "50 of them, found by the test" in str(message.blocks)
        assert "retention" in str(message.blocks)
        assert len(await StoredIncidents(redis, settings)("open")) == 1
        shown = metrics.render("text/plain")[0].decode()
        assert 'campaignwatch_alerts_incidents_open{rule="pipeline",severity="critical"} 1.0' in shown

        again = NOON + timedelta(minutes=30)
        await break_at(redis, settings, again, Break.RECORDS_GONE, 25)
        for minutes in (30, 40, 60, 89):
            await evaluator.tick(NOON + timedelta(minutes=minutes, seconds=5))
        assert [c.change for c in await outbox(redis, settings)] == [OPENED, UPDATED]
        await evaluator.tick(again + timedelta(hours=1))
        await evaluator.tick(again + timedelta(hours=1, seconds=10))
        changes = await outbox(redis, settings)
        assert [(c.change, c.seq, c.observed) for c in changes] == [(OPENED, 1, 50.0), (UPDATED, 2, 75.0), (RESOLVED, 3, 75.0)]
        assert {tuple(c.key.items()) for c in changes} == {(("topic", topic), ("break", "records_gone"))}
        identity = changes[0].incident_id
        await until(lambda: seqs(message)[-1:] == [(identity, 3)])
        await until(lambda: any("did not happen again" in m.text for m in slack.messages if m.thread_ts))
        assert await StoredIncidents(redis, settings)("open") == []


async def test_a_leader_that_starts_tells_what_is_news_and_nothing_older(redis: Redis, settings: Settings) -> None:
    await break_at(redis, settings, NOON - timedelta(hours=2), Break.RECORDS_GONE, 5)
    await break_at(redis, settings, NOON - timedelta(minutes=20), Break.TABLES_FELL_BACK, 7)
    evaluator, _ = await a_term(redis, settings)
    await evaluator.tick(NOON)
    assert [c.measure for c in await outbox(redis, settings)] == ["tables_fell_back"]


async def test_a_rule_that_is_switched_off_tells_nothing_and_ends_what_it_opened(redis: Redis, settings: Settings) -> None:
    evaluator, _ = await a_term(redis, settings)
    await break_at(redis, settings, NOON, Break.LOG_TRUNCATED, 5)
    await evaluator.tick(NOON)
    off = settings.model_copy(update={"rules": [{"name": "pipeline", "enabled": False}]})
    await redis.delete(f"{settings.redis.namespace}:{{alerts}}:lease")
    without, _ = await a_term(redis, off, "second")
    # Incidents of rules that are gone end with the next judgement of the tables.
    await tables_at(redis, off, int(NOON.timestamp() * 1000), {"c-1": []})
    assert await without.tick(NOON + timedelta(seconds=10)) == "judged"
    assert [(c.rule, c.change) for c in await outbox(redis, settings)] == [("pipeline", OPENED), ("pipeline", RESOLVED)]


async def test_a_first_start_on_empty_redis_and_topics_notes_nothing(ready: Settings, redis: Redis, tmp_path: Path) -> None:
    now = int(datetime.now(UTC).timestamp() * 1000)
    events: list[dict[str, Any]] = [
        {"event_id": f"e-{i}", "occurred_at": now, "campaign_id": "c-1", "channel": "search", "cost": "0.01"} for i in range(20)
    ]
    with worker(ready, tmp_path) as one:
        await send(ready, Topic.CLICKS, events)
        await applied(one.url, 20)
        assert [entry["breaks"] for entry in ledger(one.url).partitions if entry["breaks"]] == []
    evaluator, _ = await a_term(redis, ready)
    await evaluator.tick(datetime.now(UTC))
    assert await outbox(redis, ready) == []
