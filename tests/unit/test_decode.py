"""The fast decoder: what it gives for plain batches, and that it never disagrees with the arbiter, whatever comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.config import DIMENSIONS, EVENT_TOPICS, Topic
from streams.events.refusal import Reason
from streams.ingest.columns import ABSENT
from streams.ingest.decode import Decoder
from streams.ingest.dedupe import digests
from streams.ingest.facts import facts_of
from streams.ingest.users import user_hasher
from tests.unit.agreement import MONEY, agree, decoded, ms
from tests.unit.hostile_events import DECIMALS, NUMBERS, OPTIONAL, OWN, RAW, SHARED, TEXTS, TIMES, Sent, events, valid


def sent(topic: Topic, **fields: Any) -> Sent:
    event = valid(topic) | fields
    return Sent(json.dumps(event).encode(), str(event["campaign_id"]).encode())


@pytest.mark.parametrize("topic", EVENT_TOPICS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_fast_path_and_arbiter_agree_on_whatever_comes(topic: Topic, data: st.DataObject) -> None:
    agree(topic, data.draw(st.lists(events(topic), min_size=1, max_size=6)))


LITERALS = [json.dumps(text) for text in dict.fromkeys([*TEXTS, *TIMES, *DECIMALS])] + NUMBERS + RAW


def key_for(name: str, literal: str) -> bytes:
    """The key that spend needs: its campaign_id, where that can be read."""
    try:
        sent_id = json.loads(literal) if name == "campaign_id" else "c-1"
        return sent_id.encode() if isinstance(sent_id, str) else b"c-1"
    except (ValueError, RecursionError):
        return b"c-1"


@pytest.mark.parametrize("topic", EVENT_TOPICS)
def test_they_agree_on_every_listed_literal_in_every_field(topic: Topic) -> None:
    plain = json.dumps(valid(topic))[:-1]
    for name in (*SHARED, *OPTIONAL, *OWN[topic], "unknown"):
        records = [Sent(f'{plain}, "{name}": {literal}}}'.encode(), key_for(name, literal)) for literal in LITERALS]
        rows, _ = agree(topic, records)
        assert rows, f"{name}: nothing was taken, so nothing was compared"
        if name in OWN[topic] or name in ("occurred_at", "currency"):
            # Alone, so that the short cuts for columns of one kind are taken.
            for record in records:
                agree(topic, [record])


@pytest.mark.parametrize("topic", EVENT_TOPICS)
def test_a_plain_batch_becomes_columns_in_offset_order(topic: Topic) -> None:
    records = [sent(topic, event_id=f"e-{i}", region="" if i % 2 else "Berlin", channel="Search") for i in range(100)]
    columns, refused = decoded(topic, records)
    assert not refused
    assert len(columns) == 100
    assert columns.event_id.tolist() == digests([f"e-{i}" for i in range(100)]).tolist()
    assert columns.dimensions["region"].strings() == ["Berlin", None] * 50
    assert set(columns.dimensions) == set(DIMENSIONS)
    assert columns.dimensions["channel"].strings() == ["search"] * 100
    assert set(columns.occurred_at.tolist()) == {ms(datetime(2026, 11, 23, 3, 24, 33, 123_000, UTC))}


@pytest.mark.parametrize("topic", EVENT_TOPICS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_they_agree_on_batches_of_several_blocks_with_strange_records_among_them(topic: Topic, data: st.DataObject) -> None:
    records = [sent(topic, event_id=f"e-{i}", keyword=f"k-{i % 700}", user_id=None if i % 5 else f"u-{i}") for i in range(1_100)]
    for at in data.draw(st.lists(st.integers(0, len(records) - 1), max_size=8)):
        records[at] = data.draw(events(topic))
    agree(topic, records)


@pytest.mark.parametrize("kept", [0, 10, 50_000])
def test_batches_do_not_depend_on_those_before_them(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are kept from batch to batch, or forgotten when there are many; what was refused once is refused again."""
    monkeypatch.setattr("streams.ingest.decode_text._MOST_TEXTS", kept)
    decoder = Decoder(Topic.ENGAGEMENTS, MONEY)
    held = []
    for batch in range(4):
        kinds = ["view" if i % 5 else f"Not {i % 3}" for i in range(50)]
        fields = [{"keyword": f"k-{i % 7 + batch}", "creative_id": f"k-{i}", "kind": kind} for i, kind in enumerate(kinds)]
        records = [sent(Topic.ENGAGEMENTS, event_id=f"{batch}-{i}", **each) for i, each in enumerate(fields)]
        columns, refused = decoded(Topic.ENGAGEMENTS, records, decoder)
        assert [i for i, _ in refused] == list(range(0, 50, 5))
        taken = [each for i, each in enumerate(fields) if i % 5]
        held.append((columns, taken))
    for columns, taken in held:
        assert columns.dimensions["keyword"].strings() == [each["keyword"] for each in taken]
        assert columns.dimensions["creative_id"].strings() == [each["creative_id"] for each in taken]
        assert columns.kind.present() == {"view"}


def test_long_texts_after_many_short_ones_find_room() -> None:
    """Where more numbers are needed than there is room for, and more bytes too."""
    texts = [f"{i}" if i < 1_024 else f"{i:0120}" for i in range(6_000)]
    columns, refused = decoded(Topic.CLICKS, [sent(Topic.CLICKS, event_id=f"e-{i}", keyword=text) for i, text in enumerate(texts)])
    assert not refused
    assert columns.dimensions["keyword"].strings() == texts


def test_a_batch_costs_no_more_for_what_others_sent_before() -> None:
    """Thousands of kinds, channels and keywords with escapes are known, most of which it does not have."""
    decoder = Decoder(Topic.ENGAGEMENTS, MONEY)
    many = [sent(Topic.ENGAGEMENTS, event_id=f"e-{i}", kind=f"kind_{i}", channel=f"c{i}", keyword=f"ä{i}") for i in range(3_000)]
    assert not decoded(Topic.ENGAGEMENTS, many, decoder)[1]
    few = [sent(Topic.ENGAGEMENTS, event_id=f"f-{i}", kind="view", channel="Search", keyword=f"ä{i % 2}") for i in range(20)]
    columns, refused = decoded(Topic.ENGAGEMENTS, few, decoder)
    assert not refused
    assert (columns.kind.values, columns.dimensions["channel"].values) == (["view"], ["search"])
    assert sorted(map(str, columns.dimensions["keyword"].values)) == ["ä0", "ä1"]


def test_only_kinds_with_a_measure_of_their_own_are_summed() -> None:
    sent_kinds = [*(f"kind_{i}" for i in range(1_000)), "refund"]
    columns, refused = decoded(Topic.CONVERSIONS, [sent(Topic.CONVERSIONS, event_id=k, kind=k, value="2") for k in sent_kinds])
    assert not refused
    facts = facts_of(Topic.CONVERSIONS, columns, MONEY, user_hasher(""), {"kind_7"})
    assert [name for name in facts.values if "kind" in name or "refund" in name] == ["conversions_kind_7", "refunds"]
    assert int(facts.values["conversions_kind_7"].sum()) == 1
    assert (int(facts.values["conversions"].sum()), int(facts.values["refunds"].sum())) == (1_000, 2_000_000)


def test_texts_that_are_too_long_are_not_kept() -> None:
    """Each is refused, and a partition that then has nothing to read holds on to none of them."""
    decoder = Decoder(Topic.CLICKS, MONEY)
    _, refused = decoded(Topic.CLICKS, [sent(Topic.CLICKS, event_id=f"e-{i}", keyword=f"{i}😀" * 9_000) for i in range(40)], decoder)
    assert len(refused) == 40
    assert len(decoder._numberings._bytes) < 100_000


def test_texts_are_forgotten_when_a_batch_brought_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.ingest.decode_text._MOST_BYTES", 10_000)
    decoder = Decoder(Topic.CLICKS, MONEY)
    columns, _ = decoded(Topic.CLICKS, [sent(Topic.CLICKS, event_id=f"e-{i}", keyword=f"{i:0200}") for i in range(2_000)], decoder)
    assert len(decoder._numberings._bytes) < 100_000
    assert columns.dimensions["keyword"].strings() == [f"{i:0200}" for i in range(2_000)]


def test_no_record_reaches_into_the_next_one() -> None:
    whole = sent(Topic.CLICKS).value
    assert whole is not None
    inner = whole[1:-1]
    for parts in (
        [b"{" + inner, inner + b"}"],
        [b'{"x":[{}', b"{}]," + inner + b"}", whole + b"," + whole],
        [b'{"x":"}', b'{",' + inner + b"}", whole + b"\n" + whole],
        [b'{"x":{}', b"{}," + inner + b"}", whole + whole],
        [b'{"x":{"y":1}', whole + b"\n" + whole, whole],
        [whole + b"\n" + whole, b"{}", b""],
        [whole + b"\n", whole, b"\n" + whole],
    ):
        agree(Topic.CLICKS, [Sent(part) for part in parts])


def test_refused_records_keep_their_position_and_the_others_their_order() -> None:
    good, slow = sent(Topic.CLICKS, cost="0.10"), sent(Topic.CLICKS, cost=1e-6, occurred_at="2026-11-23T00:00:00." + "1" * 40 + "Z")
    columns, refused = decoded(Topic.CLICKS, [slow, Sent(b"{"), good, Sent(None), sent(Topic.CLICKS, campaign_id="a\nb"), slow, good])
    assert columns.index.tolist() == [0, 2, 5, 6]
    assert columns.micros.tolist() == [1, 100_000, 1, 100_000]
    assert [(i, refusal.reason) for i, refusal in refused] == [(1, Reason.MALFORMED), (3, Reason.EMPTY), (4, Reason.INVALID_FIELD)]


def test_an_empty_batch_and_one_of_refusals_only_are_empty_columns() -> None:
    for topic in EVENT_TOPICS:
        assert len(decoded(topic, [])[0]) == 0
        columns, refused = decoded(topic, [Sent(b"")] * 3)
        assert len(columns) == 0
        assert len(refused) == 3
        assert not len(columns.event_id)


def test_measures_of_engagements_are_absent_or_exact() -> None:
    columns, refused = decoded(
        Topic.ENGAGEMENTS,
        [
            sent(Topic.ENGAGEMENTS),
            sent(Topic.ENGAGEMENTS, dwell_ms=0, load_ms=86_400_000, rating=4.505),
            sent(Topic.ENGAGEMENTS, rating=100),
        ],
    )
    assert not refused
    assert columns.dwell_ms.tolist() == [ABSENT, 0, ABSENT]
    assert columns.load_ms.tolist() == [ABSENT, 86_400_000, ABSENT]
    assert columns.rating.tolist() == [ABSENT, 450, 10_000]


def test_money_is_rounded_twice_half_even_and_ends_in_the_reporting_currency() -> None:
    # 0.0000025 EUR is 0.000002 EUR, times 1.0842 is 0.0000021684 USD; 0.0000005 x 1000000 must not become 0.5: it is 0 before the rate.
    records = [
        sent(Topic.CLICKS, cost="0.0000025", currency="eur"),
        sent(Topic.CLICKS, cost="0.0000005", currency="BIG"),
        sent(Topic.CLICKS, cost=2.5, currency="EUR"),
        sent(Topic.CLICKS, cost=2.5, currency="usd"),
        sent(Topic.CLICKS),
    ]
    columns, refused = decoded(Topic.CLICKS, records)
    assert not refused
    assert columns.micros.tolist() == [2, 0, 2_710_500, 2_500_000, 0]


def test_a_currency_without_rate_is_refused_also_without_money() -> None:
    _, refused = decoded(Topic.CLICKS, [sent(Topic.CLICKS, currency="GBP"), sent(Topic.CLICKS, currency="GBP", cost=0)])
    assert [refusal.reason for _, refusal in refused] == [Reason.UNKNOWN_CURRENCY] * 2


def test_an_amount_that_64_bits_could_not_sum_is_refused() -> None:
    columns, refused = decoded(
        Topic.CLICKS, [sent(Topic.CLICKS, cost=10**9, currency="BIG"), sent(Topic.CLICKS, cost=9 * 10**6, currency="BIG")]
    )
    assert [(i, refusal.reason) for i, refusal in refused] == [(0, Reason.INVALID_FIELD)]
    assert columns.micros.tolist() == [9 * 10**18]


def test_spend_must_be_keyed_by_its_campaign() -> None:
    good = sent(Topic.SPEND)
    columns, refused = decoded(Topic.SPEND, [good, Sent(good.value, None), Sent(good.value, b"c-2"), Sent(good.value, b"\xff")])
    assert columns.index.tolist() == [0]
    assert {refusal.reason for _, refusal in refused} == {Reason.WRONG_KEY}
    assert "c-2" not in refused[1][1].detail  # what a producer keys by, by mistake, may be a person's id
    assert (int(columns.period_end[0] - columns.period_start[0]), int(columns.revision[0])) == (60, 1)


def test_sixty_four_kib_are_taken_and_a_byte_more_is_not() -> None:
    value = sent(Topic.CLICKS).value or b""
    fits = value + b" " * (65_536 - len(value))
    columns, refused = decoded(Topic.CLICKS, [Sent(fits), Sent(fits + b" ")])
    assert columns.index.tolist() == [0]
    assert refused[0][1].reason is Reason.TOO_LARGE


def test_only_topics_of_events_have_a_decoder() -> None:
    with pytest.raises(ValueError, match="campaigns: not a topic of events"):
        Decoder(Topic.CAMPAIGNS, MONEY)
