"""Bytewax at the Yahoo Streaming Benchmark: filter and join while decoding, fold_window per campaign, a sink that writes to Redis."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as win
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from confluent_kafka import OFFSET_BEGINNING

from bench.contenders.redis_counts import Counts
from bench.contenders.reporting import WINDOW, Progress, Task, task

_START = datetime(2020, 1, 1, tzinfo=UTC)
_START_MS = int(_START.timestamp() * 1000)
_BATCH = 10_000
#: More than the partitions of a backlog are ahead of one another when they are read: what comes later would be dropped.
_LATENESS = timedelta(minutes=10)

Row = tuple[str, int, int]


class _RedisPartition(StatelessSinkPartition[Row]):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def write_batch(self, items: list[Row]) -> None:
        self._counts.put(items)


class _RedisSink(DynamicSink[Row]):
    def __init__(self, job: Task) -> None:
        self._job = job

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _RedisPartition:
        return _RedisPartition(Counts(self._job))


def flow(job: Task, progress: Progress) -> Dataflow:
    """The dataflow; it ends at the end of the topic."""
    campaign_of = job.read_ads()

    def views(messages: list[Any]) -> Iterable[tuple[str, datetime]]:
        progress.started()
        progress.add(len(messages))
        loads = orjson.loads
        for message in messages:
            event = loads(message.value)
            if event["kind"] == "view":
                yield campaign_of[event["creative_id"]], datetime.fromtimestamp(event["occurred_at"] / 1000, UTC)

    def row(item: tuple[str, tuple[int, int]]) -> Row:
        campaign, (window, count) = item
        return campaign, _START_MS + window * WINDOW, count

    dataflow = Dataflow("ysb")
    source = KafkaSource([job.bootstrap_servers], [job.topic], tail=False, starting_offset=OFFSET_BEGINNING, batch_size=_BATCH)
    events = op.flat_map_batch("views", op.input("events", dataflow, source), views)
    clock = win.EventClock(ts_getter=lambda at: at, wait_for_system_duration=_LATENESS)
    windower = win.TumblingWindower(length=timedelta(milliseconds=WINDOW), align_to=_START)
    counted = win.fold_window(
        "count", events, clock, windower, lambda: 0, lambda count, _: count + 1, lambda one, two: one + two, ordered=False
    )
    op.output("redis", op.map("row", counted.down, row), _RedisSink(job))
    return dataflow


def main() -> None:
    """Run to the end of the topic."""
    job = task()
    progress = Progress(job)
    cli_main(flow(job, progress))
    progress.finished()


if __name__ == "__main__":
    main()
