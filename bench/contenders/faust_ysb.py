"""Plain Faust at the Yahoo Streaming Benchmark: filter, join with a dict, a windowed table per campaign, and every second to Redis.

Writing what has changed once a second is what the original does.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any

import faust

from bench.contenders.redis_counts import Counts
from bench.contenders.reporting import WINDOW, Progress, Task, task


class Event(faust.Record):
    """What the job needs of an event."""

    kind: str
    creative_id: str
    occurred_at: int


def app_for(job: Task) -> faust.App:
    """The app: it reads until all events are counted and in Redis, and ends the process."""
    progress, counts, campaign_of = Progress(job), Counts(job), job.read_ads()
    app = faust.App(
        job.name,
        broker="kafka://" + job.bootstrap_servers,
        store="memory://",
        topic_partitions=job.partitions,
        datadir=str(job.directory),
    )
    topic = app.topic(job.topic, value_type=Event)
    views = (
        app.Table(f"{job.name}-views", default=int, partitions=job.partitions)
        .tumbling(WINDOW / 1000, expires=timedelta(hours=1))
        .relative_to(lambda event: event.value.occurred_at / 1000)  # type: ignore[attr-defined]  # its interface forgets it
    )
    changed: dict[tuple[str, int], int] = {}

    def write() -> None:
        counts.put((campaign, window, count) for (campaign, window), count in changed.items())
        changed.clear()

    @app.agent(topic)
    async def count(events: Any) -> None:
        async for event in events:
            progress.started()
            if event.kind == "view":
                campaign = campaign_of[event.creative_id]
                views[campaign] += 1
                changed[campaign, event.occurred_at // WINDOW * WINDOW] = views[campaign].value()
            progress.add(1)
            if progress.events == job.events:
                write()
                progress.finished()
                # An app cannot be stopped from inside its own agent; nothing is left to do.
                os._exit(0)

    @app.timer(1.0)
    async def flush() -> None:
        if changed:
            write()

    return app


if __name__ == "__main__":
    given = task()
    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn", "--without-web"]  # its command passes over web_enabled
    app_for(given).main()
