"""Asking Redis: the servers' own state, and the bookkeeping of the tables. Every question has its time; nothing is changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from streams.config import Settings
from streams.doctor.finding import Unanswered, asked
from streams.redis_client import shown
from streams.tables.generations import rebuild_key, tables_namespace
from streams.tables.keys import PartitionKeys, partitions_key
from streams.tables.meta import Meta
from streams.tables.reader import TableReader

_SECTIONS = ("memory", "persistence", "replication")
#: Generations beside the one in use that are looked for: a rebuild makes the next one.
_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Server:
    """One server: what INFO says, how long PING took, and how far its clock is ahead of this machine's; both in seconds."""

    name: str
    info: Mapping[str, Any]
    ping: float
    clock_ahead: float
    #: What CLUSTER INFO says; empty where it is no cluster.
    cluster: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TablesLook:
    """The bookkeeping of the tables in use, partition by partition."""

    metas: Mapping[PartitionKeys, Meta]
    #: The same a moment later, where somebody asked for it.
    later: Mapping[PartitionKeys, Meta]
    #: What broke the continuity of log and tables: kind -> packed note.
    notes: Mapping[PartitionKeys, Mapping[str, bytes]]
    #: Lengths of the panes that are stored, in seconds.
    pane_sizes: frozenset[int]
    #: Cubes of the operator's own of which nothing is stored for the newest day.
    empty_cubes: Sequence[str]
    #: Namespaces of tables that are not in use; None where they may not be asked for.
    unused: Sequence[str] | None
    #: Whether a rebuild is running, which fills them.
    rebuilding: bool
    #: Wall clock of the first look, epoch ms.
    at: int


async def look_at_servers(settings: Settings, redis: Redis, seconds: float) -> list[Server] | Unanswered:
    """Every server that is written to: the one, or every master of a cluster."""
    client: Any = redis
    if not settings.redis.is_cluster:
        found = await asked(_server(shown(settings), client), seconds)
        return found if isinstance(found, Unanswered) else [found]
    known = await asked(client.initialize(), seconds)
    if isinstance(known, Unanswered):
        return known
    nodes = client.get_primaries()
    servers = await asyncio.gather(*(asked(_server(node.name, client.plain(node), cluster=True), seconds) for node in nodes))
    return next((each for each in servers if isinstance(each, Unanswered)), [each for each in servers if isinstance(each, Server)])


async def _server(name: str, client: Any, *, cluster: bool = False) -> Server:
    info: dict[str, Any] = {}
    for section in _SECTIONS:
        info |= await client.info(section)
    began = time.perf_counter()
    await client.ping()
    ping = time.perf_counter() - began
    before = time.time()
    clock, micros = await client.time()
    # The answer was made about in the middle.
    ahead = clock + micros / 1e6 - (before + time.time()) / 2
    return Server(name, info, ping, ahead, await client.execute_command("CLUSTER INFO") if cluster else {})


async def look_at_tables(settings: Settings, redis: Redis, seconds: float) -> TablesLook | Unanswered:
    """The tables' bookkeeping, without a second look."""
    return await asked(_tables(settings, redis), seconds)


async def _tables(settings: Settings, redis: Redis) -> TablesLook:
    client: Any = redis
    at = int(time.time() * 1000)
    metas = await TableReader(redis, settings).bookkeeping()
    rebuilding = await client.get(rebuild_key(settings)) is not None
    pipe = client.pipeline(transaction=False)
    for keys in metas:
        pipe.hgetall(keys.notes())
        pipe.zrange(keys.panes(), 0, -1)
    answers = await pipe.execute() if metas else []
    notes = {keys: {kind.decode(): note for kind, note in found.items()} for keys, found in zip(metas, answers[::2], strict=True)}
    panes = dict(zip(metas, answers[1::2], strict=True))
    sizes = frozenset(int(member.split(b":")[0]) for members in panes.values() for member in members)
    return TablesLook(
        metas, metas, notes, sizes, await _empty_cubes(settings, client, panes), await _unused(settings, client, metas), rebuilding, at
    )


async def _empty_cubes(settings: Settings, client: Any, panes: Mapping[PartitionKeys, Sequence[bytes]]) -> list[str]:
    newest = {keys: max(int(member.split(b":")[1]) for member in members) // 86_400 for keys, members in panes.items() if members}
    found = []
    try:
        for cube in settings.cubes if newest else ():
            lengths = [await client.strlen(keys.rows(cube, day)) for keys, day in newest.items()]
            if not any(lengths):
                found.append(cube)
    except NoPermissionError:
        # A user with the rights of before; then nothing is said of cubes.
        return []
    return found


async def _unused(settings: Settings, client: Any, metas: Mapping[PartitionKeys, Meta]) -> list[str] | None:
    in_use = next((keys.namespace for keys in metas), settings.redis.namespace)
    newest = int(in_use.partition("~")[2] or 0)
    prefix = f"{settings.kafka.topic_prefix}.".encode()
    found = []
    for number in range(newest + _AHEAD + 1):
        namespace = tables_namespace(settings.redis.namespace, number)
        if namespace == in_use:
            continue
        try:
            members = await client.smembers(partitions_key(namespace))
        except NoPermissionError:
            return None
        if any(member.startswith(prefix) for member in members):
            found.append(namespace)
    return found


async def look_again(settings: Settings, redis: Redis, first: TablesLook, seconds: float) -> TablesLook:
    """`first` with the bookkeeping as it is now, to see what moves."""
    later = await asked(TableReader(redis, settings).bookkeeping(), seconds)
    return first if isinstance(later, Unanswered) else replace(first, later=later)
