"""What cannot be counted is kept with its reason and its bytes, can be looked at, and can be sent back once it is repaired."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from streams.config import EVENT_TOPICS, Money, Settings, Topic
from streams.events.refusal import Reason
from streams.quarantine import Coordinates, decode_quarantined
from streams.topics import create_topics
from tests.integration.conftest import Broker, RedisServer
from tests.integration.processes import run, settings_file
from tests.integration.workers import Worker, applied, ledger, own_settings, records, rows, send, until, worker

#: When the module was loaded; its tests may run much later.
NOW = int(time.time() * 1_000)
#: Clicks per campaign that are all right, half of them before the broken records and half behind.
GOOD = 10
CAMPAIGNS = ("c-1", "c-2", "c-3")


@dataclass(frozen=True)
class Broken:
    """A record that must be refused, and what must be said of it."""

    topic: Topic
    reason: Reason
    detail: str
    value: bytes | None
    key: bytes | None = b"c-1"


def event(number: str, campaign: str = "c-1", **fields: Any) -> dict[str, Any]:
    return {"event_id": number, "occurred_at": NOW, "campaign_id": campaign, "channel": "search", **fields}


def written(number: str, campaign: str = "c-1", **fields: Any) -> bytes:
    return json.dumps(event(number, campaign, **fields), ensure_ascii=False).encode()


def padded(length: int) -> bytes:
    """A click that would be good, were it not so long."""
    short = written("long", note="")
    return short.replace(b'"note": ""', b'"note": "' + b"x" * (length - len(short)) + b'"')


REPORT: dict[str, Any] = {
    "platform": "google",
    "period_start": NOW // 60_000 * 60_000 - 3_600_000,
    "period_end": NOW // 60_000 * 60_000,
    "amount": "5",
}
EUROS = [
    Broken(Topic.CLICKS, Reason.UNKNOWN_CURRENCY, "EUR", written("euro-1", "c-1", cost="2.50", currency="EUR")),
    Broken(Topic.CLICKS, Reason.UNKNOWN_CURRENCY, "EUR", written("euro-2", "c-2", cost="0.000001", currency="eur"), b"c-2"),
    Broken(Topic.CONVERSIONS, Reason.UNKNOWN_CURRENCY, "EUR", written("euro-3", "c-2", kind="purchase", value=100, currency="EUR"), b"c-2"),
]
BROKEN = [
    Broken(Topic.CLICKS, Reason.TOO_LARGE, "the value has 65537 bytes; at most 65536 are taken", padded(65_537)),
    Broken(Topic.CLICKS, Reason.TOO_LARGE, "the value has 900000 bytes", padded(900_000)),
    Broken(Topic.CLICKS, Reason.EMPTY, "no value", None),
    Broken(Topic.CLICKS, Reason.MALFORMED, "", b"\xff\xfe\x00", None),
    Broken(Topic.ENGAGEMENTS, Reason.MALFORMED, "", b'["an", "array"]', b"\x00\xff"),
    Broken(
        Topic.CONVERSIONS, Reason.MISSING_FIELD, "kind: required, but absent, null or empty", written("no-kind", user_id="ann@example.org")
    ),
    Broken(Topic.CLICKS, Reason.INVALID_FIELD, 'cost: got "-1"', written("refunded", cost="-1", ip="203.0.113.7")),
    Broken(Topic.SPEND, Reason.WRONG_KEY, "got one of 3 bytes, expected the record's campaign_id", written("report", **REPORT), b"c-2"),
    # Without any key Apache Kafka itself refuses a record of a compacted topic.
    Broken(Topic.CAMPAIGNS, Reason.WRONG_KEY, "key: got one of 3 bytes", b'{"campaign_id": "c-1", "name": "Spring"}', b"c-2"),
    Broken(Topic.CLICKS, Reason.IN_FUTURE, "", written("tomorrow", occurred_at=NOW + 20 * 3_600_000)),
    *EUROS,
]


@dataclass(frozen=True)
class Service:
    settings: Settings
    worker: Worker

    def run_all(self, *commands: str) -> list[CompletedProcess[str]]:
        """Several commands of `campaignwatch quarantine` at once."""
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda words: run(self.worker.config, "quarantine", *words.split()), commands))


@pytest.fixture(scope="module")
def service(broker: Broker, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker that has read every kind of broken record, with good ones before, between and behind."""
    settings = own_settings(broker, redis_server)
    asyncio.run(create_topics(settings))
    with worker(settings, tmp_path_factory.mktemp("quarantine")) as running:
        asyncio.run(_fill(settings, running))
        yield Service(settings, running)


async def _fill(settings: Settings, running: Worker) -> None:
    clicks = [event(f"good-{campaign}-{n}", campaign, cost="0.10") for n in range(GOOD) for campaign in CAMPAIGNS]
    await send(settings, Topic.CLICKS, clicks[: len(clicks) // 2])
    for topic in Topic:
        await send(settings, topic, [(each.key, each.value) for each in BROKEN if each.topic is topic])
    await send(settings, Topic.CLICKS, clicks[len(clicks) // 2 :])
    await applied(running.url, len(clicks) + len(BROKEN))


async def test_every_kind_of_broken_record_is_kept_whole_with_its_reason(service: Service) -> None:
    # What the program itself fails on cannot be sent; test_owner.py makes it fail.
    assert {each.reason for each in BROKEN} == set(Reason) - {Reason.UNPROCESSABLE}
    kept = [decode_quarantined(record.value) for record in await records(service.settings, Topic.QUARANTINE, len(BROKEN))]
    assert len(kept) == len(BROKEN)
    for each in BROKEN:
        found = [k for k in kept if (k.topic, k.key, k.value) == (service.settings.topic(each.topic), each.key, each.value)]
        assert [k.reason for k in found] == [each.reason], each
        assert each.detail in found[0].detail

    # The coordinates lead to the very record.
    log = {
        Coordinates(record.topic, record.partition, record.offset): (record.key, record.value, record.timestamp)
        for topic in (*EVENT_TOPICS, Topic.CAMPAIGNS)
        for record in await records(service.settings, topic, 1)
    }
    assert [log[k.coordinates] for k in kept] == [(k.key, k.value, k.timestamp) for k in kept]
    assert all(0 <= k.quarantined_at.timestamp() * 1_000 - (k.timestamp or 0) < 60_000 for k in kept)


def test_the_good_records_around_them_are_counted(service: Service) -> None:
    found = rows(service.worker.url, window="1d")
    assert {campaign: (row["clicks"], row["spend"]) for campaign, row in found.items()} == dict.fromkeys(CAMPAIGNS, (GOOD, 1.0))
    entries = ledger(service.worker.url)
    assert entries.balanced
    assert (entries.total("applied"), entries.total("quarantined")) == (GOOD * len(CAMPAIGNS), len(BROKEN))
    for topic, count in Counter(each.topic for each in BROKEN).items():
        assert entries.total("quarantined", service.settings.topic(topic)) == count


def test_the_list_shows_all_of_them_or_those_that_are_wanted(service: Service) -> None:
    name = service.settings.kafka.topic_prefix
    listed, lines, keyed, two, conversions, old, newest, wrong_topic, wrong_time = service.run_all(
        "list",
        "list --json",
        "list --json --reason wrong_key",
        "list --json --reason wrong_key --reason in_future --topic clicks",
        f"list --json --topic {name}.conversions --since 1h",
        "list --since 2099-01-01T00:00:00Z",
        "list --limit 2",
        "list --topic alerts",
        "list --since yesterday",
    )
    shown = [json.loads(line) for line in lines.stdout.splitlines()]
    assert Counter(entry["reason"] for entry in shown) == Counter(each.reason for each in BROKEN)
    large = next(entry for entry in shown if entry["bytes"] == 900_000)
    assert (large["reason"], large["topic"], large["key"], large["times"], large["replayed_at"]) == (
        "too_large",
        f"{name}.clicks",
        "c-1",
        1,
        None,
    )
    assert next(entry for entry in shown if entry["topic"] == f"{name}.engagements")["key"] == "\\x00\\xff"

    said = listed.stdout.splitlines()
    for entry in shown:
        at = next(n for n, line in enumerate(said) if f" {entry['topic']}:{entry['partition']}:{entry['offset']} " in line)
        assert said[at].endswith(f" {entry['reason']}, key {entry['key'] or '-'}")
        assert said[at + 1] == f"    {entry['detail']}"
    assert f"{len(BROKEN)} refused records, 3 unknown_currency" in listed.stdout
    assert [json.loads(line)["reason"] for line in keyed.stdout.splitlines()] == ["wrong_key"] * 2
    assert [json.loads(line)["reason"] for line in two.stdout.splitlines()] == ["in_future"]
    assert {json.loads(line)["reason"] for line in conversions.stdout.splitlines()} == {"missing_field", "unknown_currency"}
    assert old.stdout == "0 refused records\n"
    assert newest.stdout.count(f" {name}.") == 2
    assert "The newest 2 are shown" in newest.stdout
    assert wrong_topic.returncode == wrong_time.returncode == 2
    assert "--topic alerts: there are clicks, conversions, engagements, spend, campaigns" in wrong_topic.stderr
    assert "--since yesterday: write 30m, 2h, 7d or an RFC 3339 time" in wrong_time.stderr


async def test_one_record_is_shown_without_personal_data_unless_asked_for(service: Service) -> None:
    kept = {k.value: k.coordinates for k in map(decode_quarantined, await _values(service, len(BROKEN)))}
    personal, address, binary = (
        kept[next(each.value for each in BROKEN if each.value and word in each.value)] for word in (b"ann@", b"203.0.", b"\xff\xfe")
    )
    masked, raw, hidden, withheld, bytes_, absent, wrong = service.run_all(
        f"show {personal}",
        f"show {personal} --raw",
        f"show {address}",
        f"show {binary}",
        f"show {binary} --raw",
        f"show {service.settings.topic(Topic.CLICKS)}:0:999999",
        "show clicks-0-1",
    )
    assert f"record       {personal}\nreason       missing_field\ndetail       kind: required, but absent, null or empty\n" in masked.stdout
    assert '"user_id": "***"' in masked.stdout
    assert '"event_id": "no-kind"' in masked.stdout
    assert "ann@example.org" not in masked.stdout
    assert '"user_id": "ann@example.org"' in raw.stdout
    assert '"ip": "***"' in hidden.stdout
    assert '"cost": "-1"' in hidden.stdout
    assert "3 bytes that may hold personal data: --raw shows them" in withheld.stdout
    assert "key          (none)" in withheld.stdout
    assert "\\xff\\xfe\\x00" in bytes_.stdout
    assert absent.returncode == 1
    assert "`campaignwatch quarantine list` says what is" in absent.stderr
    assert wrong.returncode == 2
    assert "write coordinates as TOPIC:PARTITION:OFFSET" in wrong.stderr


async def _values(service: Service, count: int) -> list[bytes]:
    return [record.value for record in await records(service.settings, Topic.QUARANTINE, count)]


async def test_what_is_repaired_goes_back_and_counts_once(service: Service, tmp_path: Path) -> None:
    # Without the rate they would only be refused again.
    (refused,) = service.run_all("replay --reason unknown_currency")
    assert refused.stdout.count("still invalid: unknown_currency: ") == len(EUROS)
    assert refused.stdout.endswith("0 records sent back\n3 left: still invalid (--force)\n")

    rated = service.settings.model_copy(update={"money": Money(rates={"EUR": Decimal("1.10")})})
    assert service.worker.stop() == 0
    with worker(rated, tmp_path) as running:
        repaired = replace(service, worker=running)
        before = await applied(running.url, GOOD * len(CAMPAIGNS) + len(BROKEN))
        dry, done = repaired.run_all("replay --dry-run")[0], repaired.run_all("replay")[0]
        name = rated.kafka.topic_prefix
        counts = f", 2 to {name}.clicks, 1 to {name}.conversions\n"
        assert f"3 records would be sent back{counts}" in dry.stdout
        assert f"3 records sent back{counts}" in done.stdout
        assert "1 left: of the registry (--topic campaigns)" in done.stdout
        assert "still invalid: in_future: " in done.stdout
        await applied(running.url, before.total("in") + len(EUROS))

        again, forced = repaired.run_all("replay --reason unknown_currency", "replay --reason unknown_currency --again")
        assert again.stdout == "0 records sent back\n3 left: sent back before (--again)\n"
        assert f"3 records sent back{counts}" in forced.stdout
        after = await applied(running.url, before.total("in") + 2 * len(EUROS))
        assert after.balanced
        assert after.total("applied") == before.total("applied") + len(EUROS)
        assert after.total("duplicate") == len(EUROS)
        assert after.total("quarantined") == len(BROKEN)

        found = await until(lambda: rows(running.url, window="1d"), lambda found: found["c-2"]["revenue"] > 0)
        assert (found["c-1"]["clicks"], found["c-1"]["event_cost"]) == (GOOD + 1, 3.75)
        assert (found["c-2"]["clicks"], found["c-2"]["event_cost"]) == (GOOD + 1, 1.000001)
        assert (found["c-2"]["conversions_purchase"], found["c-2"]["revenue"]) == (1, 110)
        assert (found["c-3"]["clicks"], found["c-3"]["event_cost"]) == (GOOD, 1)

        (listed,) = repaired.run_all("list --json --reason unknown_currency")
        entries = [json.loads(line) for line in listed.stdout.splitlines()]
        # The marks are copies, and no refusals of their own.
        assert [(entry["times"], entry["replayed_at"] is not None) for entry in entries] == [(1, True)] * len(EUROS)


def test_a_record_that_is_not_there_stops_a_replay(service: Service, tmp_path: Path) -> None:
    config = settings_file(tmp_path, service.settings)
    refused = run(config, "quarantine", "replay", f"{service.settings.topic(Topic.CLICKS)}:1:999999")
    assert refused.returncode == 2
    assert (
        f"{service.settings.topic(Topic.CLICKS)}:1:999999: not in {service.settings.topic(Topic.QUARANTINE)}; nothing was sent"
        in refused.stderr
    )
