"""Sending many keyed records to Kafka at once, for the commands that produce.

Whole batches per partition instead of a call per record: about ten times as fast. The partition follows from the key exactly as in
every Kafka client, so that a record sent again lands where the first one lies and is known as a duplicate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from streams.config import Settings
from streams.errors import UserError
from streams.kafka import connection
from streams.quarantine.record import LARGEST_RECORD

_BATCH_BYTES = 256 * 1024
#: Hashing a key takes longer than looking it up, and there are few campaigns; but nothing grows without limit.
_REMEMBERED_KEYS = 100_000

KeyValue = tuple[bytes | None, bytes | None]
Headers = Sequence[tuple[str, bytes]]


class SendError(UserError):
    """Records could not be delivered. The message says where and why."""


class Sender:
    """`async with Sender(settings) as sender: await sender.send(topic, records)`."""

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka.bootstrap_servers
        self._producer = AIOKafkaProducer(
            **connection(settings.kafka),
            client_id="campaignwatch-producer",
            acks="all",
            max_batch_size=_BATCH_BYTES,
            max_request_size=LARGEST_RECORD,
        )
        self._partitions: dict[str, list[int]] = {}
        self._partition_of: dict[tuple[str, bytes], int] = {}

    async def __aenter__(self) -> Sender:
        try:
            await self._producer.start()
        except (KafkaError, OSError) as error:
            raise SendError(f"Kafka cannot be reached at {self._servers} ({error}); is kafka.bootstrap_servers right?") from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._producer.stop()

    async def send(self, topic: str, records: Iterable[KeyValue], *, partition: int | None = None, headers: Headers = ()) -> int:
        """Deliver (key, value) pairs to the topic of that full name, in order per key; how many. Raises SendError.

        On return every record has been acknowledged. `partition` overrules the keys. Records without a key go to the first partition.
        All records get the same `headers`.
        """
        try:
            return await self._send(topic, records, partition, list(headers))
        except KafkaError as error:
            raise SendError(f"{topic} at {self._servers}: records could not be delivered: {error!r}") from error

    async def _send(self, topic: str, records: Iterable[KeyValue], fixed: int | None, headers: list[tuple[str, bytes]]) -> int:
        if topic not in self._partitions:
            self._partitions[topic] = sorted(await self._producer.partitions_for(topic))
        builders: dict[int, Any] = {}
        waiting: list[asyncio.Future[Any]] = []
        now = int(time.time() * 1_000)
        count = 0
        for key, value in records:
            partition = self._partition(topic, key) if fixed is None else fixed
            builder = builders.get(partition)
            if builder is None:
                builder = builders[partition] = self._producer.create_batch()
            if builder.append(key=key, value=value, timestamp=now, headers=headers) is None:
                waiting.append(await self._producer.send_batch(builder, topic, partition=partition))
                builder = builders[partition] = self._producer.create_batch()
                # An empty batch takes a record of any size.
                builder.append(key=key, value=value, timestamp=now, headers=headers)
            count += 1
        for partition, builder in builders.items():
            waiting.append(await self._producer.send_batch(builder, topic, partition=partition))
        await asyncio.gather(*waiting)
        return count

    def _partition(self, topic: str, key: bytes | None) -> int:
        partitions = self._partitions[topic]
        if key is None:
            return partitions[0]
        found = self._partition_of.get((topic, key))
        if found is None:
            if len(self._partition_of) >= _REMEMBERED_KEYS:
                self._partition_of.clear()
            found = int(DefaultPartitioner()(key, partitions, partitions))
            self._partition_of[topic, key] = found
        return found
