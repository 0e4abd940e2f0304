"""Valid events -> facts: which measures each event adds to, and how much. The contract's "What is counted", in code."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from streams.config import Money, SpendSource, Topic
from streams.ingest.aggregate import Facts
from streams.ingest.coded import Coded
from streams.ingest.columns import ABSENT, Columns
from streams.ingest.texts import Texts
from streams.kpis.sketches import bucket_of

Ints = NDArray[np.int64]
#: user ids, none absent -> 32-bit hashes.
HashUsers = Callable[[Texts], NDArray[np.uint32]]


def facts_of(topic: Topic, columns: Columns, money: Money, hash_users: HashUsers, kinds: Collection[str] | None = None) -> Facts:
    """What clicks, conversions or engagements add. `kinds`: those that get a measure of their own (None: all)."""
    facts = Facts(columns.occurred_at, columns.dimensions, {}, users=_users(columns.user_id, hash_users))
    if topic is Topic.CONVERSIONS:
        _conversions(facts, columns, kinds)
    else:
        _cost(facts, columns, columns.dimensions["platform"], money)
        if topic is Topic.CLICKS:
            facts.values["clicks"] = np.ones(len(columns), np.int64)
        else:
            _engagements(facts, columns, kinds)
    return facts


def from_reports(platform: Coded, money: Money) -> NDArray[np.bool_]:
    """Which facts belong to a platform whose spend is taken from its reports."""
    reported = [money.spend_sources.get(value or "", SpendSource.EVENTS) is SpendSource.REPORTS for value in platform.values]
    return np.array(reported, np.bool_)[platform.codes]


def _cost(facts: Facts, columns: Columns, platform: Coded, money: Money) -> None:
    facts.values["event_cost"] = columns.micros
    facts.values["spend"] = np.where(from_reports(platform, money), 0, columns.micros)


def _conversions(facts: Facts, columns: Columns, kinds: Collection[str] | None) -> None:
    _count_kinds(facts, "conversions_", columns.kind, kinds)
    refund = columns.kind.are("refund").astype(np.int64)
    kept = 1 - refund
    facts.values["conversions"] = kept
    facts.values["conversions_new"] = kept * columns.customer_type.are("new")
    facts.values["revenue"] = columns.micros * kept
    facts.values["refunds"] = columns.micros * refund


def _engagements(facts: Facts, columns: Columns, kinds: Collection[str] | None) -> None:
    _count_kinds(facts, "engagements_", columns.kind, kinds)
    for name, sums, counts, values in (
        ("dwell", "dwell_ms_sum", "dwell_count", columns.dwell_ms),
        ("load", None, None, columns.load_ms),
        ("rating", "rating_sum", "rating_count", columns.rating),
    ):
        present = values != ABSENT
        if sums is not None and counts is not None:
            facts.values[sums] = np.where(present, values, 0)
            facts.values[counts] = present.astype(np.int64)
        if name != "rating" and present.any():
            at = np.flatnonzero(present)
            facts.buckets[name] = (at, bucket_of(values[at]))


def _count_kinds(facts: Facts, family: str, kind: Coded, kinds: Collection[str] | None) -> None:
    for code in np.unique(kind.codes).tolist():
        value = kind.values[code]
        # A producer may have very many kinds, of which few get a measure.
        if value is not None and (kinds is None or value in kinds):
            facts.values[family + value] = (kind.codes == code).astype(np.int64)


def _users(user_id: Texts, hash_users: HashUsers) -> tuple[Ints, NDArray[np.uint32]] | None:
    at = user_id.present()
    return (at, hash_users(user_id.rows(at))) if len(at) else None
