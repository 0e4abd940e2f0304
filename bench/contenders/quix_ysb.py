"""Quix Streams at the Yahoo Streaming Benchmark: filter, tumbling windows per key, join, Redis.

Its windows are per message key, which is the ad; going over to the campaign first would take a repartition through a second topic. So
ads are counted, and joined to campaigns when their windows are final, which is less work and the same result.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count

from bench.contenders.redis_counts import Counts
from bench.contenders.reporting import WINDOW, Progress, task

_GRACE = 5_000
_ROWS = 500


def main() -> None:
    """Run until every window before the closing events is in Redis."""
    job = task()
    progress, counts, campaign_of = Progress(job), Counts(job), job.read_ads()
    rows: list[tuple[str, int, int]] = []
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
        rows.append((campaign_of[key.decode()], value["start"], value["value"]))
        done = progress.count(value["value"])
        if done or len(rows) >= _ROWS:
            counts.add(rows)
            rows.clear()
        if done:
            progress.finished()
            app.stop()

    topic = app.topic(job.topic, key_deserializer="bytes", value_deserializer="json", timestamp_extractor=event_time)
    views = app.dataframe(topic).filter(lambda event: event["kind"] == "view")
    views.tumbling_window(WINDOW, grace_ms=_GRACE).agg(value=Count()).final().update(result, metadata=True)
    app.run()


if __name__ == "__main__":
    main()
