"""How long after its being produced an event is seen in Redis, at parts of the highest rate that one worker sustains.

    python -m bench.latency                    # about seven minutes
    python -m bench.latency --maximum 60000    # the highest rate is known: do not measure it first
    python -m bench.latency --quick            # half a minute, to see that it works

The highest rate is what a worker sustains: a producer in a process of its own offers it for a minute as much as it took of a backlog, which
is more than it can take with a producer beside it; what it applies within that minute counts, without the first tenth. (Sustainable
throughput is the term of Karimov et al., Benchmarking Distributed Stream Data Processing Systems, ICDE 2018.) The backlog alone says too
much: it is a few seconds of work, on tables that are small as yet, with the machine to itself.

Then the same producer sends at 10, 50 and 80 % of it: every 25 ms a batch, whose bytes are made as they are sent. A third process asks
Redis for the applied offset of every partition, some hundred times a second; so each record's time is known to that step, and is never
made better than it is. Beside it stands what the worker says itself in `campaignwatch_visible_seconds`, which begins with the broker's time
of the record: both must be in the same bucket or in neighbouring ones.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.clicks import Load
from bench.figures import Buckets, Latencies, rate_between, rate_within, seen_after
from bench.paced import Plan, Sent, produce
from bench.product import Role
from bench.results import save
from bench.servers import PARTITIONS, servers, settings_for
from bench.watching import Watch, Watched, watch
from streams.config import Settings, Topic
from streams.topics import create_topics

#: ms, at half of the highest rate.
GOAL_P99, GOAL_SHARE = 1_000.0, 0.5
SHARES = (0.1, 0.5, 0.8)
_LOAD = Load()
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
#: Seconds within which a backlog of the first measurement is applied, and the rest after the producer has ended.
_LIMIT, _REST = 300.0, 120.0
#: What is left out at the beginning where the highest rate is measured.
_SETTLING = 0.1


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one rate."""

    #: Of the highest rate; None where the rate was given.
    share: float | None
    rate: float
    latencies: Latencies
    #: What the worker says, in the same time.
    product: Buckets
    #: When the first batch was sent and when the last, epoch s.
    sent: tuple[float, float]
    #: How late the producer was at most, s, and its part of a core.
    late: float
    busy: float

    def product_says(self, quantile: str) -> str:
        """The bucket of a quantile in ms."""
        return self.product.named(self.product.quantile(QUANTILES[quantile]))

    def agrees(self, quantile: str) -> bool:
        """Whether both measurements of a quantile are in the same bucket or in neighbouring ones."""
        mine = self.product.number_of(getattr(self.latencies, quantile) / 1_000)
        return abs(mine - self.product.quantile(QUANTILES[quantile])) <= 1

    def content(self) -> dict[str, Any]:
        """For the report; latencies in ms."""
        return {
            "share": self.share,
            "events_per_second": round(self.rate),
            **self.latencies.content(),
            "product": {quantile: self.product_says(quantile) for quantile in QUANTILES},
            "agree": all(map(self.agrees, QUANTILES)),
            "producer_late_ms": round(self.late * 1_000, 1),
            "producer_cores": round(self.busy, 2),
        }


class Bench:
    """One worker on one topic of clicks. `redis_url` and the broker of `settings` must be there, and the topics."""

    def __init__(self, settings: Settings, worker: Role, pool: ProcessPoolExecutor, load: Load) -> None:
        self._settings = settings
        self._worker = worker
        self._pool = pool
        self._load = load
        #: Records in the topic.
        self._sent = 0

    def _plan(self, count: int, rate: float) -> Plan:
        kafka = self._settings.kafka
        return Plan(kafka.bootstrap_servers, self._settings.topic(Topic.CLICKS), count, rate, first=self._sent, load=self._load)

    def _watch(self, records: int, limit: float) -> Watch:
        redis, topic = self._settings.redis, self._settings.topic(Topic.CLICKS)
        return Watch(redis.url, redis.namespace, topic, self._settings.kafka.partitions, records, limit)

    def maximum(self, records: int) -> float:
        """Fill the topic, start the worker, and see how many events a second it applies between a tenth and nine tenths of them."""
        sent = self._pool.submit(produce, self._plan(records, 0.0)).result()
        self._sent += int(sent.count.sum())
        watching = self._pool.submit(watch, self._watch(self._sent, _LIMIT))
        self._worker.start()
        watched = watching.result()
        return rate_between(watched.polled_at, watched.totals, records // 10, records * 9 // 10)

    def sustained(self, offered: float, seconds: float) -> float:
        """Produce at a rate that is too high, and see how many events a second the worker applies meanwhile, after the first tenth."""
        watched, sent = self._produced(offered, seconds)
        began, ended = float(sent.sent_at.min()), float(sent.sent_at.max())
        return rate_within(watched.polled_at, watched.totals, began + _SETTLING * (ended - began), ended)

    def point(self, rate: float, seconds: float, share: float | None = None) -> Point:
        """Produce at `rate` and see how soon everything is applied. The worker must have applied all that was sent before."""
        before = self._counted(self._sent)
        watched, sent = self._produced(rate, seconds)
        after = self._counted(self._sent)
        assert after is not None
        product = after if before is None else after.since(before)
        when = float(sent.sent_at.min()), float(sent.sent_at.max())
        return Point(share, int(sent.count.sum()) / sent.took, Latencies.of(_seconds(sent, watched)), product, when, sent.late, sent.busy)

    def _produced(self, rate: float, seconds: float) -> tuple[Watched, Sent]:
        """Produce for so long; returns when all is applied."""
        count = int(rate * seconds)
        watching = self._pool.submit(watch, self._watch(self._sent + count, seconds + _REST))
        sent = self._pool.submit(produce, self._plan(count, rate)).result()
        self._sent += count
        return watching.result(), sent

    def _counted(self, records: int) -> Buckets | None:
        """The worker's own histogram once it holds that many records: it counts them a moment after they are seen in Redis."""
        until = time.monotonic() + _REST
        while True:
            found = self._worker.histogram("campaignwatch_visible_seconds", topic=self._settings.topic(Topic.CLICKS))
            count = 0 if found is None else found.count
            if count == records:
                return found
            if count > records or time.monotonic() > until:
                raise RuntimeError(f"the worker says that {count:,} records became visible, of {records:,}")
            time.sleep(0.05)


def _seconds(sent: Sent, watched: Watched) -> np.ndarray[Any, np.dtype[np.float64]]:
    found = []
    for partition in range(watched.applied.shape[1]):
        own = sent.partition == partition
        order = np.argsort(sent.first_offset[own])
        first, count, at = (column[own][order] for column in (sent.first_offset, sent.count, sent.sent_at))
        found.append(seen_after(first, count, at, watched.polled_at, watched.applied[:, partition]))
    return np.concatenate(found)


def measure(
    *,
    seconds: float = 60.0,
    maximum: float | None = None,
    backlog: int = 800_000,
    shares: Sequence[float] = SHARES,
    load: Load = _LOAD,
) -> dict[str, Any]:
    """Everything, with servers of its own; the content of the section `latency`."""
    processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with processes as pool, servers() as (kafka, redis):
        settings = settings_for(kafka, redis, "latency")
        asyncio.run(create_topics(settings))
        worker = Role("streams", settings)
        try:
            bench = Bench(settings, worker, pool, load)
            backlogged = bench.maximum(backlog) if maximum is None else None
            worker.start()
            highest = maximum if backlogged is None else bench.sustained(backlogged, seconds)
            assert highest is not None
            points = [bench.point(share * highest, seconds, share) for share in shares]
        finally:
            worker.close()
    half = next((p for p in points if p.share == GOAL_SHARE), None)
    return {
        "maximum_events_per_second": round(highest),
        "maximum_measured": maximum is None,
        "backlog_events_per_second": None if backlogged is None else round(backlogged),
        "seconds": seconds,
        "partitions": PARTITIONS,
        "points": [point.content() for point in points],
        "goal": f"p99 below {GOAL_P99:.0f} ms at {GOAL_SHARE:.0%}",
        "reached": half is not None and half.latencies.p99 < GOAL_P99,
    }


def table(found: dict[str, Any]) -> Table:
    """What was found, for people."""
    known = f"sustained; {found['backlog_events_per_second']:,} of a backlog" if found["maximum_measured"] else "given"
    shown = Table(
        title=f"produced -> visible in Redis, ms; highest rate of one worker {found['maximum_events_per_second']:,}/s ({known})",
        caption=f"goal: {found['goal']}: {'reached' if found['reached'] else 'NOT REACHED'}",
    )
    for heading in ("rate", "events/s", "records", "p50", "p99", "p99.9", "max", "the worker says p50 / p99 / p99.9", "producer late"):
        shown.add_column(heading, justify="right")
    for point in found["points"]:
        said = " / ".join(point["product"].values()) + ("" if point["agree"] else " DISAGREES")
        values = (f"{point[name]:,.0f}" for name in ("p50", "p99", "p999", "highest"))
        rate = "" if point["share"] is None else f"{point['share']:.0%}"
        late = f"{point['producer_late_ms']:,.0f}"
        shown.add_row(rate, f"{point['events_per_second']:,}", f"{point['count']:,}", *values, said, late)
    return shown


def run(*, quick: bool = False, seconds: float = 60.0, maximum: float | None = None) -> dict[str, Any]:
    """Measure, print, and return the content of the section `latency`."""
    found = measure(seconds=8.0, maximum=maximum, backlog=150_000) if quick else measure(seconds=seconds, maximum=maximum)
    Console(width=150).print(table(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="at each rate (default %(default)s)")
    parser.add_argument("--maximum", type=float, help="events/s that one worker takes at most; measured first if not given")
    parser.add_argument("--quick", action="store_true", help="a trial of half a minute; nothing is saved")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick, seconds=arguments.seconds, maximum=arguments.maximum)
    if not arguments.quick:
        save("latency", found)


if __name__ == "__main__":
    main()
