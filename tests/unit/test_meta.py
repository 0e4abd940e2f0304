"""The bookkeeping of a partition: what goes into the hash comes out, and how far the watermark has come."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.tables.meta import Meta

LATENESS, IDLE = 5_000, 15_000
NOON = 1_790_000_000_000
NUMBERS = {each.name: st.integers(-1, 2**53) for each in fields(Meta) if each.name != "topic_id"}
METAS = st.builds(Meta, topic_id=st.sampled_from(["", "3c0d6e9a-5d53-4b8e-9a3c-2f6a0f1c7f11"]), **NUMBERS)


@settings(max_examples=50)
@given(METAS)
def test_the_hash_holds_all_of_it(meta: Meta) -> None:
    flat = [str(value).encode() for value in meta.flat()]
    assert Meta.parse(dict(zip(flat[::2], flat[1::2], strict=True))) == meta


def test_a_hash_that_was_only_claimed_has_the_defaults() -> None:
    claimed = {b"start_offset": b"17", b"applied_offset": b"-1", b"applied_at": b"5", b"writer": b"abc"}
    assert Meta.parse(claimed) == Meta(start_offset=17, applied_offset=-1, applied_at=5)
    assert Meta.parse({}) == Meta()


def test_the_watermark_stays_behind_the_newest_event_by_the_lateness() -> None:
    assert Meta(event_time=NOON).watermark(LATENESS, IDLE) == NOON - LATENESS
    assert Meta(event_time=NOON, applied_at=NOON + 60_000).watermark(LATENESS, IDLE) == NOON - LATENESS


def test_there_is_no_watermark_before_the_first_event() -> None:
    assert Meta().watermark(LATENESS, IDLE) is None
    assert Meta(applied_at=NOON).watermark(LATENESS, IDLE) is None
    assert Meta(applied_at=NOON, caught_up_at=NOON + IDLE - 1).watermark(LATENESS, IDLE) is None


def test_a_partition_without_events_stops_holding_the_others_after_the_idle_time() -> None:
    assert Meta(applied_at=NOON, caught_up_at=NOON + IDLE).watermark(LATENESS, IDLE) == NOON


def test_an_idle_partition_goes_on_with_the_clock() -> None:
    def quiet_for(time: int) -> int | None:
        return Meta(event_time=NOON, applied_at=NOON, caught_up_at=NOON + time).watermark(LATENESS, IDLE)

    assert quiet_for(IDLE - 1) == NOON - LATENESS
    assert quiet_for(IDLE) == NOON
    assert quiet_for(10 * IDLE) == NOON + 9 * IDLE


def test_a_worker_that_has_not_looked_since_the_last_flush_does_not_move_it() -> None:
    """A flush sets caught_up_at to 0: nobody knows of the end of the partition then, however long ago the flush was."""
    assert Meta(event_time=NOON, applied_at=NOON).watermark(LATENESS, IDLE) == NOON - LATENESS


def test_idle_time_never_moves_it_back() -> None:
    """Events of the broker's present, read by a worker whose clock is behind."""
    meta = Meta(event_time=NOON, applied_at=NOON - 100_000, caught_up_at=NOON - 100_000 + IDLE)
    assert meta.watermark(LATENESS, IDLE) == NOON - LATENESS


@settings(max_examples=100)
@given(
    st.integers(1, 2**40), st.integers(0, 2**40), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**5), st.integers(1, 10**5)
)
def test_looking_again_later_never_moves_it_back(event: int, applied: int, first: int, then: int, lateness: int, idle: int) -> None:
    before = Meta(event_time=event, applied_at=applied, caught_up_at=applied + first).watermark(lateness, idle)
    after = Meta(event_time=event, applied_at=applied, caught_up_at=applied + first + then).watermark(lateness, idle)
    assert before is not None and after is not None
    assert event - lateness <= before <= after


def test_an_old_event_does_not_take_back_what_an_idle_partition_had_reached() -> None:
    idle = Meta(event_time=1_000_000, applied_at=1_000_000, caught_up_at=1_600_000)
    reached = idle.watermark(5_000, 15_000)
    assert reached == 1_585_000
    after = replace(idle, event_time=max(idle.event_time_reached(5_000, 15_000), 1_200_000), applied_at=1_601_000, caught_up_at=0)
    assert after.watermark(5_000, 15_000) == reached
    busy = Meta(event_time=2_000_000, applied_at=2_000_000, caught_up_at=2_001_000)
    assert busy.event_time_reached(5_000, 15_000) == 2_000_000
    assert Meta().event_time_reached(5_000, 15_000) == 0
