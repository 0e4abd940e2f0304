"""The kinds of faults, as data, and how a plan of them is drawn from a seed.

A fault is done at its moment, lasts, and is undone. Those that hurt the same thing wait for each other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from streams.errors import UserError
from tests.chaos import on_kafka, on_processes, on_redis
from tests.chaos.arena import SESSION_TIMEOUT, Arena, Planned
from tests.chaos.on_kafka import broker, connections
from tests.chaos.on_redis import commands
from tests.chaos.sides import DURABLE_KAFKA, KAFKA_NODES, KAFKA_PROXY, MORE_PARTITIONS, REDIS_FILE, REDIS_NODES, REDIS_PROXY


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
    #: Whether Redis may hold less afterwards than it had said that it did.
    loses: bool = False


_DURABLE, _NODES, _PROXY = frozenset({DURABLE_KAFKA}), frozenset({KAFKA_NODES}), frozenset({KAFKA_PROXY})
_FILE, _REDIS_PROXY, _CLUSTER = frozenset({REDIS_FILE}), frozenset({REDIS_PROXY}), frozenset({REDIS_NODES})
#: Long enough that another worker has claimed the partitions when the zombie wakes up.
_FREEZE = (SESSION_TIMEOUT + 3.5, SESSION_TIMEOUT + 6.5)
#: Longer than the session time-out, and than any time-out of Redis.
_LONG = (SESSION_TIMEOUT + 1.0, SESSION_TIMEOUT + 3.0)

_OF_PROCESSES = (
    Kind("kill-worker", "kill -9 of a worker, restarted after a while", on_processes.kill_worker, 12),
    Kind("kill-heir", "kill -9 of a worker, and of the one that takes over, while it does", on_processes.kill_heir, 0.5, (0.5, 2.0)),
    Kind("kill-starting", "kill -9 of a worker that starts", on_processes.kill_starting, 1, (0.5, 5.0)),
    Kind("stop-worker", "SIGTERM to a worker, started again", on_processes.stop_worker, 2),
    Kind("stop-flushing", "SIGTERM in the middle of a flush", on_processes.stop_flushing, 1, (0.5, 1.0), _REDIS_PROXY),
    Kind("add-worker", "one more worker for a while: two rebalances", on_processes.add_worker, 1.5, (4.0, 8.0)),
    Kind("freeze-worker", "SIGSTOP for longer than the session time-out: a zombie that wakes up", on_processes.freeze_worker, 2, _FREEZE),
    Kind("kill-leader", "kill -9 of the replica that leads the alerts", on_processes.kill_leader, 4),
    Kind("rebuild", "the tables are built anew, and switched over", on_processes.rebuild, 1.5),
    Kind("kill-rebuild", "kill -9 in the middle of a rebuild", on_processes.kill_rebuild, 1, (2.0, 9.0)),
    Kind("kill-all", "kill -9 of every process, of Redis and of Kafka", on_kafka.kill_all, 0.7, loses=True),
)
_OF_REDIS = (
    Kind("kill-redis", "kill -9 of a Redis, started again with its append-only file", on_redis.kill_redis, 6, loses=True),
    Kind("power-cut-redis", "the same, and the end of its file is torn off", on_redis.power_cut_of_redis, 1.5, needs=_FILE, loses=True),
    Kind("restore-redis", "Redis comes back from a copy that is some seconds old", on_redis.restore_redis, 2, (1.0, 6.0), _FILE, True),
    Kind("empty-redis", "FLUSHALL", on_redis.empty_redis, 1, loses=True),
    Kind("lose-bookkeeping", "DEL of the bookkeeping of one partition alone", on_redis.lose_bookkeeping, 1, loses=True),
    Kind("lose-keys", "DEL of one key of a partition while no worker runs", on_redis.lose_keys, 1, loses=True),
    Kind("lose-key-in-use", "DEL of one key of a partition while its worker goes on", on_redis.lose_key_in_use, 1, loses=True),
    Kind("freeze-redis", "Redis stands still (SIGSTOP), mostly for longer than redis.timeout", on_redis.freeze_redis, 1.5, (0.5, 5.0)),
    Kind(
        "full-redis",
        "Redis takes no writes: its maxmemory is below what it uses",
        commands(("CONFIG", "SET", "maxmemory", 1_000_000), ("CONFIG", "SET", "maxmemory", 0)),
        1.5,
        (1.0, 4.0),
    ),
    Kind(
        "no-file-redis",
        "the append-only file is turned off, and on again",
        commands(("CONFIG", "SET", "appendonly", "no"), ("CONFIG", "SET", "appendonly", "yes")),
        0.5,
    ),
    Kind(
        "hold-writes-redis", "CLIENT PAUSE of writes", commands(("CLIENT", "PAUSE", 20_000, "WRITE"), ("CLIENT", "UNPAUSE")), 1, (1.0, 5.0)
    ),
    Kind("reload-redis", "DEBUG RELOAD", commands(("DEBUG", "RELOAD")), 0.5),
    Kind("forget-scripts", "SCRIPT FLUSH", commands(("SCRIPT", "FLUSH")), 1),
    Kind("kill-scripts", "SCRIPT KILL, again and again", on_redis.kill_scripts, 0.5),
    Kind("kill-clients", "CLIENT KILL of every normal client", commands(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")), 1),
    Kind("cut-redis", "connections to Redis are cut", connections("redis", "cut"), 1, needs=_REDIS_PROXY),
    Kind("refuse-redis", "connections to Redis are cut and new ones refused", connections("redis", "refuse"), 1, needs=_REDIS_PROXY),
    Kind("slow-redis", "what goes to and from Redis is held back", connections("redis", "slow"), 1, (2.0, 5.0), _REDIS_PROXY),
    Kind("half-open-redis", "connections to Redis lead nowhere", connections("redis", "mute"), 1, (1.0, 4.0), _REDIS_PROXY),
    Kind(
        "swallow-redis", "connections to Redis lead nowhere, new ones too", connections("redis", "swallow"), 0.5, (8.0, 11.0), _REDIS_PROXY
    ),
    Kind("deaf-redis", "Redis does what it is told, and its answers get lost", connections("redis", "deaf"), 1.5, (1.0, 4.0), _REDIS_PROXY),
    Kind("kill-master", "kill -9 of a master: its replica takes over", on_redis.kill_master, 4, needs=_CLUSTER, loses=True),
    Kind("lose-writes", "a replica that has fallen behind takes over", on_redis.lose_writes, 3, (1.0, 4.0), _CLUSTER, True),
    Kind("fail-over", "CLUSTER FAILOVER by hand", on_redis.fail_over, 2, needs=_CLUSTER),
    Kind("empty-master", "FLUSHALL on one master only", on_redis.empty_master, 1, needs=_CLUSTER, loses=True),
)
_OF_KAFKA = (
    Kind("kill-kafka", "kill -9 of a broker, started again", broker("kill"), 2.5, needs=_DURABLE),
    Kind("stop-kafka", "a broker is stopped politely and started again", broker("stop"), 1, needs=_DURABLE),
    Kind("freeze-kafka", "a broker stands still (SIGSTOP)", broker("freeze"), 1, (1.0, 9.0)),
    Kind("freeze-both", "Kafka and Redis stand still for longer than any time-out", on_kafka.freeze_both, 0.5, _LONG),
    Kind("cut-kafka", "connections to Kafka are cut", connections("kafka", "cut"), 1, needs=_PROXY),
    Kind("refuse-kafka", "connections to Kafka are cut and new ones refused", connections("kafka", "refuse"), 1, needs=_PROXY),
    Kind("slow-kafka", "what goes to and from Kafka is held back", connections("kafka", "slow"), 1, (2.0, 5.0), _PROXY),
    Kind("half-open-kafka", "connections to Kafka lead nowhere", connections("kafka", "mute"), 0.7, (1.0, 5.0), _PROXY),
    Kind("add-partitions", "an event topic gets one more partition", on_kafka.add_partitions, 0.5, needs=frozenset({MORE_PARTITIONS})),
    Kind("kill-coordinator", "kill -9 of the node that coordinates the workers", on_kafka.kill_coordinator, 2, needs=_NODES),
    Kind("kill-partition-leader", "kill -9 of the node that leads a partition", on_kafka.kill_partition_leader, 2, needs=_NODES),
    Kind("roll-kafka", "two nodes are restarted, one after the other", on_kafka.roll, 0.7, needs=_NODES),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*_OF_PROCESSES, *_OF_REDIS, *_OF_KAFKA)}


def able_kinds(offers: frozenset[str], only: Sequence[str] = ()) -> list[Kind]:
    """The kinds that servers which offer this can suffer; of `only` those named. Raises UserError for one that is unknown or cannot be."""
    for name in only:
        if name not in KINDS:
            raise UserError(f"--faults: there is no {name!r}; there are {', '.join(KINDS)}")
        if missing := KINDS[name].needs - offers:
            raise UserError(f"--faults {name}: needs {', '.join(sorted(missing))}, which these servers do not offer; see --kafka, --redis")
    return [kind for kind in KINDS.values() if kind.needs <= offers and (not only or kind.name in only)]


def plan_round(seed: int, number: int, kinds: Sequence[Kind], seconds: float) -> list[Planned]:
    """The faults of a round (from 1), by their moments: one to four within the first `seconds`. The same arguments, the same plan.

    Each kind has its turn once in as many rounds as there are kinds; the others of a round are drawn by their weights.
    """
    turn, place = divmod(number - 1, len(kinds))
    in_turn = random.Random(f"turn {seed} {turn}").sample(kinds, len(kinds))
    chance = random.Random(f"faults {seed} {number}")
    drawn = chance.choices(kinds, [kind.weight for kind in kinds], k=chance.choices((0, 1, 2, 3), (2, 4, 3, 1))[0])
    faults = []
    for kind in (in_turn[place], *drawn):
        # At least half a second after the beginning, so that there is something to lose.
        at, lasts = 0.5 + chance.random() * (seconds - 0.5), kind.lasts[0] + chance.random() * (kind.lasts[1] - kind.lasts[0])
        faults.append(Planned(kind.name, round(at, 2), round(lasts, 2), chance.randrange(1_000) / 1_000))
    return sorted(faults, key=lambda fault: fault.at)


async def do_faults(arena: Arena, faults: Sequence[Planned]) -> None:
    """Do all of a round's faults at their moments; returns when each is undone."""

    async def one(planned: Planned) -> None:
        await asyncio.sleep(planned.at)
        await KINDS[planned.kind].do(arena, planned)

    await asyncio.gather(*(one(planned) for planned in faults))
