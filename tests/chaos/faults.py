"""The kinds of faults, as data, and how a plan of them is drawn from a seed.

A fault is done at its moment, lasts, and is undone. Those that hurt the same thing wait for each other.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.errors import UserError
from tests.chaos.fleet import Fleet, Member
from tests.chaos.servers import DURABLE_KAFKA, KAFKA_PROXY, REDIS_FILE, Servers, copy_file_of, put_file_back, tear_off

SESSION_TIMEOUT = 6.0


@dataclass(slots=True)
class Arena:
    """What faults are done to."""

    servers: Servers
    fleet: Fleet
    #: Of Redis, with nothing in between.
    redis: Redis
    alerts_lease: str
    #: What was killed, and how often.
    kills: Counter[str] = field(default_factory=Counter)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def alone(self, target: str) -> AbstractAsyncContextManager[Any]:
        """Whoever hurts `target` waits for the one before."""
        return self._locks[target]


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of a plan."""

    kind: str
    #: Seconds from the round's beginning.
    at: float
    #: Seconds until it is undone.
    lasts: float
    #: In [0, 1): which of several it hits, or how hard.
    pick: float

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:.1f} s for {self.lasts:.1f} s ({self.pick:.3f})"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault."""

    name: str
    summary: str
    do: Callable[[Arena, Planned], Awaitable[None]]
    weight: float = 1.0
    #: Seconds that it may last.
    lasts: tuple[float, float] = (0.5, 3.0)
    needs: frozenset[str] = frozenset()


# The product's processes.


def _one_of(members: Sequence[Member], pick: float) -> Member | None:
    able = [member for member in members if member.wanted and not member.paused and member.running]
    return able[int(pick * len(able))] if able else None


async def _kill_worker(arena: Arena, planned: Planned) -> None:
    member = _one_of(arena.fleet.of("streams"), planned.pick)
    if member is not None:
        await _down(arena, member, planned.lasts)


async def _down(arena: Arena, member: Member, seconds: float) -> None:
    member.wanted = False
    if await asyncio.to_thread(member.kill):
        arena.kills["worker" if member.role == "streams" else "alerts"] += 1
    await asyncio.sleep(seconds)
    member.wanted = True


async def _stop_worker(arena: Arena, planned: Planned) -> None:
    member = _one_of(arena.fleet.of("streams"), planned.pick)
    if member is not None:
        member.wanted = False
        await asyncio.to_thread(member.stop)
        await asyncio.sleep(planned.lasts)
        member.wanted = True


async def _add_worker(arena: Arena, planned: Planned) -> None:
    member = arena.fleet.add_worker()
    await asyncio.sleep(planned.lasts)
    await asyncio.to_thread(arena.fleet.remove, member)


async def _freeze_worker(arena: Arena, planned: Planned) -> None:
    member = _one_of(arena.fleet.of("streams"), planned.pick)
    if member is not None:
        member.paused = True
        member.send(signal.SIGSTOP)
        await asyncio.sleep(planned.lasts)
        member.send(signal.SIGCONT)
        member.paused = False


async def _kill_leader(arena: Arena, planned: Planned) -> None:
    try:
        async with asyncio.timeout(2):
            token = str(await arena.redis.get(arena.alerts_lease))
    except (RedisError, OSError, TimeoutError):
        token = ""
    replicas = arena.fleet.of("alerts")
    # The lease holds TERM:HOST:PID.
    leader = next((m for m in replicas if m.wanted and m.running and token.endswith(f":{m.pid}'")), None) or _one_of(replicas, planned.pick)
    if leader is not None:
        await _down(arena, leader, planned.lasts)


# Redis.


def _node(arena: Arena, planned: Planned) -> Any:
    nodes = arena.servers.redis.nodes
    return nodes[int(planned.pick * len(nodes))]


async def _kill_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        await asyncio.to_thread(node.kill)
        arena.kills["redis"] += 1
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(node.start)


async def _power_cut_of_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        await asyncio.to_thread(node.kill)
        arena.kills["redis"] += 1
        await asyncio.to_thread(tear_off, node, int(planned.pick * 200_000))
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(node.start)


async def _restore_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        copy = arena.servers.directory / "redis-copy"
        await asyncio.to_thread(copy_file_of, node, copy)
        await asyncio.sleep(planned.lasts)
        await asyncio.to_thread(node.kill)
        arena.kills["redis"] += 1
        await asyncio.to_thread(put_file_back, node, copy)
        await asyncio.to_thread(node.start)


async def _on_redis(arena: Arena, *command: str | int) -> None:
    try:
        async with asyncio.timeout(5):
            await arena.redis.execute_command(*command)  # type: ignore[no-untyped-call]
    except (RedisError, OSError, TimeoutError):
        pass  # a fault that did not take place


async def _empty_redis(arena: Arena, _planned: Planned) -> None:
    async with arena.alone("redis"):
        await _on_redis(arena, "FLUSHALL")


async def _freeze_redis(arena: Arena, planned: Planned) -> None:
    node = _node(arena, planned)
    async with arena.alone("redis"):
        node.pause()
        await asyncio.sleep(planned.lasts)
        node.resume()


async def _fill_redis(arena: Arena, planned: Planned) -> None:
    async with arena.alone("redis"):
        await _on_redis(arena, "CONFIG", "SET", "maxmemory", 1_000_000)
        await asyncio.sleep(planned.lasts)
        await _on_redis(arena, "CONFIG", "SET", "maxmemory", 0)


async def _forget_scripts(arena: Arena, _planned: Planned) -> None:
    async with arena.alone("redis"):
        await _on_redis(arena, "SCRIPT", "FLUSH")


async def _kill_clients(arena: Arena, _planned: Planned) -> None:
    async with arena.alone("redis"):
        await _on_redis(arena, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


# Connections.


def _connections(side: str, how: str) -> Callable[[Arena, Planned], Awaitable[None]]:
    async def do(arena: Arena, planned: Planned) -> None:
        proxy = (arena.servers.kafka if side == "kafka" else arena.servers.redis).proxy
        if proxy is None:
            return
        async with arena.alone(f"connections to {side}"):
            if how == "cut":
                proxy.cut()
            elif how == "refuse":
                proxy.refuse()
            elif how == "slow":
                proxy.delay = 0.05 + planned.pick * 0.4
            else:
                proxy.silence(answers_only=how == "deaf")
            await asyncio.sleep(planned.lasts)
            proxy.heal()

    return do


# Kafka.


def _broker(how: str) -> Callable[[Arena, Planned], Awaitable[None]]:
    async def do(arena: Arena, planned: Planned) -> None:
        brokers = arena.servers.kafka.brokers
        broker = brokers[int(planned.pick * len(brokers))]
        async with arena.alone("kafka"):
            if how == "freeze":
                broker.pause()
                await asyncio.sleep(planned.lasts)
                broker.resume()
                return
            if how == "kill":
                arena.kills["kafka"] += 1
            await asyncio.to_thread(broker.kill if how == "kill" else broker.stop)
            await asyncio.sleep(planned.lasts)
            await asyncio.to_thread(broker.start)

    return do


_DURABLE, _PROXY, _FILE = frozenset({DURABLE_KAFKA}), frozenset({KAFKA_PROXY}), frozenset({REDIS_FILE})
#: Long enough that another worker has claimed the partitions when the zombie wakes up.
_FREEZE = (SESSION_TIMEOUT + 3.5, SESSION_TIMEOUT + 6.5)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("kill-worker", "kill -9 of a worker, restarted after a while", _kill_worker, 5),
        Kind("stop-worker", "SIGTERM to a worker, started again", _stop_worker, 2),
        Kind("add-worker", "one more worker for a while: two rebalances", _add_worker, 1.5, (4.0, 8.0)),
        Kind("freeze-worker", "SIGSTOP for longer than the session time-out: a zombie that wakes up", _freeze_worker, 2, _FREEZE),
        Kind("kill-leader", "kill -9 of the replica that leads the alerts", _kill_leader, 2),
        Kind("kill-redis", "kill -9 of Redis, started again with its append-only file", _kill_redis, 3),
        Kind("power-cut-redis", "the same, and the end of its file is torn off", _power_cut_of_redis, 1.5, needs=_FILE),
        Kind("restore-redis", "Redis comes back from a copy that is some seconds old", _restore_redis, 2, (1.0, 6.0), _FILE),
        Kind("empty-redis", "FLUSHALL", _empty_redis, 1),
        Kind("freeze-redis", "Redis stands still (SIGSTOP)", _freeze_redis, 1.5, (0.5, 4.0)),
        Kind("full-redis", "Redis takes no writes: its maxmemory is below what it uses", _fill_redis, 1.5, (1.0, 4.0)),
        Kind("forget-scripts", "SCRIPT FLUSH", _forget_scripts, 1),
        Kind("kill-clients", "CLIENT KILL of every normal client", _kill_clients, 1),
        Kind("cut-redis", "connections to Redis are cut", _connections("redis", "cut"), 1),
        Kind("refuse-redis", "connections to Redis are cut and new ones refused", _connections("redis", "refuse"), 1),
        Kind("slow-redis", "what goes to and from Redis is held back", _connections("redis", "slow"), 1, (2.0, 5.0)),
        Kind("half-open-redis", "connections to Redis lead nowhere", _connections("redis", "mute"), 1, (1.0, 4.0)),
        Kind("deaf-redis", "Redis does what it is told, and its answers get lost", _connections("redis", "deaf"), 1.5, (1.0, 4.0)),
        Kind("kill-kafka", "kill -9 of the broker, started again", _broker("kill"), 1.5, needs=_DURABLE),
        Kind("stop-kafka", "the broker is stopped politely and started again", _broker("stop"), 1, needs=_DURABLE),
        Kind("freeze-kafka", "the broker stands still (SIGSTOP)", _broker("freeze"), 1, (1.0, 8.0)),
        Kind("cut-kafka", "connections to Kafka are cut", _connections("kafka", "cut"), 1, needs=_PROXY),
        Kind("refuse-kafka", "connections to Kafka are cut and new ones refused", _connections("kafka", "refuse"), 1, needs=_PROXY),
        Kind("slow-kafka", "what goes to and from Kafka is held back", _connections("kafka", "slow"), 1, (2.0, 5.0), _PROXY),
        Kind("half-open-kafka", "connections to Kafka lead nowhere", _connections("kafka", "mute"), 0.7, (1.0, 5.0), _PROXY),
    )
}


def able_kinds(offers: frozenset[str], only: Sequence[str] = ()) -> list[Kind]:
    """The kinds that servers which offer this can suffer; of `only` those named. Raises UserError for one that is unknown or cannot be."""
    for name in only:
        if name not in KINDS:
            raise UserError(f"--faults: there is no {name!r}; there are {', '.join(KINDS)}")
        if missing := KINDS[name].needs - offers:
            raise UserError(f"--faults {name}: needs {', '.join(sorted(missing))}, which these servers do not offer; see --kafka, --redis")
    return [kind for kind in KINDS.values() if kind.needs <= offers and (not only or kind.name in only)]


def plan_round(seed: int, number: int, kinds: Sequence[Kind], seconds: float) -> list[Planned]:
    """The faults of a round, in the order of their moments: one to four within the first `seconds`. The same for the same arguments."""
    chance = random.Random(f"faults {seed} {number}")
    faults = []
    for kind in chance.choices(kinds, [kind.weight for kind in kinds], k=chance.choices((1, 2, 3, 4), (3, 4, 2, 1))[0]):
        # At least half a second after the beginning, so that there is something to lose.
        at, lasts = 0.5 + chance.random() * (seconds - 0.5), kind.lasts[0] + chance.random() * (kind.lasts[1] - kind.lasts[0])
        faults.append(Planned(kind.name, round(at, 2), round(lasts, 2), round(chance.random(), 3)))
    return sorted(faults, key=lambda fault: fault.at)


async def do_faults(arena: Arena, faults: Sequence[Planned]) -> None:
    """Do all of a round's faults at their moments; returns when each is undone."""

    async def one(planned: Planned) -> None:
        await asyncio.sleep(planned.at)
        await KINDS[planned.kind].do(arena, planned)

    await asyncio.gather(*(one(planned) for planned in faults))
