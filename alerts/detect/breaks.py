"""The judge of the pipeline itself: breaks between log and tables, as the workers note them, told in plain words.

It looks at notes and a clock instead of a cube's history, so that it speaks also, and above all, while the tables are behind or empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Expected
from alerts.rules.model import Rule
from streams.ingest.continuity import Break, Note
from streams.tables.windows import PartitionLedger

#: What rows are keyed by.
DIMENSIONS = ("topic", "break")
#: Partitions that a message names.
NAMED = 5

#: What a break means, and what to do about it.
_WORDS: dict[Break, tuple[str, str]] = {
    Break.RECORDS_GONE: (
        "Kafka let go of records before they were read, so they are in no table",
        "Give the topic a longer retention.ms and see why the workers were behind. If the producers still have the events, send them again:"
        " what was counted already is dropped by its event_id.",
    ),
    Break.LOG_TRUNCATED: (
        "The log lost records that had been counted, so the tables hold more than the log",
        "See what happened to Kafka (unclean leader election, lost disk). If producers send the lost events again, `campaignwatch rebuild`"
        " first, which counts the log anew; else keep the tables.",
    ),
    Break.IDS_FORGOTTEN: (
        "More event ids came within the dedupe horizon than may be kept, so the oldest were forgotten and their repeats would count twice",
        "Raise streams.dedupe_ids, add workers, or shorten streams.dedupe_horizon.",
    ),
    Break.TABLES_FELL_BACK: (
        "Redis came back with less than had been applied, and the missing part is read again from the log",
        "See why: emptied, restored, or failed over to a replica that was behind. Numbers are too low until `campaignwatch doctor` shows no"
        " lag; an append-only file (appendfsync everysec) and min-replicas-to-write keep the loss small.",
    ),
    Break.FORM_UNREADABLE: (
        "The tables were in a form that this version cannot read, so they were deleted and are counted anew from the log",
        "Numbers are too low until `campaignwatch doctor` shows no lag. What is older than the topic's retention does not come back.",
    ),
    Break.SETTINGS_CHANGED: (
        "Settings that say what the tables mean are not those that they were written with; what was stored before keeps its old meaning",
        "If that was meant, `campaignwatch rebuild` makes the tables one piece again. If not, give all workers the settings of before.",
    ),
    Break.TOPIC_RECREATED: (
        "The topic was deleted and made again; what the old one held is still in the tables, and the new one is read from its start",
        "If the new topic holds the old events too, `campaignwatch rebuild` counts it alone. Otherwise nothing needs to be done.",
    ),
    Break.GROUP_OFFSETS_MOVED: (
        "Somebody moved the offsets of the consumer group; the tables' own offsets decide, so nothing is read twice or left out",
        "To count anew, use `campaignwatch rebuild`; offsets of the group change nothing.",
    ),
    Break.PARTITIONS_ADDED: (
        "The topic got more partitions, so keys move to others, and a repeat that comes by another partition than the first counts twice",
        "Nothing, if producers do not repeat events across the change; `campaignwatch doctor` shows the partitions.",
    ),
}


@dataclass(frozen=True, slots=True)
class Noted:
    """What is noted of all breaks of one kind in one partition."""

    topic: str
    partition: int
    kind: Break
    note: Note


def noted_in(ledger: Iterable[PartitionLedger]) -> list[Noted]:
    """The notes of all partitions. Those of a kind or a form that only a newer version knows are left to it."""
    found = []
    for entry in ledger:
        for kind, packed in entry.notes.items():
            try:
                found.append(Noted(entry.topic, entry.partition, Break(kind), Note.unpack(packed)))
            except (ValueError, msgspec.MsgspecError):
                continue
    return found


def judge_breaks(rule: Rule, noted: Sequence[Noted], now: int) -> Judgement:
    """One verdict for each topic and kind of break that was noted within `rule.quiet` before `now` (epoch ms). Pure."""
    by_row: dict[tuple[str, Break], list[Noted]] = {}
    for found in noted:
        by_row.setdefault((found.topic, found.kind), []).append(found)
    severities = {line.kind: line.severity for line in rule.breaks}
    verdicts = []
    for (topic, kind), of_row in sorted(by_row.items()):
        fresh = [n for n in of_row if now - n.note.at < rule.quiet * 1000]
        severity = severities.get(kind)
        if not fresh or severity is None:
            continue
        fresh.sort(key=lambda n: (-n.note.at, n.partition))
        verdicts.append(
            Verdict(
                row=(topic, kind.value),
                direction=Direction.BREAK,
                severity=severity,
                measure=kind.value,
                observed=float(sum(n.note.records for n in fresh)),
                expected=Expected(low=0.0, mid=0.0, high=0.0),
                start=fresh[-1].note.at,
                end=fresh[0].note.at,
                explanation=_explanation(kind, fresh),
                lasting=False,
            )
        )
    rows = [(topic, kind.value) for topic, kind in sorted(by_row)]
    # Tables that were deleted have no notes either.
    return Judgement(rows, verdicts, np.full(len(rows), True), len(rows), absent_is_calm=True)


def _explanation(kind: Break, fresh: Sequence[Noted]) -> str:
    """`fresh`: notes of one topic and kind, the newest first."""
    what, remedy = _WORDS[kind]
    times = sum(n.note.times for n in fresh)
    records = sum(n.note.records for n in fresh)
    counted = f"{records:,} record{'s' if records != 1 else ''}"
    if kind is Break.IDS_FORGOTTEN:
        counted = f"{records:,} id{'s' if records != 1 else ''}"
    elif kind is Break.PARTITIONS_ADDED:
        counted = f"{records:,} partition{'s' if records != 1 else ''}"
    seen = f", {counted}" if records else ""
    places = ", ".join(f"{n.topic}:{n.partition}" for n in fresh[:NAMED])
    more = f" and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
    newest = f"Newest, in {fresh[0].topic}:{fresh[0].partition}: {fresh[0].note.detail}."
    return f"{what}. Noted for {places}{more}: {times} time{'s' if times != 1 else ''}{seen} so far. {newest} {remedy}"
