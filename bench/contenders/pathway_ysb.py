"""Pathway at the Yahoo Streaming Benchmark: filter, join with a table of ads, windowby per campaign, Redis after each batch."""

from __future__ import annotations

from typing import Any

import pathway as pw

from bench.contenders.redis_counts import Counts
from bench.contenders.reporting import WINDOW, Progress, task


class Event(pw.Schema):
    """What the job needs of an event."""

    kind: str
    creative_id: str
    occurred_at: int


class Ad(pw.Schema):
    """Which campaign an ad belongs to."""

    ad: str = pw.column_definition(primary_key=True)
    campaign: str


def main() -> None:
    """Read what the topic holds; results of a window are brought up to date with every batch."""
    job = task()
    progress, counts = Progress(job), Counts(job)
    latest: dict[tuple[str, int], int] = {}
    fresh: dict[tuple[str, int], int] = {}

    def changed(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            fresh[row["campaign"], row["start"]] = row["views"]

    def told(time: int) -> None:
        counts.put((campaign, start, views) for (campaign, start), views in fresh.items())
        gained = sum(views - latest.get(window, 0) for window, views in fresh.items())
        latest.update(fresh)
        fresh.clear()
        progress.count(gained)

    events = pw.io.kafka.read(
        {"bootstrap.servers": job.bootstrap_servers, "group.id": job.name, "auto.offset.reset": "earliest"},
        topic=job.topic,
        schema=Event,
        format="json",
        mode="static",
        autocommit_duration_ms=200,
    )
    ads = pw.debug.table_from_rows(Ad, list(job.read_ads().items()))
    views = events.filter(pw.this.kind == "view")
    joined = views.join(ads, views.creative_id == ads.ad).select(ads.campaign, views.occurred_at)
    windows = joined.windowby(joined.occurred_at, window=pw.temporal.tumbling(duration=WINDOW), instance=joined.campaign)
    totals = windows.reduce(campaign=pw.this._pw_instance, start=pw.this._pw_window_start, views=pw.reducers.count())
    pw.io.subscribe(totals, on_change=changed, on_time_end=told)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    progress.finished()


if __name__ == "__main__":
    main()
