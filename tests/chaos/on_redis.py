"""Faults of Redis: one server, or the nodes of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import redis as blocking
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.embedded import EmbeddedRedis, RedisCluster, ports
from tests.chaos.arena import Arena, Planned
from tests.chaos.on_processes import kill
from tests.chaos.servers import copy_file_of, put_file_back, tear_off

#: Keys of a partition beside the bookkeeping, by kind.
_OF_TABLES = re.compile(rb".*\}:(rows|seen|reports|pane|reach|dwell|load|registry|panes|kept)(?::.*)?$")
#: Seconds within which somebody claims a partition of which a key was lost, and between two looks at that.
_NOTICED_WITHIN, _LOOK = 30.0, 0.1


def _node(arena: Arena, planned: Planned) -> EmbeddedRedis:
    nodes = arena.servers.redis.nodes
    return nodes[int(planned.pick * len(nodes))]


async def _whole(arena: Arena) -> None:
    await asyncio.to_thread(arena.servers.redis.wait_until_whole)


async def kill_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        await asyncio.to_thread(node.kill)
        arena.kills["redis"] += 1
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(node.start)
        await _whole(arena)


async def power_cut_of_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        await asyncio.to_thread(node.kill)
        arena.kills["redis"] += 1
        await asyncio.to_thread(tear_off, node, int(planned.pick * 200_000))
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(node.start)


async def restore_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        copy = arena.servers.directory / "redis-copy"
        await asyncio.to_thread(copy_file_of, node, copy)
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(node.kill)
        arena.kills["redis"] += 1
        await asyncio.to_thread(put_file_back, node, copy)
        await asyncio.to_thread(node.start)


@contextlib.asynccontextmanager
async def _client(node: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A client of one node; where that is away, or may not, the block is left: a fault that did not take place."""
    client = Redis(host=ports.HOST, port=node.port, socket_timeout=10.0)
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        yield client
    await client.aclose()


async def _tell(node: EmbeddedRedis, *command: str | int) -> None:
    async with _client(node) as client:
        await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def _tell_all(arena: Arena, *command: str | int) -> None:
    # A replica refuses what only its master may do, and gets it from there.
    await asyncio.gather(*(_tell(node, *command) for node in arena.servers.redis.nodes if node.running))


def commands(first: Sequence[str | int], afterwards: Sequence[str | int] = ()) -> Callable[[Arena, Planned], Awaitable[None]]:
    """Tell every node something, and something else when the fault's time is over."""

    async def do(arena: Arena, planned: Planned) -> None:
        async with arena.alone("redis"):
            await _tell_all(arena, *first)
            if afterwards:
                await asyncio.sleep(planned.lasts)
                await _tell_all(arena, *afterwards)

    return do


async def empty_redis(arena: Arena, _planned: Planned) -> None:
    async with arena.alone("redis"):
        await _tell_all(arena, "FLUSHALL")


async def lose_bookkeeping(arena: Arena, planned: Planned) -> None:
    """As an eviction policy or somebody's DEL would: one key, and nothing else of its partition."""
    async with arena.alone("redis"):
        for node in arena.servers.redis.nodes:
            async with _client(node) as client:
                found = sorted([key async for key in client.scan_iter(match="*}:meta", count=1_000)])
                if found:
                    await client.delete(found[int(planned.pick * len(found))])


async def lose_keys(arena: Arena, planned: Planned) -> None:
    """The same while no worker runs, of a key that is read again only when a partition is taken over."""
    async with arena.alone("redis"):
        members = [member for member in arena.fleet.of("streams") if member.wanted and not member.paused]
        await asyncio.gather(*(kill(arena, member) for member in members))
        for node in arena.servers.redis.nodes:
            async with _client(node) as client:
                if key := await _some_key(client, planned):
                    await client.delete(key)
        await asyncio.sleep(planned.lasts)
        for member in members:
            member.wanted = True


async def lose_key_in_use(arena: Arena, planned: Planned) -> None:
    """The same under workers that go on, until somebody has claimed the partition since."""
    async with arena.alone("redis"):
        for node in arena.servers.redis.nodes:
            async with _client(node) as client:
                if not (key := await _some_key(client, planned)):
                    continue
                await client.delete(key)
                meta = key[: key.index(b"}:") + 2] + b"meta"
                writer = await client.hget(meta, "writer")
                until = asyncio.get_running_loop().time() + _NOTICED_WITHIN
                while await client.hget(meta, "writer") == writer and asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(_LOOK)


async def _some_key(client: Redis, planned: Planned) -> bytes | None:
    """A key of the tables, of each kind as often: sketches are a hundred times as many as all others."""
    keys: dict[bytes, list[bytes]] = {}
    async for key in client.scan_iter(match="*}:*", count=1_000):
        if found := _OF_TABLES.fullmatch(key):
            keys.setdefault(found[1], []).append(key)
    if not keys:
        return None
    kinds = planned.pick * len(keys)
    own = sorted(keys[sorted(keys)[int(kinds)]])
    return own[int(kinds % 1 * len(own))]


async def kill_scripts(arena: Arena, planned: Planned) -> None:
    async with arena.alone("redis"):
        until = asyncio.get_running_loop().time() + planned.lasts
        while asyncio.get_running_loop().time() < until:
            await _tell_all(arena, "SCRIPT", "KILL")


async def freeze_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        node.pause()
        await asyncio.sleep(planned.lasts)
        node.resume()
        await _whole(arena)


# Of a cluster.


def _master(arena: Arena, planned: Planned) -> tuple[RedisCluster, EmbeddedRedis]:
    cluster = arena.servers.redis.cluster
    assert cluster is not None
    masters = cluster.masters()
    return cluster, masters[int(planned.pick * len(masters))]


async def kill_master(arena: Arena, planned: Planned) -> None:
    async with arena.alone("redis"):
        cluster, master = await asyncio.to_thread(_master, arena, planned)
        await asyncio.to_thread(_replace_master, cluster, master)
        arena.kills["redis"] += 1
        await _whole(arena)


def _replace_master(cluster: RedisCluster, master: EmbeddedRedis) -> None:
    master.kill()
    cluster.wait_until_healthy()
    master.start()


async def lose_writes(arena: Arena, planned: Planned) -> None:
    async with arena.alone("redis"):
        cluster, master = await asyncio.to_thread(_master, arena, planned)
        replica = await asyncio.to_thread(cluster.replica_of, master)
        replica.pause()
        try:
            # Or the system would keep for the paused replica what its master goes on to send.
            await _tell(master, "CLIENT", "KILL", "TYPE", "replica")
            await asyncio.sleep(planned.lasts)
            await asyncio.to_thread(master.kill)
            arena.kills["redis"] += 1
        finally:
            replica.resume()
        await asyncio.to_thread(cluster.wait_until_healthy)
        await asyncio.to_thread(master.start)
        await _whole(arena)


async def fail_over(arena: Arena, planned: Planned) -> None:
    async with arena.alone("redis"):
        cluster, master = await asyncio.to_thread(_master, arena, planned)
        await asyncio.to_thread(_fail_over, cluster, master)
        await _whole(arena)


def _fail_over(cluster: RedisCluster, master: EmbeddedRedis) -> None:
    with contextlib.suppress(blocking.RedisError), cluster.client(cluster.replica_of(master)) as client:
        client.execute_command("CLUSTER", "FAILOVER")


async def empty_master(arena: Arena, planned: Planned) -> None:
    async with arena.alone("redis"):
        _, master = await asyncio.to_thread(_master, arena, planned)
        await _tell(master, "FLUSHALL")
