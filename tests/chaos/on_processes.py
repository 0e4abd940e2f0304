"""Faults of the product's own processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from redis.exceptions import RedisError

from tests.chaos.arena import SESSION_TIMEOUT, Arena, Planned
from tests.chaos.fleet import Member

#: Seconds that a rebuild of a long run's log may take on a busy machine: a minute or two, since hostile times fill panes of their own,
#: and as much again when Redis is emptied under it.
_REBUILT_WITHIN = 400.0


def one_of(members: Sequence[Member], pick: float) -> Member | None:
    """One that runs and is not hurt already."""
    able = [member for member in members if member.wanted and not member.paused and member.running]
    return able[int(pick * len(able))] if able else None


async def kill(arena: Arena, member: Member) -> None:
    """End a process as a power cut would; the supervisor leaves it alone until it is wanted again."""
    member.wanted = False
    if await asyncio.to_thread(member.kill):
        arena.kills["worker" if member.role == "streams" else member.role] += 1


async def kill_worker(arena: Arena, planned: Planned) -> None:
    member = one_of(arena.fleet.of("streams"), planned.pick)
    if member is not None:
        await _down(arena, member, planned.lasts)


async def _down(arena: Arena, member: Member, seconds: float) -> None:
    await kill(arena, member)
    await asyncio.sleep(seconds)
    member.wanted = True


async def kill_heir(arena: Arena, planned: Planned) -> None:
    first = one_of(arena.fleet.of("streams"), planned.pick)
    if first is None:
        return
    await kill(arena, first)
    # The group notices after the session time-out; then another claims what it had.
    await asyncio.sleep(SESSION_TIMEOUT + 3 * planned.pick)
    second = one_of(arena.fleet.of("streams"), planned.pick)
    if second is not None:
        await kill(arena, second)
        await asyncio.sleep(planned.lasts)
        second.wanted = True
    first.wanted = True


async def kill_starting(arena: Arena, planned: Planned) -> None:
    member = one_of(arena.fleet.of("streams"), planned.pick)
    if member is not None:
        await kill(arena, member)
        await asyncio.to_thread(member.start)
        await asyncio.sleep(planned.lasts)
        await kill(arena, member)
        member.wanted = True


async def stop_worker(arena: Arena, planned: Planned) -> None:
    member = one_of(arena.fleet.of("streams"), planned.pick)
    if member is not None:
        member.wanted = False
        await asyncio.to_thread(member.stop)
        await asyncio.sleep(planned.lasts)
        member.wanted = True


async def stop_flushing(arena: Arena, planned: Planned) -> None:
    proxy = arena.servers.redis.proxy
    assert proxy is not None
    async with arena.alone("connections to redis"):
        # Slow enough that a flush is under way at any moment.
        proxy.delay = 0.2 + planned.pick * 0.6
        await asyncio.sleep(1.0)
        await stop_worker(arena, planned)
        proxy.heal()


async def add_worker(arena: Arena, planned: Planned) -> None:
    member = arena.fleet.add_worker()
    await asyncio.sleep(planned.lasts)
    await asyncio.to_thread(arena.fleet.remove, member)


async def freeze_worker(arena: Arena, planned: Planned) -> None:
    workers = arena.fleet.of("streams")
    member = one_of(workers, planned.pick)
    # Nobody takes over from the last one, which then is no zombie when it wakes up.
    last = sum(worker.running and not worker.paused for worker in workers) < 2 <= len(workers)
    if member is not None and not last:
        member.paused = True
        member.send(signal.SIGSTOP)
        await asyncio.sleep(planned.lasts)
        member.send(signal.SIGCONT)
        member.paused = False


async def kill_leader(arena: Arena, planned: Planned) -> None:
    try:
        async with asyncio.timeout(2):
            token = str(await arena.redis.get(arena.alerts_lease))
    except (RedisError, OSError, TimeoutError):
        token = ""
    replicas = arena.fleet.of("alerts")
    # The lease holds TERM:HOST:PID.
    leader = next((m for m in replicas if m.wanted and m.running and token.endswith(f":{m.pid}'")), None) or one_of(replicas, planned.pick)
    if leader is not None:
        await _down(arena, leader, planned.lasts)


async def rebuild(arena: Arena, _planned: Planned) -> None:
    process = arena.fleet.run_beside("rebuild", "rebuild", "--grace", "8")
    status = await asyncio.to_thread(process.wait, _REBUILT_WITHIN)
    said = process.last_words()
    if status == 0:
        arena.outcomes["rebuild switched over"] += 1
    elif status == 2:
        # Redis or Kafka was away, or another rebuild is running.
        arena.outcomes["rebuild not done"] += 1
    else:
        arena.outcomes["rebuild ended otherwise"] += 1
        ended = "did not end" if status is None else f"ended with status {status}"
        arena.fleet.surprises.append(f"a rebuild {ended}: {said}")
        await asyncio.to_thread(process.kill)


async def kill_rebuild(arena: Arena, planned: Planned) -> None:
    process = arena.fleet.run_beside("rebuild", "rebuild", "--grace", "8")
    await asyncio.sleep(planned.lasts)
    if await asyncio.to_thread(process.kill):
        arena.kills["rebuild"] += 1
