"""How a worker's throughput depends on the number of campaigns, and what a second worker adds, over a topic that was filled before.

    python -m bench.scale --quick     # a trial of about a minute; nothing is saved
    python -m bench.scale             # some twenty minutes on an idle machine; section `scale` of bench/results.json

The rate is that while all workers of a run are ready and each still has something to do. Beside it: CPU of the workers, the broker and
Redis, by /proc, and bytes that Redis was sent. Where workers, broker and Redis have two cores together, a second worker shows what those
leave it, not how workers scale: read its rate beside the CPU.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.clicks import Load, clicks
from bench.process_tree import cpu_seconds
from bench.product import Role
from bench.programs import Arena
from bench.results import save, spread
from bench.servers import PARTITIONS, servers, settings_for
from bench.worker_runs import forget
from streams.config import Settings, Topic
from streams.embedded.apache_kafka import VERSION
from streams.producing import Sender
from streams.redis_client import connect
from streams.tables.reader import TableReader
from streams.topics import create_topics

CAMPAIGNS = (100, 10_000, 100_000)
WORKERS = (1, 2)
#: Sent at a time, a second of event time.
_BLOCK = 50_000
_LOOK = 0.2
#: Seconds after which a run is given up.
_LIMIT = 600.0
#: A run begins for the rate when this share of all events is applied: before, most rows are new, and new rows cost more.
_WARM = 0.3
#: Below so large a share of all events a rate says nothing.
_ENOUGH = 0.25
#: A run ends for the rate when a partition has less than this share of its events left: its worker will stand idle.
_LEFT = 0.03


class TooFewEvents(Exception):
    """The topic was nearly read before all workers were ready."""


@dataclass(frozen=True, slots=True)
class Look:
    """What there was at a moment (CLOCK_MONOTONIC, s)."""

    at: float
    #: Events applied, by partition.
    applied: tuple[int, ...]
    #: CPU seconds so far, by `workers`, `broker`, `redis`.
    cpu: dict[str, float]
    #: Bytes that Redis was sent.
    sent: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What lies between two looks."""

    events_per_second: float
    cpu_us_per_event: dict[str, float]
    redis_bytes_per_event: float
    seconds: float


def rate_of(looks: Sequence[Look], ready_at: float, sizes: Sequence[int]) -> Rate:
    """From when all workers are ready, and warm, to the last look at which each of the partitions, of `sizes` events, has some left.

    Raises TooFewEvents.
    """
    begun = [look for look in looks if look.at >= ready_at and sum(look.applied) >= _WARM * sum(sizes)]
    busy = [look for look in begun if all(done < size * (1 - _LEFT) for done, size in zip(look.applied, sizes, strict=True))]
    if not busy or sum(busy[-1].applied) - sum(busy[0].applied) < _ENOUGH * sum(sizes):
        seen = sum(busy[-1].applied) - sum(busy[0].applied) if busy else 0
        raise TooFewEvents(f"only {seen:,} of {sum(sizes):,} events were left when all workers were ready; give more --events")
    first, last = busy[0], busy[-1]
    events, seconds = sum(last.applied) - sum(first.applied), last.at - first.at
    cpu = {name: 1e6 * (used - first.cpu[name]) / events for name, used in last.cpu.items()}
    return Rate(events / seconds, cpu, (last.sent - first.sent) / events, seconds)


async def fill(settings: Settings, campaigns: int, events: int) -> None:
    """Create the topics and put the clicks into theirs."""
    await create_topics(settings)
    start = int(time.time() * 1000) - 60_000 - events * 1000 // _BLOCK
    async with Sender(settings) as sender:
        for first in range(0, events, _BLOCK):
            block = clicks(Load(campaigns=campaigns), min(_BLOCK, events - first), start + first * 1000 // _BLOCK, first)
            await sender.send(settings.topic(Topic.CLICKS), block)


async def run(settings: Settings, arena: Arena, workers: int, events: int) -> Rate:
    """One run over the filled topic, with tables of its own."""
    redis_settings = settings.redis.model_copy(update={"namespace": f"run-{uuid.uuid4().hex[:8]}"})
    own = settings.model_copy(update={"redis": redis_settings})
    started = [Role("streams", own) for _ in range(workers)]
    with ThreadPoolExecutor(workers) as starting:
        ready = [starting.submit(_start, role) for role in started]
        try:
            async with connect(own) as redis:
                reader = TableReader(redis, own)
                looks: list[Look] = []
                end = time.monotonic() + _LIMIT
                while not looks or sum(looks[-1].applied) < events:
                    for done in ready:
                        if done.done():
                            done.result()
                    if time.monotonic() > end:
                        raise TimeoutError(f"{sum(looks[-1].applied):,} of {events:,} events after {_LIMIT:.0f} s")
                    looks.append(await _look(own, redis, reader, arena, started))
                    await asyncio.sleep(_LOOK)
            return rate_of(looks, max(done.result() for done in ready), looks[-1].applied)
        finally:
            for done in ready:
                done.exception()
            for role in started:
                await asyncio.to_thread(role.close)
            await forget(own, arena)


def _start(role: Role) -> float:
    """When it was ready."""
    role.start()
    return time.monotonic()


async def _look(settings: Settings, redis: Redis, reader: TableReader, arena: Arena, started: Sequence[Role]) -> Look:
    applied = {entry.partition: entry.applied for entry in await reader.ledger() if entry.topic == settings.topic(Topic.CLICKS)}
    sent = int((await redis.info("stats"))["total_net_input_bytes"])
    cpu = {
        "workers": sum(cpu_seconds(role.pid) for role in started if role.running),
        "broker": cpu_seconds(arena.kafka.pid),
        "redis": cpu_seconds(arena.redis.pid),
    }
    return Look(time.monotonic(), tuple(applied.get(n, 0) for n in range(settings.kafka.partitions)), cpu, sent)


def measure(campaigns: Sequence[int] = CAMPAIGNS, workers: Sequence[int] = WORKERS, *, events: int, runs: int) -> dict[str, Any]:
    """The content of the section `scale`. Runs with one and with more workers take turns; each number of campaigns has fresh servers."""
    points: list[dict[str, Any]] = []
    versions = ""
    for number in campaigns:
        with servers() as (kafka, redis):
            settings = settings_for(kafka, redis, f"scale-{number}")
            asyncio.run(fill(settings, number, events))
            arena = Arena(kafka, redis, Path())
            found: dict[int, list[Rate]] = {count: [] for count in workers}
            for _ in range(runs):
                for count in workers:
                    found[count].append(asyncio.run(run(settings, arena, count, events)))
            points += [_point(number, count, rates) for count, rates in found.items()]
            versions = f"Apache Kafka {VERSION} and {asyncio.run(_redis_version(settings))}"
    return {"events": events, "partitions": PARTITIONS, "servers": versions, "points": points}


def _point(campaigns: int, workers: int, rates: Sequence[Rate]) -> dict[str, Any]:
    return {
        "campaigns": campaigns,
        "workers": workers,
        "events_per_second": spread([round(rate.events_per_second) for rate in rates]),
        "cpu_us_per_event": {name: spread([round(rate.cpu_us_per_event[name], 2) for rate in rates]) for name in rates[0].cpu_us_per_event},
        "redis_bytes_per_event": spread([round(rate.redis_bytes_per_event, 1) for rate in rates]),
        "seconds": spread([round(rate.seconds, 1) for rate in rates]),
    }


async def _redis_version(settings: Settings) -> str:
    async with connect(settings) as redis:
        info = await redis.info("server")
    return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def table(found: dict[str, Any]) -> Table:
    """What was found, for people."""
    shown = Table(title=f"{found['events']:,} clicks in {found['partitions']} partitions, {found['servers']}")
    for head in ("campaigns", "workers", "events/s", "of one worker", "cores: workers", "broker", "redis", "sent to Redis, B/event"):
        shown.add_column(head, justify="right")
    for row in _rows(found["points"]):
        shown.add_row(*row)
    return shown


def _rows(points: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    alone = {point["campaigns"]: point["events_per_second"]["median"] for point in points if point["workers"] == 1}
    for point in points:
        rate = point["events_per_second"]["median"]
        ratio = f"{rate / alone[point['campaigns']]:.2f}" if point["campaigns"] in alone else ""
        cores = [f"{point['cpu_us_per_event'][name]['median'] * rate / 1e6:.2f}" for name in ("workers", "broker", "redis")]
        sent = f"{point['redis_bytes_per_event']['median']:.0f}"
        yield f"{point['campaigns']:,}", str(point["workers"]), f"{rate:,.0f}", ratio, *cores, sent


def main(
    quick: Annotated[bool, typer.Option("--quick", help="a trial of about a minute: one run each, few events; nothing is saved")] = False,
    events: Annotated[int | None, typer.Option(min=50_000, help="clicks in the topic (default 2,000,000)")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="how often each is run (default 3)")] = None,
) -> None:
    """Measure one worker at 100, 10,000 and 100,000 campaigns, and two against one, with the CPU that workers, broker and Redis take."""
    campaigns, usual_events, usual_runs = ((100, 10_000), 400_000, 1) if quick else (CAMPAIGNS, 2_000_000, 3)
    found = measure(campaigns, events=events or usual_events, runs=runs or usual_runs)
    Console(width=130).print(table(found))
    if not quick:
        save("scale", found)


if __name__ == "__main__":
    typer.run(main)
