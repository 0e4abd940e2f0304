"""Duplicates as the contract defines them, against a list of all that was applied, when record times also go back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.ingest.dedupe import BUCKET_MS, Seen, digests
from tests.unit.test_dedupe import NOON, Stored

Step = tuple[str, int, int, bool]


@dataclass
class Applied:
    """An id is a duplicate if it was applied at a record time within the horizon, bound included."""

    horizon: int
    times: dict[str, list[int]] = field(default_factory=dict)

    def admit(self, event_id: str, time: int) -> bool:
        before = self.times.setdefault(event_id, [])
        if any(abs(time - each) <= self.horizon for each in before):
            return False
        before.append(time)
        return True


def steps(horizon: int, back: int) -> st.SearchStrategy[list[Step]]:
    """(id, how far the clock goes on, how far behind it the record lies, whether the batch ends here with a restart or without)."""
    on = st.one_of(st.just(0), st.sampled_from([1, BUCKET_MS, horizon - 1, horizon, horizon + 1, horizon + BUCKET_MS, 3 * horizon]))
    behind = st.one_of(st.just(0), st.integers(0, back), st.just(back))
    return st.lists(st.tuples(st.sampled_from("abc"), on, behind, st.booleans()), min_size=1, max_size=12)


def run(horizon: int, taken: list[Step], restart: list[bool], *, judged: bool = True) -> list[bool]:
    """Which of the events are admitted; held against the model if they are to be judged."""
    result = list[bool]()
    newest = 0
    model, seen, stored = Applied(horizon), Seen(horizon), Stored()
    clock, batch = NOON, list[tuple[str, int]]()
    ends = iter(restart)
    for number, (event_id, on, behind, closes) in enumerate(taken, 1):
        clock += on
        batch.append((event_id, clock - behind))
        if not closes and number < len(taken):
            continue
        admitted, rows = seen.admit(digests([i for i, _ in batch]), np.array([t for _, t in batch], np.int64), newest)
        assert not judged or admitted.tolist() == [model.admit(*event) for event in batch], batch
        result += admitted.tolist()
        stored.append(seen, rows)
        newest = max(newest, *(t for _, t in batch))
        stored.drop(seen.prune(newest))
        if next(ends, False):
            seen = stored.reopen(horizon, newest)
        batch = []
    return result


HORIZONS = st.sampled_from((BUCKET_MS, 3 * BUCKET_MS, 12 * BUCKET_MS, 12 * BUCKET_MS + 1_234))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), HORIZONS, st.lists(st.booleans(), max_size=12))
def test_record_times_that_go_back_up_to_five_minutes_change_nothing(data: st.DataObject, horizon: int, restarts: list[bool]) -> None:
    run(horizon, data.draw(steps(horizon, BUCKET_MS)), restarts)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), HORIZONS, st.lists(st.booleans(), max_size=12))
def test_however_far_record_times_go_back_restarts_change_nothing(data: st.DataObject, horizon: int, restarts: list[bool]) -> None:
    taken = data.draw(steps(horizon, 3 * horizon))
    assert run(horizon, taken, restarts, judged=False) == run(horizon, taken, [], judged=False)


def test_an_id_applied_at_two_times_is_known_by_both() -> None:
    run(3_600_000, [("a", 0, 0, True), ("a", 0, 7_200_000, True), ("a", 0, 0, True)], [])
