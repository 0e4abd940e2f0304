"""What an operator must know of a plan: limits that come first, and where it goes beyond what was measured."""

from __future__ import annotations

from collections.abc import Iterator

from streams.config import Settings
from streams.planning.load import Load, cube_rows
from streams.planning.measured import Coefficients
from streams.planning.redis import BUSY, Masters
from streams.planning.words import number, size


def caveats(
    load: Load,
    settings: Settings,
    c: Coefficients,
    *,
    partitions: int,
    workers: int,
    rate: float,
    largest: float,
    ids: float,
    found: Masters,
) -> Iterator[str]:
    """Sentences; `rate` a worker's events/s, `largest` the largest campaign's, `ids` those in a worker."""
    yield from _limits(load, settings, partitions, workers, rate, largest, ids, found)
    yield from _beyond(load, c, partitions, workers, found)


def _limits(
    load: Load, settings: Settings, partitions: int, workers: int, rate: float, largest: float, ids: float, found: Masters
) -> Iterator[str]:
    if workers > partitions:
        yield (
            f"{number(workers)} workers are more than the {number(partitions)} partitions that were given: "
            f"{number(workers - partitions)} would stand idle, and the others fall behind. Give more partitions"
        )
    if largest > rate:
        yield (
            f"the largest campaign sends {number(largest)} events/s, a worker takes {number(rate)}: a campaign is in one "
            f"partition of a topic, "
            "and a partition has one worker. Let its events carry several campaign ids, or sample its impressions"
        )
    if ids > settings.streams.dedupe_ids:
        yield (
            f"streams.dedupe_ids is {settings.streams.dedupe_ids:,}, and a worker has {number(ids)} ids within the horizon: "
            f"raise it, or the "
            "oldest are forgotten and repeats of them counted; or shorten streams.dedupe_horizon"
        )
    for name, dimensions in settings.all_cubes.items():
        rows = cube_rows(load, dimensions, partitions).stored / partitions
        if rows > settings.streams.max_rows_per_cube:
            yield (
                f"cube {name} has {number(rows)} rows in a partition and day; beyond streams.max_rows_per_cube "
                f"({settings.streams.max_rows_per_cube:,}) they fold into one. Give more partitions, or raise streams.max_rows_per_cube"
            )
    if not found.fits:
        yield (
            f"no number of masters is enough: the fullest or busiest topic-partition needs {size(found.fullest)} and "
            f"{found.busiest:.2f} cores of a "
            f"master that may use half its memory (--redis-headroom) and {BUSY:g} cores. Keep less (see below), give more "
            f"partitions, or larger masters"
        )


def _beyond(load: Load, c: Coefficients, partitions: int, workers: int, found: Masters) -> Iterator[str]:
    most = c.worker_events_per_second[-1][0]
    if load.campaigns / partitions > most:
        yield (
            f"extrapolated: {number(load.campaigns / partitions)} campaigns in a partition were not measured, at most {number(most)}; "
            "the rate of a worker is less than shown"
        )
    if workers > c.workers_measured:
        yield (
            f"extrapolated: at most {number(c.workers_measured)} workers were measured together. They share nothing but Kafka and Redis, "
            "so the rest is expected to add up"
        )
    if found.count > c.masters_measured:
        yield (
            f"extrapolated: Redis Cluster was run with {number(c.masters_measured)} masters; a page of KPIs asks each of them, "
            f"and waits for the slowest"
        )
