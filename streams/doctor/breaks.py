"""What is to be said of breaks in the continuity of log and tables that the workers noted: what each kind means, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from streams.doctor.finding import Finding, ok, span, warning
from streams.ingest.continuity import Break, Note
from streams.tables.keys import PartitionKeys

#: Seconds after which a break is history: whoever had to act on it has done so.
RECENT = 3 * 86_400

#: What to do about each kind. docs/operations.md has the same table in more words.
ADVICE = {
    Break.RECORDS_GONE: "raise retention.ms (kafka.retention_hours), add workers; what is gone can only be sent again by its producers",
    Break.TOPIC_RECREATED: "nothing, if what the old topic held is to stay counted; else `campaignwatch rebuild`",
    Break.LOG_TRUNCATED: "`campaignwatch rebuild`, so that only what the log has counts; see why Kafka lost records (copies, acks, disks)",
    Break.TABLES_FELL_BACK: "nothing: the missing part was read again; see why Redis lost it (append-only file, failover, restore)",
    Break.GROUP_OFFSETS_MOVED: "nothing: the tables' own offsets decide; `campaignwatch rebuild` is the way to count anew",
    Break.PARTITIONS_ADDED: "resends around that time may be counted twice; `campaignwatch rebuild` does not change that",
    Break.IDS_FORGOTTEN: "raise streams.dedupe_ids, add workers, or shorten streams.dedupe_horizon; then `campaignwatch rebuild`",
    Break.SETTINGS_CHANGED: "`campaignwatch rebuild` makes the tables one piece again; see that all workers have the same settings",
    Break.FORM_UNREADABLE: "nothing: they were counted anew from the log; what was older than the log is in backups of Redis only",
}


def judge_breaks(notes: Mapping[PartitionKeys, Mapping[str, bytes]], now: int) -> Iterator[Finding]:
    """A finding for each kind of each partition; `now` in epoch ms. Old ones are told without a warning."""
    told = False
    for keys, kinds in notes.items():
        for kind, packed in sorted(kinds.items()):
            told = True
            yield _judged(keys, kind, packed, now)
    if not told:
        yield ok("breaks", "log and tables have always continued each other")


def _judged(keys: PartitionKeys, kind: str, packed: bytes, now: int) -> Finding:
    what = f"break {kind}"
    where = f"{keys.topic}:{keys.partition}"
    try:
        note = Note.unpack(packed)
    except ValueError as error:
        return warning(what, f"{where}: the note cannot be read ({error})", "run the version of Campaignwatch that wrote it")
    age = (now - note.at) / 1000
    at = datetime.fromtimestamp(note.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    records = f", {note.records:,} records in all" if note.records else ""
    often = f"{note.times} times{records}; the last: " if note.times > 1 else ""
    detail = f"{where}, {at} ({span(max(0.0, age))} ago): {often}{note.detail}"
    if age > RECENT:
        return ok(what, detail)
    try:
        do = ADVICE[Break(kind)]
    except ValueError:
        do = "run the version of Campaignwatch that noted it: this one does not know that kind"
    return warning(what, detail, do)
