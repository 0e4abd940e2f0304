"""Memory that the KPI tables take in Redis, cube by cube and level by level, from the layout that streams/tables writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.config import Pane, Settings, Topic
from streams.ingest.dedupe import BUCKET_MS, PART_ROWS
from streams.kpis.sketches import REGISTERS, SPARSE_LIMIT
from streams.planning.load import DAY, EVENTS, Load, cube_rows, distinct
from streams.planning.measured import Coefficients
from streams.tables.chunks import CHUNK

_ENTRY = 8
_SEEN_ENTRY = 24
_MIB = 2**20
#: Ranks of a register: 18 bits of the hash, and one for "none set".
_RANKS = 19
#: Sketches that a topic's events can fill, apart from reach.
_TIMED = {Topic.ENGAGEMENTS: 1}
#: Different buckets that the times of one row spread over: 1.02 to the 300th is a factor of 380.
_BUCKETS = 300


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of Redis' memory by kind."""

    exact: float = 0.0
    reach: float = 0.0
    times: float = 0.0

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(self.exact + other.exact, self.reach + other.reach, self.times + other.times)

    def __mul__(self, factor: float) -> Bytes:
        return Bytes(self.exact * factor, self.reach * factor, self.times * factor)

    @property
    def all(self) -> float:
        """All kinds."""
        return self.exact + self.reach + self.times


@dataclass(frozen=True, slots=True)
class LevelBytes:
    """One level of the ladder in one topic, over all its partitions."""

    pane_s: int
    #: Panes that are kept, the one that is being filled included.
    panes: int
    #: Rows that have something in a pane.
    rows: float
    #: One pane: of the cubes whose rows are a campaign's own, and of those that campaigns share.
    campaigns: Bytes
    shared: Bytes

    def panes_after(self, seconds: float) -> float:
        """Panes there are when the load has gone on for so long."""
        return min(self.panes, max(1.0, seconds / self.pane_s))

    def after(self, seconds: float) -> Bytes:
        """All panes when the load has gone on for so long."""
        return (self.campaigns + self.shared) * self.panes_after(seconds)


def levels(load: Load, topic: Topic, settings: Settings, partitions: int, c: Coefficients, seconds: float = math.inf) -> list[LevelBytes]:
    """Every level of the settings' ladder in one topic, when the load has gone on for `seconds`.

    A cube's rows are a campaign's own where `campaign_id` or `account_id` is in their key.
    """
    if not load.rate(topic):
        return []
    panes = settings.streams.ladder
    return [_level(load, topic, settings.all_cubes, partitions, c, pane, min(pane.size, seconds)) for pane in panes]


def _level(
    load: Load, topic: Topic, cubes: Mapping[str, Sequence[str]], partitions: int, c: Coefficients, pane: Pane, filled: float
) -> LevelBytes:
    own, rows = Bytes(), 0.0
    # The hash of the pane itself, and its place in the index of panes.
    some = _some(load.rate(topic) * filled / partitions)
    shared = Bytes(exact=(c.key_bytes + c.index_bytes) * partitions * some)
    for dimensions in cubes.values():
        active, weight = _cube(load, topic, dimensions, partitions, c, filled)
        rows += active
        if {"campaign_id", "account_id"} & set(dimensions):
            own += weight
        else:
            shared += weight
    return LevelBytes(pane.size, pane.keep // pane.size + 1, rows, own, shared)


def _cube(load: Load, topic: Topic, dimensions: Sequence[str], partitions: int, c: Coefficients, size: float) -> tuple[float, Bytes]:
    """One cube in a pane that was filled for `size` seconds, in all partitions of a topic: rows with something in it, and bytes."""
    reported = topic is Topic.SPEND
    cube = cube_rows(load, dimensions, partitions, reports=reported)
    events = load.rate(topic) * size / cube.stored
    # A report is spread over its minutes; the campaign's next one begins where it ends.
    active = cube.stored * (min(1.0, size / 60) if reported else _some(events))
    per_partition = cube.stored / partitions
    chunks = float(partitions * math.ceil(per_partition / CHUNK))
    chunks *= min(1.0, active / cube.stored * CHUNK) if reported else _some(events * min(CHUNK, per_partition))
    per_row = events / _some(events) if events and not reported else max(1.0, size / 60)
    exact = active * row_bytes(c.measures[topic], per_row) + chunks * (chunk_bytes(c.measures[topic]) + c.field_bytes)
    if reported:
        return active, Bytes(exact=exact)
    # Users of a row in a partition: those of its campaigns there.
    pool = load.users * min(1.0, load.campaigns_per_user * cube.campaigns / cube.partitions / load.campaigns)
    entries = reach_entries(distinct(events * load.user_part(topic), pool)) * cube.stored
    reach = _logs(entries, partitions, c)
    timed = load.timed * events * _TIMED.get(topic, 0)
    times = _logs(min(timed, c.rewritten * distinct(timed, _BUCKETS)) * cube.stored, partitions, c)
    return active, Bytes(exact, reach, times)


def _some(mean: float) -> float:
    """Part of the rows that have at least one event, where they have `mean` on average."""
    return -math.expm1(-mean)


def _logs(entries: float, partitions: int, c: Coefficients) -> float:
    """Bytes of a log of so many entries in all, cut into one key for each partition."""
    if not entries:
        return 0.0
    length = entries * _ENTRY / partitions
    return partitions * _some(entries / partitions) * c.key_bytes + partitions * appended(length, c)


def appended(length: float, c: Coefficients) -> float:
    """Bytes that a string of `length` takes which grew by being appended to: Redis doubles it, from 1 MiB on it adds a MiB."""
    return min(length * c.append_room, length + _MIB / 2) if length > 64 else length


def reach_entries(users: float) -> float:
    """Entries that a row's users leave in the log of a pane: each one until the row is dense, then those that raise a register."""
    if users <= SPARSE_LIMIT:
        return users
    return SPARSE_LIMIT + _raises(users) - _raises(SPARSE_LIMIT)


def _raises(users: float) -> float:
    """How often registers were raised by so many users: a register's rank passes a level by landing on it, half of the times."""
    each = users / REGISTERS
    return REGISTERS * sum((0.5 if rank < _RANKS else 1.0) * -math.expm1(-each * 2.0 ** (1 - rank)) for rank in range(1, _RANKS + 1))


def row_bytes(measures: Mapping[str, float], events: float) -> float:
    """Bytes of a row of a chunk: its number, and each measure in the narrowest integers that hold the largest of the chunk."""
    return 1.0 + sum(_width(2 * mean * events) for mean in measures.values())


def chunk_bytes(measures: Mapping[str, float]) -> float:
    """Bytes of a chunk beside its rows: the names of the measures, what frames them, and that of the field."""
    return 20.0 + sum(len(name) + 5 for name in measures)


def _width(largest: float) -> int:
    return next((width for width in (1, 2, 4) if largest < 2 ** (8 * width - 1)), 8)


def row_keys(load: Load, topic: Topic, settings: Settings, partitions: int, c: Coefficients, seconds: float = DAY) -> tuple[float, float]:
    """Names of a topic's rows: how many, and bytes, of a day that has so many seconds. Each UTC day and partition has its own."""
    count = size = 0.0
    if not load.rate(topic):
        return count, size
    for dimensions in settings.all_cubes.values():
        cube = cube_rows(load, dimensions, partitions, reports=topic is Topic.SPEND)
        named = cube.stored * (1.0 if topic is Topic.SPEND else _some(load.rate(topic) * seconds / cube.stored))
        length = named * (1 + len(dimensions) * (load.word_bytes + 1)) / partitions
        count += named
        size += partitions * (appended(length, c) + c.key_bytes)
    return count, size


def kept_days(settings: Settings) -> int:
    """UTC days that any pane is kept of, the current one included."""
    return settings.streams.ladder[-1].keep // DAY + 1


def dedupe_seconds(settings: Settings) -> float:
    """Seconds for which ids are stored, on average: the horizon, and two buckets until the oldest is deleted."""
    return settings.streams.dedupe_horizon + 2 * BUCKET_MS / 1000


def dedupe_bytes(load: Load, topic: Topic, settings: Settings, partitions: int, c: Coefficients, seconds: float = math.inf) -> float:
    """Bytes of a topic's event ids in Redis when the load has gone on for `seconds`."""
    if topic not in EVENTS or not load.rate(topic):
        return 0.0
    kept = min(dedupe_seconds(settings), seconds)
    length = load.rate(topic) * BUCKET_MS / 1000 / partitions * _SEEN_ENTRY
    parts = max(1.0, length / (PART_ROWS * _SEEN_ENTRY))
    return partitions * kept / (BUCKET_MS / 1000) * parts * (appended(length / parts, c) + c.key_bytes)


def report_bytes(load: Load, settings: Settings, c: Coefficients) -> float:
    """Bytes of the spend reports that are kept to be compared with later revisions."""
    return load.campaigns * load.reports * kept_days(settings) * c.report_bytes
