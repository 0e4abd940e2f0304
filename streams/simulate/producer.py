"""Sends simulated records to Kafka, keyed by campaign, in whole batches per partition."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from datetime import date
from types import TracebackType
from typing import Self

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from streams.config import EVENT_TOPICS, Settings, Topic
from streams.errors import UserError
from streams.kafka import connection
from streams.simulate.traffic import Record
from streams.simulate.world import World

log = logging.getLogger(__name__)

#: Bytes of one batch; the broker's limit for a message is the double.
BATCH_BYTES = 512 * 1024
#: Seconds after which a record that the broker does not take is given up.
TIMEOUT = 15.0


class ProducerError(UserError):
    """Kafka does not take the events. The message says which broker and what to do next."""


class EventProducer:
    """Sends the records of one world. An async context manager; counts what the broker has confirmed in `produced`."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings = settings
        self._world = world
        self._keys = [c.campaign_id.encode() for c in world.campaigns]
        self._partition_of: dict[Topic, list[int]] = {}
        #: Records confirmed by the broker, by topic.
        self.produced: Counter[Topic] = Counter()
        self._kafka = AIOKafkaProducer(
            **connection(settings.kafka),
            client_id="campaignwatch-simulation",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=int(TIMEOUT * 1000),
        )

    async def __aenter__(self) -> Self:
        try:
            await self._kafka.start()
            for topic in EVENT_TOPICS:
                self._partition_of[topic] = await self._partitions(topic)
        except (KafkaError, OSError) as error:
            await self._kafka.stop()
            raise self._failed(error) from error
        except BaseException:
            await self._kafka.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # Undelivered records of a run that failed or was interrupted are not waited for.
            await asyncio.wait_for(self._kafka.stop(), TIMEOUT if kind is None else 1.0)
        except (KafkaError, OSError, TimeoutError) as problem:
            log.debug("the producer did not stop cleanly: %s", problem)

    async def _partitions(self, topic: Topic) -> list[int]:
        """Partition of each campaign's key, as Kafka's default partitioner has it."""
        partitions = sorted(await self._kafka.partitions_for(self._settings.topic(topic)))
        choose = DefaultPartitioner()
        return [choose(key, partitions, partitions) for key in self._keys]

    async def register(self, today: date) -> None:
        """Publish all campaigns to the registry topic."""
        topic = self._settings.topic(Topic.CAMPAIGNS)
        try:
            sent = [
                await self._kafka.send(topic, msgspec.json.encode(campaign.registry_entry(today)), key=key)
                for campaign, key in zip(self._world.campaigns, self._keys, strict=True)
            ]
            await asyncio.gather(*sent)
        except (KafkaError, OSError) as error:
            raise self._failed(error) from error
        self.produced[Topic.CAMPAIGNS] += len(sent)

    async def send(self, records: Iterable[Record], now: int) -> None:
        """Send `records` and return when the broker has all of them; `now` (epoch ms) is the time that the client puts on them.

        Raises ProducerError when the broker does not confirm them in time.
        """
        grouped: dict[tuple[Topic, int], list[Record]] = {}
        for record in records:
            place = (record.topic, self._partition_of[record.topic][record.campaign])
            grouped.setdefault(place, []).append(record)
        outcomes = await asyncio.gather(
            *(self._send_to(topic, partition, group, now) for (topic, partition), group in grouped.items()), return_exceptions=True
        )
        for problem in outcomes:
            if isinstance(problem, (KafkaError, OSError)):
                raise self._failed(problem) from problem
            if problem is not None:
                raise problem

    async def _send_to(self, topic: Topic, partition: int, records: list[Record], now: int) -> None:
        name = self._settings.topic(topic)
        left = iter(records)
        record = next(left, None)
        while record is not None:
            batch = self._kafka.create_batch()
            held = 0
            while record is not None and batch.append(key=self._keys[record.campaign], value=record.value, timestamp=now) is not None:
                held += 1
                record = next(left, None)
            confirmed: asyncio.Future[RecordMetadata] = await self._kafka.send_batch(batch, name, partition=partition)
            await confirmed
            self.produced[topic] += held

    def _failed(self, error: BaseException) -> ProducerError:
        reason = str(error) or type(error).__name__
        return ProducerError(
            f"Kafka at {self._settings.kafka.bootstrap_servers} does not take the events: {reason}; is the broker running?"
        )
