"""What the two PyFlink SQL programs share: the environment, the table of a topic, and its windows as they come out.

The first progress of a job in which nothing can be hooked is taken from its results: each window says when its first event was processed,
which costs Flink one more aggregate, a minimum of the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pyflink.table import EnvironmentSettings, TableEnvironment

from bench.contenders.reporting import Progress, Task

_SOURCE = """
CREATE TABLE {table} (
  {columns},
  occurred_at BIGINT,
  event_time AS TO_TIMESTAMP_LTZ(occurred_at, 3),
  WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = '{topic}',
  'properties.bootstrap.servers' = '{servers}',
  'properties.group.id' = '{name}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'format' = 'json'
)
"""
#: SQL of the two columns that `windows` looks for at the end of each row: start of the window, and clock at its first event, epoch ms.
TIMES = (
    "1000 * UNIX_TIMESTAMP(DATE_FORMAT(window_start, 'yyyy-MM-dd HH:mm:ss')), "
    "CAST(1000 * UNIX_TIMESTAMP(DATE_FORMAT(MIN(CURRENT_ROW_TIMESTAMP()), 'yyyy-MM-dd HH:mm:ss')) "
    "+ EXTRACT(MILLISECOND FROM MIN(CURRENT_ROW_TIMESTAMP())) AS BIGINT)"
)


def environment(job: Task) -> TableEnvironment:
    """A streaming environment on this machine, parallelism 1."""
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in {
        "pipeline.jars": ";".join(f"file://{jar}" for jar in job.jars.split(":")),
        "parallelism.default": "1",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
    }.items():
        table.get_config().set(name, value)
    return table


def create_source(table: TableEnvironment, job: Task, name: str, columns: str) -> None:
    """The topic as table `name` with these columns, occurred_at and the event time."""
    table.execute_sql(_SOURCE.format(table=name, columns=columns, topic=job.topic, servers=job.bootstrap_servers, name=job.name))


def windows(table: TableEnvironment, query: str, progress: Progress, count: int) -> Iterator[tuple[Any, ...]]:
    """Rows of the query as they come; its two last columns are those of `TIMES`, of which the first is given. Column `count` is counted."""
    first = True
    with table.execute_sql(query).collect() as rows:
        for row in rows:
            *values, began = row
            if first:
                first = False
                progress.started(time.monotonic() - (time.time() - began / 1000))
            yield tuple(values)
            progress.count(values[count])
