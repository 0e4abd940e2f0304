"""Bytewax: count and sum of cost per campaign and 10 s of event time, by its KafkaSource, EventClock and fold_window.

The source ends at the end of the topic, which closes what windows are still open.
"""

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

from bench.contenders.reporting import WINDOW, Progress, Task, task, write_answer

_START = datetime(2020, 1, 1, tzinfo=UTC)
_START_MS = int(_START.timestamp() * 1000)
_BATCH = 10_000
#: More than the partitions of a backlog are ahead of one another when they are read: what comes later would be dropped.
_LATENESS = timedelta(minutes=10)

Row = tuple[str, int, int, float]


class _Collected(StatelessSinkPartition[Row]):
    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def write_batch(self, items: list[Row]) -> None:
        self._rows.extend(items)


class _Collect(DynamicSink[Row]):
    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Collected:
        return _Collected(self._rows)


def flow(job: Task, progress: Progress, rows: list[Row]) -> Dataflow:
    def decode(messages: list[Any]) -> Iterable[tuple[str, tuple[datetime, float]]]:
        progress.started()
        progress.add(len(messages))
        loads = orjson.loads
        for message in messages:
            event = loads(message.value)
            yield event["campaign_id"], (datetime.fromtimestamp(event["occurred_at"] / 1000, UTC), float(event["cost"]))

    def add(total: tuple[int, float], event: tuple[datetime, float]) -> tuple[int, float]:
        return total[0] + 1, total[1] + event[1]

    def row(item: tuple[str, tuple[int, tuple[int, float]]]) -> Row:
        campaign, (window, (count, cost)) = item
        return campaign, _START_MS + window * WINDOW, count, cost

    dataflow = Dataflow("windows")
    source = KafkaSource([job.bootstrap_servers], [job.topic], tail=False, starting_offset=OFFSET_BEGINNING, batch_size=_BATCH)
    events = op.flat_map_batch("decode", op.input("clicks", dataflow, source), decode)
    clock = win.EventClock(ts_getter=lambda event: event[0], wait_for_system_duration=_LATENESS)
    windower = win.TumblingWindower(length=timedelta(milliseconds=WINDOW), align_to=_START)
    folded = win.fold_window(
        "count and sum", events, clock, windower, lambda: (0, 0.0), add, lambda one, two: (one[0] + two[0], one[1] + two[1]), ordered=False
    )
    op.output("out", op.map("row", folded.down, row), _Collect(rows))
    return dataflow


def main() -> None:
    job = task()
    progress = Progress(job)
    rows: list[Row] = []
    cli_main(flow(job, progress, rows))
    progress.finished()
    write_answer(job.answer, rows)


if __name__ == "__main__":
    main()
