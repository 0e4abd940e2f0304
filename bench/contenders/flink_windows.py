"""PyFlink SQL on the JVM: count and sum of cost per campaign and 10 s of event time, by the TUMBLE window function."""

from __future__ import annotations

from bench.contenders.flink_tables import TIMES, create_source, environment, windows
from bench.contenders.reporting import Progress, task, write_answer

_QUERY = f"""
SELECT campaign_id, COUNT(*), SUM(CAST(cost AS DECIMAL(10, 2))), {TIMES}
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(event_time), INTERVAL '10' SECOND))
GROUP BY campaign_id, window_start, window_end
"""  # nosec B608 # nothing in it comes from outside


def main() -> None:
    """Run to what was the end of the topic at the start."""
    job = task()
    progress = Progress(job)
    table = environment(job)
    create_source(table, job, "clicks", "campaign_id STRING, cost STRING")
    rows = [(campaign, start, count, float(cost)) for campaign, count, cost, start in windows(table, _QUERY, progress, 1)]
    progress.finished()
    write_answer(job.answer, rows)


if __name__ == "__main__":
    main()
