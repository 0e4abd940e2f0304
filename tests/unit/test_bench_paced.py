"""The producer of the benchmarks: what it sends at a steady pace are new clicks, in batches as Kafka's protocol has them."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from bench.clicks import Load
from bench.paced import _prepared, _templates
from streams.transport.record_batches import records_of

NOW = 1_795_000_000_000


@pytest.mark.parametrize(("at_once", "ages"), [(2_000, True), (50, False), (3, True)])
def test_batches_hold_new_clicks_of_their_partition(at_once: int, ages: bool) -> None:
    prepared = _prepared(Load(campaigns=20, users=100), [0, 1, 2, 3], ages=ages)
    campaigns = {partition: {click.key for click in them} for partition, them in prepared.items()}
    seen: list[str] = []
    rounds = 4
    for round_of_all in islice(_templates(prepared, at_once), rounds):
        for template in round_of_all:
            records, _ = records_of(template.stamped(len(seen), NOW)._build(), 0)  # raises where the checksum is wrong
            assert len(records) == len(template)
            assert {record.timestamp for record in records} == {NOW}
            clicks = [json.loads(record.value or b"") for record in records]
            assert {click["campaign_id"].encode() for click in clicks} <= campaigns[template.partition]
            assert all(NOW - 1_500 < click["occurred_at"] <= NOW for click in clicks)
            assert ages or {click["occurred_at"] for click in clicks} == {NOW}
            seen += [click["event_id"].rpartition("-")[2] for click in clicks]
    assert seen == [f"{i:012d}" for i in range(len(seen))]
    assert abs(len(seen) - rounds * at_once) <= rounds * len(prepared)
