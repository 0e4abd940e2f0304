"""The ledger as JSON: where every record of every topic-partition went."""

from __future__ import annotations

from typing import Any

from streams.api.times import write_time
from streams.ingest.continuity import Note
from streams.tables.windows import PartitionLedger


def ledger_content(entries: list[PartitionLedger]) -> dict[str, Any]:
    """The JSON of `/api/ledger`; times in RFC 3339, null before the first event."""
    return {
        "partitions": [
            {
                "topic": entry.topic,
                "partition": entry.partition,
                "start_offset": entry.start_offset,
                "applied_offset": entry.applied_offset,
                "in": entry.read,
                "applied": entry.applied,
                "duplicate": entry.duplicate,
                "too_late": entry.too_late,
                "quarantined": entry.quarantined,
                "watermark": None if entry.watermark is None else write_time(entry.watermark),
                "record_time": None if entry.record_time is None else write_time(entry.record_time),
                "retired": entry.retired,
                "breaks": [_break(kind, Note.unpack(note)) for kind, note in sorted(entry.notes.items())],
            }
            for entry in entries
        ]
    }


def _break(kind: str, note: Note) -> dict[str, Any]:
    """What broke the continuity of log and tables."""
    return {"kind": kind, "times": note.times, "records": note.records, "at": write_time(note.at), "detail": note.detail}
