"""PyFlink SQL on the JVM: count and sum of cost per campaign and 10 s of event time, by the TUMBLE window function, parallelism 1."""

from __future__ import annotations

from pyflink.table import EnvironmentSettings, TableEnvironment
from reporting import Progress, task, write_answer

_SOURCE = """
CREATE TABLE clicks (
  campaign_id STRING,
  occurred_at BIGINT,
  cost STRING,
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
_QUERY = """
SELECT campaign_id, UNIX_TIMESTAMP(CAST(window_start AS STRING)) * 1000, COUNT(*), SUM(CAST(cost AS DECIMAL(10, 2)))
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
GROUP BY campaign_id, window_start, window_end
"""


def main() -> None:
    job = task()
    progress = Progress(job)
    table = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in {
        "pipeline.jars": ";".join(f"file://{jar}" for jar in job.jars.split(":")),
        "parallelism.default": "1",
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
    }.items():
        table.get_config().set(name, value)
    table.execute_sql(_SOURCE.format(topic=job.topic, servers=job.bootstrap_servers, name=job.name))
    rows = []
    with table.execute_sql(_QUERY).collect() as results:
        for campaign, start, count, cost in results:
            rows.append((campaign, start, count, float(cost)))
            progress.count(count)
    progress.finished()
    write_answer(job.answer, rows)


if __name__ == "__main__":
    main()
