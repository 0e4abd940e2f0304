"""Holds the fast decoder and the arbiter together: the same records are taken, with the same values, and the others refused alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from streams.config import DIMENSIONS, Money, Topic
from streams.events.models import Click, Conversion, Engagement, Spend
from streams.events.parsing import parse
from streams.events.refusal import Refusal
from streams.ingest.columns import Columns
from streams.ingest.decode import Decoder
from streams.ingest.dedupe import digests
from streams.ingest.records import Record, Records
from tests.unit.hostile_events import Sent

MONEY = Money.model_validate({"rates": {"EUR": "1.0842", "JPY": "0.0064", "KWD": "3.2512345678901234567", "BIG": "1000000"}})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decoded(topic: Topic, records: Sequence[Sent], decoder: Decoder | None = None) -> tuple[Columns, list[tuple[int, Refusal]]]:
    decoder = decoder or Decoder(topic, MONEY)
    return decoder.decode(Records.of(Record(i, r.timestamp, r.key, r.value) for i, r in enumerate(records)))


def ms(time: datetime) -> int:
    return (time - EPOCH) // timedelta(milliseconds=1)


def row_of_columns(topic: Topic, columns: Columns, i: int) -> dict[str, Any]:
    row: dict[str, Any] = {name: columns.dimensions[name][i] for name in DIMENSIONS}
    row |= {
        "time": int(columns.occurred_at[i]),
        "id": tuple(columns.event_id[i].tolist()),
        "user": columns.user_id[i],
        "micros": int(columns.micros[i]),
    }
    row["record_time"] = int(columns.record_time[i])
    if topic in (Topic.CONVERSIONS, Topic.ENGAGEMENTS):
        row["kind"] = columns.kind[i]
    if topic is Topic.CONVERSIONS:
        row["customer_type"] = columns.customer_type[i]
    if topic is Topic.ENGAGEMENTS:
        row |= {"dwell": int(columns.dwell_ms[i]), "load": int(columns.load_ms[i]), "rating": int(columns.rating[i])}
    if topic is Topic.SPEND:
        row |= {"start": int(columns.period_start[i]), "end": int(columns.period_end[i]), "revision": int(columns.revision[i])}
    return row


def row_of_model(event: Any, record: Sent) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(event, name) for name in DIMENSIONS}
    row |= {
        "time": ms(event.occurred_at),
        "id": tuple(digests([event.event_id])[0].tolist()),
        "user": event.user_id,
        "record_time": record.timestamp,
    }
    match event:
        case Click(cost=amount):
            pass
        case Conversion(value=amount):
            row |= {"kind": event.kind, "customer_type": event.customer_type}
        case Engagement(cost=amount):
            row |= {"kind": event.kind, "dwell": -1 if event.dwell_ms is None else event.dwell_ms}
            row |= {"load": -1 if event.load_ms is None else event.load_ms, "rating": -1 if event.rating is None else event.rating}
        case Spend(amount=amount):
            row |= {"start": ms(event.period_start) // 60_000, "end": ms(event.period_end) // 60_000, "revision": event.revision}
        case _:
            raise AssertionError(event)
    exact = Context(prec=200, rounding=ROUND_HALF_EVEN)
    rate = MONEY.rates.get(event.currency, Decimal(1)) if event.currency else Decimal(1)
    row["micros"] = int(exact.multiply(amount.scaleb(6), rate).to_integral_value(ROUND_HALF_EVEN, exact))
    return row


def judged_one_by_one(topic: Topic, records: Sequence[Sent]) -> tuple[dict[int, dict[str, Any]], dict[int, Refusal]]:
    rows, refusals = {}, {}
    for i, record in enumerate(records):
        try:
            rows[i] = row_of_model(parse(topic, record.value, record.key, MONEY), record)
        except Refusal as refusal:
            refusals[i] = refusal
    return rows, refusals


def agree(topic: Topic, records: Sequence[Sent]) -> tuple[dict[int, dict[str, Any]], dict[int, Refusal]]:
    """By position: the rows that both take, and what both refuse. AssertionError where they differ."""
    rows, refusals = judged_one_by_one(topic, records)
    decoder = Decoder(topic, MONEY)
    for _ in ("new texts", "texts that it knows"):
        columns, refused = decoded(topic, records, decoder)
        fast, slow = ({i: (each.reason, each.detail) for i, each in found} for found in (refused, refusals.items()))
        # Fuzzing shows what pytest does not rewrite.
        assert fast == slow, [(i, fast.get(i), slow.get(i)) for i in sorted(fast.keys() | slow.keys()) if fast.get(i) != slow.get(i)]
        assert columns.index.tolist() == list(rows)
        assert [row_of_columns(topic, columns, i) for i in range(len(columns))] == list(rows.values())
    return rows, refusals
