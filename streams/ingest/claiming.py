"""Taking over a topic-partition: become its writer, see whether log and tables still continue each other, load what a flush needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from streams.config import Settings, Topic
from streams.ingest.continuity import Break, Finding, LogState, examine, noted
from streams.ingest.dedupe import Seen
from streams.ingest.flush import PartitionFlusher
from streams.ingest.lifetimes import prolong
from streams.ingest.losses import count_anew, measured, only_whole
from streams.ingest.written_with import kept_then, settings_changed, written_with
from streams.panes.ladder import Ladder
from streams.tables.keys import Command
from streams.tables.meta import FORMAT, OLDEST_READABLE, Meta
from streams.tables.opentables import OpenTables
from streams.tables.store import Fenced, PartitionStore

log = logging.getLogger(__name__)


class CannotClaim(Exception):
    """The partition cannot be claimed now; trying again may help. The message says why and what to do."""


class Tables(Protocol):
    """The tables of one topic-partition, in whatever generation is in use."""

    @property
    def topic(self) -> str:
        """Full name of the topic."""

    @property
    def partition(self) -> int:
        """Number of the partition."""

    async def open(self) -> tuple[int, PartitionStore]:
        """The generation in use, and its side of the partition."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one partition may keep of the worker's memory, as of now."""

    #: Table cells of 8 bytes.
    cells: Callable[[], int]
    #: Event ids within the dedupe horizon.
    ids: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A partition that was taken over."""

    generation: int
    store: PartitionStore
    flusher: PartitionFlusher
    findings: list[Finding] = field(default_factory=list)


async def claim(
    topic: Topic,
    settings: Settings,
    tables: Tables,
    state: LogState,
    now: int,
    *,
    reached: tuple[int, int] | None = None,
    sent_back: bool = False,
    role: str = "worker",
) -> Claimed:
    """Take over a partition whose log is in `state`. `now` in epoch ms.

    `reached` is how far this owner had come itself: generation and next offset. Raises CannotClaim, Superseded and redis errors.
    """
    generation, store = await _tables_in_use(tables)
    try:
        # What was written when less was kept may be gone by itself.
        since = max(kept_since(settings, now), now - kept_then(await store.written_with()))
        meta, findings = await _claim_readable(store, state, now, int(since), role)
        # Tables that are counted anew know nothing of what was reached in the old ones.
        believed = reached[1] if reached is not None and reached[0] == generation and not findings else -1
        after, breaks = examine(replace(meta, format=FORMAT), state, believed=believed, sent_back=sent_back)
        stored, mine = await store.written_with(), written_with(settings) if topic is not Topic.CAMPAIGNS else {}
        breaks += settings_changed(stored, mine, meta.read)
        lengths: dict[str, int] = {}
        commands: list[Command] = [
            ("HSET", store.keys.notes(), kind, packed) for kind, packed in noted(breaks, await store.notes(), now).items()
        ]
        commands += [("HSET", store.keys.settings(), name, value) for name, value in mine.items() if stored.get(name) != value]
        if meta.format < FORMAT or not await store.has_lengths():
            lengths = await measured(topic, settings, store, after)
            commands += store.lengths_anew(lengths)
        if stored.get("streams.ladder") != mine.get("streams.ladder"):
            await prolong({*await store.named_lengths(), *lengths}, settings, store)
        if after != meta or commands:
            await store.apply(meta.applied_offset, after, commands)
    except Fenced as error:
        raise CannotClaim(f"another worker claimed it in the same moment ({error})") from error
    findings += breaks
    for finding in findings:
        log.warning("%s:%d: %s: %s", tables.topic, tables.partition, finding.kind.value.replace("_", " "), finding.detail)
    flusher = await _load(topic, settings, store, after)
    # After the claim: an erasure writes the list first and fences then, so that no owner misses it.
    flusher.erased = await store.erased(settings.privacy.user_key.get_secret_value())
    return Claimed(generation, store, flusher, findings)


def kept_since(settings: Settings, now: int) -> int:
    """Epoch ms since when every pane is kept, as of `now`."""
    return now - Ladder(settings.streams.ladder).retention


async def note(store: PartitionStore, findings: Sequence[Finding], now: int) -> None:
    """Keep findings with the tables. `now` in epoch ms; redis errors pass through."""
    await store.put_notes(noted(findings, await store.notes(), now))


async def _tables_in_use(tables: Tables) -> tuple[int, PartitionStore]:
    """The generation in use, written to again if it had been superseded.

    What says which one is in use is changed before the old one is superseded. If that is forgotten (on a cluster Redis may fall back for
    one key alone), the old one is in use again.
    """
    generation, store = await tables.open()
    if await store.superseded() and (await tables.open())[0] == generation:
        log.warning("%s:%d: its tables had been superseded and are in use again", tables.topic, tables.partition)
        await store.reinstate()
    return generation, store


async def _claim_readable(store: PartitionStore, state: LogState, now: int, since: int, role: str) -> tuple[Meta, list[Finding]]:
    meta = await store.claim(state.earliest, now, role=role)
    if meta.format > FORMAT:
        raise CannotClaim(
            f"its tables are in form {meta.format} and this version knows forms up to {FORMAT}: a newer version of Campaignwatch wrote "
            "them; run that version, or another redis.namespace"
        )
    if meta.format < OLDEST_READABLE:
        detail = f"the tables were in form {meta.format}, which this version cannot read; counting anew from offset {state.earliest}"
        return await count_anew(store, meta, state, Finding(Break.FORM_UNREADABLE, meta.read, detail), now)
    return await only_whole(store, meta, state, now, since)


async def _load(topic: Topic, settings: Settings, store: PartitionStore, meta: Meta) -> PartitionFlusher:
    streams = settings.streams
    tables = OpenTables(
        store.keys,
        Ladder(streams.ladder),
        settings.all_cubes,
        max_rows=streams.max_rows_per_cube,
        known=await store.known_panes(),
    )
    seen = Seen(int(streams.dedupe_horizon * 1000))
    if meta.record_time:
        async for part, stored in store.seen(seen.live_buckets(meta.record_time)):
            seen.load(part, stored)
    flusher = PartitionFlusher(topic, settings, store, tables, seen, meta)
    if topic is Topic.CAMPAIGNS:
        flusher.campaigns = await store.campaigns()
    return flusher
