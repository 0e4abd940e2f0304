"""What is to be said of the Redis servers: whether they keep what they are given, have room, are in time and are the right ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streams.doctor.finding import Finding, failure, ok, warning
from streams.doctor.redis_look import Server

#: Part of the memory in use from which on it is worth a look, and from which on writes are about to be refused.
_FILLING, _FULL = 0.80, 0.95
#: Seconds for a PING from which on Redis is slow, and by which clocks may differ.
_SLOW, _CLOCKS = 0.1, 5.0


def judge_servers(servers: Sequence[Server]) -> Iterator[Finding]:
    """Findings on every server. The words name the server where there are several."""
    for server in servers:
        at = f" at {server.name}" if len(servers) > 1 else ""
        yield ok("redis", f"{server.name} answers")
        yield from _cluster(server)
        yield from _role(server.info, at)
        yield from _eviction(server.info, at)
        yield from _memory(server.info, at)
        yield from _persistence(server.info, at)
        yield from _time(server, at)


def _cluster(server: Server) -> Iterator[Finding]:
    if not server.cluster:
        return
    state, slots = server.cluster.get("cluster_state"), server.cluster.get("cluster_slots_ok")
    if state == "ok":
        yield ok("redis cluster", f"{server.name}: ok, {slots} slots")
    else:
        yield failure(
            "redis cluster",
            f"{server.name} says cluster_state {state}, {slots} of 16384 slots are served",
            "`redis-cli cluster nodes` names the masters that failed; start them, or let replicas take over",
        )


def _role(info: Mapping[str, Any], at: str) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield failure(f"redis role{at}", "a replica, which cannot be written to", "set redis.url to its primary")
    if info.get("loading"):
        yield failure(f"redis role{at}", "it is still reading its data from disk", "wait; workers go on by themselves")


def _eviction(info: Mapping[str, Any], at: str) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        yield ok(f"redis eviction{at}", policy)
    else:
        yield failure(
            f"redis eviction{at}",
            f"maxmemory-policy is {policy}: when memory is full Redis drops rows without a word, and the numbers are wrong",
            "set maxmemory-policy to noeviction (redis-cli config set maxmemory-policy noeviction, and in its configuration)",
        )


def _memory(info: Mapping[str, Any], at: str) -> Iterator[Finding]:
    what = f"redis memory{at}"
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    of = "maxmemory"
    if not limit:
        # Without a limit of its own it is the machine that gives out, and the kernel that ends a process.
        used, limit, of = (
            int(info.get("used_memory_rss", used)),
            int(info.get("total_system_memory", 0)),
            "the machine's memory, no maxmemory",
        )
    if not limit:
        yield ok(what, f"{_mb(used)} used")
        return
    share = used / limit
    detail = f"{_mb(used)} of {_mb(limit)} ({share:.0%} of {of})"
    do = "raise maxmemory or give the machine more; or keep less: shorten streams.ladder"
    if share >= _FULL:
        yield failure(what, f"{detail}: writes are refused, or about to be, and all workers wait then", do)
    elif share >= _FILLING:
        yield warning(what, detail, do)
    else:
        yield ok(what, detail)


def _persistence(info: Mapping[str, Any], at: str) -> Iterator[Finding]:
    what = f"redis persistence{at}"
    room = "make room on its disk, and see its log; with a full disk it refuses writes"
    failed = False
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        failed = True
        yield failure(what, "the last snapshot could not be written (rdb_last_bgsave_status)", room)
    for field in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(field, "ok") != "ok":
            failed = True
            yield failure(what, f"the append-only file could not be written ({field})", room)
    if not int(info.get("aof_enabled", 0)):
        yield warning(
            what,
            "no append-only file: after a restart the tables are those of the last snapshot or empty. Workers read the log "
            "again as far as it "
            "goes; incidents, and days older than the log, are lost",
            "turn it on: appendonly yes, appendfsync everysec",
        )
    elif not failed:
        yield ok(what, "append-only file on, and written")


def _time(server: Server, at: str) -> Iterator[Finding]:
    took = f"PING took {server.ping * 1000:.1f} ms"
    if server.ping >= _SLOW:
        yield warning(f"redis speed{at}", took, "see SLOWLOG GET and LATENCY DOCTOR, its CPU and the network")
    else:
        yield ok(f"redis speed{at}", took)
    ahead = server.clock_ahead
    if abs(ahead) >= _CLOCKS:
        yield warning(
            f"clock{at}",
            f"Redis' clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's: watermarks and ages "
            "are wrong by that",
            "keep both on NTP",
        )
    else:
        yield ok(f"clock{at}", f"this machine's and Redis' differ by {abs(ahead):.2f} s")


def _mb(size: int) -> str:
    return f"{size / 1_048_576:,.0f} MB"
