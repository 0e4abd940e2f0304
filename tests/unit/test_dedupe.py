"""Duplicates: an id counts once within the horizon, whatever the batches, restarts and pauses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streams.ingest import dedupe
from streams.ingest.dedupe import BUCKET_MS, PART_ROWS, Part, Seen, digests

HOUR = 3_600_000
NOON = 1_790_000_000_000
Event = tuple[str, int]


def admit(seen: Seen, *events: Event) -> list[bool]:
    admitted, _ = seen.admit(digests([i for i, _ in events]), np.array([time for _, time in events], np.int64))
    return [bool(each) for each in admitted]


@dataclass
class Stored:
    """Buckets as Redis keeps them: appended to, read at a start, deleted when `prune` says so."""

    parts: dict[Part, bytes] = field(default_factory=lambda: defaultdict(bytes))

    def append(self, seen: Seen, rows: NDArray[np.uint64]) -> None:
        for part, its in seen.parts(rows):
            self.parts[part] += its.tobytes()

    def reopen(self, horizon: int, record_time: int) -> Seen:
        seen = Seen(horizon)
        for bucket in seen.live_buckets(record_time):
            for number in count():
                if (bucket, number) not in self.parts:
                    break
                seen.load((bucket, number), np.frombuffer(self.parts[bucket, number], np.uint64).reshape(-1, 3))
        return seen

    def drop(self, parts: list[Part]) -> None:
        for part in parts:
            del self.parts[part]


@dataclass
class Model:
    """The contract, with a dict and no end of memory."""

    horizon: int
    applied: dict[str, int] = field(default_factory=dict)

    def admit(self, event: Event) -> bool:
        event_id, time = event
        if event_id in self.applied and time - self.applied[event_id] <= self.horizon:
            return False
        self.applied[event_id] = time
        return True


@pytest.mark.parametrize(("gap", "counts"), [(0, False), (1, False), (HOUR - 1, False), (HOUR, False), (HOUR + 1, True)])
def test_the_horizon_includes_its_bound(gap: int, counts: bool) -> None:
    apart = Seen(HOUR)
    assert admit(apart, ("a", NOON)) == [True]
    assert admit(apart, ("a", NOON + gap)) == [counts]
    assert admit(Seen(HOUR), ("a", NOON), ("a", NOON + gap)) == [True, counts], "the same within a batch"


def test_the_first_offset_wins() -> None:
    seen = Seen(HOUR)
    assert admit(seen, ("a", NOON), ("b", NOON), ("a", NOON), ("c", NOON), ("b", NOON + 5)) == [True, True, False, True, False]
    assert admit(seen, ("d", NOON + 5), ("c", NOON + 5), ("d", NOON + 5)) == [True, False, False]


def test_a_duplicate_does_not_start_the_horizon_anew() -> None:
    seen = Seen(HOUR)
    assert admit(seen, ("a", NOON), ("a", NOON + HOUR), ("a", NOON + HOUR + 1)) == [True, False, True]
    assert admit(seen, ("a", NOON + 2 * HOUR + 1), ("a", NOON + 2 * HOUR + 2)) == [False, True]


def test_an_id_that_counts_again_is_known_by_its_newest_time() -> None:
    seen, stored = Seen(HOUR), Stored()
    for time in (NOON, NOON + HOUR + 1):
        _, rows = seen.admit(digests(["a"]), np.array([time]))
        stored.append(seen, rows)
    for each in (seen, stored.reopen(HOUR, NOON + HOUR + 1)):
        assert admit(each, ("a", NOON + 2 * HOUR + 1), ("a", NOON + 2 * HOUR + 2)) == [False, True]


def test_record_times_that_go_back_a_little_change_nothing() -> None:
    seen = Seen(HOUR)
    assert admit(seen, ("a", NOON), ("b", NOON - 1), ("a", NOON - 2_000), ("b", NOON - 2_000)) == [True, True, False, False]


@pytest.mark.parametrize("near", ["A", "a ", " a", "aa", "\u00e0", "a\u0300", "\ud800", "", "a" * 128])
def test_ids_that_are_nearly_the_same_are_not(near: str) -> None:
    assert admit(Seen(HOUR), ("a", NOON), (near, NOON), (near, NOON)) == [True, True, False]


def test_a_digest_depends_on_nothing_but_the_id() -> None:
    assert digests(["x", "y", "x"])[[0, 2]].tolist() == digests(["x", "x"]).tolist()
    assert digests([]).shape == (0, 2)


#: Steps of time that matter: none, a little, a bucket, just up to and just beyond the horizon, a long pause.
def pauses(horizon: int) -> st.SearchStrategy[int]:
    near = [horizon - BUCKET_MS, horizon - 1, horizon, horizon + 1, horizon + BUCKET_MS, horizon + BUCKET_MS + 1, 9 * horizon]
    return st.one_of(st.just(0), st.integers(0, BUCKET_MS), st.sampled_from([max(0, step) for step in near]))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from((1_000, BUCKET_MS - 1, BUCKET_MS, HOUR, HOUR + 1_234)))
def test_batches_restarts_and_pauses_make_no_difference(monkeypatch: pytest.MonkeyPatch, data: st.DataObject, horizon: int) -> None:
    monkeypatch.setattr(dedupe, "PART_ROWS", 3)
    model, seen, stored = Model(horizon), Seen(horizon), Stored()
    time = NOON + data.draw(st.integers(0, 2 * BUCKET_MS))
    for _ in range(data.draw(st.integers(1, 8))):
        batch: list[Event] = []
        for _ in range(data.draw(st.integers(1, 5))):
            time += data.draw(pauses(horizon))
            batch.append((data.draw(st.sampled_from("abcd")), time))
        admitted, rows = seen.admit(digests([i for i, _ in batch]), np.array([t for _, t in batch], np.int64))
        assert admitted.tolist() == [model.admit(event) for event in batch]
        assert [(tuple(row[:2].tolist()), int(row[2])) for row in rows] == [
            (tuple(digests([i])[0].tolist()), t) for (i, t), counts in zip(batch, admitted, strict=True) if counts
        ]
        stored.append(seen, rows)
        stored.drop(seen.prune(time))
        if data.draw(st.booleans()):
            seen = stored.reopen(horizon, time)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.one_of(st.integers(0, 2 * HOUR), st.integers(0, 100 * HOUR)), st.booleans(), st.booleans()), max_size=12))
def test_what_cannot_be_repeated_any_more_is_deleted_soon(steps: list[tuple[int, bool, bool]]) -> None:
    """However long the pauses and however often the worker changes, nothing but the horizon and a few buckets stays."""
    seen, stored = Seen(HOUR), Stored()
    times = [NOON]
    for pause, prunes, restarts in steps:
        times.append(times[-1] + pause)
        now = times[-1]
        _, rows = seen.admit(digests([f"{len(times)}-{i}" for i in range(3)]), np.array([now] * 3))
        stored.append(seen, rows)
        if prunes or now > times[-2] + 2 * BUCKET_MS:
            stored.drop(seen.prune(now))
            assert min(stored.parts)[0] * BUCKET_MS >= now - HOUR - 3 * BUCKET_MS
            assert len(seen) <= 3 * sum(time >= now - HOUR - 3 * BUCKET_MS for time in times)
        if restarts:
            seen = stored.reopen(HOUR, now)


def test_pruning_is_done_once_a_bucket() -> None:
    seen = Seen(HOUR)
    _, rows = seen.admit(digests([str(i) for i in range(40)]), NOON + np.arange(40) * BUCKET_MS)
    Stored().append(seen, rows)
    after = NOON + 40 * BUCKET_MS
    gone = seen.prune(after)
    assert gone == sorted(gone)
    assert gone[-1][0] * BUCKET_MS < after - HOUR - BUCKET_MS
    left = len(seen)
    assert left < 20
    assert seen.prune(after + BUCKET_MS - 1) == []
    assert seen.prune(after + BUCKET_MS) == [(gone[-1][0] + 1, 0)], "each bucket once"
    assert len(seen) == left - 1


def test_a_bucket_is_stored_in_parts_which_are_no_longer_appended_to_once_they_are_large() -> None:
    seen, stored = Seen(HOUR), Stored()
    half = PART_ROWS // 2 + 1
    for batch in range(5):
        _, rows = seen.admit(digests([f"{batch}-{i}" for i in range(half)]), np.full(half, NOON))
        stored.append(seen, rows)
        if batch == 2:
            seen = stored.reopen(HOUR, NOON)
    bucket = NOON // BUCKET_MS
    assert {part: len(held) // 24 for part, held in stored.parts.items()} == {
        (bucket, 0): 2 * half,
        (bucket, 1): 2 * half,
        (bucket, 2): half,
    }
    again = stored.reopen(HOUR, NOON)
    assert len(again) == 5 * half
    assert not any(admit(again, *((f"{batch}-{half - 1}", NOON + HOUR) for batch in range(5))))
    stored.drop(again.prune(NOON + 2 * HOUR))
    assert not stored.parts


def test_another_horizon_finds_what_was_stored_under_the_old_one() -> None:
    stored = Stored()
    short = Seen(HOUR)
    _, rows = short.admit(digests(["a"]), np.array([NOON]))
    stored.append(short, rows)
    longer = stored.reopen(24 * HOUR, NOON + HOUR // 2)
    assert admit(longer, ("a", NOON + HOUR // 2), ("a", NOON + 24 * HOUR), ("a", NOON + 24 * HOUR + 1)) == [False, False, True]
