"""The ladder: which panes are kept, and that a window is made up of the fewest of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.config import Pane, Streams
from streams.panes.ladder import DAY_MS, Ladder, Level

MINUTE, HOUR = 60_000, 3_600_000
DEFAULT = Ladder(Streams().ladder)
TEN_SECONDS, ONE_MINUTE, QUARTER, ONE_DAY = DEFAULT.levels
NOON = 20_000 * DAY_MS + 12 * HOUR


@st.composite
def ladders(draw: st.DrawFn) -> Ladder:
    """Ladders as the settings allow them: each step a multiple of the one before, all of them divisors of a day."""
    size = draw(st.sampled_from((10, 20, 30, 60)))
    keep = draw(st.integers(6, 60)) * 10
    panes = [Pane(size=size, keep=keep)]
    for factor, longer in draw(st.lists(st.tuples(st.sampled_from((2, 3, 4, 6)), st.integers(0, 600)), max_size=3)):
        if 86_400 % (size * factor) == 0:
            size, keep = size * factor, keep + longer
            panes.append(Pane(size=size, keep=keep))
    return Ladder(Streams(ladder=tuple(panes)).ladder)


def test_the_default_ladder_is_the_documented_one() -> None:
    assert [(level.size, level.keep) for level in DEFAULT.levels] == [
        (10_000, HOUR),
        (MINUTE, 26 * HOUR),
        (15 * MINUTE, 35 * DAY_MS),
        (DAY_MS, 400 * DAY_MS),
    ]
    assert DEFAULT.retention == 400 * DAY_MS


@pytest.mark.parametrize("level", DEFAULT.levels)
def test_a_pane_is_kept_until_its_time_after_its_end_has_passed(level: Level) -> None:
    last = level.size + level.keep
    assert level.kept(0, 0)
    assert level.kept(0, last - 1)
    assert not level.kept(0, last)
    assert level.kept(-level.size, 0)


@pytest.mark.parametrize(
    ("age", "level"),
    [
        (0, TEN_SECONDS),
        (-HOUR, TEN_SECONDS),
        (HOUR, TEN_SECONDS),
        (HOUR + 10_000, ONE_MINUTE),
        (26 * HOUR, ONE_MINUTE),
        (26 * HOUR + MINUTE, QUARTER),
        (35 * DAY_MS, QUARTER),
        (35 * DAY_MS + 15 * MINUTE, ONE_DAY),
        (400 * DAY_MS, ONE_DAY),
        (402 * DAY_MS, None),
    ],
)
def test_the_older_the_time_the_coarser_the_finest_pane_left(age: int, level: Level | None) -> None:
    assert DEFAULT.finest_kept(NOON - age, NOON) == level


@pytest.mark.parametrize("offset", [1, 9_999])
def test_the_pane_around_a_time_counts_and_not_the_time_itself(offset: int) -> None:
    start = NOON - HOUR - 10_000
    assert DEFAULT.finest_kept(start + offset, NOON - 1) == TEN_SECONDS
    assert DEFAULT.finest_kept(start + offset, NOON) == ONE_MINUTE


@settings(max_examples=60)
@given(st.data(), ladders(), st.integers(0, 5 * DAY_MS))
def test_an_event_that_is_not_too_late_always_finds_a_pane(data: st.DataObject, ladder: Ladder, record_time: int) -> None:
    age = data.draw(st.one_of(st.just(ladder.retention), st.integers(0, ladder.retention)))
    assert ladder.finest_kept(record_time - age, record_time) is not None


@settings(max_examples=60)
@given(st.data(), ladders())
def test_a_cover_fills_its_window_without_gaps_or_overlaps(data: st.DataObject, ladder: Ladder) -> None:
    finest = data.draw(st.sampled_from(ladder.levels))
    first = data.draw(st.integers(-200, 2_000))
    length = data.draw(st.integers(0, 400))
    start, end = first * finest.size, (first + length) * finest.size
    panes = list(ladder.cover(start, end, finest))
    for level, at in panes:
        assert level.size >= finest.size
        assert at % level.size == 0
    bounds = [(at, at + level.size) for level, at in panes]
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    assert (not bounds) == (start == end)
    if bounds:
        assert (bounds[0][0], bounds[-1][1]) == (start, end)


@settings(max_examples=60)
@given(ladders(), st.integers(-30, 100), st.integers(0, 80))
def test_no_other_cover_has_fewer_panes(ladder: Ladder, first: int, length: int) -> None:
    unit = ladder.levels[0].size
    # Fewest panes that reach each point of the window, by trying them all.
    fewest = [0] + [length + 1] * length
    for end in range(1, length + 1):
        for level in ladder.levels:
            steps = level.size // unit
            if steps <= end and (first + end) % steps == 0:
                fewest[end] = min(fewest[end], fewest[end - steps] + 1)
    assert len(list(ladder.cover(first * unit, (first + length) * unit, ladder.levels[0]))) == fewest[length]


@settings(max_examples=100)
@given(st.data(), ladders(), st.integers(0, 5 * DAY_MS))
def test_every_pane_of_a_cover_is_still_kept(data: st.DataObject, ladder: Ladder, record_time: int) -> None:
    age = data.draw(st.integers(0, ladder.retention))
    finest = ladder.finest_kept(record_time - age, record_time)
    assert finest is not None
    start = (record_time - age) // finest.size * finest.size
    end = start + data.draw(st.integers(1, 200)) * finest.size
    assert all(level.kept(at, record_time) for level, at in ladder.cover(start, end, finest))


def test_a_day_and_a_bit_is_covered_by_coarse_panes_with_fine_ends() -> None:
    midnight = NOON - 12 * HOUR
    panes = [
        (level.size, at - midnight) for level, at in DEFAULT.cover(midnight - 70_000, midnight + DAY_MS + 15 * MINUTE + 20_000, TEN_SECONDS)
    ]
    assert panes == [
        (10_000, -70_000),
        (MINUTE, -MINUTE),
        (DAY_MS, 0),
        (15 * MINUTE, DAY_MS),
        (10_000, DAY_MS + 15 * MINUTE),
        (10_000, DAY_MS + 15 * MINUTE + 10_000),
    ]
