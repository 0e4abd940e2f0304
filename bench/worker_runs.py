"""Running Campaignwatch: its own worker as an operator starts it, watched by the ledger in Redis as anybody could."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable

from bench import ysb_events
from bench.process_tree import ProcessTree
from bench.product import Role
from bench.programs import Arena
from bench.recordings import ADS, WINDOW, Answer, Recording, differences
from bench.runs import LOOK, Run, failure, measured
from streams.config import Settings
from streams.embedded import EmbeddedError
from streams.kafka import consumer_group
from streams.redis_client import connect
from streams.tables.reader import TableReader

#: Seconds between two looks before the first events are applied and when fewer than so many are left, so that neither is seen late.
_CLOSE_LOOK, _NEAR = 0.02, 1.0


def run_worker(recording: Recording, arena: Arena) -> Run:
    """One run to its end, in a namespace of its own."""
    namespace = f"run-{uuid.uuid4().hex[:8]}"
    settings = recording.settings.model_copy(update={"redis": recording.settings.redis.model_copy(update={"namespace": namespace})})
    return asyncio.run(_run(settings, recording, arena))


async def _run(settings: Settings, recording: Recording, arena: Arena) -> Run:
    worker = Role("streams", settings)
    problem: list[EmbeddedError] = []

    def start() -> None:
        # Being ready is not waited for: the worker works before its pages say so.
        try:
            worker.start()
        except EmbeddedError as error:
            problem.append(error)

    started = time.monotonic()
    starting = threading.Thread(target=start)
    starting.start()
    progress: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    servers: list[tuple[float, float]] = []
    try:
        async with connect(settings) as redis:
            reader = TableReader(redis, settings)
            tree: ProcessTree | None = None
            while not progress or progress[-1][1] < recording.events:
                if problem:
                    return failure(str(problem[0]))
                if time.monotonic() - started > arena.timeout:
                    return failure(f"{progress[-1][1] if progress else 0:.0f} of {recording.events} events after {arena.timeout:.0f} s")
                read = sum(entry.read for entry in await reader.ledger())
                now = time.monotonic()
                if read:
                    progress.append((now, read))
                if tree is None and worker.running:
                    tree = ProcessTree(worker.pid)
                cpu.append((now, tree.cpu_seconds() if tree is not None else 0.0))
                servers.append((now, arena.servers_cpu()))
                await asyncio.sleep(_pause(progress, recording.events))
            wrong = differences(recording.expected, await _answer(reader, recording), recording.end)
            wrong += await _unbalanced(reader, recording)
    finally:
        await asyncio.to_thread(starting.join)
        await asyncio.to_thread(worker.close)
        await _forget(settings, arena)
    return measured(started, progress, cpu, servers, wrong)


def _pause(progress: list[tuple[float, float]], events: int) -> float:
    if not progress:
        return _CLOSE_LOOK
    if len(progress) == 1:
        return LOOK
    (first_at, first), (last_at, last) = progress[0], progress[-1]
    rate = (last - first) / (last_at - first_at)
    return _CLOSE_LOOK if rate and (events - last) / rate < _NEAR else LOOK


async def _answer(reader: TableReader, recording: Recording) -> Answer:
    """Windows of 10 s as any reader of the tables gets them."""
    ads = recording.topic == recording.settings.topic(ADS.topic)
    cube, count, key_of = _QUESTIONS[ads]
    series = await reader.series(cube, recording.start, recording.end, WINDOW, measures=(count, "event_cost"))
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for row, counts, costs in zip(series.rows, series.measures[count], series.measures["event_cost"], strict=True):
        for window, events, micros in zip(series.times.tolist(), counts.tolist(), costs.tolist(), strict=True):
            if events:
                before = found.get((key_of(row), window), (0, 0))
                found[key_of(row), window] = before[0] + events, before[1] + micros
    return found


#: Whether it is about ads -> cube, measure that counts, key of the answer for a row.
_QUESTIONS: dict[bool, tuple[str, str, Callable[[tuple[str | None, ...]], str]]] = {
    False: ("campaign", "clicks", lambda row: str(row[0])),
    True: ("campaign_creative", "engagements_view", lambda row: ysb_events.ADS[str(row[1])]),
}


async def _unbalanced(reader: TableReader, recording: Recording) -> list[str]:
    """Every event must have been applied: none of these is late, broken or a repeat."""
    ledger = await reader.ledger()
    applied = sum(entry.applied for entry in ledger)
    return [] if applied == recording.events else [f"{applied} of {recording.events} events applied"]


async def _forget(settings: Settings, arena: Arena) -> None:
    """Nothing of one run may weigh on the next: neither its tables nor the offsets of its group."""
    async with connect(settings) as redis:
        keys = [key async for key in redis.scan_iter(match=f"*{settings.redis.namespace}*", count=10_000)]
        for first in range(0, len(keys), 1_000):
            await redis.unlink(*keys[first : first + 1_000])
    group = ("--bootstrap-server", arena.kafka.bootstrap_servers, "--delete", "--group", consumer_group(settings))
    await asyncio.to_thread(arena.kafka.tool, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *group)
