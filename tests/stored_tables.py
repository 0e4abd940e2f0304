"""Tables as an earlier version of Campaignwatch left them in Redis, with the log that they came from: what an upgrade starts from.

    python -m tests.stored_tables CHECKOUT FILE

makes such a file with the code of another checkout (`git worktree add CHECKOUT TAG`); tests/data/README.md says when. Keys are kept by type
and content, so that any Redis takes them, and the log in full, so that what makes logs here may change.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import random
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from streams.config import EVENT_TOPICS, Kafka, Money, Redis, Settings, SpendSource, Streams, Topic
from tests.reference import LogRecord

#: What is kept under the names of, and renamed when it is restored.
NAMESPACE, PREFIX = "storednamespace", "storedprefix"
#: When the log ends and when its first half does, epoch ms: 13:07 UTC on a day, and two and a half hours before.
NOW = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 13 * 3_600_000 + 7 * 60_000
HALF = NOW - 9_000_000
_SEED, _EVENTS, _PARTITIONS = 333, 1_000, 2
_FILES = Path(__file__).parent / "data"

Log = list[tuple[Topic, LogRecord]]


@dataclass(frozen=True)
class Stored:
    """A file of old tables."""

    #: The commit that wrote them.
    commit: str
    #: (key, type, content as Redis' commands give it, milliseconds to live or -1).
    entries: list[tuple[bytes, str, Any, int]]
    #: Records (topic, partition, offset, time in ms, key, value) in the order of their times; the tables hold those up to HALF.
    log: list[Any]

    def records(self, settings: Settings) -> Log:
        """The whole log, in the topics of `settings`."""
        return [(Topic(topic), LogRecord(settings.topic(Topic(topic)), *rest)) for topic, *rest in self.log]

    async def restore(self, redis: Any, settings: Settings) -> None:
        """Put everything into Redis, under the namespace and the topic prefix of `settings`."""

        def named(text: Any) -> Any:
            return text.replace(NAMESPACE.encode(), settings.redis.namespace.encode()).replace(
                PREFIX.encode(), settings.kafka.topic_prefix.encode()
            )

        pipe = redis.pipeline(transaction=False)
        for stored, kind, content, ttl in self.entries:
            key = named(stored)
            if kind == "string":
                pipe.set(key, content)
            elif kind == "hash":
                pipe.hset(key, mapping=dict(content))
            elif kind == "set":
                pipe.sadd(key, *map(named, content))
            elif kind == "zset":
                pipe.zadd(key, {member: float(score) for member, score in content})
            else:
                for name, fields in content:
                    pipe.xadd(key, dict(fields), id=name)
            if ttl >= 0:
                pipe.pexpire(key, ttl)
        await pipe.execute()


def stored_tables(name: str) -> Stored:
    """The tables of tests/data/NAME."""
    found = _unplain(json.loads(lzma.decompress((_FILES / name).read_bytes())))
    entries = [(key, kind.decode(), content, ttl) for key, kind, content, ttl in found["entries"]]
    return Stored(found["commit"].decode(), entries, _named_topics(found["log"]))


def settings_of(url: str, namespace: str = NAMESPACE, prefix: str = PREFIX) -> Settings:
    """Settings under which the tables were written."""
    return Settings(
        kafka=Kafka(topic_prefix=prefix),
        redis=Redis(url=url, namespace=namespace),
        streams=Streams(open_cells=10_000),
        money=Money(rates={"EUR": Decimal("1.0842")}, spend_sources={"meta": SpendSource.REPORTS}),
        cubes={"keyword": ("campaign_id", "keyword", "platform")},
    )


def _named_topics(log: Any) -> list[Any]:
    return [(topic.decode(), *rest) for topic, *rest in log]


def _plain(value: Any) -> Any:
    """For JSON: bytes as text where they are ASCII, else as {"b": base64}. Text comes back as bytes."""
    if isinstance(value, bytes):
        return value.decode() if value.isascii() else {"b": b64encode(value).decode()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _unplain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return [_unplain(item) for item in value]
    if isinstance(value, dict):
        return b64decode(value["b"]) if set(value) == {"b"} else {name: _unplain(item) for name, item in value.items()}
    return value


# Making a file: the log is made here and taken in by the checkout's own code, in a process of its own.


def _made_log() -> list[list[Any]]:
    # Only making needs it, and only reading may run inside of an old checkout.
    from tests.hostile_log import hostile_record

    chance = random.Random(_SEED)
    offsets: dict[tuple[Topic, int], int] = {}
    log: list[list[Any]] = []
    for number in range(_EVENTS):
        time = NOW - (_EVENTS - number) * (2 * (NOW - HALF) // _EVENTS)
        partition = chance.randrange(_PARTITIONS)
        if chance.random() < 0.05:
            topic = Topic.CAMPAIGNS
            key: bytes | None
            value: bytes | None
            key, value = _campaign(chance, partition, number)
        elif time > HALF and chance.random() < 0.2:
            topic, partition, key, value = _again(chance, [record for record in log if record[3] <= HALF][-200:])
        else:
            topic = chance.choices(EVENT_TOPICS, (4, 3, 6, 2))[0]
            key, value = hostile_record(chance, topic, partition, number, time, lengths=(6.0, 6.0, 3.0, 0.5, 0.0))
        offset = offsets.get((topic, partition), 0)
        offsets[topic, partition] = offset + chance.choice((1, 1, 1, 3))
        log.append([topic.value, partition, offset, time, key, value])
    return log


def _again(chance: random.Random, before: list[list[Any]]) -> tuple[Topic, int, bytes | None, bytes | None]:
    """A record that the tables hold: sent twice, or a spend report restated."""
    topic, partition, _, _, key, value = chance.choice([record for record in before if record[0] != Topic.CAMPAIGNS])
    if topic == Topic.SPEND and value.startswith(b'{"event_id": "'):
        restated = json.loads(value) | {"revision": chance.randrange(8), "amount": "17.25"}
        value = json.dumps(restated).encode()
    return Topic(topic), partition, key, value


def _campaign(chance: random.Random, partition: int, number: int) -> tuple[bytes, bytes | None]:
    campaign = f"c-{partition}-{chance.randrange(12)}"
    if chance.random() < 0.2:
        return campaign.encode(), None
    content = {
        "campaign_id": campaign,
        "name": f"Sale {number}",
        "budget": {"daily": f"{number}.5"},
        "currency": chance.choice(("USD", "EUR")),
    }
    return campaign.encode(), json.dumps(content).encode()


async def _taken_in(log: Log) -> list[list[Any]]:
    from redis.asyncio import Redis as Client

    from streams.embedded import EmbeddedRedis
    from tests.integration.test_tables_exact import apply, open_partition

    with EmbeddedRedis() as server:
        settings = settings_of(server.url)
        redis = Client.from_url(server.url)
        await _alerts(redis, settings)
        for key in [key async for key in redis.scan_iter()]:
            if b"{alerts}" not in key:
                await redis.delete(key)
        parts: dict[tuple[Topic, int], list[LogRecord]] = {}
        for topic, record in log:
            parts.setdefault((topic, record.partition), []).append(record)
        for (topic, partition), records in parts.items():
            # In two goes, so that there is something appended to and something replaced.
            flusher = await open_partition(topic, partition, settings, redis)
            await apply(flusher, records[: len(records) // 2])
            await apply(flusher, records[len(records) // 2 :])
        entries = [await _entry(redis, key) for key in sorted([key async for key in redis.scan_iter()])]
        await redis.aclose()
        return entries


async def _alerts(redis: Any, settings: Settings) -> None:
    """Two incidents, both told to Slack; then one is resolved, which Slack has not been told."""
    from alerts.demo.slack_stand_in import SlackStandIn
    from tests.integration.test_alerts_incidents import NOON, lead
    from tests.integration.test_notify import by_token, delivering, only_slack, until_all_done

    clicks = {"c-1": [(NOON, 240)], "c-2": [(NOON, 240), (NOON + 60_000, 30)]}
    term = await lead(redis, settings, "old")
    await term.tick(NOON + 60_000, clicks)
    slack = SlackStandIn(rate=1_000, update_rate=1_000, burst=1_000)
    await slack.start()
    with_slack = by_token(settings, slack)
    async with delivering(with_slack, redis, only_slack(with_slack, redis)):
        await until_all_done(redis, settings, "slack")
    await slack.stop()
    for later in range(90_000, 240_000, 30_000):
        await term.tick(NOON + later, clicks)


async def _entry(redis: Any, key: bytes) -> list[Any]:
    kind = (await redis.type(key)).decode()
    match kind:
        case "string":
            content: Any = await redis.get(key)
        case "hash":
            content = sorted((await redis.hgetall(key)).items())
        case "set":
            content = sorted(await redis.smembers(key))
        case "zset":
            content = [(member, repr(score)) for member, score in await redis.zrange(key, 0, -1, withscores=True)]
        case "stream":
            content = [(name, list(fields.items())) for name, fields in await redis.xrange(key)]
        case _:
            raise ValueError(f"{key!r} is a {kind}: say here how to keep it")
    return [key, kind, content, await redis.pttl(key)]


def _make(checkout: Path, file: Path) -> None:
    commit = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    log = _made_log()
    with tempfile.TemporaryDirectory() as directory:
        given, taken = Path(directory, "log"), Path(directory, "entries")
        given.write_text(json.dumps(_plain([record for record in log if record[3] <= HALF])))
        subprocess.run(
            [sys.executable, __file__, "--inside", str(given), str(taken)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            check=True,
        )
        content = {"commit": commit, "entries": json.loads(taken.read_text()), "log": _plain(log)}
    file.write_bytes(lzma.compress(json.dumps(content, separators=(",", ":")).encode(), preset=9))
    print(f"{file}: {len(content['entries'])} keys and {len(log)} records of {commit[:7]} in {file.stat().st_size} bytes")


def _make_inside(given: Path, taken: Path) -> None:
    settings = settings_of("redis://127.0.0.1")
    log = Stored("", [], _named_topics(_unplain(json.loads(given.read_text())))).records(settings)
    taken.write_text(json.dumps(_plain(asyncio.run(_taken_in(log)))))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--inside", given, taken]:
            _make_inside(Path(given), Path(taken))
        case [checkout, file]:
            _make(Path(checkout), Path(file))
        case _:
            sys.exit(__doc__)
