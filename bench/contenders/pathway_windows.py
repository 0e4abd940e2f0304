"""Pathway: count and sum of cost per campaign and 10 s of event time, by windowby with tumbling windows."""

from __future__ import annotations

from typing import Any

import pathway as pw

from bench.contenders.reporting import WINDOW, Progress, task, write_answer


class Click(pw.Schema):
    campaign_id: str
    occurred_at: int
    cost: str


def main() -> None:
    job = task()
    progress = Progress(job)
    latest: dict[tuple[str, int], tuple[int, float]] = {}
    done = 0

    def changed(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        nonlocal done
        if is_addition:
            window = row["campaign_id"], row["start"]
            done += row["count"] - latest.get(window, (0, 0.0))[0]
            latest[window] = row["count"], row["cost"]

    def told(time: int) -> None:
        progress.reached(done)

    clicks = pw.io.kafka.read(
        {"bootstrap.servers": job.bootstrap_servers, "group.id": job.name, "auto.offset.reset": "earliest"},
        topic=job.topic,
        schema=Click,
        format="json",
        mode="static",
        autocommit_duration_ms=200,
    )
    clicks = clicks.select(pw.this.campaign_id, pw.this.occurred_at, cost=pw.this.cost.str.parse_float())
    windows = clicks.windowby(clicks.occurred_at, window=pw.temporal.tumbling(duration=WINDOW), instance=clicks.campaign_id)
    totals = windows.reduce(
        campaign_id=pw.this._pw_instance, start=pw.this._pw_window_start, count=pw.reducers.count(), cost=pw.reducers.sum(pw.this.cost)
    )
    pw.io.subscribe(totals, on_change=changed, on_time_end=told)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    progress.finished()
    write_answer(job.answer, [(campaign, start, count, cost) for (campaign, start), (count, cost) in latest.items()])


if __name__ == "__main__":
    main()
