"""Redis comes back older, or empty, under a leader and a courier: nothing is written over what was lost, and no sink goes deaf."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from alerts.app.lease import Lease
from alerts.app.process import run
from alerts.demo.slack_stand_in import SlackStandIn
from alerts.incidents.change import ChangeKind
from alerts.incidents.incident import Incident
from alerts.incidents.store import FellBack, IncidentStore
from alerts.notify.outbox import Lease as CourierLease
from alerts.notify.outbox import Outbox, OutboxFellBack, cursor_key, outbox_key
from alerts.notify.slack import SlackBot, SlackWebhook
from alerts.notify.slack_memory import SlackMemory
from alerts.rules import load_rules
from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.ingest.continuity import Break
from streams.tables.keys import alerts_key
from tests.integration.conftest import client_of
from tests.integration.test_alerts_breaks import NOON, a_term, break_at
from tests.integration.test_alerts_incidents import outbox
from tests.integration.test_alerts_leader import opened, step_of
from tests.integration.test_notify import a_change, append, by_token, by_webhook, delivering, metric, only_slack, seqs, told, until

OPENED, UPDATED, RESOLVED = ChangeKind.OPENED, ChangeKind.UPDATED, ChangeKind.RESOLVED


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(directory=tmp_path / "redis") as own:
        yield own


@pytest.fixture
def on_server(settings: Settings, server: EmbeddedRedis, slack: SlackStandIn) -> Settings:
    """Settings on a Redis of the test's own, and Slack."""
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": server.url, "timeout": 1.0})})
    return by_token(settings, slack, lease=1.5, tick=1.0)


@asynccontextmanager
async def client(settings: Settings) -> AsyncIterator[Redis]:
    redis = client_of(settings.redis.url)
    try:
        yield redis
    finally:
        await redis.aclose()


async def keep_copy(redis: Redis, server: EmbeddedRedis) -> None:
    await redis.save()
    shutil.copy(server.directory / "dump.rdb", server.directory / "copy")


async def put_back(server: EmbeddedRedis) -> None:
    await asyncio.to_thread(server.kill)
    shutil.copy(server.directory / "copy", server.directory / "dump.rdb")
    await asyncio.to_thread(server.start)


async def everything_agrees(redis: Redis, settings: Settings) -> None:
    """Changes of an incident follow each other without a gap, and the newest is what both hashes hold."""
    newest: dict[str, int] = {}
    shown: dict[str, Any] = {}
    for change in await outbox(redis, settings):
        assert change.seq == newest.get(change.incident_id, 0) + 1
        newest[change.incident_id] = change.seq
        shown[change.incident_id] = change
    namespace = settings.redis.namespace
    incidents: dict[Any, Any] = await redis.hgetall(alerts_key(namespace, "incidents"))
    assert {name.decode(): text.decode() for name, text in incidents.items()} == {name: c.to_json() for name, c in shown.items()}
    states: dict[Any, Any] = await redis.hgetall(alerts_key(namespace, "state"))
    assert {name.decode(): Incident.model_validate_json(text).newest for name, text in states.items()} == shown


async def test_a_commit_on_top_of_what_redis_lost_writes_nothing(on_server: Settings, server: EmbeddedRedis) -> None:
    async with client(on_server) as redis:
        token = await Lease(
            redis, on_server.model_copy(update={"alerts": on_server.alerts.model_copy(update={"lease": 600.0})}), "a"
        ).acquire()
        assert token is not None
        store = IncidentStore(redis, on_server)
        await store.commit(token, step_of(opened("i-1")))
        await keep_copy(redis, server)
        await store.commit(token, step_of(opened("i-1", seq=2, kind=UPDATED)))
        await put_back(server)
        assert not await store.is_current()
        with pytest.raises(FellBack):
            await store.commit(token, step_of(opened("i-1", seq=3, kind=RESOLVED)))
        assert [c.seq for c in await outbox(redis, on_server)] == [1]
        (kept,) = await store.load()
        assert store.fell_back
        assert kept.newest.seq == 1
        await store.commit(token, step_of(opened("i-1", seq=2, kind=RESOLVED)))
        assert await store.is_current()
        await store.load()
        assert not store.fell_back
        await everything_agrees(redis, on_server)


async def test_another_leader_that_went_on_is_no_fall_back(on_server: Settings) -> None:
    async with client(on_server) as redis:
        token = await Lease(redis, on_server, "a").acquire()
        assert token is not None
        first, second = IncidentStore(redis, on_server), IncidentStore(redis, on_server)
        await first.commit(token, step_of(opened("i-1")))
        await second.load()
        await second.commit(token, step_of(opened("i-2")))
        assert not await first.is_current()
        assert len(await first.load()) == 2
        assert not first.fell_back


async def test_a_commit_that_the_client_sends_twice_is_one(on_server: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the first was lost, so the client sent the same command again."""
    async with client(on_server) as redis:
        token = await Lease(redis, on_server, "a").acquire()
        assert token is not None
        store = IncidentStore(redis, on_server)
        script: Any = store._commit

        async def twice(**arguments: Any) -> Any:
            await script(**arguments)
            return await script(**arguments)

        monkeypatch.setattr(store, "_commit", twice)
        await store.commit(token, step_of(opened("i-1")))
        assert len(await outbox(redis, on_server)) == 1
        assert await store.is_current()


async def test_a_leader_goes_on_from_a_restored_redis_and_slack_hears_everything_after_it(
    on_server: Settings, server: EmbeddedRedis, slack: SlackStandIn
) -> None:
    settings = on_server.model_copy(update={"alerts": on_server.alerts.model_copy(update={"lease": 600.0})})
    minute = timedelta(minutes=1)
    async with client(settings) as redis, delivering(settings, redis, only_slack(settings, redis)) as registry:
        evaluator, metrics = await a_term(redis, settings)
        await break_at(redis, settings, NOON, Break.RECORDS_GONE, 50)
        await evaluator.tick(NOON)
        await until(lambda: len(told(slack)) == 1)
        (first,) = slack.top_level()
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
        await keep_copy(redis, server)

        # The world that will be lost: two more updates and a second incident, all of them delivered.
        for minutes in (10, 20):
            await break_at(redis, settings, NOON + minutes * minute, Break.RECORDS_GONE, 50)
            await evaluator.tick(NOON + minutes * minute)
        await break_at(redis, settings, NOON + 20 * minute, Break.TABLES_FELL_BACK, 9)
        await evaluator.tick(NOON + 20 * minute)
        await until(lambda: len(told(slack)) == 4)
        assert [seq for _, seq in seqs(first)] == [1, 2, 3]
        await put_back(server)

        # The second break happens again, the first one does not: what ends must be told although Slack was told of a later change.
        await break_at(redis, settings, NOON + 30 * minute, Break.TABLES_FELL_BACK, 9)
        await evaluator.tick(NOON + 30 * minute)
        assert "campaignwatch_alerts_fell_back_total 1.0" in metrics.render("text/plain")[0].decode()
        await until(lambda: len(slack.top_level()) == 3)
        for seconds in (0, 10):
            await evaluator.tick(NOON + 60 * minute + timedelta(seconds=seconds))
        changes = await outbox(redis, settings)
        assert [(c.measure, c.change, c.seq) for c in changes] == [
            ("records_gone", OPENED, 1),
            ("tables_fell_back", OPENED, 1),
            ("records_gone", RESOLVED, 2),
        ]
        await everything_agrees(redis, settings)
        await until(lambda: first.text.startswith("Resolved"))
        assert [seq for _, seq in seqs(first)] == [1, 2, 3, 2]
        assert "campaignwatch_alerts_fell_back_total 1.0" in metrics.render("text/plain")[0].decode()


@pytest.mark.parametrize("way", ["token", "webhook"])
async def test_what_slack_was_told_of_a_lost_world_does_not_hide_the_one_that_goes_on(
    settings: Settings, redis: Redis, slack: SlackStandIn, way: str
) -> None:
    """A message that was under way while Redis fell back is remembered with a seq that the incident has not reached again."""
    memory = SlackMemory(redis, settings.redis.namespace)
    sink = SlackBot(by_token(settings, slack), memory) if way == "token" else SlackWebhook(by_webhook(settings, slack), memory)
    lost = a_change("i-1", OPENED, 3)
    await sink.deliver(lost)
    await sink.deliver(lost)
    assert len(slack.top_level()) == 1
    goes_on = a_change("i-1", RESOLVED, 2, at=lost.at + timedelta(minutes=1))
    await sink.deliver(goes_on)
    await sink.deliver(goes_on)
    await sink.deliver(lost.model_copy(update={"seq": 1, "at": lost.at - timedelta(minutes=5)}))
    messages = slack.top_level()
    assert messages[-1].text.startswith("Resolved")
    assert sum(len(message.history) for message in messages) == 2
    await sink.close()


@pytest.mark.parametrize("how", ["restored", "emptied"])
async def test_a_running_process_survives_it(
    on_server: Settings, server: EmbeddedRedis, slack: SlackStandIn, make_topics: Any, how: str
) -> None:
    """Leader and couriers as they run: what is noted after the fall is opened, delivered, and agrees."""
    await make_topics(on_server)
    namespace = on_server.redis.namespace
    stop = asyncio.Event()
    process = asyncio.create_task(run(on_server, load_rules(on_server), stop, name="one"))

    def heard(title: str) -> int:
        return sum(title in message.text for message in slack.top_level())

    try:
        async with client(on_server) as redis:
            await break_at(redis, on_server, datetime.now(UTC), Break.RECORDS_GONE, 1)
            await until(lambda: heard("Records gone") == 1)
            # Told and written down: what is not written down may be told again.
            ((newest, _),) = await redis.xrevrange(outbox_key(namespace), count=1) or []
            while await redis.get(cursor_key(namespace, "slack")) != newest:
                await asyncio.sleep(0.05)
            await keep_copy(redis, server)
            await break_at(redis, on_server, datetime.now(UTC), Break.LOG_TRUNCATED, 2)
            await until(lambda: heard("Log truncated") == 1)
            if how == "restored":
                await put_back(server)
            else:
                await redis.flushall()
            await break_at(redis, on_server, datetime.now(UTC), Break.LOG_TRUNCATED, 3, Topic.ENGAGEMENTS)
            await break_at(redis, on_server, datetime.now(UTC), Break.LOG_TRUNCATED, 3)
            await until(lambda: heard("Log truncated") == 3, seconds=30)
            await break_at(redis, on_server, datetime.now(UTC), Break.TOPIC_RECREATED, 3)
            await until(lambda: heard("Topic recreated") == 1, seconds=30)
            assert heard("Records gone") == 1, "what Redis still holds, or what nobody noted again, is not told again"
            await everything_agrees(redis, on_server)
    finally:
        stop.set()
        await asyncio.wait_for(process, 15)


async def test_a_courier_is_not_deaf_to_an_outbox_whose_ids_went_back(on_server: Settings, slack: SlackStandIn) -> None:
    """A fail-over to a replica that was behind and whose clock is behind: new entries have lower ids than those that were read."""
    namespace = on_server.redis.namespace
    async with client(on_server) as redis:
        now = int(datetime.now(UTC).timestamp() * 1000)

        async def add(entry_id: int, incident: str) -> None:
            change = a_change(incident, OPENED, 1)
            fields: dict[Any, Any] = {"incident_id": incident, "seq": "1", "change": change.to_json()}
            await redis.xadd(outbox_key(namespace), fields, id=f"{entry_id}-0")

        await add(now, "i-1")
        async with delivering(on_server, redis, only_slack(on_server, redis)) as registry:
            await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
            await add(now + 600_000, "i-lost")
            await until(lambda: metric(registry, "delivered_total", sink="slack") == 2)
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(outbox_key(namespace))
                for entry_id, name in ((now, "i-1"), (now + 1, "i-2")):
                    change = a_change(name, OPENED, 1)
                    pipe.xadd(outbox_key(namespace), {"incident_id": name, "seq": "1", "change": change.to_json()}, id=f"{entry_id}-0")
                pipe.set(cursor_key(namespace, "slack"), f"{now}-0")
                await pipe.execute()
            await until(lambda: metric(registry, "delivered_total", sink="slack") == 3)
            assert metric(registry, "outbox_fell_back_total", sink="slack") == 1
            await add(now + 2, "i-3")
            await until(lambda: metric(registry, "delivered_total", sink="slack") == 4)
        assert told(slack) == [("i-1", 1), ("i-lost", 1), ("i-2", 1), ("i-3", 1)]


async def test_an_entry_is_lost_when_the_outbox_goes_on_without_it_and_not_when_it_was_trimmed(on_server: Settings) -> None:
    namespace = on_server.redis.namespace
    async with client(on_server) as redis:
        reading, lease = Outbox(redis, namespace), CourierLease(redis, namespace, "slack", 600)
        assert await lease.acquire()
        await append(redis, on_server, *(a_change(f"i-{i}", OPENED, 1) for i in range(4)))
        ids = [entry.id for entry in await reading.read("0-0", 10)]
        assert len(await reading.read(ids[1], 10, was_read=True)) == 2
        await redis.xtrim(outbox_key(namespace), minid=ids[2], approximate=False)
        assert len(await reading.read(ids[1], 10, was_read=True)) == 2, "trimmed is not lost"
        assert await lease.advance(ids[1])
        await redis.xtrim(outbox_key(namespace), maxlen=0, approximate=False)
        assert await reading.read(ids[3], 10, was_read=True) == []
        await append(redis, on_server, a_change("i-4", OPENED, 1))
        assert len(await reading.read(ids[3], 10, was_read=True)) == 1
        for gone in ("99999999999999-0", "1-1"):
            await redis.delete(outbox_key(namespace))
            if gone == "1-1":
                await redis.xadd(outbox_key(namespace), {"change": "x"}, id="1-0")
            with pytest.raises(OutboxFellBack):
                await reading.read(gone, 10, was_read=True)
            with pytest.raises(OutboxFellBack):
                await lease.advance(gone)
        assert await redis.get(cursor_key(namespace, "slack")) == ids[1].encode()
        assert len(await reading.read("0-5", 10)) == 1, "a cursor that never was an entry is no loss"
