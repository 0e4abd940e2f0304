"""One run of one contender: how far it was when, what it cost, and whether its answer was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds between two looks at a contender.
LOOK = 0.25

#: (CLOCK_MONOTONIC in seconds, events processed or CPU seconds used so far)
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """What one run brought."""

    events_per_second: float
    #: Seconds that the rate was measured over.
    seconds: float
    #: From the start of the process to its first progress.
    start_up_seconds: float
    #: CPU of the contender's processes while the rate was measured.
    cpu_seconds_per_million: float
    #: The same for Kafka and Redis together, which serve it.
    servers_cpu_seconds_per_million: float
    #: What is wrong with the answer; empty if it is right.
    wrong: tuple[str, ...] = ()
    #: Why there is no rate; empty if there is.
    failed: str = ""


def failure(why: str) -> Run:
    """A run that came to nothing."""
    return Run(0.0, 0.0, 0.0, 0.0, 0.0, failed=why)


def measured(started: float, progress: Points, cpu: Points, servers: Points, wrong: Sequence[str] = ()) -> Run:
    """The run that these points tell of. The rate is that between the first and the last progress: starting up does not count.

    `started` is when the process was started; `cpu` and `servers` were looked at all the time. If most of the events were over when the
    first progress was told, there is nothing to measure: that is a failed run.
    """
    (first_at, first), (last_at, last) = progress[0], progress[-1]
    events, seconds = last - first, last_at - first_at
    if events < last / 2 or seconds <= 0:
        return failure(f"too few events to measure: {first:.0f} of {last:.0f} were over when the first progress was told")
    used, served = (1e6 * (at(points, last_at) - at(points, first_at)) / events for points in (cpu, servers))
    return Run(events / seconds, seconds, first_at - started, used, served, tuple(wrong))


def at(points: Points, moment: float) -> float:
    """The value at a moment, on the straight line between the looks before and after it; the nearest one outside of them."""
    before = max((point for point in points if point[0] <= moment), default=points[0])
    after = min((point for point in points if point[0] >= moment), default=points[-1])
    if after[0] <= before[0]:
        return after[1]
    return before[1] + (after[1] - before[1]) * (moment - before[0]) / (after[0] - before[0])
