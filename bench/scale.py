"""How the rate of workers goes with their number and with the number of campaigns.

    python -m bench.scale             # about five minutes
    python -m bench.scale --quick     # a minute, to see that it works

Campaigns: one worker over a backlog of clicks of 100, 10,000 and 100,000 campaigns, with what Redis takes for it. Workers: one and two,
each held to a part of a core by a control group, so that neither broker nor Redis nor the machine is the limit; then without that,
where they are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from redis import Redis
from rich.console import Console
from rich.table import Table

from bench.clicks import Load
from bench.cpu_quota import available, quota
from bench.figures import rate_between
from bench.latency import Bench
from bench.paced import Plan, produce
from bench.process_tree import ProcessTree
from bench.product import Role
from bench.results import save
from bench.servers import PARTITIONS, servers, settings_for
from bench.watching import Watch, watch
from streams.config import Topic
from streams.embedded import ApacheKafka, EmbeddedRedis
from streams.topics import create_topics

CAMPAIGNS = (100, 10_000, 100_000)
#: At least so much of the rate with 100 campaigns; of the rate of one worker.
GOALS = {10_000: 0.7, 100_000: 0.4}
GOAL_TWO_WORKERS = 1.8
#: Part of a core that each worker may have where they are compared.
_CORES = 0.3
_LIMIT = 400.0


def by_campaigns(kafka: ApacheKafka, redis: EmbeddedRedis, pool: ProcessPoolExecutor, campaigns: int, records: int) -> dict[str, Any]:
    """The rate of one worker over a backlog, and what it cost Redis."""
    settings = settings_for(kafka, redis, f"scale-{campaigns}")
    asyncio.run(create_topics(settings))
    worker = Role("streams", settings)
    server = ProcessTree(redis.pid)
    with Redis.from_url(redis.url) as client:
        received, used = int(client.info("stats")["total_net_input_bytes"]), server.cpu_seconds()
        try:
            # As many users as a campaign of the smallest load has, up to a million.
            rate = Bench(settings, worker, pool, Load(campaigns, min(1_000_000, 1_000 * campaigns))).maximum(records)
        finally:
            worker.close()
        received = int(client.info("stats")["total_net_input_bytes"]) - received
        used = server.cpu_seconds() - used
        client.flushall()
    return {
        "campaigns": campaigns,
        "events_per_second": round(rate),
        "redis_cpu_us_per_event": round(used / records * 1e6, 2),
        "redis_bytes_per_event": round(received / records),
    }


def by_workers(
    kafka: ApacheKafka, redis: EmbeddedRedis, pool: ProcessPoolExecutor, workers: int, records: int, cores: float | None
) -> dict[str, Any]:
    """The rate of so many workers, each held to `cores` of a core or to nothing; and what all processes used."""
    settings = settings_for(kafka, redis, f"workers-{workers}-{'held' if cores else 'free'}")
    asyncio.run(create_topics(settings))
    roles = [Role("streams", settings) for _ in range(workers)]
    topic = settings.topic(Topic.CLICKS)
    with contextlib.ExitStack() as stack:
        for role in roles:
            stack.callback(role.close)
            role.start()
        trees = {"workers": [ProcessTree(role.pid) for role in roles], "kafka": [ProcessTree(kafka.pid)], "redis": [ProcessTree(redis.pid)]}
        if cores:
            for role in roles:
                stack.enter_context(quota(role.pid, cores))
        before = {name: sum(tree.cpu_seconds() for tree in own) for name, own in trees.items()}
        watching = pool.submit(watch, Watch(redis.url, settings.redis.namespace, topic, PARTITIONS, records, _LIMIT))
        pool.submit(produce, Plan(settings.kafka.bootstrap_servers, topic, records, 0.0)).result()
        watched = watching.result()
        # The producer has long ended when a third is applied.
        rate = rate_between(watched.polled_at, watched.totals, records // 3, records * 9 // 10)
        used = {name: sum(tree.cpu_seconds() for tree in own) - before[name] for name, own in trees.items()}
    with Redis.from_url(redis.url) as client:
        client.flushall()
    return {
        "workers": workers,
        "cores_each": cores,
        "events_per_second": round(rate),
        "cpu_us_per_event": {name: round(seconds / records * 1e6, 2) for name, seconds in used.items()},
    }


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Everything, with servers of its own; the content of the section `scale`."""
    processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    held = available()
    with processes as pool, servers() as (kafka, redis):
        campaigns = [by_campaigns(kafka, redis, pool, count, 150_000 if quick else 1_000_000) for count in CAMPAIGNS]
        free = [by_workers(kafka, redis, pool, count, 200_000 if quick else 1_500_000, None) for count in (1, 2)]
        compared = [by_workers(kafka, redis, pool, count, 150_000 if quick else 900_000, _CORES) for count in (1, 2)] if held else []
    first = campaigns[0]["events_per_second"]
    found: dict[str, Any] = {"campaigns": campaigns, "workers": [*free, *compared]}
    found["ratios"] = {str(each["campaigns"]): round(each["events_per_second"] / first, 2) for each in campaigns[1:]}
    found["goals"] = {str(count): goal for count, goal in GOALS.items()}
    if compared:
        found["ratios"]["two_workers"] = round(compared[1]["events_per_second"] / compared[0]["events_per_second"], 2)
        found["goals"]["two_workers"] = GOAL_TWO_WORKERS
    return found


def table(found: dict[str, Any]) -> Table:
    """What was found, for people."""
    said = [
        f"{name.replace('_', ' ')}: {ratio:.2f} (goal {found['goals'][name]:g}, "
        f"{'reached' if ratio >= found['goals'][name] else 'NOT REACHED'})"
        for name, ratio in found["ratios"].items()
    ]
    shown = Table(title="rate by campaigns and by workers", caption="\n".join(said))
    for heading in ("", "events/s", "us of CPU an event", "bytes to Redis an event"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for each in found["campaigns"]:
        cpu, sent = f"redis {each['redis_cpu_us_per_event']}", f"{each['redis_bytes_per_event']:,}"
        shown.add_row(f"{each['campaigns']:,} campaigns, one worker", f"{each['events_per_second']:,}", cpu, sent)
    for each in found["workers"]:
        held = f", {each['cores_each']:g} of a core each" if each["cores_each"] else ""
        cpu = ", ".join(f"{name} {value}" for name, value in each["cpu_us_per_event"].items())
        shown.add_row(f"{each['workers']} workers{held}", f"{each['events_per_second']:,}", cpu, "")
    return shown


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure, print, and return the content of the section `scale`."""
    found = measure(quick=quick)
    Console(width=140).print(table(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a trial of a minute; nothing is saved")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick)
    if not arguments.quick:
        save("scale", found)


if __name__ == "__main__":
    main()
