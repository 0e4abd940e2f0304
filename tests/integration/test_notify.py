"""Delivery against a real Redis, a real broker and a Slack that misbehaves: nothing is lost, told twice, or held up by somebody else."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from alerts.demo.slack_stand_in import Posted, SlackStandIn
from alerts.incidents.change import Change, ChangeKind, Expected, Severity, WindowOf
from alerts.notify.delivery import configured_sinks, deliver_forever
from alerts.notify.outbox import cursor_key, lease_key, outbox_key, sinks_key
from alerts.notify.sink import Rejected, SinkFactory
from alerts.notify.slack import SlackBot
from alerts.notify.slack_memory import SlackMemory, Told
from streams.config import Alerts, Settings, Slack, Topic
from streams.embedded import EmbeddedBroker, EmbeddedRedis
from streams.topics import create_topics
from tests.integration.conftest import client_of

OPENED, UPDATED, RESOLVED, REOPENED = ChangeKind.OPENED, ChangeKind.UPDATED, ChangeKind.RESOLVED, ChangeKind.REOPENED
START = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


def by_token(settings: Settings, slack: SlackStandIn, **more: Any) -> Settings:
    section = Slack(bot_token=SecretStr(slack.token), api_url=slack.api_url, min_interval=0.001, timeout=2.0)
    alerts = Alerts(**{"http_port": 0, "lease": 1.5, **more})
    return settings.model_copy(update={"slack": section, "alerts": alerts})


def by_webhook(settings: Settings, slack: SlackStandIn) -> Settings:
    section = Slack(webhook_url=SecretStr(slack.webhook_url), min_interval=0.001, timeout=2.0)
    return settings.model_copy(update={"slack": section, "alerts": Alerts(http_port=0, lease=1.5)})


def only_slack(settings: Settings, redis: Redis) -> dict[str, SinkFactory]:
    return {"slack": configured_sinks(settings, redis)["slack"]}


def a_change(incident: str, kind: ChangeKind, seq: int, **fields: Any) -> Change:
    values: dict[str, Any] = {
        "incident_id": incident,
        "change": kind,
        "seq": seq,
        "at": START + timedelta(minutes=seq),
        "rule": "traffic",
        "severity": Severity.WARNING,
        "cube": "campaign",
        "key": {"campaign_id": f"c-{incident}"},
        "measure": "clicks",
        "observed": 10.0 + seq,
        "expected": Expected(low=300, mid=340, high=380),
        "window": WindowOf(start=START, to=START + timedelta(minutes=5)),
        "money_at_stake": Decimal("12.5"),
        "explanation": "Clicks fell. Check the landing page first.",
        "offsets": {"marketing.clicks:0": 41},
        "opened_at": START,
    }
    if kind is RESOLVED:
        values["resolved_at"] = values["at"]
    return Change(**{**values, **fields})


async def append(redis: Redis, settings: Settings, *changes: Change) -> None:
    for change in changes:
        fields = {"incident_id": change.incident_id, "seq": str(change.seq), "change": change.to_json()}
        await redis.xadd(outbox_key(settings.redis.namespace), fields)  # type: ignore[arg-type]


@asynccontextmanager
async def delivering(
    settings: Settings,
    redis: Redis,
    sinks: dict[str, SinkFactory] | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[CollectorRegistry]:
    registry, stop = CollectorRegistry(), asyncio.Event()
    task = asyncio.create_task(deliver_forever(settings, redis, registry=registry, clock=clock, stop=stop, sinks=sinks))
    try:
        yield registry
    finally:
        stop.set()
        asked = time.monotonic()
        await asyncio.wait_for(task, timeout=10)
        assert time.monotonic() - asked < 5


async def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def until_all_done(redis: Redis, settings: Settings, sink: str) -> None:
    """Wait until the sink's cursor stands on the newest entry of the outbox."""
    newest = (await redis.xinfo_stream(outbox_key(settings.redis.namespace)))["last-generated-id"]
    async with asyncio.timeout(20):
        while await redis.get(cursor_key(settings.redis.namespace, sink)) != newest:
            await asyncio.sleep(0.01)


def metric(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"campaignwatch_notify_{name}", labels) or 0.0


def seqs(message: Posted) -> list[tuple[str, int]]:
    payloads = [version.metadata["event_payload"] for version in message.history if version.metadata]
    return [(payload["incident_id"], payload["seq"]) for payload in payloads]


def told(slack: SlackStandIn) -> list[tuple[str, int]]:
    """(incident, seq) of every version of every top-level message, in the order of the messages."""
    return [pair for message in slack.top_level() for pair in seqs(message)]


async def alerts_topic(settings: Settings, count: int) -> list[tuple[str, dict[str, Any]]]:
    consumer = AIOKafkaConsumer(
        settings.topic(Topic.ALERTS), bootstrap_servers=settings.kafka.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            found: list[tuple[str, dict[str, Any]]] = []
            while len(found) < count:
                record = await consumer.getone()
                found.append((record.key.decode(), json.loads(record.value)))
            return found
    finally:
        await consumer.stop()


async def test_an_incident_is_one_message_kept_up_to_date_and_a_row_of_records(ready: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(ready, slack)
    changes = [a_change("i-1", OPENED, 1), a_change("i-1", UPDATED, 2), a_change("i-1", RESOLVED, 3)]
    await append(redis, settings, *changes)
    async with delivering(settings, redis) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 3)
        await until(lambda: metric(registry, "delivered_total", sink="kafka") == 3)
        assert metric(registry, "delivers", sink="slack") == 1
        assert metric(registry, "delivery_seconds_count", sink="kafka") == 3
        await until(lambda: metric(registry, "queue_length", sink="slack") == 0)

    (message,) = slack.top_level()
    assert seqs(message) == [("i-1", 1), ("i-1", 2), ("i-1", 3)]
    assert message.history[0].text.startswith("Warning: Clicks below expected for c-i-1: 11 observed")
    assert message.text == "Resolved: Clicks for c-i-1, after 3 min."
    (reply,) = slack.thread(message.ts)
    assert reply.text.startswith("c-i-1: resolved after 3 min.")
    assert seqs(reply) == [("i-1", 3)]
    assert not reply.broadcast
    assert await alerts_topic(settings, 3) == [("i-1", json.loads(change.to_json())) for change in changes]


async def test_reopened_and_worse_incidents_are_shown_in_the_channel_again(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    await append(
        redis,
        settings,
        a_change("i-1", OPENED, 1),
        a_change("i-1", UPDATED, 2, severity=Severity.CRITICAL),
        a_change("i-1", RESOLVED, 3, severity=Severity.CRITICAL),
        a_change("i-1", REOPENED, 4),
    )
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 4)
    (message,) = slack.top_level()
    replies = [(reply.text.split(":")[1].split(".")[0].strip(), reply.broadcast) for reply in slack.thread(message.ts)]
    assert replies == [("severity is now critical (was warning)", True), ("resolved after 3 min", False), ("reopened, warning", True)]


async def test_a_webhook_tells_what_matters_and_nothing_twice(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_webhook(settings, slack)
    changes = [
        a_change("i-1", OPENED, 1),
        a_change("i-1", UPDATED, 2),
        a_change("i-1", UPDATED, 3, severity=Severity.CRITICAL),
        a_change("i-1", ChangeKind.ACKNOWLEDGED, 4, severity=Severity.CRITICAL),
        a_change("i-1", RESOLVED, 5, severity=Severity.CRITICAL),
        a_change("i-1", REOPENED, 6),
    ]
    await append(redis, settings, *changes, *changes[:3])
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 9)
    headers = [message.blocks[0]["text"]["text"] for message in slack.messages]
    assert headers == [
        "Warning: Clicks below expected - c-i-1",
        "Critical: Clicks below expected - c-i-1",
        "Resolved: Clicks - c-i-1",
        "Warning, reopened: Clicks below expected - c-i-1",
    ]


async def test_how_long_after_the_fault_people_are_told_is_measured(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    # A window ends at START + 5 min. An update and a resolution are no news of a fault.
    now = START + timedelta(minutes=5, seconds=7.5)
    kinds = (OPENED, UPDATED, RESOLVED, REOPENED)
    await append(redis, settings, *(a_change("i-1", kind, seq) for seq, kind in enumerate(kinds, start=1)))
    async with delivering(settings, redis, only_slack(settings, redis), clock=lambda: now) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 4)
        assert metric(registry, "delay_seconds_count", sink="slack") == 2
        assert metric(registry, "delay_seconds_sum", sink="slack") == pytest.approx(15)
        assert metric(registry, "delay_seconds_bucket", sink="slack", le="7.0") == 0
        assert metric(registry, "delay_seconds_bucket", sink="slack", le="8.0") == 2


async def test_slack_being_down_holds_up_nobody_and_loses_nothing(ready: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(ready, slack)
    await slack.refuse()
    changes = [a_change(f"i-{i}", OPENED, 1) for i in range(5)]
    async with delivering(settings, redis) as registry:
        await append(redis, settings, *changes)
        assert len(await alerts_topic(settings, 5)) == 5
        await until(lambda: metric(registry, "retried_total", sink="slack", reason="unreachable") >= 2)
        assert metric(registry, "queue_length", sink="slack") == 5
        assert metric(registry, "queue_age_seconds", sink="slack") > 0
        assert slack.messages == []
        await slack.accept()
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 5)
    assert told(slack) == [(f"i-{i}", 1) for i in range(5)]


async def test_kafka_being_away_holds_up_nobody_and_loses_nothing(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    with EmbeddedBroker() as broker:
        settings = by_token(settings, slack)
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})})
        await asyncio.to_thread(broker.kill)
        changes = [a_change("i-1", OPENED, 1), a_change("i-1", UPDATED, 2)]
        async with delivering(settings, redis) as registry:
            await append(redis, settings, *changes)
            await until(lambda: metric(registry, "delivered_total", sink="slack") == 2)
            await until(lambda: metric(registry, "retried_total", sink="kafka", reason="unavailable") >= 1)
            await asyncio.to_thread(broker.start)
            await create_topics(settings)
            assert await alerts_topic(settings, 2) == [("i-1", json.loads(change.to_json())) for change in changes]

            # Going away with a producer that is connected, and the process being asked to stop meanwhile.
            await until(lambda: metric(registry, "delivered_total", sink="kafka") == 2)
            await asyncio.to_thread(broker.kill)
            await append(redis, settings, a_change("i-1", RESOLVED, 3))
            await until(lambda: metric(registry, "delivered_total", sink="slack") == 3)
        assert metric(registry, "delivered_total", sink="kafka") == 2


async def test_a_burst_is_folded_but_openings_and_resolutions_are_told(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack, fold_above=20)
    incidents = [f"i-{i}" for i in range(10)]
    for seq, kind in ((1, OPENED), (2, UPDATED), (3, UPDATED), (4, RESOLVED)):
        await append(redis, settings, *(a_change(incident, kind, seq) for incident in incidents))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: len([m for m in slack.messages if m.thread_ts]) == 10)
        assert metric(registry, "folded_total", sink="slack") == 20
    assert told(slack) == [pair for incident in incidents for pair in ((incident, 1), (incident, 4))]


async def test_a_rise_of_severity_is_told_although_its_update_is_folded(settings: Settings, redis: Redis) -> None:
    """The message in place was updated, the reply about it was refused for now, and newer updates take the place of that change."""
    slack = SlackStandIn(rate=0.5, burst=1, update_rate=1_000)
    await slack.start()
    settings = by_token(settings, slack, fold_above=20)
    critical = Severity.CRITICAL
    await append(redis, settings, a_change("i-1", OPENED, 1), a_change("i-1", UPDATED, 2, severity=critical))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "retried_total", sink="slack", reason="ratelimited") >= 1)
        (message,) = slack.messages
        assert seqs(message) == [("i-1", 1), ("i-1", 2)]
        await append(redis, settings, *(a_change("i-1", UPDATED, seq, severity=critical) for seq in range(3, 33)))
        await until(lambda: metric(registry, "folded_total", sink="slack") == 30)
        await until_all_done(redis, settings, "slack")
    await slack.stop()
    assert seqs(message) == [("i-1", 1), ("i-1", 2), ("i-1", 32)]
    (reply,) = slack.thread(message.ts)
    assert reply.text.startswith("c-i-1: severity is now critical (was warning)")
    assert reply.broadcast


@pytest.mark.parametrize(("error", "replies"), [("channel_not_found", 1), ("cannot_reply_to_message", 0)])
async def test_a_reply_that_was_given_up_comes_with_the_next_change_unless_slack_will_never_take_it(
    settings: Settings, redis: Redis, slack: SlackStandIn, error: str, replies: int
) -> None:
    settings = by_token(settings, slack)
    sink = SlackBot(settings, SlackMemory(redis, settings.redis.namespace))
    await sink.deliver(a_change("i-1", OPENED, 1))
    worse = a_change("i-1", UPDATED, 2, severity=Severity.CRITICAL)
    slack.faults.replies_refused, slack.faults.error = 1, error
    with pytest.raises(Rejected) as refused:
        await sink.deliver(worse)
    assert refused.value.reason == error
    await sink.deliver(a_change("i-1", UPDATED, 3, severity=Severity.CRITICAL))
    (message,) = slack.top_level()
    assert seqs(message) == [("i-1", 1), ("i-1", 2), ("i-1", 3)]
    assert [(r.text[:37], r.broadcast) for r in slack.thread(message.ts)] == [("c-i-1: severity is now critical (was ", True)] * replies


async def test_retry_after_is_honoured(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    slack.faults.rate_limited, slack.faults.retry_after = 2, 2
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until(lambda: slack.messages)
    assert [call.status for call in slack.calls] == [429, 429, 200]
    assert all(after.at - before.at >= 2 for before, after in zip(slack.calls, slack.calls[1:], strict=False))


async def test_the_sink_itself_keeps_the_pace_that_slack_asks_for(settings: Settings, redis: Redis) -> None:
    slack = SlackStandIn(rate=2, burst=1)
    await slack.start()
    settings = by_token(settings, slack)
    settings = settings.model_copy(update={"slack": settings.slack.model_copy(update={"min_interval": 0.55})})
    await append(redis, settings, *(a_change(f"i-{i}", OPENED, 1) for i in range(4)))
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until(lambda: len(slack.messages) == 4)
    await slack.stop()
    assert [call.status for call in slack.calls] == [200] * 4


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("configure", [by_token, by_webhook])
async def test_server_errors_are_tried_again(
    settings: Settings, redis: Redis, slack: SlackStandIn, status: int, configure: Callable[[Settings, SlackStandIn], Settings]
) -> None:
    settings = configure(settings, slack)
    slack.faults.server_errors, slack.faults.server_status = 2, status
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
        assert metric(registry, "retried_total", sink="slack", reason="server_error") == 2
    assert len(slack.messages) == 1


async def test_a_slow_slack_is_given_up_and_tried_again(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    slack.faults.delay = 4.0
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "retried_total", sink="slack", reason="timeout") == 1)
        slack.faults.delay = 0.0
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
    assert told(slack) == [("i-1", 1)]


async def test_a_wrong_token_is_named_and_once_right_nothing_is_missing(
    settings: Settings, redis: Redis, slack: SlackStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    settings = by_token(settings, slack)
    right, slack.token = slack.token, "xoxb-other"
    await append(redis, settings, a_change("i-1", OPENED, 1), a_change("i-2", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "retried_total", sink="slack", reason="invalid_auth") >= 2)
        slack.token = right
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 2)
    assert told(slack) == [("i-1", 1), ("i-2", 1)]
    assert "invalid_auth" in caplog.text
    assert "set slack.bot_token" in caplog.text
    assert right not in caplog.text


async def test_what_stays_refused_is_given_up_and_the_next_goes_on(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    slack.faults.errors, slack.faults.error = 1, "channel_not_found"
    await append(redis, settings, a_change("i-1", OPENED, 1), a_change("i-2", OPENED, 1))

    def an_hour_later() -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)

    async with delivering(settings, redis, only_slack(settings, redis), an_hour_later) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
        assert metric(registry, "failed_total", sink="slack", reason="channel_not_found") == 1
    assert told(slack) == [("i-2", 1)]


async def test_refused_blocks_still_reach_people_as_text(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    slack.faults.errors, slack.faults.error = 1, "invalid_blocks"
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
    (message,) = slack.messages
    assert message.blocks == []
    assert message.text.startswith("Warning: Clicks below expected for c-i-1")


async def test_an_entry_that_cannot_be_read_is_counted_and_passed(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    await redis.xadd(outbox_key(settings.redis.namespace), {"change": "{"})
    await redis.xadd(outbox_key(settings.redis.namespace), {"something": "else"})
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 1)
        assert metric(registry, "failed_total", sink="slack", reason="unreadable") == 2


async def test_what_was_told_is_not_told_again_when_the_cursor_is_lost(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    await append(redis, settings, a_change("i-1", OPENED, 1), a_change("i-1", RESOLVED, 2))
    for _ in range(2):
        async with delivering(settings, redis, only_slack(settings, redis)) as registry:
            await until(lambda r=registry: metric(r, "delivered_total", sink="slack") == 2)  # type: ignore[misc]
        # As after a crash between telling Slack and moving the cursor, for both changes.
        await redis.delete(cursor_key(settings.redis.namespace, "slack"))
    assert told(slack) == [("i-1", 1), ("i-1", 2)]
    assert len(slack.messages) == 2


async def test_a_lost_answer_repeats_one_message_at_most(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    slack.faults.lost_answers = 1
    await append(redis, settings, a_change("i-1", OPENED, 1), a_change("i-1", UPDATED, 2))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 2)
    assert told(slack) == [("i-1", 1), ("i-1", 1), ("i-1", 2)]


async def test_a_reply_that_slack_refuses_holds_up_its_own_change_only(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    sink = SlackBot(settings, SlackMemory(redis, settings.redis.namespace))
    await sink.deliver(a_change("i-1", OPENED, 1))
    slack.faults.replies_refused, slack.faults.error = 10, "some_code_of_the_future"
    grave = a_change("i-1", UPDATED, 2, severity=Severity.CRITICAL)
    for _ in range(2):
        with pytest.raises(Rejected) as refused:
            await sink.deliver(grave)
        assert refused.value.fixable, "it may pass"
    # It was given up; the next one owes the same reply, tries it once, and is done.
    newer = a_change("i-1", UPDATED, 3, severity=Severity.CRITICAL)
    with pytest.raises(Rejected):
        await sink.deliver(newer)
    await sink.deliver(newer)
    await sink.deliver(a_change("i-1", UPDATED, 4, severity=Severity.CRITICAL))
    assert told(slack) == [("i-1", seq) for seq in (1, 2, 3, 4)]
    assert slack.faults.replies_refused == 7


async def test_a_message_that_somebody_deleted_is_posted_anew(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: slack.messages)
        slack.messages.clear()
        await append(redis, settings, a_change("i-1", UPDATED, 2))
        await until(lambda: metric(registry, "delivered_total", sink="slack") == 2)
    assert told(slack) == [("i-1", 2)]


async def test_a_message_in_a_channel_that_was_lost_is_posted_anew_in_the_one_of_the_settings(settings: Settings, redis: Redis) -> None:
    slack = SlackStandIn(channels=("#campaign-alerts", "#operations"), rate=1_000, update_rate=1_000, burst=1_000)
    await slack.start()
    settings = by_token(settings, slack)
    moved = settings.model_copy(update={"slack": settings.slack.model_copy(update={"channel": "#operations"})})
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until_all_done(redis, settings, "slack")
    operations, lost = slack.channels["operations"], slack.channels.pop("campaign-alerts")
    await append(redis, settings, a_change("i-1", UPDATED, 2, severity=Severity.CRITICAL), a_change("i-1", UPDATED, 3))
    async with delivering(moved, redis, only_slack(moved, redis)) as registry:
        await until_all_done(redis, settings, "slack")
        assert metric(registry, "retried_total", sink="slack", reason="channel_not_found") == 0
    await slack.stop()
    assert [(message.channel, seqs(message)) for message in slack.top_level()] == [
        (lost, [("i-1", 1)]),
        (operations, [("i-1", 2), ("i-1", 3)]),
    ]


@pytest.mark.parametrize("error", ["channel_not_found", "not_in_channel", "is_archived"])
async def test_a_channel_that_is_lost_for_a_while_costs_no_second_message(
    settings: Settings, redis: Redis, slack: SlackStandIn, error: str
) -> None:
    settings = by_token(settings, slack)
    await append(redis, settings, a_change("i-1", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until_all_done(redis, settings, "slack")
        slack.faults.errors, slack.faults.error = -1, error
        await append(redis, settings, a_change("i-1", UPDATED, 2))
        await until(lambda: metric(registry, "retried_total", sink="slack", reason=error) >= 2)
        slack.faults.errors = 0
        await until_all_done(redis, settings, "slack")
    assert told(slack) == [("i-1", 1), ("i-1", 2)]
    assert len(slack.messages) == 1


_REPLICA = """
import asyncio, sys
from datetime import UTC, datetime
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from alerts.notify.delivery import configured_sinks, deliver_forever
from streams.config import Settings
from tests.integration.conftest import client_of

async def main():
    settings = Settings.model_validate_json(sys.argv[1])
    redis = client_of(settings.redis.url)
    sinks = {"slack": configured_sinks(settings, redis)["slack"]}
    await deliver_forever(settings, redis, registry=CollectorRegistry(), clock=lambda: datetime.now(UTC), stop=asyncio.Event(), sinks=sinks)

asyncio.run(main())
"""


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    assert settings.slack.bot_token is not None
    content = settings.model_dump(mode="json")
    content["slack"]["bot_token"] = settings.slack.bot_token.get_secret_value()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _REPLICA, json.dumps(content), cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_one_replica_delivers_and_another_takes_over_when_it_is_killed(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    holder = lease_key(settings.redis.namespace, "slack")
    async with replica(settings) as first:
        await append(redis, settings, a_change("i-0", OPENED, 1))
        await until(lambda: slack.messages)
        token = await redis.get(holder)
        async with delivering(settings, redis, only_slack(settings, redis)) as registry:
            await append(redis, settings, *(a_change(f"i-{i}", OPENED, 1) for i in range(1, 10)))
            await until(lambda: len(slack.messages) == 10)
            assert await redis.get(holder) == token
            assert metric(registry, "delivered_total", sink="slack") == 0
            assert metric(registry, "delivers", sink="slack") == 0
            await until_all_done(redis, settings, "slack")

            first.send_signal(signal.SIGKILL)
            await append(redis, settings, a_change("i-0", RESOLVED, 2))
            await until(lambda: metric(registry, "delivered_total", sink="slack") >= 1)
            assert metric(registry, "delivers", sink="slack") == 1
    assert sorted(told(slack)) == sorted([("i-0", 1), ("i-0", 2), *((f"i-{i}", 1) for i in range(1, 10))])


async def test_a_replica_killed_in_the_middle_repeats_one_message_at_most(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    count = 60
    await append(redis, settings, *(a_change(f"i-{i:02}", OPENED, 1) for i in range(count)))
    async with replica(settings) as first:
        await until(lambda: len(slack.messages) > 10)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until(lambda: len(set(told(slack))) == count)
    assert len(slack.messages) <= count + 1
    incidents = [incident for incident, _ in told(slack)]
    assert list(dict.fromkeys(incidents)) == sorted(set(incidents))


async def test_what_people_wait_for_is_told_before_newer_figures(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    """Sixty open incidents have an update each when one more opens and one of them becomes worse."""
    settings = by_token(settings, slack, fold_above=20)
    incidents = [f"i-{i:02}" for i in range(60)]
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await append(redis, settings, *(a_change(incident, OPENED, 1) for incident in incidents))
        await until_all_done(redis, settings, "slack")
        await slack.refuse()
        await append(redis, settings, *(a_change(incident, UPDATED, 2) for incident in incidents[:-1]))
        await append(redis, settings, a_change("i-new", OPENED, 1), a_change("i-59", UPDATED, 2, severity=Severity.CRITICAL))
        await until(lambda: metric(registry, "queue_length", sink="slack") == 61)
        slack.calls.clear()
        await slack.accept()
        await until_all_done(redis, settings, "slack")
    assert [call.method for call in slack.calls] == ["chat.postMessage", "chat.update", "chat.postMessage", *["chat.update"] * 59]
    assert slack.top_level()[-1].text.startswith("Warning: Clicks below expected for c-i-new")
    assert [seqs(message) for message in slack.top_level()[:-1]] == [[(incident, 1), (incident, 2)] for incident in incidents]
    (reply,) = (message for message in slack.messages if message.thread_ts)
    assert reply.text.startswith("c-i-59: severity is now critical")


async def test_a_replica_killed_while_updates_wait_loses_and_repeats_no_opening(
    settings: Settings, redis: Redis, slack: SlackStandIn
) -> None:
    settings = by_token(settings, slack, fold_above=20)
    count = 40
    await append(redis, settings, *(a_change(f"i-{i:02}", OPENED, 1) for i in range(count)))
    async with replica(settings) as first:
        await until_all_done(redis, settings, "slack")
        slack.faults.delay = 0.05
        for i in range(count):
            await append(redis, settings, a_change(f"i-{i:02}", UPDATED, 2), a_change(f"j-{i:02}", OPENED, 1))
        await until(lambda: len(slack.messages) > count + 10)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        slack.faults.delay = 0.0
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until_all_done(redis, settings, "slack")
    assert len(slack.messages) <= 2 * count + 1
    updated, opened = ([m for m in slack.messages if seqs(m)[0][0].startswith(letter)] for letter in "ij")
    assert {seqs(message)[0] for message in opened} == {(f"j-{i:02}", 1) for i in range(count)}
    assert sorted(pair for message in updated for pair in set(seqs(message))) == [
        (f"i-{i:02}", seq) for i in range(count) for seq in (1, 2)
    ]


async def test_redis_being_killed_neither_loses_nor_repeats(
    settings: Settings, slack: SlackStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedRedis(append_only="always") as server:
        settings = by_token(settings, slack, fold_above=1_000, lease=30)
        settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": server.url})})
        redis = Redis.from_url(server.url, socket_timeout=2, socket_connect_timeout=2)
        await append(redis, settings, *(a_change(f"i-{i}", kind, seq) for i in range(40) for seq, kind in ((1, OPENED), (2, UPDATED))))
        slack.faults.delay = 0.02
        async with delivering(settings, redis, only_slack(settings, redis)):
            await until(lambda: len(slack.messages) > 10)
            await asyncio.to_thread(server.kill)
            await until(lambda: "Redis cannot be reached" in caplog.text)
            await asyncio.to_thread(server.start)
            await until(lambda: len(told(slack)) >= 80)
        assert told(slack) == [(f"i-{i}", seq) for i in range(40) for seq in (1, 2)]
        await redis.aclose()


@pytest.mark.parametrize("configure", [by_token, by_webhook])
@pytest.mark.parametrize("answered_after", [0.3, 1.7])
async def test_a_message_posted_while_redis_was_away_for_longer_than_the_lease_is_not_repeated(
    settings: Settings,
    slack: SlackStandIn,
    caplog: pytest.LogCaptureFixture,
    configure: Callable[[Settings, SlackStandIn], Settings],
    answered_after: float,
) -> None:
    """Slack answers before the courier lets go of its lease, or just after."""
    with EmbeddedRedis(append_only="always") as server:
        settings = configure(settings, slack)
        settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": server.url})})
        redis = Redis.from_url(server.url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True)
        critical = Severity.CRITICAL
        await append(redis, settings, a_change("i-1", OPENED, 1, severity=critical))
        slack.faults.late_answers = answered_after
        async with delivering(settings, redis, only_slack(settings, redis)):
            await until(lambda: slack.messages)
            await asyncio.to_thread(server.kill)
            await until(lambda: "the lease was lost" in caplog.text)
            # The end of a turn tries for a while to store what is not stored yet.
            await asyncio.sleep(5)
            slack.faults.late_answers = 0.0
            await asyncio.to_thread(server.start)
            await append(redis, settings, a_change("i-1", RESOLVED, 2, severity=critical))
            await until_all_done(redis, settings, "slack")
        await redis.aclose()
    headers = [[version.blocks[0]["text"]["text"] for version in message.history] for message in slack.top_level()]
    opened, resolved = "Critical: Clicks below expected - c-i-1", "Resolved: Clicks - c-i-1"
    assert headers == ([[opened, resolved]] if configure is by_token else [[opened], [resolved]])


async def test_what_another_replica_told_meanwhile_is_kept(settings: Settings, slack: SlackStandIn) -> None:
    with EmbeddedRedis(append_only="always") as server:
        settings = by_token(settings, slack)
        here, there = (client_of(server.url, timeout=1.0) for _ in range(2))
        memory = SlackMemory(here, settings.redis.namespace)
        await asyncio.to_thread(server.kill)
        with pytest.raises((RedisError, OSError)):
            await memory.remember("i-1", Told(seq=1, ts="1", at=START.isoformat()))
        await memory.flush()
        await asyncio.to_thread(server.start)
        newer = Told(seq=2, ts="2", at=START.isoformat())
        await SlackMemory(there, settings.redis.namespace).remember("i-1", newer)
        assert await memory.recall("i-1") == newer
        await memory.flush()
        assert await SlackMemory(there, settings.redis.namespace).recall("i-1") == newer
        await here.aclose()
        await there.aclose()


async def test_delivered_changes_leave_the_outbox_after_an_hour(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    key, ago = outbox_key(settings.redis.namespace), int(time.time() * 1000) - 2 * 3_600_000
    for i, incident in enumerate(("i-older", "i-old", "i-waits")):
        await redis.xadd(key, {"change": a_change(incident, OPENED, 1).to_json()}, id=f"{ago}-{i}")
    await redis.set(cursor_key(settings.redis.namespace, "slack"), f"{ago}-1")
    await append(redis, settings, a_change("i-new", OPENED, 1))
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until(lambda: len(slack.messages) == 2)
    assert told(slack) == [("i-waits", 1), ("i-new", 1)]
    assert await redis.xlen(key) == 3
    assert await redis.xrange(key, min=f"{ago}-0", max=f"{ago}-0") == []


async def test_a_replica_without_slack_keeps_what_waits_for_it_for_a_week(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    with_slack, namespace = by_token(settings, slack), settings.redis.namespace
    key, hours_ago = outbox_key(namespace), int(time.time() * 1000) - 2 * 3_600_000
    for seq, kind in ((1, OPENED), (2, RESOLVED)):
        await redis.xadd(key, {"change": a_change("i-1", kind, seq).to_json()}, id=f"{hours_ago}-{seq}")
    for sink, done in (("slack", 0), ("kafka", 2)):
        await redis.set(cursor_key(namespace, sink), f"{hours_ago}-{done}")

    def looked_at(registry: CollectorRegistry, sink: str) -> bool:
        return registry.get_sample_value("campaignwatch_notify_outbox_overflow", {"sink": sink}) is not None

    async def trims(settings: Settings) -> None:
        async with delivering(settings, redis) as registry:
            for sink in configured_sinks(settings, redis):
                await until(functools.partial(looked_at, registry, sink))

    await slack.refuse()
    await trims(with_slack)
    assert list(configured_sinks(settings, redis)) == ["kafka"]
    await trims(settings)
    assert await redis.xlen(key) == 2
    # Nobody has had Slack in the settings for a week.
    await redis.hset(sinks_key(namespace), "slack", str(int(time.time() * 1000) - 8 * 86_400_000))
    await trims(settings)
    assert await redis.xrange(key, max=f"{hours_ago}-1") == []
    assert await redis.xlen(key) == 1


async def test_an_outbox_that_drops_undelivered_changes_is_reported(
    settings: Settings, redis: Redis, slack: SlackStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    settings = by_token(settings, slack, outbox_length=1_000)
    await slack.refuse()
    fields = {"incident_id": "i-1", "seq": "1", "change": a_change("i-1", OPENED, 1).to_json()}
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(1_100):
            pipe.xadd(outbox_key(settings.redis.namespace), fields, maxlen=1_000, approximate=False)  # type: ignore[arg-type]
        await pipe.execute()
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "outbox_overflow", sink="slack") == 1)
    assert "the outbox is full" in caplog.text


async def test_a_sink_configured_anew_starts_with_recent_changes(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    settings = by_token(settings, slack)
    ago = int(time.time() * 1000) - 30 * 60_000
    await redis.xadd(outbox_key(settings.redis.namespace), {"change": a_change("i-old", OPENED, 1).to_json()}, id=f"{ago}-0")
    await append(redis, settings, a_change("i-new", OPENED, 1))
    await slack.refuse()
    async with delivering(settings, redis, only_slack(settings, redis)) as registry:
        await until(lambda: metric(registry, "retried_total", sink="slack", reason="unreachable"))
    # Where it began is remembered, however long it takes until the first delivery.
    assert await redis.get(cursor_key(settings.redis.namespace, "slack")) is not None
    await slack.accept()
    async with delivering(settings, redis, only_slack(settings, redis)):
        await until(lambda: slack.messages)
    assert told(slack) == [("i-new", 1)]


async def test_the_token_can_be_checked(settings: Settings, redis: Redis, slack: SlackStandIn) -> None:
    sink = SlackBot(by_token(settings, slack), SlackMemory(redis, settings.redis.namespace))
    assert await sink.check() == "campaignwatch in Stand-in"
