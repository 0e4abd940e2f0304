"""The open tables: what they tell Redis to do leaves Redis with exactly what was counted, whoever owns the partition and whenever."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.config import Pane, Topic
from streams.ingest.aggregate import Facts, aggregate
from streams.ingest.coded import Coded, encode
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables import chunks
from streams.tables.keys import KINDS, Command, PartitionKeys
from streams.tables.opentables import OpenTables, PaneId, unpack_rows
from streams.tables.sketchlogs import split_counts
from streams.tables.windows import RowKey

MINUTE, HOUR = 60_000, 3_600_000
NOON = 20_000 * DAY_MS + 12 * HOUR
KEYS = PartitionKeys("cw", f"marketing.{Topic.ENGAGEMENTS}", 3)
CUBES: dict[str, tuple[str, ...]] = {"total": (), "campaign": ("campaign_id",), "campaign_channel": ("campaign_id", "channel")}
LADDER = Ladder((Pane(size=10, keep=60), Pane(size=60, keep=600), Pane(size=900, keep=7_200), Pane(size=86_400, keep=2 * 86_400)))


@dataclass(frozen=True)
class Event:
    """One event, and what it adds."""

    at: int
    campaign: str | None
    channel: str | None = "search"
    clicks: int = 1
    micros: int = 0
    user: int | None = None
    bucket: int | None = None


def facts_of(events: Sequence[Event]) -> Facts:
    users = [(i, e.user) for i, e in enumerate(events) if e.user is not None]
    buckets = [(i, e.bucket) for i, e in enumerate(events) if e.bucket is not None]
    dimensions: dict[str, Coded] = {"campaign_id": encode([e.campaign for e in events]), "channel": encode([e.channel for e in events])}
    return Facts(
        np.array([e.at for e in events], np.int64),
        dimensions,
        {"clicks": np.array([e.clicks for e in events], np.int64), "spend": np.array([e.micros for e in events], np.int64)},
        users=(np.array([i for i, _ in users], np.int64), np.array([u for _, u in users], np.uint32)) if users else None,
        buckets={"dwell": (np.array([i for i, _ in buckets], np.int64), np.array([b for _, b in buckets], np.int64))} if buckets else {},
    )


@dataclass
class Stored:
    """What Redis would hold: the commands that are used, on a dict."""

    keys: dict[str, Any] = field(default_factory=dict)
    ttl: dict[str, int] = field(default_factory=dict)

    def run(self, commands: Sequence[Command]) -> None:
        for name, key, *arguments in commands:
            assert isinstance(name, str)
            assert isinstance(key, str)
            match name, arguments:
                case "APPEND", [bytes(value)]:
                    self.keys[key] = self.keys.get(key, b"") + value
                case "SET", [bytes(value)]:
                    self.keys[key] = value
                case "HSET", fields:
                    self.keys.setdefault(key, {}).update(zip(map(encoded, fields[::2]), fields[1::2], strict=True))
                case "ZADD", [score, member]:
                    self.keys.setdefault(key, {})[member] = score
                case "ZREM", members:
                    for member in members:
                        self.keys[key].pop(member, None)
                case "EXPIRE", [int(seconds)]:
                    self.ttl[key] = seconds
                case "UNLINK", more:
                    for gone in (key, *more):
                        self.keys.pop(str(gone), None)
                        self.ttl.pop(str(gone), None)
                case _:
                    raise AssertionError(f"a command that nobody expected: {name} {key}")

    def panes(self) -> list[PaneId]:
        index = self.keys.get(KEYS.panes(), {})
        return sorted((int(size) * 1000, int(start) * 1000) for size, start in (member.split(":") for member in index))

    def rows(self, cube: str, day: int) -> list[RowKey]:
        return unpack_rows(self.keys.get(KEYS.rows(cube, day), b""))

    def measures(self, cube: str, pane: PaneId) -> dict[RowKey, dict[str, int]]:
        """Row -> measure -> value of a pane, as a reader finds them."""
        rows = self.rows(cube, pane[1] // DAY_MS)
        found: dict[RowKey, dict[str, int]] = defaultdict(dict)
        for name, stored in self.keys.get(KEYS.pane(*pane), {}).items():
            of_cube, _, chunk = name.decode().rpartition("/")
            if of_cube == cube and stored:
                codes, columns = chunks.unpack(stored)
                for measure, values in columns.items():
                    for code, value in zip(codes.tolist(), values.tolist(), strict=True):
                        if value:
                            found[rows[code + int(chunk) * chunks.CHUNK]][measure] = value
        return dict(found)

    def users(self, cube: str, pane: PaneId) -> dict[RowKey, set[int]]:
        rows = self.rows(cube, pane[1] // DAY_MS)
        found: dict[RowKey, set[int]] = defaultdict(set)
        for entry in np.frombuffer(self.keys.get(KEYS.sketch("reach", *pane, cube), b""), np.uint64).tolist():
            found[rows[entry >> 32]].add(entry & 0xFFFF_FFFF)
        return dict(found)

    def dwells(self, cube: str, pane: PaneId) -> dict[RowKey, Counter[int]]:
        rows = self.rows(cube, pane[1] // DAY_MS)
        found: dict[RowKey, Counter[int]] = defaultdict(Counter)
        keys, counts = split_counts(np.frombuffer(self.keys.get(KEYS.sketch("dwell", *pane, cube), b""), np.uint64))
        for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
            found[rows[key >> 16]][key & 0xFFFF] += count
        return dict(found)


def encoded(name: str | bytes | int) -> bytes:
    return name.encode() if isinstance(name, str) else bytes(name) if isinstance(name, bytes) else str(name).encode()


class Partition:
    """A partition with its owner, who loads what it needs as a worker does."""

    def __init__(self, max_rows: int = 1_000_000, ladder: Ladder = LADDER) -> None:
        self.stored = Stored()
        self.offset = -1
        self.record_time = 0
        self._max_rows, self._ladder = max_rows, ladder
        self.restart()

    def restart(self) -> None:
        """Another worker takes over: it knows what is stored and nothing else."""
        self.tables = OpenTables(KEYS, self._ladder, CUBES, max_rows=self._max_rows, known=self.stored.panes())

    def flush(self, events: Sequence[Event], record_time: int) -> list[Command]:
        self.record_time = max(self.record_time, record_time)
        self.offset += len(events)
        finest = self._ladder.levels[0].size
        starts = sorted({event.at - event.at % finest for event in events})
        for day in self.tables.missing_days(starts):
            self.tables.load_day(day, {cube: self.stored.keys.get(KEYS.rows(cube, day), b"") for cube in (*CUBES, KINDS)})
        for pane in self.tables.missing_panes(self.tables.kept_panes(starts, self.record_time, self._ladder.levels)):
            logs = {(s, cube): self.stored.keys.get(KEYS.sketch(s, *pane, cube), b"") for s in KEYS.sketches for cube in CUBES}
            self.tables.load_pane(pane, self.stored.keys.get(KEYS.pane(*pane), {}), logs)
        for cube, cells in aggregate(facts_of(events), CUBES, finest).items():
            self.tables.add(cube, cells, self.record_time)
        commands = self.tables.take_commands(self.offset, 1_000)
        self.stored.run(commands)
        return commands

    def expire(self) -> None:
        self.stored.run(self.tables.take_expired(self.record_time))


def expected(events: Sequence[Event], cube: str, pane: PaneId) -> tuple[dict[RowKey, Any], dict[RowKey, Any], dict[RowKey, Any]]:
    """Measures, users and dwell times of a pane's rows, by hand."""
    size, start = pane
    measures: dict[RowKey, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    users: dict[RowKey, set[int]] = defaultdict(set)
    dwells: dict[RowKey, Counter[int]] = defaultdict(Counter)
    for event in events:
        if start <= event.at < start + size:
            row = tuple({"campaign_id": event.campaign, "channel": event.channel}[name] for name in CUBES[cube])
            measures[row]["clicks"] += event.clicks
            measures[row]["spend"] += event.micros
            if event.user is not None:
                users[row].add(event.user)
            if event.bucket is not None:
                dwells[row][event.bucket] += 1
    without_zeros = {row: {m: v for m, v in of_row.items() if v} for row, of_row in measures.items()}
    return {row: of_row for row, of_row in without_zeros.items() if of_row}, dict(users), dict(dwells)


def content(stored: Stored) -> dict[str, Any]:
    """Everything that is stored, but for the order of measures within a chunk."""
    panes = {
        (cube, pane): (stored.measures(cube, pane), stored.users(cube, pane), stored.dwells(cube, pane))
        for cube in CUBES
        for pane in stored.panes()
    }
    return {"panes": panes, "keys": set(stored.keys), "index": stored.keys[KEYS.panes()]}


def assert_holds(stored: Stored, events: Sequence[Event], record_time: int) -> None:
    """Every pane that is still kept holds its events, every row of every cube, and no pane is there without one."""
    wanted = {(lvl.size, e.at - e.at % lvl.size) for e in events for lvl in LADDER.levels if lvl.kept(e.at - e.at % lvl.size, record_time)}
    assert wanted <= set(stored.panes())
    for pane in wanted:
        for cube in CUBES:
            found = stored.measures(cube, pane), stored.users(cube, pane), stored.dwells(cube, pane)
            assert found == expected(events, cube, pane), f"{cube} in {pane}"


#: Ages that land in every level, and sums that are taken back again as a restatement does.
EVENTS = st.builds(
    Event,
    at=st.one_of(st.integers(0, 30), st.integers(0, 700), st.integers(0, 8_000), st.integers(0, 130_000)).map(
        lambda age: NOON - age * 1000
    ),
    campaign=st.one_of(st.none(), st.sampled_from(("c-1", "c-2")), st.integers(0, 400).map(lambda number: f"n-{number}")),
    channel=st.sampled_from(("search", "social", None)),
    clicks=st.integers(0, 3),
    micros=st.one_of(st.integers(-500, 500), st.integers(-(10**15), 10**15)),
    user=st.one_of(st.none(), st.integers(0, 20)),
    bucket=st.one_of(st.none(), st.integers(0, 5)),
)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.lists(EVENTS, min_size=1, max_size=15), st.sampled_from(("stay", "restart", "forget"))), min_size=1, max_size=6)
)
def test_redis_holds_what_was_counted_whoever_counted_it(steps: list[tuple[list[Event], str]]) -> None:
    staying, coming = Partition(), Partition()
    counted: list[Event] = []
    for events, then in steps:
        staying.flush(events, NOON)
        coming.flush(events, NOON)
        counted += events
        assert content(coming.stored) == content(staying.stored)
        if then == "restart":
            coming.restart()
        elif then == "forget":
            coming.tables.forget(0)
    assert_holds(staying.stored, counted, NOON)


PAUSES = st.one_of(st.integers(0, 3_000), st.integers(0, 400_000))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.lists(EVENTS, min_size=1, max_size=10), PAUSES), min_size=1, max_size=5), st.booleans())
def test_panes_go_when_they_are_no_longer_kept(steps: list[tuple[list[Event], int]], restarts: bool) -> None:
    partition = Partition()
    counted: list[Event] = []
    now = NOON
    for events, pause in steps:
        now += pause * 1000
        events = [replace(event, at=event.at + now - NOON) for event in events]
        partition.flush(events, now)
        counted += events
        if restarts:
            partition.restart()
        partition.expire()
        kept = {level.size: level for level in LADDER.levels}
        panes = partition.stored.panes()
        assert all(kept[size].kept(start, now) for size, start in panes)
        assert {key for key in partition.stored.keys if ":pane:" in key} == {KEYS.pane(*pane) for pane in panes}
        sketches = {KEYS.sketch(sketch, *pane, cube) for sketch in KEYS.sketches for pane in panes for cube in CUBES}
        assert {key for key in partition.stored.keys if any(f":{sketch}:" in key for sketch in KEYS.sketches)} <= sketches
        assert {int(key.rpartition(":")[2]) for key in partition.stored.keys if ":rows:" in key} == {start // DAY_MS for _, start in panes}
        assert_holds(partition.stored, counted, now)


def test_a_row_is_written_whole_and_may_be_written_again() -> None:
    """Absolute values: the second flush says what the row is, not what it gained."""
    partition = Partition()
    partition.flush([Event(NOON, "c-1", clicks=5, micros=70)], NOON)
    commands = partition.flush([Event(NOON, "c-1", clicks=2, micros=-70)], NOON)
    partition.stored.run([command for command in commands if command[0] == "HSET"])
    assert partition.stored.measures("campaign", (10_000, NOON)) == {("c-1",): {"clicks": 7}}


def test_users_who_come_again_change_nothing() -> None:
    """Not even the panes around the finest: a small flush often brings nobody new."""
    partition = Partition()
    partition.flush([Event(NOON, "c-1", user=7, bucket=1)], NOON)
    commands = partition.flush([Event(NOON, "c-1", user=7), Event(NOON + 5, "c-1", user=7)], NOON)
    assert not any(command[0] == "APPEND" for command in commands)
    assert_holds(partition.stored, [Event(NOON, "c-1", clicks=3, user=7, bucket=1)], NOON)


def test_only_chunks_that_changed_are_written() -> None:
    partition = Partition()
    partition.flush([Event(NOON, f"c-{i:03}") for i in range(300)], NOON)
    commands = partition.flush([Event(NOON, "c-200")], NOON)
    pane = KEYS.pane(10_000, NOON)
    written = [name for command in commands if command[:2] == ("HSET", pane) for name in command[2::2]]
    assert written == ["total/0", "campaign/1", "campaign_channel/1"]
    assert partition.tables.take_commands(301, 1_000) == [], "and nothing where nothing changed"


def test_many_chunks_are_written_in_commands_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    partition = Partition()
    commands = partition.flush([Event(NOON, f"c-{i}", clicks=i) for i in range(1_500)], NOON)
    assert max(len(command) for command in commands) == 2 + 2 * 500
    found = partition.stored.measures("campaign", (DAY_MS, NOON - 12 * HOUR))
    assert {row: measures.get("clicks", 0) for row, measures in found.items()} == {(f"c-{i}",): i for i in range(1, 1_500)}


def test_every_key_expires_some_day() -> None:
    partition = Partition()
    partition.flush([Event(NOON, "c-1", user=1, bucket=2)], NOON)
    assert set(partition.stored.ttl) == set(partition.stored.keys) - {KEYS.panes()}
    assert set(partition.stored.ttl.values()) == {1_000}


# Bounds.


def test_rows_beyond_the_limit_count_in_the_row_of_absent_dimensions() -> None:
    partition = Partition(max_rows=3)
    partition.flush([Event(NOON, f"c-{i}", user=i) for i in range(2)], NOON)
    partition.flush([Event(NOON, f"c-{i}", clicks=10, user=i) for i in range(5)], NOON)
    partition.restart()
    partition.flush([Event(NOON, f"c-{i}", clicks=100, user=i) for i in range(5)], NOON)
    pane = (10_000, NOON)
    assert partition.stored.measures("campaign", pane) == {
        ("c-0",): {"clicks": 111},
        ("c-1",): {"clicks": 111},
        ("c-2",): {"clicks": 110},
        (None,): {"clicks": 220},
    }
    assert partition.stored.users("campaign", pane)[(None,)] == {3, 4}
    assert partition.stored.measures("total", pane) == {(): {"clicks": 552}}
    assert partition.tables.folded == {"campaign": 2, "campaign_channel": 2}
    assert partition.stored.rows("campaign", NOON // DAY_MS) == [("c-0",), ("c-1",), ("c-2",), (None,)]


def test_the_limit_holds_for_each_day_anew() -> None:
    partition = Partition(max_rows=1)
    partition.flush([Event(NOON - DAY_MS, "old"), Event(NOON, "new")], NOON)
    assert partition.tables.folded == {}
    assert partition.stored.measures("campaign", (DAY_MS, NOON - 12 * HOUR)) == {("new",): {"clicks": 1}}
    assert partition.stored.measures("campaign", (DAY_MS, NOON - 36 * HOUR)) == {("old",): {"clicks": 1}}


def test_the_row_of_absent_dimensions_has_room_even_where_there_is_none() -> None:
    partition = Partition(max_rows=1)
    partition.flush([Event(NOON, "c-0"), Event(NOON, None, channel=None)], NOON)
    assert partition.tables.folded == {}
    assert partition.stored.measures("campaign", (10_000, NOON)) == {("c-0",): {"clicks": 1}, (None,): {"clicks": 1}}


def test_the_first_kinds_of_a_day_get_a_measure_of_their_own() -> None:
    def fresh(stored: Stored) -> OpenTables:
        tables = OpenTables(KEYS, LADDER, CUBES, max_rows=10, known=[])
        for day in (1, 2):
            tables.load_day(day, {cube: stored.keys.get(KEYS.rows(cube, day), b"") for cube in (*CUBES, KINDS)})
        return tables

    stored = Stored()
    tables = fresh(stored)
    assert tables.own_measures([1], ["like", "share"], 3) == {"like", "share"}
    assert tables.own_measures([1], ["view", "like", "wave"], 3) == {"view", "like"}
    stored.run(tables.take_commands(0, 1_000))
    again = fresh(stored)
    assert again.own_measures([1], ["share", "wave", "view"], 3) == {"share", "view"}, "a new owner decides as the old one did"
    assert again.own_measures([2], ["wave"], 3) == {"wave"}, "each day anew"


def test_forgetting_drops_what_was_used_longest_ago() -> None:
    partition = Partition()
    for minutes in (5, 4, 3, 5):
        partition.flush([Event(NOON - minutes * MINUTE, f"c-{i}") for i in range(200)], NOON)
    held = partition.tables.cells
    panes = partition.tables.kept_panes([NOON - minutes * MINUTE for minutes in (5, 4, 3)], NOON, LADDER.levels)
    partition.tables.forget(held)
    assert partition.tables.missing_panes(panes) == []
    partition.tables.forget(held - 1)
    assert partition.tables.cells < held
    assert partition.tables.missing_panes(panes) == [(MINUTE, NOON - 4 * MINUTE)]
    partition.tables.forget(0)
    assert len(partition.tables.missing_panes(panes)) == len(panes) - 1


def test_row_numbers_are_held_as_long_as_a_pane_of_their_day() -> None:
    """A worker that runs for months must not hold the row keys of all these days."""
    partition = Partition()
    partition.flush([Event(NOON - DAY_MS, "old")], NOON)
    partition.flush([Event(NOON, "new")], NOON)
    assert partition.tables.missing_days([NOON, NOON - DAY_MS]) == []
    partition.tables.forget(0)
    assert partition.tables.missing_days([NOON, NOON - DAY_MS]) == [NOON // DAY_MS - 1]
    partition.flush([Event(NOON - DAY_MS, "older"), Event(NOON - DAY_MS, "old")], NOON)
    assert partition.stored.measures("campaign", (DAY_MS, NOON - 36 * HOUR)) == {("old",): {"clicks": 2}, ("older",): {"clicks": 1}}


@pytest.mark.parametrize("length", [0, 1, 40_000_000])
def test_row_keys_of_any_number_and_length_are_read_back(length: int) -> None:
    """Up to a million rows a cube and day: more than a message of msgpack may have unless it is told so."""
    keys: list[RowKey] = [("x" * length, None), (None, "y" * length), ("x" * length, "z")]
    partition = Partition()
    codes = partition.tables
    codes.load_day(1, {})
    numbered, _ = codes._codes["campaign", 1].of(keys, 1_000_000)
    assert numbered.tolist() == [0, 1, 2]
    assert unpack_rows(codes._codes["campaign", 1].take()) == keys
