"""The changes that wait for one sink: in order, and folded when there are many."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from alerts.incidents.change import ChangeKind
from alerts.notify.outbox import Entry


class Backlog:
    """Waiting entries, oldest first.

    With `fold_above` set and more entries waiting than that, an `updated` that a later waiting change of the same incident
    supersedes is left out: the newest says all that it said. Everything else (opened, resolved, reopened, acknowledged, snoozed) is
    always told, and the order within an incident never changes. None: nothing is ever left out.
    """

    def __init__(self, fold_above: int | None) -> None:
        self._fold_above = fold_above
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def head(self) -> Entry | None:
        """The entry to deliver next."""
        return self._entries[0] if self._entries else None

    def entries(self) -> list[Entry]:
        """All that wait, oldest first."""
        return list(self._entries)

    def extend(self, entries: Iterable[Entry]) -> int:
        """Add newer entries. Returns how many of those waiting were folded away."""
        self._entries.extend(entries)
        return self._fold()

    def done(self) -> None:
        """Drop the head: it was delivered or given up."""
        self._entries.popleft()

    def _fold(self) -> int:
        if self._fold_above is None or len(self._entries) <= self._fold_above:
            return 0
        followed: set[str] = set()
        kept: list[Entry] = []
        for entry in reversed(self._entries):
            change = entry.change
            if change is not None:
                if change.change is ChangeKind.UPDATED and change.incident_id in followed:
                    continue
                followed.add(change.incident_id)
            kept.append(entry)
        folded = len(self._entries) - len(kept)
        self._entries = deque(reversed(kept))
        return folded
