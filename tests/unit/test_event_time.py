"""Event time over whole flushes: late, early and wrong clocks move no watermark where the contract says that they must not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.config import Settings, Topic
from streams.events.models import FUTURE_MS
from streams.ingest.flush import PartitionFlusher
from streams.ingest.records import Record, Records
from streams.tables.meta import Meta
from tests.fuzz.flushing import empty_flusher

NOON = 1_795_435_200_000
SETTINGS = Settings()
LATENESS, IDLE = int(SETTINGS.streams.lateness * 1000), int(SETTINGS.streams.idle_timeout * 1000)
#: How far an event lies before its record, ms: negative for a clock that is fast.
AGES = st.one_of(
    st.integers(0, 2_000),
    st.sampled_from((-1, -FUTURE_MS, -FUTURE_MS - 1, -(10**9), -(10**12), 3_600_000, 86_400_000 * 399, 86_400_000 * 500)),
)
#: (how long it took, how long nothing came then while the owner looked, ages of the batch)
BATCHES = st.lists(
    st.tuples(st.integers(0, 60_000), st.integers(0, 4 * IDLE), st.lists(AGES, min_size=1, max_size=4)), min_size=1, max_size=6
)


def flushed(flusher: PartitionFlusher, ages: list[int], clock: int) -> Meta:
    first = flusher.meta.applied_offset + 1
    records = []
    for offset, age in enumerate(ages, first):
        event = {"event_id": f"e-{offset}", "occurred_at": clock - age, "campaign_id": "c", "channel": "search"}
        records.append(Record(offset, clock, b"c", json.dumps(event).encode()))
    return asyncio.run(flusher.flush(Records.of(records), clock)).meta


@settings(max_examples=25, deadline=None)
@given(BATCHES)
def test_a_watermark_never_goes_back_and_never_beyond_the_records_or_the_clock(batches: list[tuple[int, int, list[int]]]) -> None:
    flusher, clock, reached = empty_flusher(Topic.CLICKS, SETTINGS), NOON, -1
    for took, quiet, ages in batches:
        clock += took
        meta = flushed(flusher, ages, clock)
        mark = meta.watermark(LATENESS, IDLE)
        assert (-1 if mark is None else mark) >= reached
        assert mark is None or mark <= max(meta.record_time - LATENESS, reached)
        reached = max(reached, mark or -1)
        # The owner looks, and there is nothing more.
        clock += quiet
        flusher.meta.caught_up_at = clock
        mark = flusher.meta.watermark(LATENESS, IDLE)
        assert (-1 if mark is None else mark) >= reached
        assert mark is None or mark <= max(clock - IDLE, reached)
        if quiet >= IDLE:
            assert mark is not None and mark >= clock - IDLE, "an idle partition holds nobody"
        reached = max(reached, mark or -1)


@settings(max_examples=25, deadline=None)
@given(BATCHES, st.sampled_from((FUTURE_MS + 1, 10**9, 10**12)))
def test_a_producer_whose_clock_is_fast_changes_nothing_for_the_others(batches: list[tuple[int, int, list[int]]], ahead: int) -> None:
    alone, beside = empty_flusher(Topic.CLICKS, SETTINGS), empty_flusher(Topic.CLICKS, SETTINGS)
    clock = NOON
    for took, _, ages in batches:
        clock += took
        good = [age for age in ages if age >= 0] or [0]
        quiet, noisy = flushed(alone, good, clock), flushed(beside, [-ahead, *good, -ahead], clock)
        assert (noisy.event_time, noisy.record_time) == (quiet.event_time, quiet.record_time)
        assert (noisy.applied, noisy.too_late) == (quiet.applied, quiet.too_late)
    assert beside.meta.quarantined == 2 * len(batches)


@settings(max_examples=25, deadline=None)
@given(BATCHES)
def test_cutting_batches_otherwise_does_not_change_how_far_event_time_is(batches: list[tuple[int, int, list[int]]]) -> None:
    whole, single = empty_flusher(Topic.CLICKS, SETTINGS), empty_flusher(Topic.CLICKS, SETTINGS)
    clock = NOON
    for took, _, ages in batches:
        clock += took
        flushed(whole, ages, clock)
        for age in ages:
            flushed(single, [age], clock)
        assert replace(whole.meta, applied_at=0) == replace(single.meta, applied_at=0)
