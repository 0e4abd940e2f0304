"""Leading: one replica at a time, taken over when it dies, and a leader that was thought dead writes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from alerts.app.leader import next_tick
from alerts.app.lease import Lease
from alerts.incidents.change import Change, ChangeKind, Expected, Severity, WindowOf
from alerts.incidents.incident import Incident
from alerts.incidents.life import Step
from alerts.incidents.store import IncidentStore, LeaseLost
from streams.config import Alerts, Settings
from streams.tables.keys import alerts_key

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with a lease of a second."""
    return settings.model_copy(update={"alerts": Alerts(http_port=0, lease=1.0, tick=1.0)})


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(0.02)


def opened(incident_id: str = "i-1", seq: int = 1, kind: ChangeKind = ChangeKind.OPENED, at: datetime = AT) -> tuple[Change, Incident]:
    change = Change(
        incident_id=incident_id,
        change=kind,
        seq=seq,
        at=at,
        rule="traffic",
        severity=Severity.CRITICAL,
        cube="campaign",
        key={"campaign_id": "c-1"},
        measure="clicks",
        observed=900,
        expected=Expected(low=50, mid=100, high=150),
        window=WindowOf(start=at, to=at),
        money_at_stake=Decimal("12.5"),
        explanation="Nine times as many clicks as usual.",
        offsets={"marketing.clicks:0": 7},
        opened_at=at,
        resolved_at=at if kind is ChangeKind.RESOLVED else None,
    )
    incident = Incident(
        rule="traffic",
        cube="campaign",
        row=("c-1",),
        direction="spike",
        newest=change,
        since_ms=0,
        seen_ms=0,
        ended_ms=1 if kind is ChangeKind.RESOLVED else None,
        told_at=at,
        told_factor=9.0,
        peak=Severity.CRITICAL,
    )
    return change, incident


def step_of(*pairs: tuple[Change, Incident]) -> Step:
    return Step({incident.subject: incident for _, incident in pairs}, [change for change, _ in pairs])


async def test_only_one_replica_leads_and_every_term_has_its_own_token(redis: Redis, quick: Settings) -> None:
    first, second = Lease(redis, quick, "first"), Lease(redis, quick, "second")
    token = await first.acquire()
    assert token == "1:first"
    assert await second.acquire() is None
    assert await first.renew(token)
    await first.release(token)
    assert await second.acquire() == "2:second"
    assert not await first.renew(token)
    await first.release(token)
    assert await redis.get(alerts_key(quick.redis.namespace, "lease")) == b"2:second"


async def test_an_incident_and_its_entry_in_the_outbox_are_one_write(redis: Redis, quick: Settings) -> None:
    token = await Lease(redis, quick, "first").acquire()
    assert token is not None
    store = IncidentStore(redis, quick)
    change, incident = opened()
    await store.commit(token, step_of((change, incident)))
    namespace = quick.redis.namespace
    stored = await redis.hget(alerts_key(namespace, "incidents"), "i-1")
    assert stored == change.to_json().encode()
    outbox: Any = await redis.xrange(alerts_key(namespace, "outbox"))
    ((_, entry),) = outbox
    assert entry == {b"incident_id": b"i-1", b"seq": b"1", b"change": stored}
    assert json.loads(stored)["money_at_stake"] == 12.5
    assert await store.load() == [incident]


async def test_a_leader_that_was_replaced_writes_nothing(redis: Redis, quick: Settings) -> None:
    stale = await Lease(redis, quick, "first").acquire()
    assert stale is not None
    await redis.delete(alerts_key(quick.redis.namespace, "lease"))
    current = await Lease(redis, quick, "second").acquire()
    assert current is not None
    store = IncidentStore(redis, quick)
    with pytest.raises(LeaseLost):
        await store.commit(stale, step_of(opened()))
    assert await store.outbox_length() == 0
    assert await redis.exists(alerts_key(quick.redis.namespace, "incidents")) == 0
    await store.commit(current, step_of(opened()))
    assert await store.outbox_length() == 1


async def test_the_outbox_is_bounded_and_old_incidents_are_forgotten(redis: Redis, quick: Settings) -> None:
    settings = quick.model_copy(update={"alerts": Alerts(outbox_length=1_000, keep_resolved_days=1)})
    token = await Lease(redis, settings, "first").acquire()
    assert token is not None
    store = IncidentStore(redis, settings)
    pairs = [opened(f"i-{i}", kind=ChangeKind.RESOLVED) for i in range(1_500)]
    await store.commit(token, Step({}, [change for change, _ in pairs]))
    # Redis drops whole blocks of about a hundred entries.
    assert 1_000 <= await store.outbox_length() < 1_150
    old, new = opened("i-old", kind=ChangeKind.RESOLVED)[1], opened("i-new")[1]
    later = AT.replace(day=25)
    assert store.too_old([old, new], later) == [old]
    await store.commit(token, Step({}, []), ["i-7"])
    assert await redis.hexists(alerts_key(settings.redis.namespace, "incidents"), "i-7") is False


async def test_the_lease_is_given_up_before_it_runs_out_when_redis_does_not_answer(redis_url: str, quick: Settings) -> None:
    from streams.embedded import EmbeddedRedis

    with EmbeddedRedis() as own:
        client = Redis.from_url(own.url, socket_timeout=0.2, socket_connect_timeout=0.2)
        lease = Lease(client, quick, "first")
        token = await lease.acquire()
        assert token is not None
        loop = asyncio.get_running_loop()
        begun = loop.time()
        keeping = asyncio.create_task(lease.keep(token))
        await asyncio.sleep(0)
        own.kill()
        await asyncio.wait_for(keeping, 5)
        assert loop.time() - begun < quick.alerts.lease
        await client.aclose()


def test_ticks_are_aligned_to_the_clock() -> None:
    assert next_tick(100.0, 10, 6) == 106
    assert next_tick(106.0, 10, 6) == 116
    assert next_tick(105.999, 10, 6) == 106


# Processes.


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "CAMPAIGNWATCH_REDIS__URL": settings.redis.url,
        "CAMPAIGNWATCH_REDIS__NAMESPACE": settings.redis.namespace,
        "CAMPAIGNWATCH_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "CAMPAIGNWATCH_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "CAMPAIGNWATCH_ALERTS__HTTP_PORT": "0",
        "CAMPAIGNWATCH_ALERTS__LEASE": "1.5",
        "CAMPAIGNWATCH_ALERTS__TICK": "1",
    }
    code = "from alerts.app.command import alerts; alerts()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_when_the_leader_is_killed_the_other_replica_takes_over(ready: Settings, redis: Redis) -> None:
    key = alerts_key(ready.redis.namespace, "lease")

    async def holder() -> str:
        held: Any = await redis.get(key)
        return str((held or b"").decode())

    async with replica(ready) as first:
        await until(holder, 30)
        leader = await holder()
        assert leader.endswith(f":{first.pid}")
        async with replica(ready) as second:
            first.send_signal(signal.SIGKILL)
            await first.wait()

            async def taken_over() -> bool:
                return (await holder()).endswith(f":{second.pid}")

            await until(taken_over, 30)
            assert int((await holder()).split(":")[0]) == int(leader.split(":")[0]) + 1
            second.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(second.wait(), 8) == 0
            assert await holder() == ""
