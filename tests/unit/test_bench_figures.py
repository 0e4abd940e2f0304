"""The arithmetic of the benchmarks: percentiles, what a histogram says of them, slopes, and when each record was seen."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.demo.slack_stand_in import Posted, Version
from bench.alert_delay import first_messages, match
from bench.faulty_clicks import PANE_MS, RATE, RULES, Fault, Kind, clicks, name_of, plan, registry
from bench.figures import Buckets, Latencies, high_of_each, rate_between, rate_within, seen_after, slope_per_hour, sparkline
from bench.soak import Sample, judge

BOUNDS = (0.1, 0.5, 1.0, float("inf"))


def counted(values: list[float]) -> Buckets:
    return Buckets(BOUNDS, tuple(float(sum(value <= bound for value in values)) for bound in BOUNDS))


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    found = Latencies.of(np.arange(1, 1_001)[::-1] / 1_000.0)
    assert found.count == 1_000
    assert (found.p50, found.p99, found.p999, found.highest) == pytest.approx((500, 990, 999, 1_000))
    assert Latencies.of(np.array([0.25])).content() == {"count": 1, "p50": 250.0, "p99": 250.0, "p999": 250.0, "highest": 250.0}


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200), st.sampled_from([0.5, 0.99, 0.999]))
def test_a_histogram_has_a_percentile_in_the_bucket_that_it_is_in(values: list[float], share: float) -> None:
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert counted(values).quantile(share) == counted(values).number_of(exact)


def test_a_histogram_says_what_came_since_an_earlier_look() -> None:
    early, late = [0.05, 2.0], [0.05, 2.0, 0.3, 0.3, 0.7]
    since = counted(late).since(counted(early))
    assert (since.count, since) == (3, counted([0.3, 0.3, 0.7]))
    assert [since.named(number) for number in range(4)] == ["0..100", "100..500", "500..1000", "above 1000"]
    assert since.named(1, unit=1) == "0.1..0.5"


def test_every_record_is_seen_at_the_first_look_that_shows_its_offset() -> None:
    # Two batches of 3 and 2 records. The looks show offsets 0, then 3, then all.
    seen = seen_after(
        np.array([0, 3]), np.array([3, 2]), np.array([10.0, 10.5]), polled_at=np.array([10.2, 11.0, 12.0]), applied=np.array([0, 3, 4])
    )
    assert seen.tolist() == pytest.approx([0.2, 1.0, 1.0, 0.5, 1.5])


def test_records_that_were_never_seen_are_no_measurement() -> None:
    with pytest.raises(ValueError, match="not all records were seen"):
        seen_after(np.array([0]), np.array([3]), np.array([10.0]), np.array([11.0]), np.array([1]))
    assert seen_after(*(np.empty(0, np.int64),) * 2, *(np.empty(0),) * 2, np.empty(0, np.int64)).size == 0


def test_a_rate_is_that_between_two_numbers_of_records() -> None:
    assert rate_between(np.array([0.0, 5.0, 6.0, 8.0, 20.0]), np.array([0, 100, 300, 700, 800]), 100, 650) == 200


def test_a_rate_within_a_time_goes_by_what_was_seen_last_at_both_ends() -> None:
    polled_at, totals = np.array([1.0, 5.0, 6.0, 8.0, 20.0]), np.array([50, 100, 300, 700, 800])
    assert rate_within(polled_at, totals, 5.5, 9.5) == 150
    assert rate_within(polled_at, totals, 0.0, 5.0) == 20


def test_a_slope_is_per_hour_and_by_least_squares() -> None:
    assert slope_per_hour([100.0, 1_900.0, 3_700.0], [50.0, 51.0, 52.0]) == pytest.approx(2.0)
    assert slope_per_hour([0.0, 1.0, 2.0, 3.0], [5.0, 7.0, 5.0, 7.0]) == pytest.approx(0.4 * 3_600)


def test_periods_are_counted_back_from_the_end() -> None:
    at = [float(second) for second in range(0, 71, 10)]
    assert high_of_each(30.0, at, [9, 1, 2, 3, 4, 5, 6, 7]) == ([25.0, 55.0], [4, 7])


def test_a_line_of_bars_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([1, 1, 2, 8]) == "▁▁▂█"
    assert sparkline([3, 3]) == "▁▁"
    assert len(sparkline(range(1_000), width=40)) == 40


def saw(minutes: int, rise_per_hour: float) -> list[Sample]:
    """Memory that grows for a while, then goes up and down by 60 MiB every 5 minutes, on top of a steady rise."""
    return [
        Sample(at, 200 + min(at, 600) / 10 + at % 300 / 5 + rise_per_hour * at / 3_600, 0, 0)
        for at in (float(second) for second in range(0, minutes * 60 + 1, 10))
    ]


def test_memory_that_goes_up_and_down_is_flat_and_memory_that_leaks_is_not() -> None:
    assert judge(saw(30, 0))["flat"] is True
    leaking = judge(saw(30, 40))
    assert leaking["flat"] is False
    assert leaking["slope_mib_per_hour"] == pytest.approx(40, abs=0.1)


def test_a_table_that_was_seen_while_it_was_moved_is_no_leak() -> None:
    seen = [Sample(at * 10.0, 1_000.0 if at in (154, 156) else 800.0, 0, 0) for at in range(181)]
    found = judge(seen)
    assert (found["flat"], found["highest_mib"], found["slope_mib_per_hour"]) == (True, 1_000.0, pytest.approx(0))


def test_looks_that_come_a_little_late_leave_whole_periods() -> None:
    late = [Sample(number * 10.05, 800.0, 0, 0) for number in range(180)]
    found = judge(late)
    assert (found["flat"], found["high_of_each_period_mib"]) == (True, [800.0] * 3)


def test_a_run_of_less_than_three_periods_says_nothing_about_memory() -> None:
    short = judge(saw(10, 0))
    assert (short["flat"], short["slope_mib_per_hour"]) == (None, None)


def test_faults_begin_with_a_pane_and_each_has_a_campaign_of_its_own() -> None:
    faults = plan(8, 1_790_000_001_234, 4.0)
    assert [fault.start % PANE_MS for fault in faults] == [0] * 8
    assert len({fault.campaign for fault in faults}) == 8
    assert {fault.kind for fault in faults} == set(Kind)
    assert all(0 <= fault.start - (1_790_000_001_234 + int(n * 4_000)) < PANE_MS for n, fault in enumerate(faults))


def test_clicks_are_regular_but_for_the_faults() -> None:
    start = 1_790_000_000_000
    faults = [Fault(number, kind, start) for number, kind in enumerate(Kind)]
    before = list(clicks(5, faults, start - PANE_MS, start))
    during = list(clicks(5, faults, start, start + PANE_MS))
    assert [sum(key == name_of(c).encode() for key, _ in before) for c in range(5)] == [RATE * 10] * 5
    assert [sum(key == name_of(c).encode() for key, _ in during) for c in range(5)] == [0, 8 * RATE * 10, RATE * 10, RATE * 10, RATE * 10]
    assert len({value for _, value in before + during}) == len(before) + len(during)
    assert len(list(registry(5, datetime(2026, 11, 25, tzinfo=UTC).date()))) == 5


def test_a_message_counts_from_the_pane_that_shows_its_fault() -> None:
    drop, spike, unheard = Fault(0, Kind.DROP, 1_000_000), Fault(1, Kind.SPIKE, 1_000_000), Fault(2, Kind.RUNAWAY, 1_000_000)
    incidents = [
        {"incident_id": "a", "rule": RULES[Kind.DROP], "key": {"campaign_id": name_of(0)}},
        {"incident_id": "b", "rule": RULES[Kind.SPIKE], "key": {"campaign_id": name_of(1)}},
        {"incident_id": "c", "rule": RULES[Kind.RUNAWAY], "key": {"campaign_id": name_of(2)}},
        {"incident_id": "d", "rule": "conversion_tracking", "key": {"campaign_id": name_of(0)}},
        {"incident_id": "e", "rule": "traffic", "key": {"campaign_id": name_of(9)}},
    ]
    arrived = first_messages(
        [_posted("a", 1, "1027.0"), _posted("b", 1, "1017.5"), _posted("b", 3, "1040.0"), _posted("b", 2, "1002.0", "x")]
    )
    told, others = match([drop, spike, unheard], incidents, arrived)
    assert [each.delay for each in told] == [pytest.approx(7.0), pytest.approx(7.5), None]
    assert [other.split(":")[0].split(" ")[0] for other in others] == ["conversion_tracking", "traffic"]


def _posted(incident: str, seq: int, ts: str, thread: str | None = None) -> Posted:
    metadata = {"event_type": "campaignwatch_incident", "event_payload": {"incident_id": incident, "seq": seq}}
    return Posted(ts, "C1", "api", thread, False, [Version("text", [], metadata)])
