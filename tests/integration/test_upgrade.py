"""An upgrade: tables that an earlier version left go on where they can be read, are counted anew where not, and are left alone if newer."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from alerts.app.lease import Lease
from alerts.demo.slack_stand_in import SlackStandIn
from alerts.incidents.change import ChangeKind
from alerts.incidents.store import IncidentStore
from alerts.notify.outbox import Outbox
from streams.config import DIMENSIONS, Settings, Slack, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.embedded.ports import free_port
from streams.ingest import claiming
from streams.ingest.claiming import CannotClaim, Claimed, claim
from streams.ingest.continuity import Break, LogState, Note
from streams.redis_client import connect
from streams.tables.generations import PartitionTables
from streams.tables.keys import PartitionKeys, alerts_key
from streams.tables.meta import FORMAT, Meta
from streams.tables.reader import TableReader
from streams.tables.store import Fenced, PartitionStore
from tests.hostile_log import DAY, HOUR, MINUTE
from tests.integration.conftest import CLUSTER
from tests.integration.processes import running, settings_file
from tests.integration.test_alerts_incidents import NOON, lead, outbox
from tests.integration.test_breaks import breaks, clicks, entry_of
from tests.integration.test_notify import delivering, only_slack, told, until_all_done
from tests.integration.test_redis_secure import PASSWORD, documented_rules
from tests.integration.test_tables_exact import apply, assert_tables_equal
from tests.integration.workers import applied, get, ledger, rows, send, until, worker
from tests.reference import LogRecord, Reference, Totals, judge
from tests.stored_tables import HALF, NOW, Stored, settings_of, stored_tables

Parts = dict[tuple[Topic, int], list[LogRecord]]


@pytest.fixture(scope="module", params=[*(pytest.param(form, marks=pytest.mark.slow) for form in (1, 2, 3)), 4])
def old(request: pytest.FixtureRequest) -> Stored:
    return stored_tables(f"tables-form-{request.param}.xz")


@pytest.fixture
async def upgraded(old: Stored, redis: Redis, redis_url: str) -> Settings:
    """Settings of a Redis as the old version left it."""
    settings = settings_of(redis_url)
    await old.restore(redis, settings)
    return settings


def parts_of(log: list[tuple[Topic, LogRecord]]) -> Parts:
    parts: Parts = {}
    for topic, record in log:
        parts.setdefault((topic, record.partition), []).append(record)
    return parts


def state_of(records: list[LogRecord]) -> LogState:
    return LogState(earliest=0, end=records[-1].offset + 1, committed=records[-1].offset + 1)


async def take_over(redis: Redis, settings: Settings, topic: Topic, partition: int, state: LogState) -> Claimed:
    return await claim(topic, settings, PartitionTables(redis, settings, settings.topic(topic), partition), state, NOW)


def store_of(redis: Redis, settings: Settings, topic: Topic, partition: int = 0) -> PartitionStore:
    return PartitionStore(redis, PartitionKeys(settings.redis.namespace, settings.topic(topic), partition), settings.all_cubes)


async def everything_in(redis: Any, key: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = await redis.hgetall(key)
    return found


async def everything(redis: Redis) -> dict[bytes, bytes | None]:
    return {key: await redis.dump(key) async for key in redis.scan_iter()}


async def keys_behind(redis: Redis, store: PartitionStore) -> set[str]:
    return {key.decode().removeprefix(store.keys.tag) async for key in redis.scan_iter(match=f"{store.keys.tag}*")}


async def assert_all_equal(redis: Redis, settings: Settings, reference: Reference) -> None:
    reader = TableReader(redis, settings)
    found = {(p.topic, p.partition): Totals(p.read, p.applied, p.duplicate, p.too_late, p.quarantined) for p in await reader.ledger()}
    assert found == dict(reference.totals)
    assert await reader.campaigns() == reference.registry
    ten, quarter = NOW // 10_000 * 10_000, NOW // (15 * MINUTE) * 15 * MINUTE
    windows = [
        (ten - 50 * MINUTE, ten),
        (HALF // MINUTE * MINUTE - 20 * MINUTE, HALF // MINUTE * MINUTE + 20 * MINUTE),
        (NOW // MINUTE * MINUTE - 25 * HOUR, NOW // MINUTE * MINUTE - 3 * MINUTE),
        (quarter - 30 * DAY, quarter + 15 * MINUTE),
        (NOW // DAY * DAY - 395 * DAY, NOW // DAY * DAY + 2 * DAY),
    ]
    await assert_tables_equal(reference, reader, settings, windows)


def duplicates(reference: Reference, topic: Topic | None = None) -> int:
    return sum(t.duplicate for (name, _), t in reference.totals.items() if topic is None or name.endswith(f".{topic}"))


async def test_tables_of_the_version_before_go_on(old: Stored, upgraded: Settings, redis: Redis) -> None:
    log = old.records(upgraded)
    first = [(topic, record) for topic, record in log if record.timestamp <= HALF]
    second = log[len(first) :]
    whole, before = judge(log, upgraded, DIMENSIONS), judge(first, upgraded, DIMENSIONS)
    alone = judge(second, upgraded, DIMENSIONS)
    # The log tries what is to be seen: ids of before come again, and spend reports of before are restated.
    assert duplicates(whole) > duplicates(before) + duplicates(alone) + 10
    assert len(whole.reports) < len(before.reports) + len(alone.reports)
    assert {r.micros for r in whole.reports if r not in before.reports} and whole.registry != before.registry

    await assert_all_equal(redis, upgraded, before)
    all_records = parts_of(log)
    for (topic, partition), records in parts_of(second).items():
        claimed = await take_over(redis, upgraded, topic, partition, LogState(0, all_records[topic, partition][-1].offset + 1))
        assert claimed.findings == []
        for size in range(0, len(records), 40):
            await apply(claimed.flusher, records[size : size + 40])
    await assert_all_equal(redis, upgraded, whole)
    for topic, partition in all_records:
        store = store_of(redis, upgraded, topic, partition)
        assert await redis.hget(store.keys.meta(), "format") == str(FORMAT).encode()
        assert await store.notes() == {}
        assert await store.lost_keys(0) == [], "the lengths of keys of before are known"
        kept = {str(name, "ascii").partition(":")[0] for name in await everything_in(redis, store.keys.kept())}
        own = {Topic.CAMPAIGNS: {"registry"}, Topic.SPEND: {"panes", "pane", "rows", "reports"}}
        assert kept == own.get(topic, {"panes", "pane", "rows", "seen"}) | {"form", "cubes"}


async def test_a_partition_without_news_takes_the_new_form_too(upgraded: Settings, redis: Redis) -> None:
    claimed = await take_over(redis, upgraded, Topic.CLICKS, 0, LogState(0, 1_000))
    assert claimed.flusher.meta.applied_offset > 0
    assert await redis.hget(claimed.store.keys.meta(), "format") == str(FORMAT).encode()


async def test_tables_in_a_newer_form_are_refused_and_nothing_is_touched(upgraded: Settings, redis: Redis) -> None:
    store = store_of(redis, upgraded, Topic.CLICKS)
    await redis.hset(store.keys.meta(), "format", FORMAT + 1)
    before = await everything(redis)
    with pytest.raises(CannotClaim, match=rf"form {FORMAT + 1} and this version knows forms up to {FORMAT}: .*run that version"):
        await take_over(redis, upgraded, Topic.CLICKS, 0, LogState(0, 1_000))
    assert await everything(redis) == before


async def test_tables_in_a_form_too_old_are_counted_anew_from_the_log(
    old: Stored, upgraded: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "OLDEST_READABLE", FORMAT)
    log = old.records(upgraded)
    read_before = {(p.topic, p.partition): p.read for p in await TableReader(redis, upgraded).ledger()}
    stray = store_of(redis, upgraded, Topic.CLICKS).keys.tag + "what an old form had"
    await redis.set(stray, "left")
    for (topic, partition), records in parts_of(log).items():
        claimed = await take_over(redis, upgraded, topic, partition, state_of(records))
        assert [(f.kind, f.records) for f in claimed.findings] == [(Break.FORM_UNREADABLE, read_before[records[0].topic, partition])]
        assert claimed.flusher.meta.next_offset == 0
        assert await keys_behind(redis, claimed.store) == {"meta", "notes", "kept"} | (
            {"settings"} if topic is not Topic.CAMPAIGNS else set()
        )
        await apply(claimed.flusher, records)
        again = await take_over(redis, upgraded, topic, partition, state_of(records))
        assert again.findings == []
        assert {kind: Note.unpack(note).times for kind, note in (await again.store.notes()).items()} == {"form_unreadable": 1}
    await assert_all_equal(redis, upgraded, judge(log, upgraded, DIMENSIONS))
    assert len(await IncidentStore(redis, upgraded).load()) == 2, "what is not of a partition stays"


@pytest.mark.skipif(CLUSTER, reason="its user would have to be made on every node")
async def test_the_documented_rights_are_enough_to_clear(
    upgraded: Settings, redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "OLDEST_READABLE", FORMAT)
    client: Any = redis
    await client.execute_command("ACL SETUSER", "monitor", *documented_rules(upgraded.redis.namespace))
    try:
        restricted = connect(Settings(redis=RedisSettings(url=redis_url, username="monitor", password=SecretStr(PASSWORD))))
        claimed = await take_over(restricted, upgraded, Topic.CLICKS, 0, LogState(0, 1_000))
        await restricted.aclose()
    finally:
        await client.execute_command("ACL DELUSER", "monitor")
    assert await keys_behind(redis, claimed.store) == {"meta", "notes", "settings", "kept"}


def other_rate(settings: Settings) -> Settings:
    return settings.model_copy(update={"money": settings.money.model_copy(update={"rates": {"EUR": Decimal("1.20")}})})


async def test_tables_that_go_on_with_other_settings_say_so_once(old: Stored, upgraded: Settings, redis: Redis) -> None:
    """What the version before wrote names no settings; from then on each change is noted when the partition is claimed."""
    state = LogState(0, 1_000)
    assert (await take_over(redis, upgraded, Topic.CLICKS, 0, state)).findings == []
    changed = await take_over(redis, other_rate(upgraded), Topic.CLICKS, 0, state)
    (finding,) = changed.findings
    assert (finding.kind, finding.records) == (Break.SETTINGS_CHANGED, changed.flusher.meta.read)
    assert 'money.rates (was {"EUR": "1.0842"}, is {"EUR": "1.2"})' in finding.detail
    assert "campaignwatch rebuild" in finding.detail
    assert (await take_over(redis, other_rate(upgraded), Topic.CLICKS, 0, state)).findings == []
    entry = next(p for p in await TableReader(redis, upgraded).ledger() if (p.topic, p.partition) == (upgraded.topic(Topic.CLICKS), 0))
    assert Note.unpack(entry.notes["settings_changed"]).times == 1
    # A worker with the settings of before, beside that one: its partitions are its own, and it is noted where it takes one over.
    assert (await take_over(redis, upgraded, Topic.CLICKS, 1, state)).findings == []
    assert [f.kind for f in (await take_over(redis, upgraded, Topic.CLICKS, 0, state)).findings] == [Break.SETTINGS_CHANGED]
    assert (await take_over(redis, other_rate(upgraded), Topic.CAMPAIGNS, 0, state)).findings == [], "the registry has no part in it"


class Dies(Exception):
    """The process ends here."""


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_worker_that_dies_while_it_clears_leaves_tables_that_are_cleared_again(
    steps: int, upgraded: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "OLDEST_READABLE", FORMAT)
    monkeypatch.setattr("streams.tables.store.AT_ONCE", 100)
    store = store_of(redis, upgraded, Topic.CLICKS)
    before = await keys_behind(redis, store)
    assert len(before) > 300
    done = 0
    real = PartitionStore.apply

    async def dying(self: PartitionStore, *arguments: Any) -> None:
        nonlocal done
        if done == steps:
            raise Dies
        done += 1
        await real(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(PartitionStore, "apply", dying)
        with pytest.raises(Dies):
            await take_over(redis, upgraded, Topic.CLICKS, 0, LogState(0, 1_000, 1_000))
    left = await keys_behind(redis, store)
    assert len(before) - len(left) == 100 * steps
    assert "meta" in left
    claimed = await take_over(redis, upgraded, Topic.CLICKS, 0, LogState(0, 1_000, 1_000))
    assert [f.kind for f in claimed.findings] == [Break.FORM_UNREADABLE]
    assert await keys_behind(redis, store) == {"meta", "notes", "settings", "kept"}


async def test_a_zombie_does_not_clear_what_its_successor_counts(
    old: Stored, upgraded: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "OLDEST_READABLE", FORMAT)
    zombie = store_of(redis, upgraded, Topic.CLICKS)
    found = await zombie.claim(0, NOW)
    records = parts_of(old.records(upgraded))[Topic.CLICKS, 0]
    successor = await take_over(redis, upgraded, Topic.CLICKS, 0, state_of(records))
    await apply(successor.flusher, records)
    before = await everything(redis)
    with pytest.raises(Fenced):
        await zombie.clear(found, Meta(start_offset=0), {})
    assert await everything(redis) == before


async def test_incidents_of_the_version_before_go_on_and_are_told_once(upgraded: Settings, redis: Redis) -> None:
    # Its tables are another test's; the fault to be judged is filled in below.
    for key in [key async for key in redis.scan_iter() if b"{alerts}" not in key]:
        await redis.delete(key)
    kept = {i.newest.key["campaign_id"]: i for i in await IncidentStore(redis, upgraded).load()}
    assert {campaign: incident.is_open for campaign, incident in kept.items()} == {"c-1": True, "c-2": False}
    changes = await outbox(redis, upgraded)
    assert [(c.key["campaign_id"], c.change) for c in changes if c.change is not ChangeKind.UPDATED] == [
        ("c-1", ChangeKind.OPENED),
        ("c-2", ChangeKind.OPENED),
        ("c-2", ChangeKind.RESOLVED),
    ]
    assert await Lease(redis, upgraded, "new").acquire() is None, "the old leader holds the lease until it runs out"

    ended = {"c-1": [(NOON, 240), (NOON + 240_000, 30)], "c-2": [(NOON, 240), (NOON + 60_000, 30)]}
    term = await lead(redis, upgraded, "new")
    for later in range(250_000, 400_000, 30_000):
        assert await term.tick(NOON + later, ended) == "judged"
    new = (await outbox(redis, upgraded))[len(changes) :]
    assert [(c.incident_id, c.change) for c in new if c.change is not ChangeKind.UPDATED] == [
        (kept["c-1"].newest.incident_id, ChangeKind.RESOLVED)
    ]

    slack = SlackStandIn(rate=1_000, update_rate=1_000, burst=1_000)
    await slack.start()
    section = Slack(bot_token=SecretStr(slack.token), api_url=slack.api_url, min_interval=0.001, timeout=2.0)
    settings = upgraded.model_copy(update={"slack": section})
    entries = await Outbox(redis, upgraded.redis.namespace).read("0-0", 1_000)
    assert all(entry.change is not None for entry in entries)
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until_all_done(redis, settings, "slack")
    await slack.stop()
    resolved = {(c.incident_id, c.seq) for c in (*changes, *new) if c.change is ChangeKind.RESOLVED}
    opened = {(c.incident_id, c.seq) for c in changes if c.change is ChangeKind.OPENED}
    assert resolved <= set(told(slack))
    assert not opened & set(told(slack)), "Slack was told by the old version"
    assert await redis.exists(alerts_key(upgraded.redis.namespace, f"slack:{kept['c-1'].newest.incident_id}"))


# A whole worker.


async def set_form(redis: Redis, settings: Settings, form: int) -> None:
    async for key in redis.scan_iter(match=f"{settings.redis.namespace}:*:meta"):
        await redis.hset(key, "format", form)


@pytest.mark.slow
async def test_a_worker_counts_tables_of_an_unreadable_form_anew(ready: Settings, redis: Redis, tmp_path: Path) -> None:
    with worker(ready, tmp_path) as one:
        await send(ready, Topic.CLICKS, clicks(0, 200))
        await applied(one.url, 200)
        assert one.stop() == 0
    await set_form(redis, ready, 0)
    with worker(ready, tmp_path) as two:
        await send(ready, Topic.CLICKS, clicks(150, 100))
        found = await applied(two.url, 300)
        assert (found.total("applied"), found.total("duplicate")) == (250, 50)
        (partition,) = {e["partition"] for e in found.partitions if e["topic"] == ready.topic(Topic.CLICKS) and e["in"]}
        assert breaks(entry_of(found, ready, partition)) == {"form_unreadable": (1, 200)}
        assert sum(int(row["clicks"]) for row in rows(two.url, "total", window="1d").values()) == 250
        assert "which this version cannot read; counting anew" in two.said()
        assert two.stop() == 0
    with worker(ready, tmp_path) as three:
        assert breaks(entry_of(ledger(three.url), ready, partition)) == {"form_unreadable": (1, 200)}


@pytest.mark.slow
async def test_a_worker_that_is_too_old_says_so_and_goes_on_when_it_can(ready: Settings, redis: Redis, tmp_path: Path) -> None:
    with worker(ready, tmp_path) as one:
        await send(ready, Topic.CLICKS, clicks(0, 50))
        await applied(one.url, 50)
        assert one.stop() == 0
    await set_form(redis, ready, FORMAT + 1)
    meta = {key: await redis.hgetall(key) async for key in redis.scan_iter(match=f"{ready.redis.namespace}:*:meta")}
    home = tmp_path / "too-old"
    home.mkdir()
    # It does not say its address before it is ready, so it is given one.
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = ready.model_copy(update={"streams": Streams(http_port=port)})
    with running(settings_file(home, settings), home / "worker.log", "streams", cwd=home):
        status, said = await until(lambda: get(f"{url}/readyz"), lambda answer: "newer version" in json.dumps(answer[1]), timeout=60)
        assert status == 503
        assert f"forms up to {FORMAT}" in json.dumps(said)
        assert get(f"{url}/healthz")[0] == 200, "a restart would not help"
        for key, held in meta.items():
            assert await redis.hgetall(key) == held
        await set_form(redis, ready, FORMAT)
        await until(lambda: get(f"{url}/readyz")[0], lambda status: status == 200, timeout=60)
        await send(ready, Topic.CLICKS, clicks(50, 50))
        found = await applied(url, 100)
        assert found.total("applied") == 100
