"""What every contender's program has in common: its arguments, how it tells its progress, and where its answer goes.

Standard library only: each program runs under the Python of its own environment. Progress is a JSON line on standard output,
{"at": CLOCK_MONOTONIC in seconds, "events": events processed so far}; that clock is the same in every process of the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Length of the windows, ms.
WINDOW = 10_000
#: Seconds between two lines of progress.
_EVERY = 0.25


@dataclass(frozen=True)
class Task:
    """What a contender is told on its command line."""

    bootstrap_servers: str
    topic: str
    #: Records in the topic, all of which are to be processed.
    events: int
    #: Sum of the counts of all windows that the answer is judged by: those before the closing events at the topic's end.
    counted: int
    #: Name for consumer groups, internal topics and keys in Redis, new for each run.
    name: str
    #: Directory for state, made and removed by whoever starts the contender.
    directory: Path
    #: JSON file that the answer goes to: [[key, start of the window in epoch ms, count, sum of money], ...]
    answer: Path
    #: redis://host:port/db, for the jobs that write there.
    redis: str
    #: JSON file of the Yahoo Streaming Benchmark's ads: {ad_id: campaign_id}.
    ads: Path | None
    #: Partitions of the topic.
    partitions: int
    #: What a program that can do several things is to do.
    variant: str
    #: Jars that a JVM needs, separated by colons.
    jars: str

    def read_ads(self) -> dict[str, str]:
        """ad_id -> campaign_id."""
        assert self.ads is not None
        found: dict[str, str] = json.loads(self.ads.read_text(encoding="utf-8"))
        return found


def task() -> Task:
    """The task on the command line."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap-servers", "topic", "name", "redis"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("events", "counted", "partitions"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("directory", "answer"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--ads", type=Path)
    parser.add_argument("--variant", default="")
    parser.add_argument("--jars", default="")
    return Task(**vars(parser.parse_args()))


class Progress:
    """Tells how far the contender is, a few times a second. The rate is measured from the first word on, best that of `started`."""

    def __init__(self, job: Task) -> None:
        self._job = job
        self._counted = 0
        self.events = 0
        self._next = 0.0
        self._started = False

    def started(self, at: float | None = None) -> None:
        """The first events are here, or were `at` (CLOCK_MONOTONIC). Later calls do nothing."""
        if not self._started:
            self._started = True
            self._tell(time.monotonic() if at is None else at)

    def add(self, events: int) -> None:
        """So many more are processed."""
        self.reached(self.events + events)

    def reached(self, events: int) -> None:
        """So many are processed in all."""
        self.events = events
        now = time.monotonic()
        if now >= self._next:
            self._tell(now)

    def count(self, results: int) -> bool:
        """Results have come out whose windows count so many; whether they are all out. For those that cannot see the events go by."""
        self._counted += results
        self.reached(min(self._job.events, self._counted * self._job.events // self._job.counted))
        return self._counted >= self._job.counted

    def finished(self) -> None:
        """Every result is out, which is the end."""
        self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        self._next = now + _EVERY
        # Straight to the file descriptor's buffer: some libraries take over print().
        sys.__stdout__.write(json.dumps({"at": now, "events": self.events}) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]


def write_answer(path: Path, rows: Iterable[tuple[str, int, int, float]]) -> None:
    """(key, start of the window in epoch ms, count, money in units of the currency). Whole file at once."""
    path.write_text(json.dumps(list(rows)), encoding="utf-8")
