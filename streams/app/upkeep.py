"""What a worker looks after now and then, beside its work: things that change behind its back or that no flush brings along."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.app.owners import AssignedPartitions
from streams.config import Settings
from streams.ingest.claiming import note
from streams.ingest.continuity import Break, Finding
from streams.ingest.owner import PartitionOwner
from streams.tables.generations import PartitionTables, generation_in_use
from streams.tables.partition_counts import PartitionCounts

log = logging.getLogger(__name__)

#: Seconds between two looks.
_EVERY = 5.0


class Upkeep:
    """Keeps partitions listed, follows a rebuild's switch of tables, notices keys that are gone and partitions that came or went."""

    def __init__(self, settings: Settings, redis: Redis, owners: AssignedPartitions, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._redis = redis
        self._owners = owners
        self._counts = PartitionCounts(redis, settings)
        self._clock = clock
        self._looks = 0
        #: The number of looks after which one goes over the keys of the tables as well.
        self._keys_every = max(1, round(settings.redis.check_interval / _EVERY))

    async def run(self) -> None:
        """Look again and again until cancelled. Redis being away is waited out."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("upkeep waits for Redis: %s", error)
            except Exception:
                # Without it nobody would notice a topic that was made again, nor a rebuild's switch.
                log.exception("upkeep failed; looking again")
            await asyncio.sleep(_EVERY)

    async def look(self) -> None:
        """One look. Redis errors pass through."""
        generation = await generation_in_use(self._redis, self._settings)
        for owner in self._owners.all():
            if owner.generation == generation:
                await owner.register()
            elif owner.generation is not None:
                await owner.doubt(f"generation {generation} of the tables is in use now")
        for name, topic in self._owners.ends.topics.items():
            if not topic.partitions or not topic.topic_id:
                # A broker that has just started may know of a topic by name only.
                continue
            known = await self._counts.swap(name, topic.partitions, topic.topic_id)
            if known is not None and known != topic.partitions:
                await self._changed(name, known, topic.partitions)
            for owner in self._owners.all():
                if owner.tables.topic == name and owner.meta is not None and owner.meta.topic_id not in ("", topic.topic_id):
                    await owner.doubt("the broker has another topic of that name")
        self._looks += 1
        if self._looks % self._keys_every == 0:
            for owner in self._owners.all():
                await self._check(owner)

    async def _check(self, owner: PartitionOwner) -> None:
        try:
            await owner.check()
        except RedisError as error:
            # What is in the way of one may not be in that of the others.
            log.warning("%s:%d: could not look whether keys are gone: %s", owner.tables.topic, owner.tables.partition, error)

    async def _changed(self, topic: str, known: int, partitions: int) -> None:
        gone = await self._counts.retire(topic, partitions)
        if gone:
            log.warning("%s has %d partitions now; partitions %s no longer hold the watermark", topic, partitions, gone)
        if partitions > known:
            detail = (
                f"the topic had {known} partitions and has {partitions}: campaigns move to other partitions, and a repeat or a restated "
                "report that was first sent before counts again there"
            )
            log.warning("%s: %s", topic, detail)
            finding = Finding(Break.PARTITIONS_ADDED, partitions - known, detail)
            self._owners.metrics.of_partition(topic, known).broke(finding.kind, finding.records)
            _, store = await PartitionTables(self._redis, self._settings, topic, known).open()
            await note(store, [finding], int(self._clock() * 1000))
