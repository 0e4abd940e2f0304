"""The bookkeeping of one topic-partition: offsets, ledger and event time, as kept in its `meta` hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

#: Form in which this version writes tables. A partition whose meta hash names none was written in form 1.
FORMAT = 5
#: The first form with lengths of keys (kept.py).
WITH_LENGTHS = 4
#: The oldest form that this version can go on from. What is older is counted anew from the log.
OLDEST_READABLE = 1


@dataclass(slots=True)
class Meta:
    """Totals since `start_offset`, as of `applied_offset`.

    Offsets are -1 where there is none; times are epoch ms, 0 where there is none.
    """

    start_offset: int = -1
    applied_offset: int = -1
    #: Records read, and where they went: read = applied + duplicate + too_late + quarantined.
    read: int = 0
    applied: int = 0
    duplicate: int = 0
    too_late: int = 0
    quarantined: int = 0
    #: Newest record time.
    record_time: int = 0
    #: Newest event time, never beyond its record's time: a producer with a fast clock must not close panes for the others.
    event_time: int = 0
    #: Wall clock of the last flush, and of the last look that found the partition read to its end.
    applied_at: int = 0
    caught_up_at: int = 0
    #: Form of the tables, see FORMAT.
    format: int = 1
    #: The consumer group's committed offset as last seen: one that moved otherwise was moved by somebody else.
    committed: int = -1
    #: Whether the broker is known to keep the marks of whoever commits.
    marks_kept: int = 0
    #: Whether the topic has no such partition any more: then it holds nobody's watermark.
    retired: int = 0
    #: The broker's id of the topic that was read, "" where it tells none.
    topic_id: str = ""

    @property
    def next_offset(self) -> int:
        """Where to read on; -1 before the first claim."""
        return self.applied_offset + 1 if self.applied_offset >= 0 else self.start_offset

    @classmethod
    def parse(cls, stored: Mapping[bytes, bytes]) -> Meta:
        """From the hash as Redis returns it; what is missing is at its default."""
        found = {name: stored[key] for name, key in _FIELDS if key in stored}
        return cls(**{name: value.decode() if name == "topic_id" else int(value) for name, value in found.items()})  # type: ignore[arg-type]

    def flat(self) -> list[str | int]:
        """Field, value, field, value ... for HSET."""
        return [x for f in fields(self) for x in (f.name, getattr(self, f.name))]

    def event_time_reached(self, lateness: int, idle_timeout: int) -> int:
        """The event time to go on from: what an idle partition's watermark has passed is not taken back by an old event that comes then."""
        mark = self.watermark(lateness, idle_timeout)
        return self.event_time if mark is None else max(self.event_time, mark + lateness)

    def watermark(self, lateness: int, idle_timeout: int) -> int | None:
        """Epoch ms before which no event is expected any more, or None before any record.

        It stays `lateness` behind the newest event. A partition that had no records for `idle_timeout` while its owner saw its end does not
        hold the others: its watermark goes on with the clock, that far behind it.
        """
        seen = self.event_time - lateness if self.event_time else None
        if self.caught_up_at - self.applied_at >= idle_timeout:
            idle = self.caught_up_at - idle_timeout
            return idle if seen is None else max(seen, idle)
        return seen


#: Name of each field, and as it is stored.
_FIELDS = tuple((f.name, f.name.encode()) for f in fields(Meta))
