"""The changes that wait for one sink: in order, and when there are many, folded and the urgent ones first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.incidents.change import ChangeKind, Severity
from alerts.notify.outbox import Entry


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    before: str
    """Id of the entry before it in the outbox: the cursor stands there while this one is the oldest that waits."""


class Backlog:
    """Waiting entries of the outbox behind `start`, the id where the sink's cursor stands.

    With `fold_above` set and more entries waiting than that, two things happen:

    - An `updated` that a later waiting change of the same incident supersedes is left out: the newest says all that it said. Everything
      else (opened, resolved, reopened, acknowledged, snoozed) is always told.
    - What notifies people goes first: all that is no `updated`, and an `updated` with another severity than was done before. Then come
      updates of incidents of which nothing was done yet, whose severity may have changed; last those that only bring newer figures, the
      incident first that was told the longest ago.

    The order within an incident never changes: of an update that is left nothing waits behind it, and what waits before it goes first.
    None: nothing is ever left out or put first.
    """

    def __init__(self, fold_above: int | None, start: str) -> None:
        self._fold_above = fold_above
        self.start = start
        self.read_to = start
        """Id of the newest entry that was added."""
        self._waiting: list[_Waiting] = []
        self._done = 0
        self._told: dict[str, tuple[int, Severity]] = {}
        """Open incident -> when something of it was done last, counted in entries, and its severity then."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def head(self) -> Entry | None:
        """The entry to deliver next."""
        if not self._is_long:
            return self.oldest
        return min(enumerate(self._waiting), key=self._turn)[1].entry

    @property
    def oldest(self) -> Entry | None:
        """The entry that has waited longest."""
        return self._waiting[0].entry if self._waiting else None

    def entries(self) -> list[Entry]:
        """All that wait, oldest first."""
        return [waiting.entry for waiting in self._waiting]

    def extend(self, entries: Iterable[Entry]) -> int:
        """Add newer entries. Returns how many of those waiting were folded away."""
        for entry in entries:
            self._waiting.append(_Waiting(entry, self.read_to))
            self.read_to = entry.id
        return self._fold() if self._is_long else 0

    def cursor_after(self, entry: Entry) -> str:
        """Where the cursor may stand once `entry` is done: just before the oldest that still waits.

        What was done behind it is read again after a restart; receivers that fold know that they were told.
        """
        return next((waiting.before for waiting in self._waiting if waiting.entry is not entry), self.read_to)

    def done(self, entry: Entry) -> None:
        """Drop `entry`: it was delivered or given up."""
        self._waiting = [waiting for waiting in self._waiting if waiting.entry is not entry]
        self._done += 1
        change = entry.change
        if change is not None and change.change is ChangeKind.RESOLVED:
            self._told.pop(change.incident_id, None)
        elif change is not None:
            self._told[change.incident_id] = self._done, change.severity

    @property
    def _is_long(self) -> bool:
        return self._fold_above is not None and len(self._waiting) > self._fold_above

    def _turn(self, placed: tuple[int, _Waiting]) -> tuple[int, int]:
        """Sorts what waits in a long backlog by urgency. `placed`: where it stands and what it is."""
        place, waiting = placed
        change = waiting.entry.change
        if change is None or change.change is not ChangeKind.UPDATED:
            return 0, place
        if change.incident_id not in self._told:
            return 1, place
        when, severity = self._told[change.incident_id]
        return (2, when) if severity is change.severity else (0, place)

    def _fold(self) -> int:
        followed: set[str] = set()
        kept: list[_Waiting] = []
        for waiting in reversed(self._waiting):
            change = waiting.entry.change
            if change is not None:
                if change.change is ChangeKind.UPDATED and change.incident_id in followed:
                    continue
                followed.add(change.incident_id)
            kept.append(waiting)
        folded = len(self._waiting) - len(kept)
        self._waiting = kept[::-1]
        return folded
