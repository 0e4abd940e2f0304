"""The quarantine topic from its start to its end, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.config import Settings, Topic
from streams.errors import UserError
from streams.kafka import connection
from streams.preflight import check_kafka
from streams.quarantine.record import Coordinates, Quarantined, QuarantineError, decode_quarantined

#: Kafka header of a copy of a quarantine record that says when the original was sent back. To those who do not know the header the copy
#: is one of the repeats that they must expect anyway.
REPLAYED = "campaignwatch-replayed-at"

_POLL_MS = 300
#: Polls without records and without a highwater, after which the broker is taken not to answer.
_PATIENCE = 100


class TopicError(UserError):
    """The quarantine topic cannot be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """One record of the quarantine topic. `refused` is None when its bytes are no quarantine record; `problem` then says why."""

    key: bytes | None
    value: bytes | None
    refused: Quarantined | None
    problem: str
    replayed_at: datetime | None


async def read(settings: Settings) -> AsyncIterator[Found]:
    """Every record that is there when the reading begins, oldest first within a partition.

    Raises PreflightError or TopicError when it cannot be read.
    """
    topic = settings.topic(Topic.QUARANTINE)
    partitions = [TopicPartition(topic, number) for number in range((await check_kafka(settings, [Topic.QUARANTINE]))[Topic.QUARANTINE])]
    async with _consumer(settings, partitions) as consumer:
        # A broker's ListOffsets may name an end before the last record; the highwater in a fetch's answer is where the log ends.
        ends: dict[TopicPartition, int] = {}
        silent = 0
        while True:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            for partition in partitions:
                highwater = consumer.highwater(partition)
                if partition not in ends and highwater is not None:
                    ends[partition] = highwater
            for records in fetched.values():
                for record in records:
                    yield _found(record.key, record.value, dict(record.headers or ()))
            positions = {partition: await consumer.position(partition) for partition in partitions}
            if len(ends) == len(partitions) and all(positions[partition] >= ends[partition] for partition in partitions):
                return
            silent = 0 if fetched else silent + 1
            if silent > _PATIENCE:
                raise TopicError(f"{topic}: the broker at {settings.kafka.bootstrap_servers} sends nothing more before the topic's end")


async def folded(settings: Settings) -> tuple[dict[Coordinates, Entry], int]:
    """The refused records without their repeats, in the order of their refusal, and how many records of the topic are none."""
    entries: dict[Coordinates, Entry] = {}
    strange = 0
    async for found in read(settings):
        if found.refused is None:
            strange += 1
            continue
        before = entries.get(found.refused.coordinates)
        if before is None:
            before = entries[found.refused.coordinates] = Entry(found.refused, found.key, found.value)
        if found.replayed_at is not None:
            before.replayed_at = found.replayed_at
        else:
            before.times += 1
    ordered = sorted(entries.values(), key=lambda entry: entry.refused.quarantined_at)
    return {entry.refused.coordinates: entry for entry in ordered}, strange


@dataclass(slots=True)
class Entry:
    """A refused record: how often it stands in the topic, and when it was last sent back."""

    refused: Quarantined
    #: Of the quarantine record, for a copy of it.
    key: bytes | None
    value: bytes | None
    times: int = 0
    replayed_at: datetime | None = None


def _found(key: bytes | None, value: bytes | None, headers: dict[str, bytes]) -> Found:
    replayed_at = None
    if REPLAYED in headers:
        try:
            replayed_at = datetime.fromisoformat(headers[REPLAYED].decode("ascii"))
        except (UnicodeDecodeError, ValueError):
            replayed_at = None
    try:
        return Found(key, value, decode_quarantined(value or b""), "", replayed_at)
    except QuarantineError as error:
        return Found(key, value, None, str(error), None)


@asynccontextmanager
async def _consumer(settings: Settings, partitions: list[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **connection(settings.kafka),
        client_id="campaignwatch-quarantine",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield consumer
    except KafkaError as error:
        raise TopicError(f"{settings.topic(Topic.QUARANTINE)} at {settings.kafka.bootstrap_servers}: {error!r}") from error
    finally:
        await consumer.stop()
