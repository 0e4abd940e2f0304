"""Quix Streams: count and sum of cost per campaign (the key of the messages) and 10 s of event time, by its tumbling windows.

Windows are final once an event of the same campaign comes that is later than their end and the grace period; the topic ends with such
events.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum

from bench.contenders.reporting import WINDOW, Progress, task, write_answer

_GRACE = 5_000


def main() -> None:
    job = task()
    progress = Progress(job)
    rows: list[tuple[str, int, int, float]] = []
    app = Application(
        broker_address=job.bootstrap_servers,
        consumer_group=job.name,
        auto_offset_reset="earliest",
        state_dir=job.directory / "state",
        loglevel="WARNING",
    )

    def event_time(value: dict[str, Any], headers: Any, timestamp: float, kind: Any) -> int:
        progress.started()
        time: int = value["occurred_at"]
        return time

    def result(value: dict[str, Any], key: bytes, timestamp: int, headers: Any) -> None:
        rows.append((key.decode(), value["start"], value["count"], value["cost"]))
        if progress.count(value["count"]):
            progress.finished()
            app.stop()

    topic = app.topic(job.topic, key_deserializer="bytes", value_deserializer="json", timestamp_extractor=event_time)
    clicks = app.dataframe(topic).apply(lambda click: {"cost": float(click["cost"])})
    totals = clicks.tumbling_window(WINDOW, grace_ms=_GRACE).agg(count=Count(), cost=Sum("cost")).final()
    totals.update(result, metadata=True)
    app.run()
    write_answer(job.answer, rows)


if __name__ == "__main__":
    main()
