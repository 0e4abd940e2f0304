"""Rows become the events that the mapping says: fields, times, counts, ids, reports; and what cannot become one is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.config import Money, Topic
from streams.events.parsing import parse
from streams.replay.expanding import AT, ID, KEY, TOPIC, VALUE
from streams.replay.mapping import Mapping, MappingError
from streams.replay.playing import DAY_MS, shift_to_now
from streams.replay.reading import open_source
from streams.replay.sequence import in_file_order, in_time_order
from streams.replay.survey import Survey, survey

M = Path("mine.yaml")
CLICKS = """
time: {column: ts, unit: s}
columns: {campaign_id: campaign}
constants: {channel: Search}
events: [{topic: clicks}]
"""


def mapping(text: str) -> Mapping:
    return Mapping.model_validate(yaml.safe_load(text))


class Played:
    """A file put through the whole replay but Kafka."""

    def __init__(
        self, tmp_path: Path, text: str, data: str | list[str], name: str = "rows.csv", shift: int = 0, by_time: bool = False
    ) -> None:
        rules = mapping(text)
        sources = []
        for number, content in enumerate([data] if isinstance(data, str) else data):
            path = tmp_path / f"{number}-{name}"
            path.write_text(content)
            sources.append(open_source(path))
        self.found: Survey = survey(M, rules, sources, Money())
        order = in_time_order if by_time else in_file_order
        self.pieces = list(order(M, rules, sources, self.found, shift))
        self.rows: list[dict[str, Any]] = [row for piece in self.pieces for row in piece.iter_rows(named=True)]
        self.faults = [(fault.path.name, fault.row, fault.what) for fault in self.found.faults]

    @cached_property
    def values(self) -> list[dict[str, Any]]:
        return [json.loads(row[VALUE]) for row in self.rows]

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [value for row, value in zip(self.rows, self.values, strict=True) if row[TOPIC] == topic]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


def test_a_row_becomes_an_event_keyed_by_its_campaign(tmp_path: Path) -> None:
    played = Played(tmp_path, CLICKS, "ts,campaign\n1700000000,c-1\n1700000001,c-2\n")
    tag = open_source(tmp_path / "0-rows.csv").tag
    assert played.values == [
        {"event_id": f"{tag}:2:1", "occurred_at": 1_700_000_000_000, "campaign_id": "c-1", "channel": "search"},
        {"event_id": f"{tag}:3:1", "occurred_at": 1_700_000_001_000, "campaign_id": "c-2", "channel": "search"},
    ]
    assert [row[KEY] for row in played.rows] == ["c-1", "c-2"]
    assert played.found.events == {Topic.CLICKS: 2, Topic.CONVERSIONS: 0, Topic.ENGAGEMENTS: 0, Topic.SPEND: 0}


def test_a_condition_chooses_rows_by_number_text_or_one_of_several(tmp_path: Path) -> None:
    text = """
time: {column: ts, unit: s}
columns: {campaign_id: c, order_id: o}
constants: {channel: search}
events:
  - {topic: clicks, when: {click: 1}}
  - {topic: conversions, when: {type: [order, lead]}, constants: {kind: purchase}, event_id: "o-{o}"}
"""
    data = "ts,c,o,click,type\n1,a,7,1,\n2,a,8,1.0,lead\n3,a,9,0,order\n4,a,10,,cart\n"
    played = Played(tmp_path, text, data)
    assert [value["occurred_at"] for value in played.of("clicks")] == [1_000, 2_000]
    assert [value["event_id"] for value in played.of("conversions")] == ["o-8", "o-9"]
    assert [value["order_id"] for value in played.of("conversions")] == ["8", "9"]


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 400), min_size=1, max_size=6), minutes=st.sampled_from([1, 15, 60, 1_440]))
@example(counts=[45_000], minutes=60)
def test_counted_events_lie_evenly_in_their_period(tmp_path_factory: pytest.TempPathFactory, counts: list[int], minutes: int) -> None:
    text = f"""
time: {{column: ts, unit: s, length: {minutes}m}}
columns: {{campaign_id: c}}
constants: {{channel: social}}
events: [{{topic: clicks, count: n}}]
"""
    data = "ts,c,n\n" + "".join(f"{i * 86_400},c-{i},{n}\n" for i, n in enumerate(counts))
    played = Played(tmp_path_factory.mktemp("counted"), text, data)
    assert len({row[ID] for row in played.rows}) == sum(counts) == played.found.total
    length = minutes * 60_000
    for i, count in enumerate(counts):
        times = [row[AT] - i * DAY_MS for row in played.rows if row[KEY] == f"c-{i}"]
        # The middles of `count` equal parts, rounded down to the millisecond.
        assert times == [int(Fraction(2 * n + 1, 2 * count) * length) for n in range(count)]


def test_a_slot_is_a_part_of_the_local_day(tmp_path: Path) -> None:
    text = """
time: {column: day, format: "%d.%m.%Y", zone: Europe/Berlin, slot: {column: slot, per_day: 6}}
columns: {campaign_id: c}
constants: {channel: display}
events: [{topic: clicks, count: n}]
"""
    # On 25 October 2026 the clocks go back at 3:00: the day's first slot is five hours long.
    played = Played(tmp_path, text, "day,slot,c,n\n24.10.2026,6,c,1\n25.10.2026,1,c,1\n25.10.2026,7,c,1\n", shift=DAY_MS)
    assert [row[AT] - DAY_MS for row in played.rows] == [at("2026-10-24T20:00:00Z"), at("2026-10-25T00:30:00Z")]
    assert played.faults == [("0-rows.csv", 4, "slot: got '7'; expected 1 to 6")]


@pytest.mark.parametrize(
    ("time", "value", "expected"),
    [
        ("{column: ts}", "2026-11-23T08:00:00.1239+01:00", "2026-11-23T07:00:00.123Z"),
        ("{column: ts}", "2026-11-23 08:00:00z", "2026-11-23T08:00:00Z"),
        ('{column: ts, format: "%Y-%m-%d %H:%M:%S", zone: America/New_York}', "2026-11-23 08:00:00", "2026-11-23T13:00:00Z"),
        ('{column: ts, format: "%Y-%m-%d %H:%M:%S%.f%:z"}', "2026-11-23 08:00:00.5+05:30", "2026-11-23T02:30:00.5Z"),
        ('{column: ts, format: "%Y-%m-%d", zone: Asia/Tokyo}', "2026-11-23", "2026-11-22T15:00:00Z"),
        ('{column: ts, format: "%Y%m%d%H"}', "2026112308", "2026-11-23T08:00:00Z"),
        ("{column: ts, unit: us}", "1763884800000999", "2025-11-23T08:00:00.000Z"),
        ("{column: ts, unit: ns}", "1763884800000999999", "2025-11-23T08:00:00.000Z"),
        # Came twice: the first is meant.
        ('{column: ts, format: "%Y-%m-%d %H:%M", zone: Europe/Berlin}', "2026-10-25 02:30", "2026-10-25T00:30:00Z"),
    ],
)
def test_times_are_read_in_their_format_and_zone(tmp_path: Path, time: str, value: str, expected: str) -> None:
    played = Played(tmp_path, CLICKS.replace("{column: ts, unit: s}", time), f"ts,campaign\n{value},c\n")
    assert played.faults == []
    assert [row[AT] for row in played.rows] == [at(expected)]


@pytest.mark.parametrize(
    ("time", "value", "said"),
    [
        ("{column: ts}", "2026-11-23T08:00:00", "expected an RFC 3339 time"),
        ("{column: ts, unit: s}", "soon", "expected epoch s"),
        ("{column: ts, unit: s}", "", "expected epoch s"),
        ('{column: ts, format: "%Y-%m-%d"}', "2026-02-30", "expected a time as %Y-%m-%d"),
        ('{column: ts, format: "%Y-%m-%d %H:%M", zone: Europe/Berlin}', "2026-03-29 02:30", "there is no such time in Europe/Berlin"),
    ],
)
def test_a_time_that_is_none_is_named(tmp_path: Path, time: str, value: str, said: str) -> None:
    played = Played(tmp_path, CLICKS.replace("{column: ts, unit: s}", time), f"ts,campaign\n{value},c\n")
    assert played.values == []
    assert [(row, what) for _, row, what in played.faults] == [(2, f"ts: got {value!r}; {said}" if value else f"ts: got nothing; {said}")]


def test_rows_that_would_be_quarantined_are_named_and_left_out(tmp_path: Path) -> None:
    text = """
time: {column: ts, unit: s, length: 1h}
columns: {campaign_id: c, currency: cur, cost: cost, dwell_ms: dwell, kind: kind}
constants: {channel: search}
events: [{topic: engagements}]
"""
    lines = [
        "1,a,,1.5,10,view",
        "2,,,1,10,view",
        "3,a,XXX,1,10,view",
        "4,a,,-1,10,view",
        "5,a,,1,1e3,view",
        "6,a,,1,90000000,view",
        "7,a,,1,10,New Kind",
        f"8,{'x' * 129},,1,10,view",
        "9,a,,2000000000,,view",
        "10,a,,0.25,,save",
    ]
    played = Played(tmp_path, text, "ts,c,cur,cost,dwell,kind\n" + "\n".join(lines))
    assert [value["occurred_at"] for value in played.values] == [1_000, 10_000]
    assert [value["cost"] for value in played.values] == ["1.500000", "0.250000"]
    assert [value.get("dwell_ms") for value in played.values] == [10, None]
    said = {row: what for _, row, what in played.faults}
    assert sorted(said) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert said[3] == "c: got nothing; `campaign_id` must not be empty"
    assert "XXX" in said[4]
    assert said[5] == "cost: got '-1'; expected money: digits with an optional fraction, no sign"
    assert said[6] == "dwell: got '1e3'; expected a whole number"
    assert said[7].startswith("dwell_ms: got 90000000")
    assert said[8].startswith("kind: got")
    assert said[9].startswith("campaign_id: got")
    assert said[10].startswith("cost: got")
    assert played.found.fault_count == 8


SPEND = """
time: {column: hour, format: "%Y-%m-%d %H", length: 1h}
columns: {campaign_id: c, creative_id: ad, region: region, currency: cur}
constants: {channel: social, platform: snap}
events:
  - topic: spend
    columns: {amount: {column: spend, unit: micros}}
"""


def test_spend_of_a_period_is_one_report_over_rows_and_files(tmp_path: Path) -> None:
    header = "hour,c,ad,region,cur,spend\n"
    first = f"{header}2026-11-01 00,a,1,north,USD,5\n2026-11-01 00,a,2,north,USD,7\n2026-11-01 01,a,1,north,USD,11\n"
    second = (
        "hour,c,ad,region,cur,spend\n2026-11-01 00,a,3,north,USD,2000000\n2026-11-01 00,b,4,south,USD,1\n2026-11-01 00,b,4,west,USD,1\n"
    )
    played = Played(tmp_path, SPEND, [first, second], shift=DAY_MS)
    reports = {(value["campaign_id"], value["period_start"] - DAY_MS): value for value in played.values}
    assert {key: value["amount"] for key, value in reports.items()} == {
        ("a", at("2026-11-01T00:00Z")): "2.000012",
        ("a", at("2026-11-01T01:00Z")): "0.000011",
        ("b", at("2026-11-01T00:00Z")): "0.000002",
    }
    report = reports["a", at("2026-11-01T00:00Z")]
    assert report["period_end"] - report["period_start"] == 3_600_000
    assert report["occurred_at"] == report["period_end"]
    # Of the other fields those stay on which all rows agree.
    assert (report["region"], report.get("creative_id")) == ("north", None)
    assert reports["b", at("2026-11-01T00:00Z")].get("region") is None


def test_rows_of_one_report_in_two_currencies_are_not_added_up(tmp_path: Path) -> None:
    played = Played(tmp_path, SPEND, "hour,c,ad,region,cur,spend\n2026-11-01 00,a,1,,USD,5\n2026-11-01 00,a,2,,EUR,7\n")
    assert played.values == []
    assert played.faults == [("0-rows.csv", 2, "currency: rows of the same campaign and period say EUR and USD; not reported")]


MICROS = st.integers(0, 10**15)


@settings(max_examples=25, deadline=None)
@given(amounts=st.lists(MICROS, min_size=1, max_size=20))
def test_money_is_exact_in_every_unit_and_format(tmp_path_factory: pytest.TempPathFactory, amounts: list[int]) -> None:
    directory = tmp_path_factory.mktemp("money")
    text = CLICKS.replace("columns: {", "columns: {cost: {column: m, unit: micros}, ")
    as_micros = Played(directory, text, "ts,campaign,m\n" + "".join(f"1,c,{m}\n" for m in amounts))
    in_units = Played(
        directory,
        text.replace("unit: micros", "unit: units"),
        "ts,campaign,m\n" + "".join(f"1,c,{m // 10**6}.{m % 10**6:06}\n" for m in amounts),
    )
    for played in (as_micros, in_units):
        parsed = [parse(Topic.CLICKS, row[VALUE].encode(), row[KEY].encode(), Money()) for row in played.rows]
        assert [int(event.cost * 10**6) for event in parsed if event.__class__.__name__ == "Click"] == amounts  # type: ignore[union-attr]


def test_typed_columns_of_parquet_are_taken_as_they_are(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "when": [datetime(2026, 11, 1, 8, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC)],
            "campaign": [17, 18],
            "cost": [0.1, 0.30000000000000004],
            "n": [2.0, None],
        }
    )
    path = tmp_path / "rows.parquet"
    frame.write_parquet(path)
    text = """
time: {column: when, length: 1h}
columns: {campaign_id: {column: campaign, prefix: shop-}}
constants: {channel: search}
events: [{topic: clicks, columns: {cost: cost}}, {topic: engagements, count: n, constants: {kind: impression}}]
"""
    rules, source = mapping(text), open_source(path)
    found = survey(M, rules, [source], Money())
    values = [json.loads(value) for piece in in_file_order(M, rules, [source], found, 0) for value in piece[VALUE]]
    assert [(v["campaign_id"], v.get("cost"), v.get("kind")) for v in values] == [
        ("shop-17", "0.100000", None),
        ("shop-18", "0.300000", None),
        ("shop-17", None, "impression"),
        ("shop-17", None, "impression"),
    ]
    assert found.faults == []


def test_sessions_of_json_lines_become_an_event_per_element(tmp_path: Path) -> None:
    text = """
explode: events
time: {column: events.ts, unit: ms}
columns: {creative_id: events.aid, user_id: session}
constants: {campaign_id: shop, channel: direct}
events: [{topic: clicks, when: {events.type: clicks}}, {topic: conversions, when: {events.type: orders}, constants: {kind: purchase}}]
"""
    session = {"session": 5, "events": [{"aid": 1, "ts": 10, "type": "clicks"}, {"aid": 2, "ts": 20, "type": "orders"}]}
    played = Played(tmp_path, text, "\n".join(map(json.dumps, [session, {"session": 6, "events": []}, session])), "s.jsonl")
    assert [(v["creative_id"], v["user_id"], v["occurred_at"]) for v in played.of("clicks")] == [("1", "5", 10)] * 2
    assert [(v["creative_id"], v["kind"]) for v in played.of("conversions")] == [("2", "purchase")] * 2
    assert len({row[ID] for row in played.rows}) == 4


def test_a_column_that_is_not_there_is_the_mappings_fault(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"mine\.yaml: columns\.campaign_id: .*0-rows\.csv has no column 'campaign'; it has ts, cmp"):
        Played(tmp_path, CLICKS, "ts,cmp\n1,c\n")


def test_the_order_is_the_same_whatever_is_asked_and_time_order_is_by_time(tmp_path: Path) -> None:
    text = """
time: {column: ts, unit: s, length: 1h}
columns: {campaign_id: c}
constants: {channel: social, platform: p}
events:
  - {topic: engagements, count: n, constants: {kind: impression}}
  - {topic: clicks, count: k}
  - {topic: spend, columns: {amount: m}}
"""
    rows = [(hour, f"c-{c}", 600 * (c + 1), 7, "0.1") for c in range(3) for hour in range(20, 0, -1)]
    data = "ts,c,n,k,m\n" + "".join(f"{hour * 3_600},{c},{n},{k},{m}\n" for hour, c, n, k, m in rows)
    by_file, again = Played(tmp_path, text, data), Played(tmp_path, text, data)
    assert [row[ID] for row in by_file.rows] == [row[ID] for row in again.rows]
    by_time = Played(tmp_path, text, data, by_time=True)
    times = [row[AT] for row in by_time.rows]
    assert times == sorted(times)
    assert sorted(row[VALUE] for row in by_time.rows) == sorted(row[VALUE] for row in by_file.rows)
    # No more is held at a time than a few pieces' worth.
    assert max(piece.height for piece in by_time.pieces) <= 20_000
    assert by_file.found.newest == max(times)
    assert len(times) == by_file.found.total == sum(n + k for _, _, n, k, _ in rows) + 60


@given(newest=st.integers(-(10**13), 10**13), now=st.integers(0, 10**13))
def test_the_shift_is_whole_days_and_ends_as_late_as_it_can(newest: int, now: int) -> None:
    shift = shift_to_now(newest, now)
    assert shift % DAY_MS == 0
    assert newest + shift <= now < newest + shift + DAY_MS
