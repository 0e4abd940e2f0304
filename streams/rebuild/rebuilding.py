"""The steps of a rebuild: claim the right to do it, read the log into new tables, switch over, delete the old ones.

Nothing that runs is stopped: workers go on with the old tables until the switch, and then claim their partitions in the new ones, which
go on at their own offsets. A rebuild that dies leaves tables that nobody reads; the next one deletes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.config import Settings, Topic
from streams.errors import UserError
from streams.ingest.owner import PartitionOwner, share_beside
from streams.metrics.ingest import IngestMetrics
from streams.producing import Sender
from streams.rebuild.source import LogSource, PartitionSource
from streams.tables import generations
from streams.tables.generations import PartitionTables
from streams.tables.reader import TableReader

#: Seconds that the right to rebuild lasts unless it is renewed, and between two looks at how far it has come.
_LEASE, _LOOK = 120, 0.5
#: Seconds for which a partition's records are gathered.
_GATHER = 3.0
_LOST = "Redis forgot this rebuild, or was away so long that another may have begun; the tables in use are as before"
_SWITCHED_BACK = (
    "Redis came back from before the switch, and the tables of then are in use again, so they were not deleted; rebuild again if there is "
    "still a reason to"
)
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end return 0"


class RebuildError(UserError):
    """The rebuild cannot be done. The message says why, and what is as before."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild has come: offsets of all partitions together."""

    read: int
    of: int
    #: Records a second since the start.
    rate: float


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did."""

    generation: int
    records: int
    seconds: float
    #: Keys of the tables of before that were deleted.
    deleted: int = 0
    #: Partitions in which a worker has taken over the new tables, and all.
    taken_over: int = 0
    partitions: int = 0
    #: Records per partition that the old tables counted and the log no longer has.
    lost: dict[str, int] = field(default_factory=dict)


async def rebuild(
    settings: Settings, redis: Redis, *, accept_loss: bool, keep_old: bool, grace: float, tell: Callable[[Progress], None]
) -> Rebuilt:
    """Build all tables of the settings' topics anew and switch over to them; the old ones are deleted `grace` s later.

    Raises RebuildError. Kafka and redis errors of the first steps pass through; later ones are waited out.
    """
    began = time.monotonic()
    async with _alone(redis, settings) as token, LogSource(settings) as source, Sender(settings) as sender:
        in_use = await generations.generation_in_use(redis, settings)
        topics = await source.partitions()
        lost = await _lost(settings, redis, source, list(topics))
        if lost and not accept_loss:
            raise RebuildError(_what_is_lost(lost))
        for generation in await generations.left_over(redis, settings):
            await _delete(redis, settings, generation)
        result = Rebuilt(in_use + 1, 0, 0.0, partitions=len(topics), lost=lost)
        async with _owning(settings, redis, source, sender, topics, in_use) as owners:
            await _catch_up(source, owners, began, tell)
        result.records = sum(owner.meta.read for owner in owners.values() if owner.meta is not None)
        # Readers first: a worker that is fenced must find the new tables in use.
        if not await generations.switch_to(redis, settings, result.generation, token):
            raise RebuildError(_LOST)
        await generations.retire(redis, settings, in_use, [(tp.topic, tp.partition) for tp in topics])
        result.seconds = time.monotonic() - began
        # For workers to come over, and for pages that are being answered from the old tables.
        await asyncio.sleep(grace)
        result.taken_over = await _taken_over(settings, redis, list(topics), result.generation)
        if not keep_old:
            result.deleted = await _delete(redis, settings, in_use)
        return result


async def _delete(redis: Redis, settings: Settings, generation: int) -> int:
    try:
        return await generations.delete(redis, settings, generation)
    except generations.InUse:
        raise RebuildError(_SWITCHED_BACK) from None


@asynccontextmanager
async def _alone(redis: Redis, settings: Settings) -> AsyncIterator[str]:
    """The right to rebuild, which one process has at a time; gives the token that holds it.

    Raises RebuildError while another has it, or when it is lost. Renewals that are late are no loss: the switch asks for the token.
    """
    client: Any = redis
    key, token = generations.rebuild_key(settings), secrets.token_hex(8)
    if not await client.set(key, token, nx=True, ex=_LEASE):
        raise RebuildError(f"another rebuild is running, or was until {_LEASE} s ago; wait for it to end")
    task = asyncio.current_task()
    assert task is not None
    lost = False

    async def keep() -> None:
        nonlocal lost
        while not lost:
            await asyncio.sleep(_LEASE / 6)
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                lost = not await client.eval(_RENEW, 1, key, token, _LEASE)
        task.cancel()

    keeping = asyncio.create_task(keep())
    try:
        yield token
    except asyncio.CancelledError:
        if lost:
            raise RebuildError(_LOST) from None
        raise
    finally:
        keeping.cancel()
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            if await client.get(key) == token.encode():
                await client.delete(key)


async def _lost(settings: Settings, redis: Redis, source: LogSource, partitions: list[TopicPartition]) -> dict[str, int]:
    """Records per partition that the tables in use have counted and the log no longer has."""
    states = await source.states(partitions)
    found = {}
    for entry in await TableReader(redis, settings).ledger():
        state = states.get(TopicPartition(entry.topic, entry.partition))
        begins = entry.applied_offset + 1 if state is None else min(state.earliest, entry.applied_offset + 1)
        if entry.read and begins > entry.start_offset:
            found[f"{entry.topic}:{entry.partition}"] = begins - entry.start_offset
    return found


def _what_is_lost(lost: Mapping[str, int]) -> str:
    most = sorted(lost.items(), key=lambda each: -each[1])
    where = ", ".join(f"{name} ({records})" for name, records in most[:5]) + (", ..." if len(lost) > 5 else "")
    return (
        f"the log no longer has {sum(lost.values())} records that the tables in use have counted ({where}); tables built from it would "
        "lack them. --accept-loss rebuilds all the same; nothing was changed"
    )


@asynccontextmanager
async def _owning(
    settings: Settings, redis: Redis, source: LogSource, sender: Sender, topics: Mapping[TopicPartition, Topic], in_use: int
) -> AsyncIterator[dict[TopicPartition, PartitionOwner]]:
    """Owners that take the log into the tables of the generation after the one `in_use`; all that was read is applied at the end."""
    metrics = IngestMetrics(CollectorRegistry())
    # Nobody looks at these tables yet. What comes meanwhile, a few records at a time to each partition, must not cost a flush each: beside
    # busy workers that alone took as long as it took to come.
    streams = settings.streams.model_copy(update={"flush_interval": max(settings.streams.flush_interval, _GATHER)})
    settings = settings.model_copy(update={"streams": streams})
    tables = functools.partial(PartitionTables, redis, settings)
    owners: dict[TopicPartition, PartitionOwner] = {}
    owners |= {
        tp: PartitionOwner(
            topic,
            settings,
            tables(tp.topic, tp.partition, generation=in_use + 1),
            PartitionSource(
                source,
                tp,
                (await tables(tp.topic, tp.partition, generation=in_use).open())[1],
                sender,
                settings.topic(Topic.QUARANTINE),
                time.time,
            ),
            metrics,
            clock=time.time,
            share=share_beside(owners, tp, streams),
            role="rebuild",
        )
        for tp, topic in topics.items()
    }
    feeding = None
    try:
        states = await source.states(list(topics))
        for tp, owner in owners.items():
            source.seek(tp, await owner.start(states[tp]))
        feeding = asyncio.create_task(source.feed(owners), name="read the log")
        yield owners
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        await asyncio.gather(*(owner.release() for owner in owners.values()))


async def _catch_up(
    source: LogSource, owners: Mapping[TopicPartition, PartitionOwner], began: float, tell: Callable[[Progress], None]
) -> None:
    """Wait until everything that the log held at one moment is applied."""
    states = await source.states(list(owners))
    first = {tp: owner.next_offset for tp, owner in owners.items()}
    while True:
        read = sum(owner.next_offset - first[tp] for tp, owner in owners.items())
        of = sum(max(0, state.end - first[tp]) for tp, state in states.items())
        tell(Progress(read, max(read, of), read / max(0.001, time.monotonic() - began)))
        behind = [tp for tp, state in states.items() if not await source.read_to(tp, state.end)]
        if not behind:
            break
        await asyncio.sleep(_LOOK)
    # All at once: what each still has to apply is what it has now, and does not grow while the others are waited for.
    await asyncio.gather(*(owner.drained() for owner in owners.values()))


async def _taken_over(settings: Settings, redis: Redis, partitions: list[TopicPartition], generation: int) -> int:
    """In how many partitions a worker has claimed the new tables."""
    stores = [(await PartitionTables(redis, settings, tp.topic, tp.partition, generation=generation).open())[1] for tp in partitions]
    return sum([(await store.writer()).startswith("worker:") for store in stores])
