"""Counting many values at once gives what Prometheus' own histogram gives for one after another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streams.metrics.ingest import VISIBLE_BUCKETS, IngestMetrics
from streams.metrics.weighted import WeightedHistogram

BOUNDS = (0.05, 0.5, 1, 2.5, 30)
#: Values on the bounds are what two implementations may disagree about.
VALUES = st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100)), max_size=30)


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    found = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
    return {key: value for key, value in found.items() if not key[0].endswith("_created")}


@given(st.lists(st.tuples(st.sampled_from(["clicks", "spend"]), VALUES), max_size=5))
def test_it_counts_as_the_clients_histogram_does(flushes: list[tuple[str, list[float]]]) -> None:
    one, many = CollectorRegistry(), CollectorRegistry()
    theirs = Histogram("age_seconds", "Age", ("topic",), buckets=BOUNDS, registry=one)
    ours = WeightedHistogram("age_seconds", "Age", ("topic",), BOUNDS, many)
    for topic, values in flushes:
        child = theirs.labels(topic)
        for value in values:
            child.observe(value)
        ours.observe((topic,), np.array(values, np.float64))
    expected, found = samples(one), samples(many)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("bounds", [(), (1, 1), (2, 1)], ids=["none", "twice", "falling"])
def test_bounds_that_make_no_buckets_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="age_seconds: the bounds"):
        WeightedHistogram("age_seconds", "Age", (), bounds, CollectorRegistry())


def test_a_record_is_as_old_as_its_own_time_says() -> None:
    registry = CollectorRegistry()
    partition = IngestMetrics(registry).of_partition("m.clicks", 0)
    partition.visible(np.array([100_000 - age for age in (250, 250, 900, 7_000)]), 100.0)
    partition.visible(np.array([99_500]), 100.0)

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"campaignwatch_visible_seconds_{name}", {"topic": "m.clicks", **labels})

    assert sample("count") == 5
    assert sample("sum") == pytest.approx(0.25 + 0.25 + 0.9 + 7 + 0.5)
    assert [sample("bucket", le=le) for le in ("0.2", "0.3", "0.5", "1.0", "5.0", "10.0")] == [0, 2, 3, 4, 4, 5]


def test_a_fast_clock_makes_a_record_new_and_a_record_without_a_time_says_nothing() -> None:
    registry = CollectorRegistry()
    partition = IngestMetrics(registry).of_partition("m.clicks", 0)
    partition.visible(np.array([103_000, -1]), 100.0)
    first = str(VISIBLE_BUCKETS[0])
    assert registry.get_sample_value("campaignwatch_visible_seconds_bucket", {"topic": "m.clicks", "le": first}) == 1
    assert registry.get_sample_value("campaignwatch_visible_seconds_count", {"topic": "m.clicks"}) == 1
    assert registry.get_sample_value("campaignwatch_visible_seconds_sum", {"topic": "m.clicks"}) == 0
