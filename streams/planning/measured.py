"""The coefficients that planning rests on: measured, kept in measured.json with date and machine, and nowhere else.

`python -m bench.coefficients` brings the file up to date from bench/results.json.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from streams.config import Topic

#: (campaigns in a partition, what was measured with them), fewest campaigns first.
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What was measured, and where."""

    date: str
    machine: str
    #: Events a second of one worker, with broker and Redis on the same two cores.
    worker_events_per_second: Points
    #: CPU microseconds of Redis for an event, and bytes that it is sent.
    redis_cpu_us_per_event: Points
    redis_bytes_per_event: Points
    #: Bytes of Redis beside the content: a key that expires, a pane in the index of panes, a field of a pane's hash.
    key_bytes: float
    index_bytes: float
    field_bytes: float
    #: Times its length that a string takes which grows by being appended to.
    append_room: float
    #: Times its content that a log of times is long, which is written anew when it is twice as long.
    rewritten: float
    #: Bytes of a spend report, and of a campaign in the registry.
    report_bytes: float
    campaign_bytes: float
    #: Bytes of a worker's memory for an event id; MiB of a worker that holds nothing yet, the process of its pages with it.
    worker_bytes_per_id: float
    worker_base_mib: float
    #: Workers, and masters of a Redis Cluster, that were run together at most.
    workers_measured: float
    masters_measured: float
    #: Measures of a topic's rows, with what an event adds to each on average.
    measures: Mapping[Topic, Mapping[str, float]]

    @property
    def source(self) -> str:
        """When and where, in words."""
        return f"measured {self.date}, {self.machine}"


def load_coefficients() -> Coefficients:
    """The coefficients of this version."""
    content = json.loads(resources.files(__package__).joinpath("measured.json").read_text(encoding="utf-8"))
    for name in ("worker_events_per_second", "redis_cpu_us_per_event", "redis_bytes_per_event"):
        content[name] = tuple((float(at), float(value)) for at, value in content[name])
    content["measures"] = {Topic(topic): measures for topic, measures in content["measures"].items()}
    return Coefficients(**content)


def between(points: Sequence[tuple[float, float]], at: float) -> float:
    """The value at `at`, by straight lines over the logarithm of the campaigns; beyond the ends the nearest point's."""
    if at <= points[0][0]:
        return points[0][1]
    for (low, first), (high, second) in itertools.pairwise(points):
        if at <= high:
            return first + (second - first) * math.log(at / low) / math.log(high / low)
    return points[-1][1]
