"""A log that tries everything the contract speaks of: late, early, repeated, restated, foreign money, broken. Made from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from streams.config import EVENT_TOPICS, Settings, Topic
from tests.reference import LogRecord

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
#: Amounts of money, up to the largest that the contract lets through.
AMOUNTS: tuple[float | str, ...] = (0, 1, 0.25, "12.3456785", 0.1234565, "999999999.999999", 1000000000)
#: How often a spend report is a minute, 7 minutes, an hour, a day, 31 days long.
LENGTHS = (6.0, 6.0, 6.0, 3.0, 1.0)
BROKEN = (b"{", b"", b"[]", b"null", b'{"event_id":"x"}', b"\xff\xfe", b'{"event_id":1,"campaign_id":"c"}', b"\xef\xbb\xbf{}")


def hostile_log(seed: int, settings: Settings, now: int, events: int, partitions: int = 2) -> list[tuple[Topic, LogRecord]]:
    """`events` records over all event topics and `partitions`, in the order of their record times: the last hours up to `now`."""
    chance = random.Random(seed)
    offsets: dict[tuple[Topic, int], int] = {}
    log = []
    for number in range(events):
        topic = chance.choices(EVENT_TOPICS, (4, 3, 6, 1))[0]
        partition = chance.randrange(partitions)
        timestamp = now - (events - number) * (5 * HOUR // events)
        key, value = hostile_record(chance, topic, partition, number, timestamp)
        offset = offsets.get((topic, partition), 0)
        # Offsets may have gaps: compaction and transactions leave them.
        offsets[topic, partition] = offset + chance.choice((1, 1, 1, 1, 3))
        log.append((topic, LogRecord(settings.topic(topic), partition, offset, timestamp, key, value)))
    return log


def hostile_record(
    chance: random.Random,
    topic: Topic,
    partition: int,
    number: int,
    timestamp: int,
    amounts: Sequence[float | str] = AMOUNTS,
    lengths: Sequence[float] = LENGTHS,
) -> tuple[bytes | None, bytes]:
    """Key and value of the `number`-th record of a log, for a record time of `timestamp` (epoch ms).

    Money is among the `amounts`; `lengths` weighs the lengths of spend reports.
    """
    if chance.random() < 0.02:
        return b"c-0", chance.choice(BROKEN)
    event: dict[str, Any] = {
        # About one id in ten comes again, some of them after the horizon.
        "event_id": f"{partition}-{chance.randrange(number + 10) if chance.random() < 0.1 else number}",
        "occurred_at": _time(chance, timestamp - _age(chance)),
        "campaign_id": f"c-{partition}-{chance.randrange(12)}" if topic is Topic.SPEND else f"c-{chance.randrange(24)}",
        "channel": chance.choice(("search", "Social", "DISPLAY", "e-mail")),
    }
    for name, values in (
        ("account_id", ("a", "b")),
        ("platform", ("google", "meta", "tiktok")),
        ("creative_id", ("k1", "k2", "k3", "")),
        ("region", ("EMEA", "北海道", None)),
        ("segment", ("young", "old")),
        ("experiment_id", ("e1",)),
        ("variant_id", ("a", "b")),
        ("user_id", tuple(f"u{i}" for i in range(300))),
        ("currency", ("usd", "EUR", "gbp", "XXX") if chance.random() < 0.1 else ("USD", "EUR")),
    ):
        if chance.random() < 0.6:
            event[name] = chance.choice(values)
    event |= _of_topic(chance, topic, timestamp, amounts, lengths)
    key = None if topic is not Topic.SPEND and chance.random() < 0.05 else event["campaign_id"].encode()
    if topic is Topic.SPEND and chance.random() < 0.03:
        key = b"another"
    return key, json.dumps(event).encode()


def _of_topic(
    chance: random.Random, topic: Topic, timestamp: int, amounts: Sequence[float | str], lengths: Sequence[float]
) -> dict[str, Any]:
    if topic is Topic.CLICKS:
        return {"cost": _money(chance, amounts)}
    if topic is Topic.CONVERSIONS:
        return {
            "kind": chance.choice(("purchase", "lead", "refund", "own_kind")),
            "value": _money(chance, amounts),
            "customer_type": chance.choice(("new", "returning", None)),
        }
    if topic is Topic.ENGAGEMENTS:
        kind = chance.choice(("impression", "impression", "view", "like", "share", "page_view", "rating"))
        extra = {"dwell_ms": chance.randrange(86_400_001), "load_ms": chance.randrange(5_000), "rating": chance.randrange(10_001) / 100}
        return {"kind": kind, "cost": _money(chance, amounts)} | {name: value for name, value in extra.items() if chance.random() < 0.3}
    start = (timestamp - chance.choice((HOUR, 3 * HOUR, DAY, 20 * DAY))) // MINUTE * MINUTE
    start -= start % HOUR
    length = chance.choices((MINUTE, 7 * MINUTE, HOUR, DAY, 31 * DAY), lengths)[0]
    if length > DAY:
        # Minutes that lie ahead are kept in the finest panes too: a month of them takes seconds to write.
        start -= 30 * DAY
    end = start + length
    return {
        "platform": chance.choice(("google", "meta")),
        "period_start": start,
        "period_end": end,
        "amount": _money(chance, amounts),
        "revision": chance.randrange(4),
    }


def _age(chance: random.Random) -> int:
    spread = chance.choices((2_000, 60_000, 3 * HOUR, 30 * HOUR, 40 * DAY, 500 * DAY, -400_000), (60, 20, 8, 5, 3, 1, 2))[0]
    return int(chance.random() * spread)


def _time(chance: random.Random, time: int) -> int | str:
    if chance.random() < 0.5:
        return time
    zone = chance.choice((UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-8))))
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time)).astimezone(zone).isoformat()


def _money(chance: random.Random, amounts: Sequence[float | str]) -> float | str:
    return chance.choice((*amounts, round(chance.random() * 100, 7)))


def batches(chance: random.Random, log: list[tuple[Topic, LogRecord]], largest: int) -> Iterator[tuple[Topic, int, list[LogRecord]]]:
    """The log cut into batches of one topic-partition each, of random lengths, in a random order that keeps each partition's own."""
    waiting: dict[tuple[Topic, int], list[LogRecord]] = {}
    for topic, record in log:
        waiting.setdefault((topic, record.partition), []).append(record)
    while waiting:
        topic, partition = chance.choice(sorted(waiting))
        records = waiting[topic, partition]
        size = chance.randint(1, largest)
        yield topic, partition, records[:size]
        if records[size:]:
            waiting[topic, partition] = records[size:]
        else:
            del waiting[topic, partition]
