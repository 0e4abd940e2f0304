"""Redis may lose single keys, by an eviction policy or somebody's DEL: it is noticed, and counted anew or gone on without."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from streams.config import DIMENSIONS, Settings, Topic
from streams.ingest import dedupe
from streams.ingest.claiming import Claimed, claim
from streams.ingest.continuity import Break, LogState
from streams.ingest.dedupe import BUCKET_MS
from streams.ingest.losses import only_whole
from streams.panes.ladder import DAY_MS
from streams.tables import store
from streams.tables.generations import PartitionTables
from streams.tables.keys import pane_name
from streams.tables.opentables import unpack_rows
from streams.tables.reader import TableReader
from streams.tables.store import Fenced
from tests.hostile_log import DAY, HOUR, hostile_log
from tests.integration.test_tables_exact import NOW, apply, assert_tables_equal, settings
from tests.reference import LogRecord, judge

__all__ = ["settings"]

WINDOWS = [(NOW // 10_000 * 10_000 - 50 * 60_000, NOW // 10_000 * 10_000), (NOW // DAY * DAY - 395 * DAY, NOW // DAY * DAY + 2 * DAY)]
#: One of each kind of key that no index lists, the index, and the key that tells of all these.
LOST = [
    (Topic.CLICKS, "rows:campaign:*"),
    (Topic.ENGAGEMENTS, "rows:keyword:*"),
    (Topic.CONVERSIONS, "seen:*"),
    (Topic.SPEND, "reports:*"),
    (Topic.SPEND, "rows:account:*"),
    (Topic.CAMPAIGNS, "registry"),
    (Topic.CLICKS, "kept"),
]


def log_of(topic: Topic, settings: Settings) -> list[LogRecord]:
    if topic is Topic.CAMPAIGNS:
        names = [f"c-{number % 7}" for number in range(20)]
        values = [{"campaign_id": name, "name": f"Sale {number}", "currency": "USD"} for number, name in enumerate(names)]
        written = [None if number % 5 == 4 else json.dumps(value).encode() for number, value in enumerate(values)]
        return [
            LogRecord(settings.topic(topic), 0, number, NOW - 20 + number, name.encode(), value)
            for number, (name, value) in enumerate(zip(names, written, strict=True))
        ]
    return [record for each, record in hostile_log(17, settings, NOW, 300, partitions=1) if each is topic]


async def take_over(redis: Redis, settings: Settings, topic: Topic, log: Sequence[LogRecord]) -> Claimed:
    state = LogState(earliest=0, end=log[-1].offset + 1)
    return await claim(topic, settings, PartitionTables(redis, settings, settings.topic(topic), 0), state, NOW)


async def counted(redis: Redis, settings: Settings, topic: Topic, log: Sequence[LogRecord]) -> Claimed:
    """The partition as its owner leaves it, in two goes."""
    claimed = await take_over(redis, settings, topic, log)
    await apply(claimed.flusher, list(log[: len(log) // 2]))
    await apply(claimed.flusher, list(log[len(log) // 2 :]))
    assert await claimed.store.lost_keys(0) == []
    return claimed


async def lose(redis: Any, tag: str, name: str) -> str:
    """Delete one key, and say which."""
    found: list[str] = sorted([key.decode() async for key in redis.scan_iter(match=f"{tag}{name}")])
    assert await redis.delete(found[-1]) == 1
    return found[-1].removeprefix(tag)


async def assert_counted(topic: Topic, log: Sequence[LogRecord], settings: Settings, redis: Redis) -> None:
    """The tables hold what the log says."""
    reference = judge([(topic, record) for record in log], settings, DIMENSIONS)
    await assert_tables_equal(reference, TableReader(redis, settings), settings, WINDOWS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "PART_ROWS", 2)


@pytest.mark.parametrize(("topic", "name"), LOST)
async def test_a_key_that_is_gone_has_all_counted_anew(settings: Settings, redis: Redis, topic: Topic, name: str) -> None:
    log = log_of(topic, settings)
    before = await counted(redis, settings, topic, log)
    lost = await lose(redis, before.store.keys.tag, name)
    assert await before.store.lost_keys(0) == [lost]
    after = await take_over(redis, settings, topic, log)
    assert [(finding.kind, finding.records) for finding in after.findings] == [(Break.TABLES_FELL_BACK, len(log))]
    assert lost in after.findings[0].detail and "counting anew from offset 0" in after.findings[0].detail
    assert after.flusher.meta.next_offset == 0
    await apply(after.flusher, log)
    reference = judge([(topic, record) for record in log], settings, DIMENSIONS)
    reader = TableReader(redis, settings)
    assert await reader.campaigns() == reference.registry
    if topic is not Topic.CAMPAIGNS:
        await assert_tables_equal(reference, reader, settings, WINDOWS)
    assert (await take_over(redis, settings, topic, log)).findings == []


@pytest.mark.parametrize(("topic", "name"), LOST)
async def test_what_the_log_has_no_more_goes_on_without_the_key(settings: Settings, redis: Redis, topic: Topic, name: str) -> None:
    log = log_of(topic, settings)
    before = await counted(redis, settings, topic, log)
    tag = before.store.keys.tag
    # As if retention had deleted what came before the first record.
    await redis.hset(before.store.keys.meta(), "start_offset", "-5")
    lost = await lose(redis, tag, name)
    after = await take_over(redis, settings, topic, log)
    assert [(finding.kind, finding.records) for finding in after.findings] == [(Break.TABLES_FELL_BACK, 0)]
    assert lost in after.findings[0].detail and "`campaignwatch rebuild`" in after.findings[0].detail
    assert after.flusher.meta.next_offset == log[-1].offset + 1
    assert (await take_over(redis, settings, topic, log)).findings == [], "it is said once"
    if topic is Topic.CAMPAIGNS:
        return
    reference = judge([(topic, record) for record in log], settings, DIMENSIONS)
    reader = TableReader(redis, settings)
    kind, _, rest = lost.partition(":")
    cube, _, day = rest.rpartition(":")
    whole = [each for each in settings.all_cubes if kind != "rows" or each != cube]
    await assert_tables_equal(reference, reader, settings, WINDOWS, whole)
    if kind == "rows":
        at = int(day) * DAY_MS
        assert reference.window(settings.all_cubes[cube], at, at + DAY), "there was something"
        window = await reader.window(cube, at, at + DAY)
        assert len(window.rows) == 0, "numbers of which nobody knows whose they are are not shown"


SKETCHES = [(Topic.CLICKS, "reach"), (Topic.ENGAGEMENTS, "reach"), (Topic.ENGAGEMENTS, "dwell"), (Topic.ENGAGEMENTS, "load")]


@pytest.mark.parametrize(("topic", "sketch"), SKETCHES)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_sketch_that_is_gone_is_no_reach_that_is_too_small(
    settings: Settings, redis: Redis, topic: Topic, sketch: str, whole: bool
) -> None:
    log = log_of(topic, settings)
    before = await counted(redis, settings, topic, log)
    tag = before.store.keys.tag
    if not whole:
        await redis.hset(before.store.keys.meta(), "start_offset", "-5")
    _, size, start, cube = (await lose(redis, tag, f"{sketch}:*")).split(":")
    assert await before.store.lost_keys(0) == [f"pane:{size}:{start}"]
    after = await take_over(redis, settings, topic, log)
    (finding,) = after.findings
    assert finding.kind is Break.TABLES_FELL_BACK and f"pane:{size}:{start}" in finding.detail
    assert ("counting anew" if whole else "`campaignwatch rebuild`") in finding.detail
    if whole:
        await apply(after.flusher, log)
    assert (await take_over(redis, settings, topic, log)).findings == [], "it is said once"
    reference = judge([(topic, record) for record in log], settings, DIMENSIONS)
    cubes = [each for each in settings.all_cubes if whole or each != cube]
    await assert_tables_equal(reference, TableReader(redis, settings), settings, WINDOWS, cubes)


@pytest.mark.parametrize("lost", ["reach:10:*:campaign", "pane:10:*"])
@pytest.mark.parametrize("in_memory", [True, False])
async def test_what_was_lost_of_a_pane_is_missed_though_it_was_written_since(
    settings: Settings, redis: Redis, lost: str, in_memory: bool
) -> None:
    topic = settings.topic(Topic.CLICKS)
    # More campaigns than one chunk has rows, so that not all of the hash is written again.
    clicks = [{"occurred_at": NOW, "campaign_id": f"c-{n % 300}", "channel": "search", "user_id": f"u-{n}"} for n in range(304)]
    log = [LogRecord(topic, 0, n, NOW, b"c", json.dumps(click | {"event_id": f"e-{n}"}).encode()) for n, click in enumerate(clicks)]
    owner = await take_over(redis, settings, Topic.CLICKS, log)
    await apply(owner.flusher, log[:300])
    if not in_memory:
        # It has all in Redis alone, as after a while without events for the pane.
        owner = await take_over(redis, settings, Topic.CLICKS, log)
    tag = owner.store.keys.tag
    name = await lose(redis, tag, lost)
    await apply(owner.flusher, log[300:])
    assert await redis.exists(tag + name) == 1
    missed = f"pane:10:{name.split(':')[2]}"
    assert await owner.store.lost_keys(0) == [missed]
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert missed in after.findings[0].detail and "counting anew from offset 0" in after.findings[0].detail
    await apply(after.flusher, log)
    assert await after.store.lost_keys(0) == []
    await assert_counted(Topic.CLICKS, log, settings, redis)


@pytest.mark.parametrize("name", ["reach:10:*:campaign", "pane:10:*"])
@pytest.mark.parametrize("whole", [True, False])
async def test_a_key_of_a_pane_that_somebody_made_something_else_is_lost(settings: Settings, redis: Redis, name: str, whole: bool) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log)
    if not whole:
        await redis.hset(before.store.keys.meta(), "start_offset", "-5")
    lost = await lose(redis, before.store.keys.tag, name)
    await redis.sadd(before.store.keys.tag + lost, "what is this")
    missed = "pane:" + ":".join(lost.split(":")[1:3])
    assert await before.store.lost_keys(0) == [missed]
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert missed in after.findings[0].detail
    if whole:
        await apply(after.flusher, log)
        await assert_counted(Topic.CLICKS, log, settings, redis)
    assert (await take_over(redis, settings, Topic.CLICKS, log)).findings == [], "it is said once"


async def test_sketches_of_cubes_that_the_settings_no_longer_have_are_not_missed(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.ENGAGEMENTS, settings)
    await counted(redis, settings, Topic.ENGAGEMENTS, log[:-20])
    without = settings.model_copy(update={"cubes": {}})
    assert len(without.all_cubes) < len(settings.all_cubes)
    for other in (without, settings, without):
        after = await take_over(redis, other, Topic.ENGAGEMENTS, log)
        assert [finding.kind for finding in after.findings] == [Break.SETTINGS_CHANGED]
        assert await after.store.lost_keys(0) == []
    await apply(after.flusher, log[-20:])
    assert await after.store.lost_keys(0) == []


async def test_the_size_of_every_pane_is_known_until_it_goes(settings: Settings, redis: Any) -> None:
    log = log_of(Topic.ENGAGEMENTS, settings)
    after = await counted(redis, settings, Topic.ENGAGEMENTS, log)
    keys = after.store.keys

    async def kept() -> dict[str, int]:
        entries = await redis.hgetall(keys.kept())
        return {name.decode(): int(value) for name, value in entries.items() if name.startswith(b"pane:")}

    found: dict[str, int] = {}
    async for key in redis.scan_iter(match=f"{keys.tag}*"):
        kind, *parts = key.decode().removeprefix(keys.tag).split(":")
        if kind in (*keys.sketches, "pane"):
            name = f"pane:{parts[0]}:{parts[1]}"
            found[name] = found.get(name, 0) + int(await (redis.hlen if kind == "pane" else redis.strlen)(key))
    assert await kept() == found and len(found) > 10
    # A day later the finest panes are gone, and a day later than that nobody misses them.
    value = {"event_id": "later", "occurred_at": NOW + DAY, "campaign_id": "c", "channel": "search", "kind": "impression"}
    later = LogRecord(settings.topic(Topic.ENGAGEMENTS), 0, log[-1].offset + 1, NOW + DAY, b"c", json.dumps(value).encode())
    await apply(after.flusher, [later])
    assert {name for name in await kept() if name.startswith("pane:10:")} <= {f"pane:10:{(NOW + DAY) // 10_000 * 10}"}
    assert await after.store.lost_keys(0) == []


async def test_lengths_that_were_lost_under_an_owner_who_writes_on_are_not_believed(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await take_over(redis, settings, Topic.CLICKS, log)
    await apply(before.flusher, log[: len(log) // 2])
    assert await redis.delete(before.store.keys.kept()) == 1
    await apply(before.flusher, log[len(log) // 2 :])
    assert await before.store.lost_keys(0) == ["kept"]
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert after.flusher.meta.next_offset == 0
    await apply(after.flusher, log)
    await assert_counted(Topic.CLICKS, log, settings, redis)


async def test_the_list_of_panes_and_the_lengths_may_go_together(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log[:-20])
    keys = before.store.keys
    await redis.hset(keys.meta(), "start_offset", "-5")
    assert await redis.delete(keys.panes(), keys.kept()) == 2
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert [finding.kind for finding in after.findings] == [Break.TABLES_FELL_BACK]
    await apply(after.flusher, log[-20:])
    await assert_counted(Topic.CLICKS, log, settings, redis)
    assert await after.store.lost_keys(0) == []


async def test_more_keys_than_one_command_takes_are_measured_and_gone_on_without(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    keys = (await counted(redis, settings, Topic.CLICKS, log)).store.keys
    today = NOW // DAY_MS
    pipe = redis.pipeline(transaction=False)
    for day in range(today - 398, today - 30):
        pipe.hset(keys.pane(DAY_MS, day * DAY_MS), "total/0", b"x")
        pipe.zadd(keys.panes(), {pane_name(DAY_MS, day * DAY_MS): 1})
        for cube in settings.all_cubes:
            pipe.set(keys.rows(cube, day), b"x")
    pipe.hset(keys.meta(), mapping={"start_offset": "-5", "format": "3"})
    await pipe.execute()
    upgraded = await take_over(redis, settings, Topic.CLICKS, log)
    assert upgraded.findings == [] and await upgraded.store.lost_keys(0) == []
    assert int(await redis.hlen(keys.kept())) > 368 * len(settings.all_cubes)
    assert await redis.delete(keys.rows("campaign", today - 40)) == 1
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert len(after.findings) == 1 and await after.store.lost_keys(0) == []


async def test_ids_behind_a_part_that_is_gone_on_without_are_no_false_alarm(settings: Settings, redis: Redis) -> None:
    topic = settings.topic(Topic.CLICKS)
    values = [{"event_id": f"e-{n}", "occurred_at": NOW, "campaign_id": "c", "channel": "search"} for n in range(14)]
    log = [LogRecord(topic, 0, offset, NOW, b"c", json.dumps(value).encode()) for offset, value in enumerate(values)]
    before = await take_over(redis, settings, Topic.CLICKS, log)
    keys = before.store.keys
    for offset in range(0, 6, 2):
        await apply(before.flusher, log[offset : offset + 2])
    await redis.hset(keys.meta(), "start_offset", "-5")
    assert await redis.delete(keys.seen(NOW // BUCKET_MS)) == 1
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert len(after.findings) == 1
    for offset in range(6, 14, 2):
        await apply(after.flusher, log[offset : offset + 2])
    assert await after.store.lost_keys(0) == []


async def test_a_part_of_ids_that_is_gone_hides_none_of_those_after_it(settings: Settings, redis: Redis) -> None:
    topic = settings.topic(Topic.CLICKS)
    log = []
    for offset in range(12):
        value = {"event_id": f"e-{offset % 7}", "occurred_at": NOW, "campaign_id": "c", "channel": "search"}
        log.append(LogRecord(topic, 0, offset, NOW, b"c", json.dumps(value).encode()))
    before = await take_over(redis, settings, Topic.CLICKS, log)
    for offset in range(0, 6, 2):
        await apply(before.flusher, log[offset : offset + 2])
    keys = before.store.keys
    assert await redis.delete(keys.seen(NOW // BUCKET_MS, 1)) == 1
    after = await take_over(redis, settings, Topic.CLICKS, log)
    await apply(after.flusher, log)
    assert (after.flusher.meta.applied, after.flusher.meta.duplicate) == (7, 5)


async def test_the_list_of_panes_is_made_anew(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log)
    panes = set(await before.store.known_panes())
    assert await redis.delete(before.store.keys.panes()) == 1
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert [finding.kind for finding in after.findings] == [Break.TABLES_FELL_BACK]
    assert "it was made anew" in after.findings[0].detail
    assert after.flusher.meta.next_offset == log[-1].offset + 1, "nothing is read again"
    assert set(await after.store.known_panes()) == panes
    await assert_counted(Topic.CLICKS, log, settings, redis)


async def test_a_key_that_somebody_made_something_else_is_lost(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log)
    lost = await lose(redis, before.store.keys.tag, "rows:campaign:*")
    await redis.sadd(before.store.keys.tag + lost, "what is this")
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert lost in after.findings[0].detail
    await apply(after.flusher, log)
    await assert_counted(Topic.CLICKS, log, settings, redis)


async def test_what_expired_by_itself_is_not_lost(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log)
    lost = await lose(redis, before.store.keys.tag, "seen:*")
    assert await before.store.lost_keys(NOW + HOUR) == []
    assert await before.store.lost_keys(NOW - 30 * DAY) == [lost]


async def test_panes_of_which_all_cubes_lose_their_rows_at_once_are_gone(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    keys = (await counted(redis, settings, Topic.CLICKS, log)).store.keys
    day = NOW // DAY_MS
    await redis.hset(keys.meta(), "start_offset", "-5")
    assert await redis.delete(*(keys.rows(cube, day) for cube in settings.all_cubes)) == len(settings.all_cubes)
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert [finding.kind for finding in after.findings] == [Break.TABLES_FELL_BACK]
    assert {start // DAY_MS for _, start in await after.store.known_panes()} & {day} == set()
    assert (await take_over(redis, settings, Topic.CLICKS, log)).findings == []


async def test_a_turn_looks_at_some_of_very_many_panes_and_the_next_one_at_others(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_KEYS_A_TURN", 20 * (1 + len(settings.all_cubes)))
    before = await counted(redis, settings, Topic.CLICKS, log_of(Topic.CLICKS, settings))
    panes = len(await before.store.known_panes())
    assert panes > 60
    lost = [await lose(redis, before.store.keys.tag, name) for name in ("reach:*:campaign", "reach:10:*:campaign", "reach:86400:*:total")]
    missed = {"pane:" + ":".join(name.split(":")[1:3]) for name in lost}
    turns = [set(await before.store.lost_keys(0, turn=turn)) for turn in range(-(-panes // 20))]
    assert set().union(*turns) == missed
    assert sum(map(len, turns)) == len(missed), "each in one turn"


async def test_what_was_written_when_less_was_to_be_kept_lives_as_long_as_what_comes(settings: Settings, redis: Redis) -> None:
    *finer, coarsest = settings.streams.ladder
    longer = settings.streams.model_copy(update={"ladder": [*finer, coarsest.model_copy(update={"keep": 3 * coarsest.keep})]})
    for topic in (Topic.ENGAGEMENTS, Topic.SPEND):
        log = log_of(topic, settings)
        before = await counted(redis, settings, topic, log)
        after = await take_over(redis, settings.model_copy(update={"streams": longer}), topic, log)
        assert [finding.kind for finding in after.findings] == [Break.SETTINGS_CHANGED]
        lives = {key.decode(): await redis.ttl(key) async for key in redis.scan_iter(match=f"{before.store.keys.tag}*")}
        dated = {key: seconds for key, seconds in lives.items() if re.search(r"\}:(rows|seen|pane|reach|dwell|load|reports):", key)}
        assert len(dated) > 100 and min(dated.values()) > 3 * coarsest.keep


def spent(settings: Settings, offset: int, campaign: int, account: str) -> LogRecord:
    """A report; a later one of the same campaign restates it."""
    report = {"period_start": NOW - HOUR, "period_end": NOW, "platform": "meta", "amount": "1.00", "currency": "USD", "channel": "social"}
    own = {"event_id": f"e-{offset}", "occurred_at": NOW, "campaign_id": f"c-{campaign}", "account_id": account, "revision": offset}
    return LogRecord(settings.topic(Topic.SPEND), 0, offset, NOW, f"c-{campaign}".encode(), json.dumps(report | own).encode())


async def test_rows_that_became_zero_and_come_back_are_no_loss(settings: Settings, redis: Any) -> None:
    log = [spent(settings, n, n, f"a-{n}") for n in range(129)]
    end = [LogRecord(settings.topic(Topic.SPEND), 0, 999, NOW, b"c", b"")]
    owner = await take_over(redis, settings, Topic.SPEND, end)
    await apply(owner.flusher, log)
    keys = owner.store.keys
    # One row more than a chunk has.
    *_, last = unpack_rows(await redis.get(keys.rows("account", NOW // DAY_MS)))
    campaign = int(str(last[-1]).removeprefix("a-"))
    await apply(owner.flusher, [spent(settings, 129, campaign, f"a-{(campaign + 1) % 129}")])
    assert await redis.hget(keys.pane(DAY_MS, NOW // DAY_MS * DAY_MS), "account/1") == b"", "nothing is left of the chunk"
    again = await take_over(redis, settings, Topic.SPEND, end)
    await apply(again.flusher, [spent(settings, 130, campaign, f"a-{campaign}")])
    assert await again.store.lost_keys(0) == []
    assert again.findings == (await take_over(redis, settings, Topic.SPEND, end)).findings == []


async def test_names_of_rows_that_outlive_their_panes_are_known(settings: Settings, redis: Redis) -> None:
    topic, then = settings.topic(Topic.CLICKS), NOW - 100 * DAY
    clicks = [{"event_id": f"e-{n}", "occurred_at": then, "campaign_id": f"c-{n}", "channel": "search"} for n in range(4)]
    log = [LogRecord(topic, 0, n, NOW, b"c", json.dumps(click).encode()) for n, click in enumerate(clicks)]
    owner = await take_over(redis, settings, Topic.CLICKS, log)
    await apply(owner.flusher, log[:2])
    await redis.hset(owner.store.keys.meta(), "start_offset", "-5")
    assert await redis.delete(*[owner.store.keys.pane(*pane) for pane in await owner.store.known_panes()]) >= 1
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert [finding.kind for finding in after.findings] == [Break.TABLES_FELL_BACK]
    await apply(after.flusher, log[2:])
    assert await after.store.lost_keys(0) == []
    assert (await take_over(redis, settings, Topic.CLICKS, log)).findings == []


async def test_what_was_lost_is_missed_also_when_the_cubes_change_at_the_same_time(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log)
    lost = await lose(redis, before.store.keys.tag, "reach:86400:*:campaign")
    after = await take_over(redis, settings.model_copy(update={"cubes": {}}), Topic.CLICKS, log)
    assert "pane:" + ":".join(lost.split(":")[1:3]) in after.findings[0].detail
    assert "counting anew" in after.findings[0].detail


@pytest.mark.parametrize("name", ["kept", "panes"])
async def test_what_tells_of_other_keys_may_become_something_else(settings: Settings, redis: Redis, name: str) -> None:
    log = log_of(Topic.CLICKS, settings)
    keys = (await counted(redis, settings, Topic.CLICKS, log)).store.keys
    await redis.delete(keys.tag + name)
    await redis.set(keys.tag + name, "what is this")
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert [finding.kind for finding in after.findings] == [Break.TABLES_FELL_BACK]
    if left := log[after.flusher.meta.next_offset :]:
        await apply(after.flusher, left)
    await assert_counted(Topic.CLICKS, log, settings, redis)
    assert (await take_over(redis, settings, Topic.CLICKS, log)).findings == []


async def test_an_owner_that_meets_something_else_under_a_name_is_fenced_and_counts_anew(settings: Settings, redis: Redis) -> None:
    topic = settings.topic(Topic.CLICKS)
    clicks = [{"event_id": f"e-{n}", "occurred_at": NOW, "campaign_id": f"c-{n}", "channel": "search"} for n in range(4)]
    log = [LogRecord(topic, 0, n, NOW, b"c", json.dumps(click).encode()) for n, click in enumerate(clicks)]
    owner = await take_over(redis, settings, Topic.CLICKS, log)
    await apply(owner.flusher, log[:2])
    pane = owner.store.keys.pane(DAY_MS, NOW // DAY_MS * DAY_MS)
    await redis.delete(pane)
    await redis.sadd(pane, "what is this")
    with pytest.raises(Fenced, match="something else: WRONGTYPE"):
        await apply(owner.flusher, log[2:])
    after = await take_over(redis, settings, Topic.CLICKS, log)
    assert len(after.findings) == 1 and after.flusher.meta.next_offset == 0
    await apply(after.flusher, log)
    await assert_counted(Topic.CLICKS, log, settings, redis)


async def test_a_takeover_that_was_cut_short_tells_of_a_loss_once(settings: Settings, redis: Redis) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log)
    await redis.hset(before.store.keys.meta(), "start_offset", "-5")
    await lose(redis, before.store.keys.tag, "rows:campaign:*")
    meta = await before.store.claim(0, NOW)
    state = LogState(earliest=0, end=log[-1].offset + 1)
    _, findings = await only_whole(before.store, meta, state, NOW, 0)
    assert len(findings) == 1
    assert (await take_over(redis, settings, Topic.CLICKS, log)).findings == []


@pytest.mark.parametrize("held", [True, False])
async def test_until_it_is_noticed_rows_whose_names_are_gone_are_left_out(settings: Settings, redis: Redis, held: bool) -> None:
    log = log_of(Topic.CLICKS, settings)
    before = await counted(redis, settings, Topic.CLICKS, log[:-1])
    reader = TableReader(redis, settings)
    end = NOW // DAY * DAY + DAY
    if held:
        whole = await reader.window("campaign", end - DAY, end)
        assert len(whole.rows) > 3
    await redis.delete(before.store.keys.rows("campaign", NOW // DAY_MS))
    for rows in (0, 1):
        if rows:
            # The owner knows of nothing, and goes on.
            new = {"event_id": "new", "occurred_at": NOW, "campaign_id": "new", "channel": "search", "user_id": "new"}
            await apply(before.flusher, [log[-1], replace(log[-1], offset=log[-1].offset + 1, key=b"new", value=json.dumps(new).encode())])
        for read in (reader, TableReader(redis, settings)):
            window = await read.window("campaign", end - DAY, end)
            series = await read.series("campaign", end - DAY, end, DAY, measures=["clicks"])
            asked = await read.window("campaign", end - DAY, end, where={"campaign_id": "new"})
            assert len(window.rows) <= rows and len(series.rows) <= rows and len(asked.rows) <= rows
            assert all(len(values) == len(window.rows) for values in window.estimates.values())
