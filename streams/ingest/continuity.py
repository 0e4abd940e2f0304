"""Whether log and tables still continue each other when a partition is claimed, and what to do where they do not.

Normally the log goes on right behind what the tables have applied. Where it does not, reading on silently would be a lie: what happened is
found out here, noted with the tables, counted, and told by `campaignwatch doctor`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Any

import msgspec

from streams.tables.meta import Meta


class Break(StrEnum):
    """The ways in which log and tables can come apart. The values are labels of metrics and keys of notes."""

    RECORDS_GONE = "records_gone"
    """The log lost records (retention) before they were read: they are in no table."""
    TOPIC_RECREATED = "topic_recreated"
    """The topic was deleted and made again: what it held before is still in the tables, and it is read from its start."""
    LOG_TRUNCATED = "log_truncated"
    """The log ends before what was read of it: the tables hold records that it no longer has."""
    TABLES_FELL_BACK = "tables_fell_back"
    """Redis holds less than was applied before (emptied, restored, failed over): the missing part is read again."""
    GROUP_OFFSETS_MOVED = "group_offsets_moved"
    """Somebody set the consumer group's offsets, back or forth. The tables' own offsets decide: nothing is read twice or passed over."""
    PARTITIONS_ADDED = "partitions_added"
    """The topic got more partitions: campaigns move, and ids are known per partition only."""
    IDS_FORGOTTEN = "ids_forgotten"
    """More ids within the dedupe horizon than may be kept: the oldest were forgotten, and repeats of them would count twice."""
    FORM_UNREADABLE = "form_unreadable"
    """The tables were in a form that this version cannot read: they were deleted and are counted anew from the log."""
    SETTINGS_CHANGED = "settings_changed"
    """Settings that say what stored numbers mean are others than those that the tables were written with: they hold both."""


class Committer(Enum):
    """Who committed an offset of the group, by what it is marked with."""

    WORKER = auto()
    """A worker that writes the tables of this namespace."""
    OTHER = auto()
    """A worker of another namespace."""
    UNKNOWN = auto()
    """It has no mark: an operator's tool set it, or the broker keeps no marks."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What the broker says of one topic-partition. Offsets are -1 where there is none."""

    #: The first offset that the log has, and the one behind its last record (a broker may name one that is a batch too low).
    earliest: int
    end: int
    #: The consumer group's committed offset, and who committed it.
    committed: int = -1
    committed_by: Committer = Committer.UNKNOWN
    #: The topic's id, "" where the broker tells none.
    topic_id: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One break, as found."""

    kind: Break
    #: Records that are gone, read again, ...; 0 where it cannot be said.
    records: int
    detail: str


def examine(meta: Meta, log: LogState, *, believed: int = -1, sent_back: bool = False) -> tuple[Meta, list[Finding]]:
    """What breaks there are between the tables (`meta`) and the log, and the bookkeeping to go on with.

    `believed` is the next offset that this owner had reached itself, -1 if it had none; `sent_back` says that the broker had nothing at the
    offset that was asked for and sent the reader to an earlier one.
    """
    after = replace(meta, topic_id=log.topic_id or meta.topic_id, retired=0)
    if log.committed >= 0 and log.committed_by is Committer.WORKER:
        after.marks_kept = 1
    if meta.topic_id and log.topic_id and meta.topic_id != log.topic_id:
        after = replace(after, start_offset=log.earliest, applied_offset=-1, committed=log.committed)
        after = replace(after, read=0, applied=0, duplicate=0, too_late=0, quarantined=0)
        detail = f"the topic was deleted and made again after offset {meta.applied_offset}; reading the new one from offset {log.earliest}"
        return after, [Finding(Break.TOPIC_RECREATED, meta.read, detail)]
    found = []
    reached = meta.next_offset
    if sent_back and log.end < reached:
        after.applied_offset = log.end - 1
        after.start_offset = min(meta.start_offset, log.end)
        detail = f"the tables hold records up to offset {meta.applied_offset}, and the log ends at {log.end}; reading on from there"
        found.append(Finding(Break.LOG_TRUNCATED, reached - log.end, detail))
    elif log.earliest > reached:
        after.applied_offset = log.earliest - 1
        detail = f"the log begins at offset {log.earliest}, and offsets from {reached} on had not been read"
        found.append(Finding(Break.RECORDS_GONE, log.earliest - reached, detail))
    news = log.committed > meta.committed and (meta.committed >= 0 or not meta.read)
    # Without a mark it is a worker's only as long as no mark was ever seen here.
    by_worker = log.committed_by is Committer.WORKER or (log.committed_by is Committer.UNKNOWN and not meta.marks_kept)
    known = log.committed if news and by_worker else -1
    if (before := max(believed, known)) > reached:
        detail = f"{before} was the next offset before, and Redis holds the tables of offset {reached}; reading on from there"
        found.append(Finding(Break.TABLES_FELL_BACK, before - reached, detail))
    set_forth = news and not by_worker and meta.committed >= 0 and log.committed > reached
    if 0 <= log.committed < meta.committed or set_forth:
        detail = f"the group's offset was {meta.committed} and is {log.committed}; the tables go on at {after.next_offset} as before"
        found.append(Finding(Break.GROUP_OFFSETS_MOVED, 0, detail))
    if log.committed >= 0:
        after.committed = log.committed
    return after, found


class Note(msgspec.Struct, frozen=True):
    """What is kept of all breaks of one kind in one partition."""

    times: int
    records: int
    #: Of the newest: when it was found, epoch ms, and what was found.
    at: int
    detail: str

    @classmethod
    def unpack(cls, packed: bytes) -> Note:
        """The note that `pack` made bytes of."""
        return msgspec.json.decode(packed, type=cls)

    def pack(self) -> bytes:
        """JSON, for whoever looks into Redis."""
        return msgspec.json.encode(self)


def noted(findings: Iterable[Finding], notes: Mapping[str, bytes], now: int) -> dict[str, bytes]:
    """The notes to store, by kind: `findings` added to the `notes` that are stored. `now` in epoch ms."""
    result: dict[str, Any] = {}
    for finding in findings:
        kind = finding.kind.value
        before = result.get(kind) or (Note.unpack(notes[kind]) if kind in notes else Note(0, 0, 0, ""))
        result[kind] = Note(before.times + 1, before.records + finding.records, now, finding.detail)
    return {kind: note.pack() for kind, note in result.items()}
