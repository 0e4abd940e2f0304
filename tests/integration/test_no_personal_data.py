"""Nothing that a person could be told by reaches Redis, a log, a page or an alert, as sent or in base64; and nothing stays for ever."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis.asyncio import Redis

from alerts.demo.slack_stand_in import SlackStandIn
from streams.config import EVENT_TOPICS, Alerts, Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.privacy.erasing import erase
from streams.topics import create_topics
from tests.hostile_log import hostile_record
from tests.integration.conftest import Broker, client_of
from tests.integration.workers import applied, get, own_settings, records, send, until, worker

PERSONAL = {
    "user_id": "person-7731-zebra",
    "ip": "203.0.113.77",
    "user_agent": "Zebra-Browser/7731",
    "landing_page": "https://zebra.example/7731",
    "term": "zebra-term-7731",
}
PAGES = ("/metrics", "/api/kpis?cube=campaign&window=1h", "/api/ledger", "/api/campaigns", "/api/incidents?state=all", "/readyz")
#: Base64 of the same text is another one after a byte or two before it.
SHIFTS = range(3)
#: Keys that stay until somebody deletes them, and why.
WITHOUT_TTL = {
    r"\{[^}]+\}:meta": "where a partition's reading goes on: bounded by the number of partitions",
    r"\{[^}]+\}:panes": "names of the panes that are kept, which leave with them",
    r"\{[^}]+\}:notes": "what broke the continuity: an entry per kind of break",
    r"\{[^}]+\}:settings": "what the tables were written with: an entry per setting; of the key for user ids a digest",
    r"\{[^}]+\}:kept": "lengths of those of a partition's keys that no index lists, which leave with them",
    r"\{[^}]+\}:generation": "which tables are in use",
    r"\{[^}]+\}:registry": "campaigns, until their deletion is read from the topic",
    r"partitions": "names of the partitions",
    r"partition_counts": "number of partitions of each topic",
    r"\{alerts\}:(incidents|state)": "open incidents; the resolved ones leave after alerts.keep_resolved_days",
    r"\{alerts\}:outbox": "at most alerts.outbox_length changes, delivered ones for an hour",
    r"\{alerts\}:cursor:\w+": "how far a sink is: an id of an entry",
    r"\{alerts\}:sinks": "names of the sinks, and when a replica last had them in its settings",
    r"\{alerts\}:commits": "number of writes of incidents",
    r"\{alerts\}:fence": "number of terms of leadership",
}


def in_base64(value: bytes) -> list[bytes]:
    """How the middle of a value reads in base64, wherever it stands in what was encoded."""
    found = []
    for shift in SHIFTS:
        # The first and last characters depend on what stands beside it.
        whole = base64.b64encode(b"\x00" * shift + value)
        found.append(whole[(8 * shift + 5) // 6 :][: (len(value) - 2) * 8 // 6 - 1])
    return found


WANTED = [form for value in PERSONAL.values() for form in (value.encode(), *in_base64(value.encode()))]


def told(content: bytes) -> list[bytes]:
    return [form for form in WANTED if form in content]


def read(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
    return content


async def everything(redis: Redis) -> bytes:
    """All keys, and all that they hold, of whatever type."""
    client: Any = redis
    found: list[bytes] = []
    async for key in client.scan_iter():
        kind = await client.type(key)
        found.append(key)
        if kind == b"string":
            found.append(await client.get(key))
        elif kind == b"hash":
            found += [part for pair in (await client.hgetall(key)).items() for part in pair]
        elif kind == b"set":
            found += await client.smembers(key)
        elif kind == b"zset":
            found += await client.zrange(key, 0, -1)
        elif kind == b"stream":
            found += [part for _, fields in await client.xrange(key) for pair in fields.items() for part in pair]
        else:
            raise AssertionError(f"{key!r} is a {kind!r}, which this test cannot read")
    return b"\n".join(found)


@dataclass(frozen=True)
class Told:
    """What became of a rich log, in a worker and an alerts process that ran until an incident was told to Slack."""

    settings: Settings
    stored: bytes
    #: Key -> seconds that it has left, -1 without an end.
    left: dict[str, int]
    pages: bytes
    said: str
    slack: bytes
    quarantined: list[bytes]


@pytest.fixture(scope="module")
def outcome(broker: Broker, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return asyncio.run(play(broker, redis_server, tmp_path_factory.mktemp("told")))


async def play(broker: Broker, redis_server: EmbeddedRedis, directory: Path) -> Told:
    settings = own_settings(broker, redis_server, alerts=Alerts(http_port=0, tick=1.0, lease=2.0))
    await create_topics(settings)
    slack = SlackStandIn()
    await slack.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAMPAIGNWATCH_SLACK__BOT_TOKEN", slack.token)
        patch.setenv("CAMPAIGNWATCH_SLACK__API_URL", slack.api_url)
        with worker(settings, directory) as one, worker(settings, directory, "alerts") as two:
            count = await send_all(settings)
            found = await applied(one.url, count, timeout=60)
            assert found.total("quarantined") >= 6
            await until(lambda: get(f"{two.url}/api/incidents"), lambda page: page[1]["total"] > 0, timeout=60)
            await until(lambda: slack.top_level(), timeout=60)
            async with client_of(settings.redis.url) as redis:
                await erase(redis, settings, ["u1"], time.time_ns() // 1_000_000)

                await until(partial(remembered, redis, settings), bool, timeout=30)
                stored = await everything(redis)
                left = {key.decode(): await redis.ttl(key) async for key in redis.scan_iter(match=f"{settings.redis.namespace}*")}
            pages = b""
            for page in PAGES:
                pages += await asyncio.to_thread(read, one.url + page) + await asyncio.to_thread(read, two.url + page)
            refused = [record.value or b"" for record in await records(settings, Topic.QUARANTINE, found.total("quarantined"))]
            said = one.said() + two.said()
    posted = json.dumps([[message.text, message.blocks, message.metadata] for message in slack.top_level()]).encode()
    await slack.stop()
    return Told(settings, stored, left, pages, said, posted, refused)


async def remembered(redis: Redis, settings: Settings) -> bool:
    """Whether there are keys of what Slack was told."""
    return any([key async for key in redis.scan_iter(match=f"{settings.redis.namespace}:{{alerts}}:slack:*")])


async def send_all(settings: Settings) -> int:
    """Events with personal data, good and broken, an overspent campaign, and a log that tries everything; how many records."""
    now = time.time_ns() // 1_000_000
    good = {"event_id": "e-1", "occurred_at": now, "campaign_id": "c", "channel": "search", "cost": "50", **PERSONAL}
    bad = [good | {"event_id": f"bad-{name}", name: [value]} for name, value in PERSONAL.items() if name != "term"]
    report = {"event_id": "r-1", "occurred_at": now, "campaign_id": "c", "channel": "search", "platform": "google", "amount": "5"}
    report |= {"period_start": now // 60_000 * 60_000 - 3_600_000, "period_end": now // 60_000 * 60_000}
    campaign = {"campaign_id": "c", "name": "Spring", "currency": "USD", "budget": {"daily": "1"}, **PERSONAL}
    count = await send(settings, Topic.CAMPAIGNS, [campaign, (PERSONAL["user_id"].encode(), campaign)])
    count += await send(settings, Topic.SPEND, [(PERSONAL["user_id"].encode(), report), report])
    count += await send(settings, Topic.CLICKS, [good, *bad, good | {"event_id": "bad-cost", "cost": "x"}])
    count += await send(settings, Topic.CLICKS, [good | {"event_id": f"e-{i}", "user_id": f"u{i}"} for i in range(2, 40)])
    conversion = {**good, "event_id": "v-1", "kind": "purchase", "value": "3", "term": [PERSONAL["term"]]}
    count += await send(settings, Topic.CONVERSIONS, [conversion])
    count += await send(settings, Topic.ENGAGEMENTS, [{**good, "event_id": "g-1", "kind": "search", "term": [PERSONAL["term"]]}])
    chance = random.Random(7)
    for topic in EVENT_TOPICS:
        hostile = [hostile_record(chance, topic, 0, number, now - 1_000, lengths=(1, 1, 1, 0, 0)) for number in range(300)]
        count += await send(settings, topic, hostile)
    return count


def test_no_personal_value_is_stored_logged_or_shown(outcome: Told) -> None:
    assert b":reach:" in outcome.stored
    assert b"Spring" in outcome.stored + outcome.pages
    assert "privacy.user_key is the built-in one" in outcome.said
    assert outcome.settings.privacy.user_key.get_secret_value() not in outcome.said
    assert told(outcome.stored) == []
    assert told(outcome.pages) == []
    assert told(outcome.said.encode()) == []
    assert told(outcome.slack) == []


def test_quarantine_holds_the_bytes_as_they_came_and_tells_nothing_beside_them(outcome: Told) -> None:
    whole = b""
    for value in outcome.quarantined:
        content = json.loads(value)
        bytes_of = b"\n".join(base64.b64decode(content.pop(name) or "") for name in ("key", "value"))
        whole += bytes_of
        assert told(json.dumps(content, ensure_ascii=False).encode()) == []
    # It is by the bytes alone that they can be found, and every field was refused once.
    assert [name for name, value in PERSONAL.items() if value.encode() not in whole] == []


def test_every_key_ends_by_itself_or_is_known_to_stay(outcome: Told) -> None:
    namespace = outcome.settings.redis.namespace
    for_ever = [key.removeprefix(f"{namespace}:") for key, seconds in outcome.left.items() if seconds < 0]
    assert [key for key in for_ever if not any(re.fullmatch(pattern, key) for pattern in WITHOUT_TTL)] == []
    # Every kind of key was there to be looked at.
    kinds = ["pane:", "reach:", "dwell:", "load:", "rows:", "seen:", "reports:", "meta", "panes", "registry"]
    kinds += ["incidents", "state", "outbox", "cursor:", "sinks", "slack:", "lease", "delivers:", "erased"]
    assert [kind for kind in kinds if not any(re.search(rf"[:}}]{kind}", key) for key in outcome.left)] == []
    longest = outcome.settings.streams.ladder[-1].keep + outcome.settings.streams.ladder[-1].size + 36 * 86_400
    assert max(outcome.left.values()) <= longest


def test_base64_is_found_wherever_it_stands() -> None:
    for value in PERSONAL.values():
        for before in (b"", b"a", b"ab", b"abc", b"abcd"):
            assert [form for form in in_base64(value.encode()) if form in base64.b64encode(before + value.encode() + b"}")]
