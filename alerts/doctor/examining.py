"""All looks together: each stands on its own, so that what is away does not hide what else is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from redis.asyncio import Redis

from alerts.doctor.alerts import judge_alerts, judge_receivers, look_at_alerts
from alerts.notify.delivery import configured_sinks
from streams.config import Settings
from streams.doctor import redis as redis_servers
from streams.doctor.breaks import judge_breaks
from streams.doctor.configuration import judge_configuration
from streams.doctor.finding import Finding, Level, Unanswered, failure, unanswered
from streams.doctor.kafka import judge_brokers, judge_group
from streams.doctor.kafka_look import KafkaLook, look_at_kafka
from streams.doctor.lag import behind, judge_group_offsets, judge_lag
from streams.doctor.redis_look import Server, TablesLook, look_again, look_at_servers, look_at_tables
from streams.doctor.tables import judge_tables
from streams.doctor.topics import judge_logs, judge_topics
from streams.errors import UserError
from streams.kafka import consumer_group
from streams.preflight import PreflightError, check_redis
from streams.redis_client import connect

#: Seconds between the two looks that show whether something moves.
_MOMENT = 1.0


@dataclass(frozen=True, slots=True)
class Examination:
    """Every finding, and whether anything at all could be looked at."""

    findings: tuple[Finding, ...]
    looked: bool

    @property
    def status(self) -> int:
        """Exit status: 0 no failure, 1 a failure, 2 neither Kafka nor Redis could be looked at."""
        if not self.looked:
            return 2
        return int(any(finding.level is Level.FAILURE for finding in self.findings))


async def examine(settings: Settings, seconds: float) -> Examination:
    """Look at everything, each question within `seconds`. Raises UserError when the settings cannot be used."""
    redis = connect(
        settings.model_copy(update={"redis": settings.redis.model_copy(update={"timeout": min(seconds, settings.redis.timeout)})})
    )
    try:
        # First the tables, then the log: what comes between the two looks waits, and can never look like tables ahead of their log.
        servers = await look_at_servers(settings, redis, seconds)
        tables = servers if isinstance(servers, Unanswered) else await look_at_tables(settings, redis, seconds)
        kafka = await look_at_kafka(settings, consumer_group(settings), seconds)
        if isinstance(tables, TablesLook):
            await asyncio.sleep(max(0.0, _MOMENT - (time.time() - tables.at / 1000)))
            tables = await look_again(settings, redis, tables, seconds)
        findings = [
            *_of_kafka(settings, kafka, tables),
            *await _of_redis(settings, servers, seconds),
            *_of_tables(settings, kafka, tables),
            *await _of_alerts(settings, redis, servers, seconds),
            *judge_configuration(settings),
        ]
    finally:
        await redis.aclose()
    return Examination(tuple(findings), not (isinstance(kafka, Unanswered) and isinstance(servers, Unanswered)))


def _of_kafka(settings: Settings, look: KafkaLook | Unanswered, tables: TablesLook | Unanswered) -> Iterator[Finding]:
    if isinstance(look, Unanswered):
        reason, _, step = look.why.rpartition("; ")
        yield failure(
            "kafka", f"cannot be reached: {reason or step}", step if reason else "start the broker, or set kafka.bootstrap_servers"
        )
        return
    yield from judge_brokers(settings, look)
    yield from judge_topics(settings, look)
    if isinstance(tables, TablesLook):
        yield from judge_logs(settings, look, tables.metas)
    yield judge_group(look, consumer_group(settings), _waiting(settings, look, tables))
    if not isinstance(tables, TablesLook) or isinstance(look.logs, Unanswered):
        return
    members = 0 if isinstance(look.group, Unanswered) else look.group.members
    yield from judge_lag(settings, tables, look.logs, members)
    yield from judge_group_offsets(tables, look.logs)


async def _of_redis(settings: Settings, servers: list[Server] | Unanswered, seconds: float) -> list[Finding]:
    if not isinstance(servers, Unanswered):
        return list(redis_servers.judge_servers(servers))
    # What a process says that does not start: the reason and the next step.
    try:
        async with asyncio.timeout(4 * seconds):
            await check_redis(settings)
    except PreflightError as error:
        reason, _, step = str(error).rpartition("; ")
        return [failure("redis", reason or step, step)]
    except (TimeoutError, UserError) as error:
        return [failure("redis", str(error) or servers.why, "see its log, or set redis.url")]
    return [unanswered("redis", servers, "it answers by now: look again")]


def _of_tables(settings: Settings, kafka: KafkaLook | Unanswered, tables: TablesLook | Unanswered) -> Iterator[Finding]:
    if isinstance(tables, Unanswered):
        yield unanswered("tables", tables, "put Redis right first, then look again")
        return
    yield from judge_tables(settings, tables, _waiting(settings, kafka, tables))
    yield from judge_breaks(tables.notes, tables.at)


async def _of_alerts(settings: Settings, redis: Redis, servers: list[Server] | Unanswered, seconds: float) -> list[Finding]:
    receivers = judge_receivers(settings, configured_sinks(settings, redis))
    if isinstance(servers, Unanswered):
        return [unanswered("alerts lease", servers, "put Redis right first, then look again"), receivers]
    now = time.time() + (servers[0].clock_ahead if servers else 0.0)
    look = await look_at_alerts(settings, redis, now, seconds)
    if isinstance(look, Unanswered):
        return [unanswered("alerts lease", look, "put Redis right first, then look again"), receivers]
    return [*judge_alerts(settings, look), receivers]


def _waiting(settings: Settings, kafka: KafkaLook | Unanswered, tables: TablesLook | Unanswered) -> int | None:
    if isinstance(kafka, Unanswered) or isinstance(tables, Unanswered) or isinstance(kafka.logs, Unanswered):
        return None
    return sum(behind(settings, tables, kafka.logs).values())
