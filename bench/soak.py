"""Whether a worker's memory stays what it is: half an hour of steady load, its resident memory every ten seconds.

    python -m bench.soak                      # 30 minutes at 10,000 events/s
    python -m bench.soak --minutes 60 --rate 20000
    python -m bench.soak --quick              # 40 seconds, to see that it works; too short to say anything about memory

By default a worker remembers the ids of an hour (`streams.dedupe_horizon`) and keeps 64 million cells of open tables in memory
(`streams.open_cells`); filling both takes longer than the run. So both are set lower here, to 5 minutes and 8 million cells, which is all
that differs from the defaults. Ids are forgotten 5 minutes at a time, 10 to 15 minutes after they came: their number, and the memory with
it, goes up and down by a third in steps of 5 minutes from the 15th minute on. What counts is therefore the second half of the run, and in
it the memory of each 5 minutes that a tenth of the looks exceed: flat is a slope of these, by least squares, of at most 2 % of the memory
in an hour. The highest would not do: a table that is moved into a larger or smaller one is there twice for a moment, which some looks see.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from rich.console import Console
from rich.table import Table

from bench.figures import high_of_each, slope_per_hour, sparkline
from bench.paced import Plan, Sent, produce
from bench.product import Role
from bench.results import save
from bench.servers import servers, settings_for
from streams.config import Settings, Topic
from streams.topics import create_topics

HORIZON, OPEN_CELLS = 300.0, 8_000_000
#: Seconds in which ids come and go.
PERIOD = 300.0
#: Part of the memory by which it may rise in an hour and still be called flat: what moves by less is the allocator's.
FLAT_PER_HOUR = 0.02
#: Seconds that the worker may need for the rest when the producer has ended.
_REST = 60.0
#: Bytes of a partition that the broker keeps: what was read is not needed again, and half an hour of it is gigabytes.
_KEPT = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """One look, `at` seconds after the start."""

    at: float
    rss_mib: float
    open_cells: int
    ids: int


def judge(samples: Sequence[Sample]) -> dict[str, Any]:
    """What the second half of a run says. Slopes are in MiB per hour."""
    before = sum(sample.at < samples[-1].at / 2 for sample in samples)
    # With the last look of the first half: between looks at both ends of it lie whole periods.
    half = samples[max(0, before - 1) :]
    at, rss = [sample.at for sample in half], [sample.rss_mib for sample in half]
    middles, high = high_of_each(PERIOD, at, rss)
    # Fewer periods than three make no slope.
    periods = slope_per_hour(middles, high) if len(high) >= 3 else None
    mean = sum(rss) / len(rss)
    return {
        "mean_mib": round(mean, 1),
        "lowest_mib": round(min(rss), 1),
        "highest_mib": round(max(rss), 1),
        "slope_of_all_mib_per_hour": round(slope_per_hour(at, rss), 1),
        "high_of_each_period_mib": [round(value, 1) for value in high],
        "slope_mib_per_hour": None if periods is None else round(periods, 1),
        "flat": None if periods is None else periods <= FLAT_PER_HOUR * mean,
    }


def measure(*, minutes: float = 30.0, rate: float = 10_000.0, every: float = 10.0) -> dict[str, Any]:
    """Everything, with servers of its own; the content of the section `soak`."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool, servers() as (kafka, redis):
        settings = settings_for(kafka, redis, "soak")
        streams = settings.streams.model_copy(update={"dedupe_horizon": HORIZON, "open_cells": OPEN_CELLS})
        settings = settings.model_copy(update={"streams": streams})
        asyncio.run(_make_topics(settings))
        count = int(rate * minutes * 60)
        with Role("streams", settings) as worker:
            plan = Plan(settings.kafka.bootstrap_servers, settings.topic(Topic.CLICKS), count, rate, step=0.1)
            producing = pool.submit(produce, plan)
            samples = _sample(worker, producing, every)
            sent = producing.result()
            outcomes = _outcomes(worker, count)
    assert outcomes == {"applied": count}, f"{count:,} events were sent, the worker counted {outcomes}"
    return {
        "minutes": minutes,
        "events_per_second": round(count / sent.took),
        "events": count,
        "settings": {"dedupe_horizon": HORIZON, "open_cells": OPEN_CELLS},
        **judge(samples),
        "open_cells_at_most": max(sample.open_cells for sample in samples),
        "ids_at_most": max(sample.ids for sample in samples),
        "samples": [[round(sample.at), round(sample.rss_mib, 1), sample.open_cells, sample.ids] for sample in samples],
    }


async def _make_topics(settings: Settings) -> None:
    await create_topics(settings)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        limits = {"retention.bytes": str(_KEPT), "segment.bytes": str(_KEPT // 4)}
        # This call sets the whole: what `topics create` had chosen must be said again.
        limits |= {"message.timestamp.type": "LogAppendTime"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topic(Topic.CLICKS), configs=limits)])
    finally:
        await admin.close()


def _sample(worker: Role, producing: Future[Sent], every: float) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    while not producing.done():
        samples.append(Sample(time.monotonic() - began, rss_mib(worker.pid), *_held(worker)))
        time.sleep(every)
    return samples


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _held(worker: Role) -> tuple[int, int]:
    metrics = worker.metrics()
    cells, ids = (sum(v for (name, _), v in metrics.items() if name == f"campaignwatch_{what}") for what in ("open_cells", "dedupe_ids"))
    return int(cells), int(ids)


def _outcomes(worker: Role, count: int) -> dict[str, int]:
    end = time.monotonic() + _REST
    while True:
        found = {
            dict(labels)["outcome"]: int(v) for (name, labels), v in worker.metrics().items() if name == "campaignwatch_events_total" and v
        }
        if sum(found.values()) >= count or time.monotonic() > end:
            return found
        time.sleep(0.2)


def table(found: dict[str, Any]) -> Table:
    """What was found, for people."""
    slope, flat = found["slope_mib_per_hour"], found["flat"]
    shown = Table(
        title=f"a worker under {found['events_per_second']:,} events/s for {found['minutes']:.3g} min",
        caption="too short to say whether it is flat" if flat is None else f"{slope:+.1f} MiB per hour: {'flat' if flat else 'NOT FLAT'}",
    )
    for heading in ("minute", "resident, MiB", "open cells", "ids held"):
        shown.add_column(heading, justify="right")
    samples = found["samples"]
    for at, rss, cells, ids in samples[:: max(1, len(samples) // 12)]:
        shown.add_row(f"{at / 60:.1f}", f"{rss:,.0f}", f"{cells:,}", f"{ids:,}")
    return shown


def run(*, quick: bool = False, minutes: float = 30.0, rate: float = 10_000.0) -> dict[str, Any]:
    """Measure, print, and return the content of the section `soak`."""
    found = measure(minutes=40 / 60, rate=2_000, every=2.0) if quick else measure(minutes=minutes, rate=rate)
    console = Console(width=150)
    console.print(table(found))
    console.print(sparkline([rss for _, rss, _, _ in found["samples"]]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10_000.0, help="events/s (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a trial of 40 seconds at 2,000 events/s; nothing is saved")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick, minutes=arguments.minutes, rate=arguments.rate)
    if not arguments.quick:
        save("soak", found)


if __name__ == "__main__":
    main()
