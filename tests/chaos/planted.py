"""Bugs planted on purpose, to see that the harness finds them: `python -m tests.chaos.planted NAME streams --config ...`.

Each replaces a small part of the product in that process alone, then runs the product's command line. A harness that passes any of them
proves nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from alerts.incidents.life import Step
from alerts.incidents.store import IncidentStore
from streams.app.owners import AssignedPartitions
from streams.ingest.owner import PartitionOwner
from streams.ingest.records import Records
from streams.tables import store
from streams.tables.keys import Command
from streams.tables.meta import Meta
from streams.tables.opentables import OpenTables
from streams.tables.store import PartitionStore


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug."""

    name: str
    summary: str
    plant: Callable[[], None]
    #: Kinds of faults that bring it to light.
    faults: tuple[str, ...]
    #: Rounds within which they do, for certain enough.
    rounds: int = 3


def _offset_first() -> None:
    apply = PartitionStore.apply

    async def bad(self: PartitionStore, expected_offset: int, meta: Meta, commands: Sequence[Command]) -> None:
        await apply(self, expected_offset, meta, ())
        await asyncio.sleep(0.1)
        await apply(self, meta.applied_offset, meta, commands)

    PartitionStore.apply = bad  # type: ignore[method-assign]


def _no_offset_compared() -> None:
    compared = "if held[1] ~= ARGV[3] or held[2] ~= ARGV[1] then"
    assert compared in store._SCRIPTS["apply"]
    store._SCRIPTS["apply"] = store._SCRIPTS["apply"].replace(compared, "if held[1] ~= ARGV[3] then")


def _no_fence() -> None:
    compared = "if held[1] ~= ARGV[3] or held[2] ~= ARGV[1] then"
    assert compared in store._SCRIPTS["apply"]
    store._SCRIPTS["apply"] = store._SCRIPTS["apply"].replace(compared, "if false then")


def _ids_forgotten() -> None:
    async def bad(self: PartitionStore, buckets: Any) -> AsyncIterator[tuple[tuple[int, int], np.ndarray[Any, np.dtype[np.uint64]]]]:
        for _ in ():
            yield (0, 0), np.empty((0, 3), np.uint64)

    PartitionStore.seen = bad  # type: ignore[method-assign]


def _panes_not_loaded() -> None:
    OpenTables.missing_panes = lambda self, panes: []  # type: ignore[method-assign]


def _dropped_after_error() -> None:
    apply = PartitionStore.apply
    failed: set[tuple[str, int]] = set()

    async def bad(self: PartitionStore, expected_offset: int, meta: Meta, commands: Sequence[Command]) -> None:
        this = (self.keys.tag, meta.applied_offset)
        try:
            await apply(self, expected_offset, meta, () if this in failed else commands)
        except (RedisError, OSError):
            failed.add(this)
            raise

    PartitionStore.apply = bad  # type: ignore[method-assign]


def _gap_ignored() -> None:
    take = PartitionOwner.take

    async def bad(self: PartitionOwner, records: Records, since: int) -> None:
        await take(self, records, min(since, self._expected))

    PartitionOwner.take = bad  # type: ignore[method-assign]


def _quarantine_not_written() -> None:
    async def bad(self: AssignedPartitions, refused: Any) -> None:
        return None

    AssignedPartitions.quarantine = bad  # type: ignore[method-assign]


def _quarantine_not_awaited() -> None:
    quarantine = AssignedPartitions.quarantine
    later: set[asyncio.Task[None]] = set()

    async def bad(self: AssignedPartitions, refused: Any) -> None:
        async def write() -> None:
            await asyncio.sleep(0.5)
            await quarantine(self, refused)

        task = asyncio.create_task(write())
        later.add(task)
        task.add_done_callback(later.discard)

    AssignedPartitions.quarantine = bad  # type: ignore[method-assign]


def _sketches_twice() -> None:
    apply = PartitionStore.apply
    failed: set[tuple[str, int]] = set()

    async def bad(self: PartitionStore, expected_offset: int, meta: Meta, commands: Sequence[Command]) -> None:
        this = (self.keys.tag, meta.applied_offset)
        again = [c for c in commands if c[0] == "APPEND" and (":dwell:" in str(c[1]) or ":load:" in str(c[1]))] if this in failed else []
        try:
            await apply(self, expected_offset, meta, [*commands, *again])
        except (RedisError, OSError):
            failed.add(this)
            raise

    PartitionStore.apply = bad  # type: ignore[method-assign]


def _losses_not_looked_for() -> None:
    async def bad(self: PartitionStore, since: int, *, turn: int | None = None) -> list[str]:
        return []

    PartitionStore.lost_keys = bad  # type: ignore[method-assign]


def _losses_in_use_not_looked_for() -> None:
    async def bad(self: PartitionOwner) -> None:
        return None

    PartitionOwner.check = bad  # type: ignore[method-assign]


def _panes_not_looked_for() -> None:
    lost = PartitionStore.lost_keys

    async def bad(self: PartitionStore, since: int, *, turn: int | None = None) -> list[str]:
        return [name for name in await lost(self, since, turn=turn) if not name.startswith("pane:")]

    PartitionStore.lost_keys = bad  # type: ignore[method-assign]


def _revisions_forgotten() -> None:
    async def bad(self: PartitionStore, identities: Any) -> dict[bytes, bytes]:
        return {}

    PartitionStore.reports = bad  # type: ignore[method-assign]


def _applied_again() -> None:
    """A flush whose answer was lost is not known again: everything that it appends is appended twice."""
    head, found, rest = store._SCRIPTS["apply"].partition("    return 'applied' --")
    fenced, end, tail = rest.partition("  end\n")[2].partition("end\n")
    assert found and end
    store._SCRIPTS["apply"] = f"{head}  else\n{fenced}  end\nend\n{tail}"


def _incident_apart() -> None:
    commit = IncidentStore.commit

    async def bad(self: IncidentStore, token: str, step: Step, forget: Any = ()) -> None:
        await commit(self, token, Step(step.incidents, []), forget)
        await asyncio.sleep(1.5)
        await commit(self, token, Step({}, step.changes))

    IncidentStore.commit = bad  # type: ignore[method-assign]


_DIED, _REDIS = ("kill-worker",), ("kill-redis", "deaf-redis", "cut-redis")

PLANTED: dict[str, Planted] = {
    bug.name: bug
    for bug in (
        Planted("offset-first", "the offset is moved in one script, the data written in a second", _offset_first, _DIED, 4),
        Planted("no-offset-compared", "a writer does not look whether Redis is at its offset", _no_offset_compared, ("restore-redis",), 4),
        Planted("no-fence", "anybody may write at any offset", _no_fence, ("freeze-worker",), 5),
        Planted("ids-forgotten", "a new owner does not load the ids that were applied", _ids_forgotten, ("stop-worker", "kill-worker")),
        Planted("panes-not-loaded", "a new owner writes rows without the panes that are stored", _panes_not_loaded, _DIED),
        Planted("dropped-after-error", "what a flush had to write is dropped after an error of Redis", _dropped_after_error, _REDIS, 4),
        Planted("gap-ignored", "batches are taken although some before them are missing", _gap_ignored, ("restore-redis",), 5),
        Planted("quarantine-not-written", "refused records are counted and not kept", _quarantine_not_written, ("forget-scripts",), 1),
        Planted("quarantine-not-awaited", "the offset moves before quarantine has the record", _quarantine_not_awaited, _DIED, 5),
        Planted("sketches-twice", "a flush that is tried again appends its sketches twice", _sketches_twice, _REDIS, 4),
        Planted("revisions-forgotten", "spend reports are added to what they replace", _revisions_forgotten, ("forget-scripts",), 3),
        Planted("applied-again", "a flush whose answer was lost is applied again", _applied_again, ("deaf-redis",), 4),
        Planted("losses-not-looked-for", "nobody asks whether Redis has all keys", _losses_not_looked_for, ("lose-keys",), 4),
        Planted("in-use-not-looked-for", "only who takes over looks", _losses_in_use_not_looked_for, ("lose-key-in-use",), 4),
        Planted("panes-not-looked-for", "nobody asks how large panes are", _panes_not_looked_for, ("lose-key-in-use",), 6),
        Planted("incident-apart", "incidents are written first and the outbox a while later", _incident_apart, ("kill-leader",), 12),
    )
}


def main(words: Sequence[str]) -> None:
    """Plant the bug and run the product's command line with the rest of the words."""
    from alerts.cli import main as product

    PLANTED[words[0]].plant()
    sys.argv = ["campaignwatch", *words[1:]]
    product()


if __name__ == "__main__":
    main(sys.argv[1:])
