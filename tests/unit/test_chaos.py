"""The pure parts of the chaos: plans come from a seed, and a comparison says what was lost, what was doubled, and what else differs."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

import pytest

from streams.config import DIMENSIONS, EVENT_TOPICS, Kafka, Money, Settings, SpendSource
from streams.errors import UserError
from streams.ingest.continuity import Note
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.windows import PartitionLedger
from tests.chaos.arena import Planned
from tests.chaos.breaks import Breaks
from tests.chaos.comparing import odd_windows, whole_range
from tests.chaos.differences import (
    Verdict,
    compare_ledger,
    compare_outbox,
    compare_quarantine,
    compare_rows,
    compare_users,
    count_events,
)
from tests.chaos.expected import Expected
from tests.chaos.faults import KINDS, able_kinds, plan_round
from tests.chaos.planted import PLANTED
from tests.chaos.sides import DURABLE_KAFKA, KAFKA_NODES, KAFKA_PROXY, MORE_PARTITIONS, REDIS_FILE, REDIS_NODES, REDIS_PROXY
from tests.chaos.traffic import Maker
from tests.hostile_log import HOUR, MINUTE, hostile_log
from tests.reference import LogRecord, Totals, judge

Kept = dict[tuple[str, int, int], set[tuple[bytes | None, bytes | None, int | None]]]
EVERYTHING = frozenset({DURABLE_KAFKA, KAFKA_PROXY, KAFKA_NODES, MORE_PARTITIONS, REDIS_FILE, REDIS_PROXY, REDIS_NODES})
APACHE = EVERYTHING - {KAFKA_NODES, REDIS_NODES}
NOW = 1_790_000_000_000 // DAY_MS * DAY_MS + 13 * HOUR + 7 * MINUTE
SETTINGS = Settings(
    kafka=Kafka(topic_prefix="chaos"), money=Money(rates={"EUR": Decimal("1.0842")}, spend_sources={"meta": SpendSource.REPORTS})
)


def test_the_same_seed_plans_the_same_faults_and_events() -> None:
    kinds = able_kinds(EVERYTHING)
    assert [plan_round(7, n, kinds, 6.0) for n in range(1, 30)] == [plan_round(7, n, kinds, 6.0) for n in range(1, 30)]
    assert plan_round(7, 1, kinds, 6.0) != plan_round(8, 1, kinds, 6.0)
    assert list(Maker(7).records(500, NOW)) == list(Maker(7).records(500, NOW))
    assert list(Maker(7).records(500, NOW)) != list(Maker(8).records(500, NOW))


def test_a_long_plan_has_every_kind_of_fault_and_enough_kills() -> None:
    for servers in (APACHE, EVERYTHING):
        kinds = able_kinds(servers)
        planned = [fault for number in range(1, 101) for fault in plan_round(1, number, kinds, 6.0)]
        times = Counter(fault.kind for fault in planned)
        assert min(times[kind.name] for kind in kinds) >= 2
        kills = {
            "kill-worker",
            "kill-leader",
            "kill-redis",
            "power-cut-redis",
            "restore-redis",
            "kill-kafka",
            "kill-all",
            "kill-master",
            "lose-keys",
        }
        assert sum(times[kind] for kind in kills) >= 60
        assert all(0.5 <= fault.at <= 6.0 and 0 <= fault.pick < 1 for fault in planned)


def test_faults_that_the_servers_cannot_suffer_are_left_out_or_refused() -> None:
    assert {kind.name for kind in able_kinds(frozenset())}.isdisjoint({"kill-kafka", "cut-kafka", "restore-redis"})
    assert [kind.name for kind in able_kinds(EVERYTHING, ["kill-redis"])] == ["kill-redis"]
    with pytest.raises(UserError, match="kill-everything"):
        able_kinds(EVERYTHING, ["kill-everything"])
    with pytest.raises(UserError, match="keeps its log"):
        able_kinds(frozenset(), ["kill-kafka"])


def test_planted_bugs_name_faults_that_there_are() -> None:
    assert all(set(bug.faults) <= KINDS.keys() and bug.rounds >= 1 for bug in PLANTED.values())


def entry(read: int, applied: int, duplicate: int = 0, offset: int | None = None) -> PartitionLedger:
    last = read - 1 if offset is None else offset
    return PartitionLedger("t.clicks", 0, 0, last, read, applied, duplicate, 0, 0, None, None)


@pytest.mark.parametrize(
    ("found", "lost", "doubled", "good"),
    [
        (entry(10, 8, 2), 0, 0, True),
        (entry(10, 9, 1), 0, 1, False),
        (entry(7, 6, 1), 3, 0, False),
        (entry(13, 10, 3), 0, 3, False),
        (entry(10, 8, 2, offset=8), 0, 0, False),
    ],
    ids=["equal", "duplicate applied", "three missing", "three twice", "offset behind"],
)
def test_the_ledger_tells_lost_from_doubled(found: PartitionLedger, lost: int, doubled: int, good: bool) -> None:
    verdict = Verdict()
    compare_ledger(verdict, {("t.clicks", 0): Totals(10, 8, 2)}, {("t.clicks", 0): 10}, [found])
    assert (verdict.lost, verdict.doubled, verdict.good) == (lost, doubled, good)


def test_a_partition_without_a_ledger_lost_all_its_records() -> None:
    verdict = Verdict()
    compare_ledger(verdict, {("t.clicks", 0): Totals(10, 8, 2)}, {("t.clicks", 0): 10}, [])
    assert (verdict.lost, verdict.good) == (10, False)


def test_rows_tell_lost_from_doubled_and_name_every_measure_that_differs() -> None:
    expected = {("a",): {"clicks": 3, "spend": 30}, ("b",): {"conversions": 2, "conversions_lead": 2, "conversions_new": 1}}
    found = {("a",): {"clicks": 2, "spend": 20}, ("b",): {"conversions": 3, "conversions_lead": 3, "conversions_new": 1}}
    verdict = Verdict()
    compare_rows(verdict, "cube x", expected, found)
    count_events(verdict, expected, found)
    assert (verdict.lost, verdict.doubled) == (1, 1)
    assert [str(difference) for difference in verdict.differences] == [
        "cube x, row ('a',): clicks: expected 3, found 2",
        "cube x, row ('a',): spend: expected 30, found 20",
        "cube x, row ('b',): conversions: expected 2, found 3",
        "cube x, row ('b',): conversions_lead: expected 2, found 3",
    ]


def test_few_users_are_exact_and_many_within_a_tolerance() -> None:
    verdict = Verdict()
    compare_users(verdict, "x", {("a",): 100, ("b",): 10_000}, {("a",): 100.0, ("b",): 10_300.0})
    assert verdict.good
    compare_users(verdict, "x", {("a",): 100, ("b",): 10_000}, {("a",): 99.0, ("b",): 12_000.0})
    assert [difference.found for difference in verdict.differences] == [99.0, 12_000.0]


def test_quarantine_holds_every_refused_record_whole_and_no_other() -> None:
    refused = [LogRecord("t", 0, 5, 77, b"k", b"{"), LogRecord("t", 0, 6, 78, None, b"[")]
    whole: Kept = {("t", 0, 5): {(b"k", b"{", 77)}, ("t", 0, 6): {(None, b"[", 78)}}
    cases: list[tuple[Kept, int]] = [
        (whole, 0),
        ({("t", 0, 5): {(b"k", b"{", 77)}}, 1),
        (whole | {("t", 0, 6): {(None, b"", 78)}}, 1),
        (whole | {("t", 1, 0): {(None, b"{}", 1)}}, 1),
    ]
    for found, differences in cases:
        verdict = Verdict()
        compare_quarantine(verdict, refused, found)
        assert len(verdict.differences) == differences


def test_the_outbox_has_every_change_once_and_the_newest_is_the_incident() -> None:
    one, two = '{"change":"opened","seq":1}', '{"change":"resolved","seq":2}'
    for outbox, incidents, state, good in (
        ([("i", 1, one), ("i", 2, two)], {"i": two}, two, True),
        ([("i", 1, one), ("i", 3, two)], {"i": two}, two, False),
        ([("i", 1, one), ("i", 1, one)], {"i": one}, one, False),
        ([("i", 1, one)], {"i": two}, two, False),
        ([("i", 1, one)], {}, "", False),
        ([], {"i": one}, one, False),
        ([("i", 1, one), ("i", 2, two)], {"i": two}, one, False),
        ([("i", 1, one), ("i", 2, two)], {"i": two}, "", False),
    ):
        verdict = Verdict()
        compare_outbox(verdict, outbox, incidents, {"i": f'{{"newest":{state}}}'} if state else {})
        assert verdict.good is good


def test_the_growing_judge_agrees_with_the_one_that_sees_the_whole_log() -> None:
    log = [(topic, record) for topic, record in hostile_log(3, SETTINGS, NOW, 1_500) if topic in EVENT_TOPICS]
    growing = Expected(SETTINGS)
    for start in range(0, len(log), 400):
        growing.take(log[start : start + 400])
    whole = judge(log, SETTINGS, DIMENSIONS)
    assert growing.reference.totals == whole.totals
    assert [r.offset for r in growing.reference.refused] == [r.offset for r in whole.refused]
    quarter = 15 * MINUTE
    for start, end in (
        (NOW // DAY_MS * DAY_MS - 395 * DAY_MS, NOW // DAY_MS * DAY_MS + 2 * DAY_MS),
        (NOW - NOW % quarter - 30 * HOUR, NOW),
    ):
        for dimensions in ((), ("campaign_id",), ("experiment_id", "variant_id")):
            assert growing.window(dimensions, start, end) == whole.window(dimensions, start, end)
            assert growing.users(dimensions, start, end) == whole.users(dimensions, start, end)


def test_steps_add_up_to_their_window() -> None:
    growing = Expected(SETTINGS)
    growing.take(hostile_log(4, SETTINGS, NOW, 1_000))
    start = NOW // HOUR * HOUR - 48 * HOUR
    sums: dict[tuple[str | None, ...], dict[str, int]] = {}
    for (_, key), measures in growing.steps(("channel",), start, start + 48 * HOUR, 15 * MINUTE).items():
        for name, amount in measures.items():
            row = sums.setdefault(key, {})
            row[name] = row.get(name, 0) + amount
    assert sums == growing.window(("channel",), start, start + 48 * HOUR)


def test_windows_are_aligned_to_the_panes_that_must_answer_them() -> None:
    ladder = Ladder(SETTINGS.streams.ladder)
    chance = random.Random(1)
    for _ in range(200):
        for start, end in (whole_range(NOW, ladder), *odd_windows(NOW, ladder, chance)):
            level = ladder.finest_kept(start, NOW)
            assert level is not None
            assert start < end
            assert start % level.size == end % level.size == 0


def test_breaks_are_counted_once_and_explained_by_what_was_done() -> None:
    def ledger(times: int, at: int) -> list[PartitionLedger]:
        notes = {"tables_fell_back": Note(times, 5, at, "x").pack(), "topic_recreated": Note(1, 0, 3, "x").pack()}
        return [PartitionLedger("t.clicks", 0, 0, 9, 10, 10, 0, 0, 0, None, None, notes)]

    breaks = Breaks()
    assert breaks.new_ones(ledger(2, 10)) == {"tables_fell_back": 2, "topic_recreated": 1}
    assert breaks.new_ones(ledger(2, 10)) == {}
    assert breaks.new_ones(ledger(3, 20)) == {"tables_fell_back": 1}
    assert breaks.new_ones(ledger(1, 30)) == {"tables_fell_back": 1}
    fell_back, emptied, killed = Counter({"tables_fell_back": 2}), Planned("empty-redis", 1, 1, 0), Planned("kill-worker", 1, 1, 0)
    assert breaks.unexplained(fell_back, [killed]) == ["tables_fell_back 2"]
    assert breaks.unexplained(fell_back, [emptied]) == []
    # What was lost in one round may be noticed in the next.
    assert breaks.unexplained(fell_back, [killed]) == []
    assert breaks.unexplained(fell_back, [killed]) == ["tables_fell_back 2"]
