"""Faults of Kafka, of the connections to it and to Redis, and of everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from streams.embedded import Server
from tests.chaos.arena import Arena, Planned
from tests.chaos.on_processes import kill
from tests.chaos.sides import DURABLE_KAFKA

#: Most partitions that a topic gets.
MOST_PARTITIONS = 7

Doing = Callable[[Arena, Planned], Awaitable[None]]


def connections(side: str, how: str) -> Doing:
    """A fault of the connections through the proxy before `kafka` or `redis`."""

    async def do(arena: Arena, planned: Planned) -> None:
        proxy = (arena.servers.kafka if side == "kafka" else arena.servers.redis).proxy
        assert proxy is not None
        async with arena.alone(f"connections to {side}"):
            if how == "cut":
                proxy.cut()
            elif how == "refuse":
                proxy.refuse()
            elif how == "slow":
                proxy.delay = 0.05 + planned.pick * 0.4
            elif how == "swallow":
                proxy.swallow()
            else:
                proxy.silence(answers_only=how == "deaf")
            await asyncio.sleep(planned.lasts)
            proxy.heal()

    return do


def broker(how: str) -> Doing:
    """A fault of any of the brokers."""

    async def do(arena: Arena, planned: Planned) -> None:
        brokers = arena.servers.kafka.brokers
        one = brokers[int(planned.pick * len(brokers))]
        async with arena.alone("kafka"):
            if how == "freeze":
                one.pause()
                await asyncio.sleep(planned.lasts)
                one.resume()
            else:
                await _away(arena, one, planned.lasts, kill=how == "kill")
            await asyncio.to_thread(arena.servers.kafka.wait_until_whole)

    return do


async def _away(arena: Arena, one: Server, seconds: float, *, kill: bool) -> None:
    if kill:
        arena.kills["kafka"] += 1
    await asyncio.to_thread(one.kill if kill else one.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(one.start)


async def kill_coordinator(arena: Arena, planned: Planned) -> None:
    async with arena.alone("kafka"):
        await _kill_node(arena, planned, lambda admin: admin.find_coordinator(arena.fleet.group))


async def kill_partition_leader(arena: Arena, planned: Planned) -> None:
    async def leader(admin: AIOKafkaAdminClient) -> int:
        topics = await admin.describe_topics(list(arena.growing_topics))
        leaders = [partition["leader"] for topic in topics for partition in topic["partitions"]]
        return int(leaders[int(planned.pick * len(leaders))])

    async with arena.alone("kafka"):
        await _kill_node(arena, planned, leader)


async def _kill_node(arena: Arena, planned: Planned, which: Callable[[AIOKafkaAdminClient], Awaitable[int]]) -> None:
    kafka = arena.servers.kafka
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        await admin.start()
        node = await which(admin)
    except (KafkaError, OSError):
        node = int(planned.pick * len(kafka.brokers)) + 1
    finally:
        await admin.close()
    await _away(arena, kafka.brokers[max(0, node - 1)], planned.lasts, kill=True)
    await asyncio.to_thread(kafka.wait_until_whole)


async def roll(arena: Arena, planned: Planned) -> None:
    kafka = arena.servers.kafka
    async with arena.alone("kafka"):
        first = int(planned.pick * len(kafka.brokers))
        for number in (first, first + 1):
            await _away(arena, kafka.brokers[number % len(kafka.brokers)], 0.5, kill=False)
            await asyncio.to_thread(kafka.wait_until_whole)


async def add_partitions(arena: Arena, planned: Planned) -> None:
    topic = arena.growing_topics[int(planned.pick * len(arena.growing_topics))]
    async with arena.alone("kafka"):
        admin = AIOKafkaAdminClient(bootstrap_servers=arena.servers.kafka.bootstrap_servers)
        try:
            await admin.start()
            count = len((await admin.describe_topics([topic]))[0]["partitions"])
            if count < MOST_PARTITIONS:
                await admin.create_partitions({topic: NewPartitions(count + 1)})
                arena.outcomes["partition added"] += 1
        except (KafkaError, OSError):
            pass  # a fault that did not take place
        finally:
            await admin.close()


# Several at once.


async def freeze_both(arena: Arena, planned: Planned) -> None:
    servers = arena.servers
    async with arena.alone("kafka"), arena.alone("redis"):
        frozen = [side[int(planned.pick * len(side))] for side in (servers.kafka.brokers, servers.redis.nodes)]
        for server in frozen:
            server.pause()
        await asyncio.sleep(planned.lasts)
        for server in frozen:
            server.resume()
        await asyncio.to_thread(servers.wait_until_whole)


async def kill_all(arena: Arena, planned: Planned) -> None:
    servers = arena.servers
    async with arena.alone("kafka"), arena.alone("redis"):
        members = [member for member in arena.fleet.members if member.wanted and not member.paused]
        await asyncio.gather(*(kill(arena, member) for member in members))
        sides: dict[str, Sequence[Server]] = {"redis": servers.redis.nodes}
        if DURABLE_KAFKA in servers.offers:
            sides["kafka"] = servers.kafka.brokers
        for name, side in sides.items():
            arena.kills[name] += 1
            await asyncio.gather(*(asyncio.to_thread(server.kill) for server in side))
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(servers.redis.start)
        await asyncio.to_thread(servers.kafka.start)
        for member in members:
            member.wanted = True
        await asyncio.to_thread(servers.wait_until_whole)
