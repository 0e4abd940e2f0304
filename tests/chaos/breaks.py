"""Which breaks between log and tables the workers noted in a round, and whether anything in it could have made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from streams.ingest.continuity import Break, Note
from streams.tables.windows import PartitionLedger
from tests.chaos.arena import Planned
from tests.chaos.faults import KINDS

#: The fault after which a topic has more partitions.
_ADDED = "add-partitions"


class Breaks:
    """Counts notes that are new. They are kept with the tables, and so may go with them."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._before: Sequence[Planned] = ()

    def new_ones(self, ledger: Iterable[PartitionLedger]) -> Counter[str]:
        """Breaks by kind that were noted since the last call."""
        found: Counter[str] = Counter()
        for entry in ledger:
            for kind, packed in entry.notes.items():
                note, key = Note.unpack(packed), (entry.topic, entry.partition, kind)
                times, at = self._times.get(key, (0, 0))
                self._times[key] = (note.times, note.at)
                if note.at > at:
                    # Fewer than before: the older ones are gone.
                    found[kind] += note.times - times if note.times > times else note.times
        return found

    def unexplained(self, found: Counter[str], faults: Sequence[Planned]) -> list[str]:
        """Those that no fault of this round or the one before can have made."""
        explained = set()
        for fault in (*self._before, *faults):
            if KINDS[fault.kind].loses:
                explained.add(Break.TABLES_FELL_BACK.value)
            if fault.kind == _ADDED:
                explained.add(Break.PARTITIONS_ADDED.value)
        self._before = faults
        return [f"{kind} {count}" for kind, count in sorted(found.items()) if kind not in explained]
