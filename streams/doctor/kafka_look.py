"""Asking Kafka: brokers, topics, ends of the log, and the workers' group. Every question has its time; nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CoordinatorNotAvailableError, for_code

from streams.config import INPUT_TOPICS, Settings, Topic
from streams.doctor.finding import Unanswered, asked
from streams.errors import UserError
from streams.ingest.continuity import LogState
from streams.kafka import connection
from streams.kafka_probe import why_not
from streams.topics import hidden_topics
from streams.transport.topic_metadata import topic_metadata

TP = tuple[str, int]

#: A fetch that finds nothing is answered after so many ms; bytes that it brings of each partition (a whole batch comes all the same).
_FETCH_WAIT_MS, _FETCH_BYTES = 100, 1_024
#: `why_not` goes the way to a server in a few steps with a patience of their own.
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: the node that leads it (-1: none), those that hold a copy, and those whose copy is complete."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicLook:
    """One topic: its partitions by number, and its configuration as far as the broker tells it."""

    partitions: Mapping[int, Partition]
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """The workers' consumer group."""

    state: str
    members: int


@dataclass(frozen=True, slots=True)
class KafkaLook:
    """What Kafka says. Of the topics of the contract those that exist; an answer that did not come is an `Unanswered`."""

    brokers: int
    topics: Mapping[str, TopicLook]
    #: Topics that exist and that we may not see.
    hidden: Sequence[str]
    #: By topic and partition; `end` is where the log truly ends.
    logs: Mapping[TP, LogState] | Unanswered
    group: Group | Unanswered
    #: The least and most that the brokers allow as a group's session time-out, ms; None where they do not tell.
    session_limits: tuple[int, int] | None = None
    #: Further questions without an answer: what was asked for, and why there is none.
    problems: Mapping[str, Unanswered] = field(default_factory=dict)


async def look_at_kafka(settings: Settings, group: str, seconds: float) -> KafkaLook | Unanswered:
    """What Kafka says, each question within `seconds`; Unanswered, with the reason and the next step, when it cannot be reached."""
    try:
        admin = AIOKafkaAdminClient(**connection(settings.kafka), client_id="campaignwatch-doctor", request_timeout_ms=int(seconds * 1000))
        try:
            started = await asked(admin.start(), seconds)
            metadata = started if isinstance(started, Unanswered) else await asked(_metadata(admin), seconds)
            if isinstance(metadata, Unanswered):
                return await _why_not(settings, metadata, seconds)
            return await _look(settings, admin, *metadata, group, seconds)
        finally:
            await asked(admin.close(), seconds)
    except (ValueError, UserError) as error:
        # A file of the settings that cannot be used, or an address that cannot be.
        return Unanswered(str(error))


async def _why_not(settings: Settings, first: Unanswered, seconds: float) -> Unanswered:
    found = await asked(why_not(settings.kafka), seconds * _STEPS * len(settings.kafka.bootstrap_servers.split(",")))
    if isinstance(found, Unanswered):
        return found
    return Unanswered(found or f"{first.why}; try again, and see the broker's log")


async def _metadata(admin: AIOKafkaAdminClient) -> tuple[int, list[dict[str, Any]]]:
    # All topics, not those by name: asking a broker for a topic by name can create it.
    topics = await admin.describe_topics()
    return len((await admin.describe_cluster())["brokers"]), topics


async def _look(
    settings: Settings, admin: AIOKafkaAdminClient, brokers: int, found: list[dict[str, Any]], group: str, seconds: float
) -> KafkaLook:
    contract = [settings.topic(topic) for topic in Topic]
    described = {each["topic"]: each["partitions"] for each in found if each["topic"] in contract}
    missing = [name for name in contract if name not in described]
    hidden = await asked(hidden_topics(admin, missing), seconds) if missing else []
    configs = await asked(_configs(admin, ConfigResourceType.TOPIC, list(described)), seconds) if described else {}
    limits = await asked(_session_limits(admin), seconds)
    # What nobody leads has no offsets, and asking for them takes all the time there is.
    inputs = [
        (settings.topic(topic), each["partition"])
        for topic in INPUT_TOPICS
        for each in described.get(settings.topic(topic), ())
        if each["leader"] >= 0
    ]
    committed = await asked(_committed(admin, group, inputs), seconds) if inputs else {}
    known = {} if isinstance(committed, Unanswered) else committed
    logs, state = await asyncio.gather(_logs(settings, inputs, known, seconds), asked(_group(admin, group), seconds))
    optional = {
        "topics that are hidden": hidden,
        "configuration of the topics": configs,
        "limits of the session time-out": limits,
        "committed offsets of the group": committed,
    }
    return KafkaLook(
        brokers,
        {
            name: TopicLook(
                {each["partition"]: Partition(each["leader"], tuple(each["replicas"]), tuple(each["isr"])) for each in partitions},
                {} if isinstance(configs, Unanswered) else configs.get(name, {}),
            )
            for name, partitions in described.items()
        },
        [] if isinstance(hidden, Unanswered) else hidden,
        logs,
        state,
        None if isinstance(limits, Unanswered) else limits,
        {name: answer for name, answer in optional.items() if isinstance(answer, Unanswered)},
    )


async def _configs(admin: AIOKafkaAdminClient, kind: ConfigResourceType, resources: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs([ConfigResource(kind, name) for name in resources]):
        for code, message, _type, name, entries in response.resources:
            if code:
                raise for_code(code)(message)
            found.setdefault(name, {}).update({entry[0]: entry[1] for entry in entries if entry[1] is not None})
    return found


async def _session_limits(admin: AIOKafkaAdminClient) -> tuple[int, int] | None:
    node = str((await admin.describe_cluster())["brokers"][0]["node_id"])
    configs = (await _configs(admin, ConfigResourceType.BROKER, [node])).get(node, {})
    least, most = configs.get("group.min.session.timeout.ms"), configs.get("group.max.session.timeout.ms")
    return None if least is None or most is None else (int(least), int(most))


async def _group(admin: AIOKafkaAdminClient, group: str) -> Group:
    try:
        (response,) = await admin.describe_consumer_groups([group])
    except CoordinatorNotAvailableError:
        # Before the first group of a broker.
        return Group("Dead", 0)
    (found,) = response.to_object()["groups"]
    return Group(found["state"], len(found["members"]))


async def _committed(admin: AIOKafkaAdminClient, group: str, partitions: Sequence[TP]) -> dict[TP, int]:
    try:
        found = await admin.list_consumer_group_offsets(group, partitions=[TopicPartition(*tp) for tp in partitions])
    except CoordinatorNotAvailableError:
        return {}
    return {(tp.topic, tp.partition): offset.offset for tp, offset in found.items()}


async def _logs(
    settings: Settings, partitions: Sequence[TP], committed: Mapping[TP, int], seconds: float
) -> dict[TP, LogState] | Unanswered:
    if not partitions:
        return {}
    consumer = AIOKafkaConsumer(
        **connection(settings.kafka),
        client_id="campaignwatch-doctor",
        group_id=None,
        auto_offset_reset="latest",
        request_timeout_ms=int(seconds * 1000),
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        started = await asked(consumer.start(), seconds)
        if isinstance(started, Unanswered):
            return started
        tps = [TopicPartition(*tp) for tp in partitions]
        first: dict[TopicPartition, int] | Unanswered = await asked(consumer.beginning_offsets(tps), seconds)
        # Twice the time: the fetches come after the question for offsets.
        ends = first if isinstance(first, Unanswered) else await asked(_ends(consumer, tps), 2 * seconds)
        topics = await asked(topic_metadata(consumer._client, {tp.topic for tp in tps}), seconds)
        if isinstance(first, Unanswered):
            return first
        if isinstance(ends, Unanswered):
            return ends
        ids = {} if isinstance(topics, Unanswered) else {name: topic.topic_id for name, topic in topics.items()}
        return {
            (tp.topic, tp.partition): LogState(
                first[tp], ends[tp], committed.get((tp.topic, tp.partition), -1), topic_id=ids.get(tp.topic, "")
            )
            for tp in tps
        }
    finally:
        await asked(consumer.stop(), seconds)


async def _ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the logs end. A broker may name an end that is a batch too low; the highwater in a fetch's answer is right."""
    consumer.assign(partitions)
    named = await consumer.end_offsets(partitions)
    for tp in partitions:
        consumer.seek(tp, named[tp])
    while any(consumer.highwater(tp) is None for tp in partitions):
        await consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
    return {tp: max(named[tp], consumer.highwater(tp) or 0) for tp in partitions}
