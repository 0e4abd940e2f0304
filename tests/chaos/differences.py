"""Holding what was found against what was expected, and what the difference means: events lost, events counted twice, or something else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streams.kpis.sketches import SPARSE_LIMIT
from streams.tables.windows import PartitionLedger
from tests.reference import LogRecord, Totals

Key = TypeVar("Key")
#: Largest share by which an estimate of many users may be off.
REACH_TOLERANCE = 0.08
#: Sums of other measures, not events of their own.
_NOT_KINDS = frozenset({"conversions_new"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the log says."""

    #: Where: the ledger's partition, or a cube with its row and window.
    where: str
    #: Which column or measure.
    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass(slots=True)
class Verdict:
    """What one comparison came to."""

    differences: list[Difference] = field(default_factory=list)
    #: Events that the log has and the tables or the ledger lack, and those that are counted more than once.
    lost: int = 0
    doubled: int = 0
    #: How many values were held against each other.
    compared: int = 0

    @property
    def good(self) -> bool:
        """Everything is as the log says."""
        return not self.differences and not self.lost and not self.doubled

    def add(self, where: str, what: str, expected: object, found: object) -> None:
        """Hold two values against each other."""
        self.compared += 1
        if expected != found:
            self.differences.append(Difference(where, what, expected, found))


def compare_ledger(
    verdict: Verdict, totals: Mapping[tuple[str, int], Totals], ends: Mapping[tuple[str, int], int], ledger: Iterable[PartitionLedger]
) -> None:
    """The ledger of every partition that has records; `ends` are the offsets after their last ones."""
    entries = {(entry.topic, entry.partition): entry for entry in ledger}
    lost = doubled = 0
    for key, total in sorted(totals.items()):
        where, entry = f"ledger of {key[0]}:{key[1]}", entries.get(key)
        if entry is None:
            verdict.add(where, "entry", "one", "none")
            lost += total.read
            continue
        found = (entry.read, entry.applied, entry.duplicate, entry.too_late, entry.quarantined)
        expected = (total.read, total.applied, total.duplicate, total.too_late, total.quarantined)
        for name, should, has in zip(("in", "applied", "duplicate", "too_late", "quarantined"), expected, found, strict=True):
            verdict.add(where, name, should, has)
        verdict.add(where, "in = applied + duplicate + too_late + quarantined", entry.read, sum(found[1:]))
        verdict.add(where, "applied_offset", ends[key] - 1, entry.applied_offset)
        verdict.add(where, "start_offset", 0, entry.start_offset)
        worst = max(total.read - entry.read, total.applied - entry.applied, key=abs)
        lost += max(0, worst)
        doubled += max(0, -worst)
    verdict.lost = max(verdict.lost, lost)
    verdict.doubled = max(verdict.doubled, doubled)


def compare_rows(verdict: Verdict, where: str, expected: Mapping[Key, Mapping[str, int]], found: Mapping[Key, Mapping[str, int]]) -> None:
    """Every exact measure of every row."""
    for key in sorted(expected.keys() | found.keys(), key=repr):
        should, has = expected.get(key, {}), found.get(key, {})
        verdict.compared += len(should.keys() | has.keys())
        if should != has:
            for name in sorted(should.keys() | has.keys()):
                if should.get(name, 0) != has.get(name, 0):
                    verdict.differences.append(Difference(f"{where}, row {key}", name, should.get(name, 0), has.get(name, 0)))


def count_events(verdict: Verdict, expected: Mapping[Key, Mapping[str, int]], found: Mapping[Key, Mapping[str, int]]) -> None:
    """Events lost and doubled, by the rows of a window that holds all of them."""
    lost = doubled = 0
    for key in expected.keys() | found.keys():
        missing = events_of(expected.get(key, {})) - events_of(found.get(key, {}))
        lost += max(0, missing)
        doubled += max(0, -missing)
    verdict.lost = max(verdict.lost, lost)
    verdict.doubled = max(verdict.doubled, doubled)


def events_of(measures: Mapping[str, int]) -> int:
    """Events that a row's measures were counted from, spend reports apart."""
    kinds = (name for name in measures if name.startswith(("conversions_", "engagements_")) and name not in _NOT_KINDS)
    return measures.get("clicks", 0) + sum(measures[name] for name in kinds)


def compare_users(verdict: Verdict, where: str, expected: Mapping[Key, int], found: Mapping[Key, float]) -> None:
    """Distinct users of every row: exact for few, an estimate for many."""
    for key in sorted(expected.keys() | found.keys(), key=repr):
        should, has = expected.get(key, 0), found.get(key, 0.0)
        verdict.compared += 1
        allowed = 0.5 if should < SPARSE_LIMIT else REACH_TOLERANCE * should
        if abs(should - has) > allowed:
            verdict.differences.append(Difference(f"{where}, row {key}", "reach", should, round(has, 2)))


def compare_quarantine(
    verdict: Verdict, refused: Iterable[LogRecord], found: Mapping[tuple[str, int, int], set[tuple[bytes | None, bytes | None, int | None]]]
) -> None:
    """Every refused record is in quarantine, whole, and nothing else is. `found`: coordinates -> (key, value, record time) as kept."""
    expected = {(record.topic, record.partition, record.offset): record for record in refused}
    for at, record in sorted(expected.items(), key=lambda item: item[0]):
        verdict.add(
            f"quarantine of {at[0]}:{at[1]}:{at[2]}", "record", {(record.key, record.value, record.timestamp)}, found.get(at, set())
        )
    for at in sorted(found.keys() - expected.keys()):
        verdict.add(f"quarantine of {at[0]}:{at[1]}:{at[2]}", "record", "none: this record is fine", found[at])


def compare_outbox(
    verdict: Verdict, outbox: Sequence[tuple[str, int, str]], incidents: Mapping[str, str], states: Mapping[str, str]
) -> None:
    """Every change in the outbox follows the one before it, also across a Redis that fell back, and the newest is what the incidents say
    and what a new leader would go on from (`states`, as stored). `outbox`: (id, seq, JSON)."""
    newest: dict[str, tuple[int, str]] = {}
    for incident, seq, change in outbox:
        verdict.add(f"outbox, incident {incident}", "seq", newest[incident][0] + 1 if incident in newest else 1, seq)
        newest[incident] = (seq, change)
    for incident in sorted(newest.keys() | incidents.keys()):
        should = newest[incident][1] if incident in newest else None
        verdict.add(f"incident {incident}", "newest change", _short(should), _short(incidents.get(incident)))
    for incident in sorted(incidents.keys() | states.keys()):
        state: Any = json.loads(states[incident])["newest"] if incident in states else None
        shown = _short(incidents.get(incident))
        verdict.add(f"state of incident {incident}", "newest change", shown, _short(json.dumps(state)) if state else None)


def compare_told(verdict: Verdict, outbox: Sequence[tuple[str, int, str]], told: Iterable[str]) -> None:
    """Every change of the outbox is on the alerts topic at least once."""
    there = Counter(told)
    for incident, seq, change in outbox:
        verdict.add(f"alerts topic, incident {incident}", f"change {seq}", True, there[change] > 0)


def _short(change: str | None) -> object:
    if change is None:
        return None
    content: Any = json.loads(change)
    return {name: content.get(name) for name in ("change", "seq", "at", "observed")}
