"""The topics of the contract, as they must be on the broker, and the command that creates them.

Nothing else creates topics: an automatic one would have the wrong number of partitions and the producer's clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import typer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from streams.config import INPUT_TOPICS, Settings, Topic, load
from streams.errors import UserError
from streams.kafka import connection
from streams.kafka_probe import why_not
from streams.options import ConfigOption
from streams.quarantine.record import LARGEST_RECORD

_HOUR_MS = 3_600_000
_VISIBLE_WITHIN = 30.0
#: Milliseconds for an answer of Kafka.
_TIMEOUT_MS = 15_000
#: The broker's own default: a batch of this size is the largest that a producer may send to an input topic.
INPUT_MESSAGE_BYTES = 1_048_588


class TopicsError(UserError):
    """Topics could not be created. The message names the topic, the broker's reason and what to do next."""


@dataclass(frozen=True)
class TopicPlan:
    """A topic as it should be."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]
    """Kafka's topic configuration: name -> value."""


@dataclass(frozen=True)
class TopicOutcome:
    """What became of one topic."""

    name: str
    created: bool
    """False: it was there already and was left as it is."""
    partitions: int
    """How many it has now."""
    differences: tuple[str, ...] = ()
    """How an existing topic differs from the plan, a sentence each."""


def plan(settings: Settings) -> list[TopicPlan]:
    """Every topic of the contract with its partitions and configuration, in the contract's order."""
    kafka = settings.kafka
    hours = {Topic.QUARANTINE: kafka.quarantine_retention_hours, Topic.ALERTS: kafka.alerts_retention_hours}
    plans = []
    for topic in Topic:
        # The broker stamps the records: what is late or early is judged by its clock, not by each producer's.
        configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(INPUT_MESSAGE_BYTES)}
        if topic is Topic.CAMPAIGNS:
            configs["cleanup.policy"] = "compact"
        else:
            configs |= {"cleanup.policy": "delete", "retention.ms": str(hours.get(topic, kafka.retention_hours) * _HOUR_MS)}
        if settings.kafka.replication_factor > 2:
            # A record counts as written once two nodes have it, and one node may be away. The broker's own default is 1: while the other
            # copies are behind, a record that one node has acknowledged would be lost with that node.
            configs["min.insync.replicas"] = "2"
        if topic is Topic.QUARANTINE:
            configs["max.message.bytes"] = str(LARGEST_RECORD)
        partitions = settings.kafka.partitions if topic in INPUT_TOPICS else 1
        plans.append(TopicPlan(settings.topic(topic), partitions, settings.kafka.replication_factor, configs))
    return plans


async def create_topics(settings: Settings, plans: Sequence[TopicPlan] | None = None) -> list[TopicOutcome]:
    """Create the topics that are missing and report all of them; existing ones are compared, never changed.

    `plans` replaces the contract's topics (for a test that needs other partitions). Raises TopicsError when the broker cannot be
    reached or refuses.
    """
    wanted = list(plans) if plans is not None else plan(settings)
    admin = AIOKafkaAdminClient(**connection(settings.kafka), client_id="campaignwatch-topics", request_timeout_ms=_TIMEOUT_MS)
    try:
        await admin.start()
        try:
            return await _create(admin, wanted)
        finally:
            await admin.close()
    except (KafkaError, OSError, ValueError) as error:
        reason = await why_not(settings.kafka) or f"{error}; try again, and see the broker's log"
        raise TopicsError(f"Kafka cannot be reached at {settings.kafka.bootstrap_servers}: {reason}") from error


async def existing_partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Partitions of every topic on the broker."""
    # All topics, not those by name: asking a broker for a topic by name can create it.
    return {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics()}


async def hidden_topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[str]:
    """Those of `names` that this client may not see: they are left out where all topics are asked for."""
    # Asked for by name, but so that the broker must not create them. The client's own method has no parameter for it.
    answer = await admin._send_request(MetadataRequest(list(names), allow_auto_topic_creation=False))
    return [found["topic"] for found in answer.to_object()["topics"] if for_code(found["error_code"]) is TopicAuthorizationFailedError]


def topics_create(config: ConfigOption = None) -> None:
    """Create the Kafka topics that are missing. Existing ones are compared with what campaignwatch wants and never changed."""
    for outcome in asyncio.run(create_topics(load(config))):
        state = "created" if outcome.created else "already there"
        typer.echo(f"{outcome.name}: {state}, {outcome.partitions} partition{'s' if outcome.partitions > 1 else ''}")
        for difference in outcome.differences:
            typer.echo(f"{outcome.name}: {difference}; left as it is")


async def _create(admin: AIOKafkaAdminClient, wanted: list[TopicPlan]) -> list[TopicOutcome]:
    before = await existing_partitions(admin)
    missing = [each for each in wanted if each.name not in before]
    raced = set()
    if missing:
        answer = await admin.create_topics(
            [NewTopic(each.name, each.partitions, each.replication_factor, topic_configs=each.configs) for each in missing]
        )
        for name, code, message, *_ in answer.topic_errors:
            failure = for_code(code)
            if failure is TopicAlreadyExistsError:  # somebody created it in this very moment
                raced.add(name)
            elif failure is not NoError:
                raise TopicsError(f"{name}: the broker refuses to create it: {message or failure.__name__}{_hint(failure)}")
        before = await _wait_for(admin, {each.name for each in wanted})
    there = [each for each in wanted if each not in missing or each.name in raced]
    configs = await _configs(admin, [each.name for each in there])
    outcomes = []
    for each in wanted:
        if each in there:
            partitions = before[each.name]
            outcomes.append(TopicOutcome(each.name, False, partitions, differences(each, partitions, configs[each.name])))
        else:
            outcomes.append(TopicOutcome(each.name, True, each.partitions))
    return outcomes


async def _wait_for(admin: AIOKafkaAdminClient, names: set[str]) -> dict[str, int]:
    """Partitions of all topics, once `names` are among them: a broker learns of a topic a moment after the controller made it."""
    deadline = time.monotonic() + _VISIBLE_WITHIN
    while not names <= (found := await existing_partitions(admin)).keys():
        if time.monotonic() > deadline:
            missing = ", ".join(sorted(names - found.keys()))
            raise TopicsError(f"{missing}: created, but not there after {_VISIBLE_WITHIN:.0f} s; see the broker's log")
        await asyncio.sleep(0.05)
    return found


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """The configuration of each topic, as far as the broker reports it."""
    configs: dict[str, dict[str, str]] = {name: {} for name in names}
    if names:
        for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]):
            for _code, _message, _type, name, entries in response.resources:
                configs[name] |= {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return configs


def differences(wanted: TopicPlan, partitions: int, configs: Mapping[str, str]) -> tuple[str, ...]:
    """How a topic that exists with these partitions and configs differs from the plan, a sentence each."""
    found = []
    if partitions != wanted.partitions:
        found.append(f"has {partitions} partitions, campaignwatch wants {wanted.partitions}")
    for name, value in wanted.configs.items():
        # A broker that does not report a configuration is not held to it.
        if configs.get(name, value) != value:
            found.append(f"has {name}={configs[name]}, campaignwatch wants {value}")
    return tuple(found)


def _hint(failure: type[KafkaError]) -> str:
    if failure.__name__ == "InvalidReplicationFactorError":
        return "; set kafka.replication_factor to at most the number of brokers"
    if "Authorization" in failure.__name__:
        return "; the user needs the right to create topics (Create on the cluster)"
    return ""
