"""PyFlink SQL on the JVM at the Yahoo Streaming Benchmark: filter, TUMBLE per ad, join with a table of ads, Redis.

Views are counted per ad before they are joined: a join of the events themselves would keep every one of them in its state. The client adds
the counts of a campaign's ads up in Redis.
"""

from __future__ import annotations

from bench.contenders.flink_tables import TIMES, create_source, environment, windows
from bench.contenders.redis_counts import Counts
from bench.contenders.reporting import Progress, task

_QUERY = f"""
SELECT campaign_id, seen, start_ms, began
FROM (
  SELECT creative_id, COUNT(*), {TIMES}
  FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
  WHERE kind = 'view'
  GROUP BY creative_id, window_start, window_end
) AS counted (creative_id, seen, start_ms, began)
JOIN ads ON ads.ad_id = counted.creative_id
"""  # nosec B608 # nothing in it comes from outside
_ROWS = 500


def main() -> None:
    """Run to what was the end of the topic at the start."""
    job = task()
    progress, counts = Progress(job), Counts(job)
    table = environment(job)
    create_source(table, job, "events", "creative_id STRING, kind STRING")
    table.create_temporary_view("ads", table.from_elements(list(job.read_ads().items()), ["ad_id", "campaign_id"]))
    rows: list[tuple[str, int, int]] = []
    for campaign, views, start in windows(table, _QUERY, progress, 1):
        rows.append((campaign, start, views))
        if len(rows) >= _ROWS:
            counts.add(rows)
            rows.clear()
    counts.add(rows)
    progress.finished()


if __name__ == "__main__":
    main()
