"""Plain Faust, the way its guide shows it: a Record, an agent, and a windowed table for each cube; count and cost per row and 10 s.

`--cubes` names what tables there are, "campaign" or several. Tables are kept in memory (the default store) with their changelog topics;
the broker's settings are Faust's own. The topic is keyed by campaign already, so no `group_by` is needed, which would send every event
through Kafka once more; and count and cost share a table, which halves the writes.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from operator import attrgetter
from typing import Any

import faust

from bench.contenders.reporting import WINDOW, Progress, Task, task, write_answer

_MICROS = 1_000_000


class Click(faust.Record):
    """What the tables need of a click; Faust ignores the rest."""

    occurred_at: int
    campaign_id: str
    account_id: str
    channel: str
    platform: str
    creative_id: str
    region: str
    segment: str
    experiment_id: str
    variant_id: str
    cost: str


def add(total: list[int], micros: int) -> list[int]:
    """Count one more click and its cost."""
    return [total[0] + 1, total[1] + micros]


def app_for(job: Task, cubes: dict[str, list[str]]) -> faust.App:
    """The app: it reads until all events are counted, writes the answer and ends the process."""
    progress = Progress(job)
    app = faust.App(
        job.name,
        broker="kafka://" + job.bootstrap_servers,
        store="memory://",
        topic_partitions=job.partitions,
        datadir=str(job.directory),
    )
    topic = app.topic(job.topic, value_type=Click)
    tables = [
        (
            app.Table(f"{job.name}-{name}", default=lambda: [0, 0], partitions=job.partitions)
            .tumbling(WINDOW / 1000, expires=timedelta(hours=1))
            .relative_to(lambda event: event.value.occurred_at / 1000),  # type: ignore[attr-defined]  # its interface forgets it
            attrgetter(*dimensions) if dimensions else lambda click: "",
        )
        for name, dimensions in cubes.items()
    ]

    @app.agent(topic)
    async def count(clicks: Any) -> None:
        async for click in clicks:
            progress.started()
            micros = round(float(click.cost) * _MICROS)
            for table, key in tables:
                table[key(click)].apply(add, micros)
            progress.add(1)
            if progress.events == job.events:
                progress.finished()
                stored = tables[list(cubes).index("campaign")][0].table
                rows = [(key, int(window[0] * 1000), n, cost / _MICROS) for (key, window), (n, cost) in stored.items()]
                write_answer(job.answer, rows)
                # An app cannot be stopped from inside its own agent; nothing is left to do.
                os._exit(0)

    return app


if __name__ == "__main__":
    given = task()
    sys.argv = [sys.argv[0], "worker", "--loglevel", "warn", "--without-web"]  # its command passes over web_enabled
    app_for(given, json.loads(given.variant)).main()
