"""Spend reports: which of them count, what a restatement takes back, and where the micros go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.config import Money, SpendSource
from streams.ingest.reports import MINUTE_MS, Report, facts_of_reports, rule, spread
from streams.panes.ladder import DAY_MS, Level

#: The first minute of a day.
MIDNIGHT = 20_000 * 1_440
REPORTED = Money(spend_sources={"google": SpendSource.REPORTS})
MICROS = st.integers(0, 10**15)
#: Every level from the smallest panes there may be to a day, kept for ever.
LEVELS = [Level(size * 1000, 10**15) for size in (10, 30, 60, 90, 160, 900, 3_600, 86_400)]

#: Start of the pane, channel, measure -> micros.
Table = Counter[tuple[int, str | None, str]]


def report(
    micros: int = 1_000_000,
    *,
    minutes: int = 60,
    start: int = MIDNIGHT,
    revision: int = 0,
    channel: str = "search",
    platform: str = "google",
) -> Report:
    dimensions = {"campaign_id": "c-1", "channel": channel, "platform": platform}
    return Report(start, start + minutes, revision, micros, dimensions)


def add(table: Table, changes: Sequence[tuple[Report, int]], level: Level, record_time: int = 0, money: Money = REPORTED) -> None:
    """What the changes add to the panes of a level."""
    for facts in facts_of_reports(changes, money, level, record_time):
        channel = facts.dimensions["channel"]
        for measure, amounts in facts.values.items():
            for time, code, amount in zip(facts.times.tolist(), channel.codes.tolist(), amounts.tolist(), strict=True):
                table[time - time % level.size, channel.values[code], measure] += amount


def expected(reports: Iterable[Report], level: Level, record_time: int = 0, money: Money = REPORTED) -> Table:
    """The contract: minute by minute, each in the pane in which it begins."""
    table: Table = Counter()
    for each in reports:
        n = each.end - each.start
        for i in range(n):
            pane = (each.start + i) * MINUTE_MS // level.size * level.size
            if pane + level.size > record_time - level.keep:
                amount = each.micros * (i + 1) // n - each.micros * i // n
                table[pane, each.dimensions["channel"], "reported_spend"] += amount
                table[pane, each.dimensions["channel"], "reported_minutes"] += 1
                if money.spend_sources.get(each.dimensions["platform"] or "") is SpendSource.REPORTS:
                    table[pane, each.dimensions["channel"], "spend"] += amount
    return table


def of_day(table: Table, channel: str) -> dict[str, int]:
    """What the day of MIDNIGHT has of a channel."""
    return {measure: amount for (pane, of, measure), amount in nonzero(table).items() if (pane, of) == (MIDNIGHT * MINUTE_MS, channel)}


def nonzero(table: Table) -> dict[tuple[int, str | None, str], int]:
    return {cell: micros for cell, micros in table.items() if micros}


# Spreading.


@given(MICROS, st.integers(1, 3_000))
def test_each_minute_gets_its_share_and_all_of_them_the_total(micros: int, minutes: int) -> None:
    shares = spread(micros, MIDNIGHT, MIDNIGHT + minutes).tolist()
    assert shares == [micros * (i + 1) // minutes - micros * i // minutes for i in range(minutes)]
    assert sum(shares) == micros
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("micros", "shares"), [(10, [3, 3, 4]), (2, [0, 1, 1]), (0, [0, 0, 0]), (3, [1, 1, 1])])
def test_the_remainder_goes_where_the_contract_says(micros: int, shares: list[int]) -> None:
    assert spread(micros, 0, 3).tolist() == shares


def test_the_largest_amount_over_the_longest_period_is_exact() -> None:
    shares = spread(10**15 - 1, MIDNIGHT, MIDNIGHT + 31 * 1_440)
    assert int(shares.sum()) == 10**15 - 1
    assert len(shares) == 44_640


@settings(max_examples=40, deadline=None)
@given(MICROS, st.integers(0, 2_000), st.integers(1, 3_000), st.sampled_from(LEVELS))
def test_a_pane_gets_the_minutes_that_begin_in_it(micros: int, offset: int, minutes: int, level: Level) -> None:
    each = report(micros, start=MIDNIGHT + offset, minutes=minutes)
    table: Table = Counter()
    add(table, [(each, 1)], level)
    assert nonzero(table) == nonzero(expected([each], level))
    assert sum(amount for (_, _, measure), amount in table.items() if measure == "reported_spend") == micros


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2_000), st.integers(1, 1_500), st.sampled_from(LEVELS), st.integers(60, 90_000), st.integers(-200_000, 400_000))
def test_panes_that_are_gone_get_nothing_and_all_others_do(offset: int, minutes: int, level: Level, keep: int, ahead: int) -> None:
    level = replace(level, keep=keep * 1000)
    each = report(987_654_321, start=MIDNIGHT + offset, minutes=minutes)
    record_time = (MIDNIGHT + offset) * MINUTE_MS + ahead * 1000
    table: Table = Counter()
    add(table, [(each, 1)], level, record_time)
    assert nonzero(table) == nonzero(expected([each], level, record_time))


def test_many_long_reports_come_in_parts_of_bounded_size() -> None:
    month = 31 * 1_440
    changes = [(report(10**9 + i, minutes=month, start=MIDNIGHT + i), 1) for i in range(30)]
    parts = list(facts_of_reports(changes, REPORTED, LEVELS[2], 0))
    assert len(parts) > 1
    assert max(len(facts.times) for facts in parts) < 500_000 + month
    assert sum(int(facts.values["reported_spend"].sum()) for facts in parts) == sum(each.micros for each, _ in changes)


def test_only_platforms_that_report_their_spend_are_spent_by_reports() -> None:
    changes = [(report(70, platform="google"), 1), (report(90, platform="meta"), 1)]
    table: Table = Counter()
    add(table, changes, LEVELS[-1])
    assert of_day(table, "search") == {"reported_spend": 160, "spend": 70, "reported_minutes": 120}


def test_a_report_of_nothing_is_told_from_no_report() -> None:
    table: Table = Counter()
    add(table, [(report(0), 1)], LEVELS[-1])
    assert nonzero(table) == {(MIDNIGHT * MINUTE_MS, "search", "reported_minutes"): 60}


# Ruling.


def test_a_higher_revision_replaces_and_others_are_duplicates() -> None:
    stored = report(revision=2)
    reports = [report(revision=2, micros=5), report(revision=1), report(revision=4), report(revision=3), report(revision=4, micros=7)]
    ruling = rule(reports, {stored.identity: stored})
    assert ruling.counts.tolist() == [False, False, True, False, False]
    assert ruling.newest == {stored.identity: reports[2]}
    assert ruling.changes == [(reports[2], 1), (stored, -1)]


def test_nothing_new_changes_nothing() -> None:
    stored = report(revision=2)
    ruling = rule([stored, report(revision=0)], {stored.identity: stored})
    assert not ruling.counts.any()
    assert (ruling.changes, ruling.newest) == ([], {})


@pytest.mark.parametrize(
    "other",
    [
        report(minutes=59),
        report(start=MIDNIGHT + 1),
        report(platform="meta"),
        replace(report(), dimensions={**report().dimensions, "campaign_id": "c-2"}),
    ],
)
def test_another_campaign_platform_or_period_is_another_report(other: Report) -> None:
    ruling = rule([report(), other], {})
    assert ruling.counts.tolist() == [True, True]
    assert len(ruling.changes) == 2


def test_what_else_a_report_says_is_not_its_identity() -> None:
    assert report(revision=1, channel="social", micros=3).identity == report().identity


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_order_of_revisions_gives_the_same_tables(data: st.DataObject) -> None:
    """Whatever the batches: the highest revision alone is in the tables, and only what came before it was a step to it."""
    log = [
        report(data.draw(MICROS), minutes=minutes, start=MIDNIGHT + start, revision=revision, channel=channel)
        for revision, channel, (start, minutes) in data.draw(
            st.lists(
                st.tuples(
                    st.integers(0, 5),
                    st.sampled_from(("search", "social")),
                    st.sampled_from(((0, 60), (0, 1_440), (17, 60), (60, 60))),
                ),
                max_size=12,
                unique_by=lambda each: (each[0], each[2]),
            )
        )
    ]
    level = data.draw(st.sampled_from(LEVELS))
    log = data.draw(st.permutations(log))
    stored: dict[bytes, Report] = {}
    table: Table = Counter()
    applied, rest = 0, log
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        ruling = rule(rest[:size], stored)
        add(table, ruling.changes, level)
        applied += int(ruling.counts.sum())
        stored |= {identity: Report.unpack(each.pack()) for identity, each in ruling.newest.items()}
        rest = rest[size:]
    newest: dict[bytes, Report] = {}
    steps = 0
    for each in log:
        if each.identity not in newest or each.revision > newest[each.identity].revision:
            newest[each.identity] = each
            steps += 1
    assert stored == newest
    assert applied == steps
    assert nonzero(table) == nonzero(expected(newest.values(), level))


def test_a_restatement_to_another_channel_takes_away_what_it_added() -> None:
    first, second = report(500, channel="search"), report(300, channel="social", revision=1)
    table: Table = Counter()
    add(table, rule([first], {}).changes, LEVELS[-1])
    assert of_day(table, "search") == {"reported_spend": 500, "spend": 500, "reported_minutes": 60}
    add(table, rule([second], {first.identity: first}).changes, LEVELS[-1])
    assert of_day(table, "search") == {}
    assert of_day(table, "social") == {"reported_spend": 300, "spend": 300, "reported_minutes": 60}


# Storing.


@given(
    st.builds(
        Report,
        st.integers(0, 10**8),
        st.integers(0, 10**8),
        st.integers(0, 2**62),
        MICROS,
        st.dictionaries(st.sampled_from(("campaign_id", "channel", "region")), st.one_of(st.none(), st.text(max_size=5))),
    )
)
def test_a_stored_report_is_read_as_it_was(each: Report) -> None:
    assert Report.unpack(each.pack()) == each


@pytest.mark.parametrize(("minutes", "day"), [(1, 0), (1_440, 0), (1_441, 1), (31 * 1_440, 30)])
def test_a_report_is_stored_under_its_last_minutes_day(minutes: int, day: int) -> None:
    each = report(minutes=minutes)
    assert each.last_day == MIDNIGHT * MINUTE_MS // DAY_MS + day
    assert np.unique(np.arange(each.start, each.end) * MINUTE_MS // DAY_MS).max() == each.last_day
