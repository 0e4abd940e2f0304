"""Owning one topic-partition: gather batches, flush them, survive whatever happens to Redis and Kafka meanwhile.

    take -> pending -> (flush interval passed, or enough events) -> quarantine what was refused -> apply to Redis -> offset moved

Nothing here may raise into Faust: an exception in an agent's body acknowledges the batch and loses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from redis.exceptions import RedisError

from streams.config import Settings, Streams, Topic
from streams.events.refusal import Reason, Refusal
from streams.ingest.claiming import CannotClaim, Claimed, Share, Tables, claim, kept_since, note
from streams.ingest.continuity import Break, Finding, LogState
from streams.ingest.flush import Flush, PartitionFlusher
from streams.ingest.records import OFFSET, TIMESTAMP, Record, Records, Waiting
from streams.metrics.ingest import IngestMetrics
from streams.tables.aside import aside
from streams.tables.kept import in_words
from streams.tables.meta import Meta
from streams.tables.store import Fenced, FencedToErase, PartitionStore, Superseded, Unheeded

log = logging.getLogger(__name__)
#: How owners are told apart.
Place = TypeVar("Place")

#: Batches are taken until this many flushes' worth of events or bytes waits; then Kafka has to wait.
_PENDING_FLUSHES = 2
_FIRST_RETRY, _LAST_RETRY = 0.1, 5.0
#: Seconds to stand back for while users are taken out of the partition's tables.
_WHILE_ERASING = 0.2
#: Seconds between two notes of an idle partition at most. They are what the watermark goes on by, and alerts wait for it.
_NOTE_IDLE = 1.0
#: Records that an owner quarantines because the program fails on them; beyond, the program is at fault and the partition waits.
_MOST_GIVEN_UP = 100


class Log(Protocol):
    """What an owner needs of Kafka."""

    async def state(self) -> LogState:
        """What the broker says of the partition."""

    def committed(self) -> int:
        """The consumer group's offset as last committed from here, -1 before that."""

    async def seek_back(self, offset: int) -> None:
        """Read the partition again from `offset`."""

    def at_end(self, next_offset: int) -> bool:
        """Whether nothing is known to be at or after `next_offset`."""

    async def quarantine(self, refused: Sequence[tuple[Record, Refusal]]) -> None:
        """Write refused records to the quarantine topic; returns when they are safe there."""


class PartitionOwner:
    """Owns one topic-partition from `start` until `release`."""

    def __init__(
        self,
        topic: Topic,
        settings: Settings,
        tables: Tables,
        kafka: Log,
        metrics: IngestMetrics,
        *,
        clock: Callable[[], float],
        share: Share,
        role: str = "worker",
    ) -> None:
        self.topic = topic
        self.next_offset = -1
        #: When something was last applied or found to be applied already, epoch s.
        self.progress_at = clock()
        #: What the owner cannot do at present because Redis or Kafka is away, in words; None while all goes well.
        self.hindered: str | None = None
        self._settings = settings
        self.tables = tables
        self._role = role
        #: The partition as last taken over, its flusher in use since.
        self._claimed: Claimed | None = None
        self._kafka = kafka
        self._metrics = metrics.of_partition(tables.topic, tables.partition)
        self._name = f"{tables.topic}:{tables.partition}"
        self._clock = clock
        self._share = share
        self._pending = Waiting()
        #: Records of a flush: fewer than the setting while a record is sought that the program fails on.
        self._flush_events = settings.streams.flush_events
        self._unprocessable: dict[int, Refusal] = {}
        self._given_up = 0
        #: Offset of the record that the program failed on last, by itself.
        self._suspect = -1
        self._expected = -1
        #: Why the log may not go on where the tables end, and the partition has to be looked at again; None while all is well.
        self._doubt: str | None = None
        self._sent_back = False
        self._checks = 0
        self._changed = asyncio.Condition()
        #: Set once the partition is loaded, or released.
        self._settled = asyncio.Event()
        self._seek_due = False
        self._released = False
        self._task: asyncio.Task[None] | None = None

    @property
    def _now(self) -> int:
        return int(self._clock() * 1000)

    @property
    def meta(self) -> Meta | None:
        """The partition's bookkeeping, once loaded."""
        return self._flusher.meta if self._flusher is not None else None

    @property
    def cells(self) -> int:
        """Table cells of 8 bytes held in memory."""
        return self._flusher.tables.cells if self._flusher is not None else 0

    @property
    def ids(self) -> int:
        """Event ids held in memory to find duplicates."""
        return len(self._flusher.seen) if self._flusher is not None else 0

    @property
    def generation(self) -> int | None:
        """Which tables the partition is written to; None before they are loaded."""
        return self._claimed.generation if self._claimed is not None else None

    @property
    def _flusher(self) -> PartitionFlusher | None:
        return self._claimed.flusher if self._claimed is not None else None

    @property
    def _store(self) -> PartitionStore:
        assert self._claimed is not None
        return self._claimed.store

    # Life.

    async def start(self, state: LogState) -> int:
        """Claim the partition and load what is needed; returns the offset to read from, -1 if it was released meanwhile.

        Safe to give up and to call again: what was begun goes on by itself, until Redis answers or the partition is released.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._live(state), name=f"owner {self._name}")
        await self._settled.wait()
        return self.next_offset

    @property
    def started(self) -> bool:
        """Whether the partition is claimed and loaded."""
        return self._claimed is not None

    def seek_itself(self) -> None:
        """Have the owner set the reader to where it goes on, as soon as it is loaded or next looks around: nobody else will."""
        self._seek_due = True

    async def _live(self, state: LogState) -> None:
        await self._until_done("claim the partition", lambda: self._load(state))
        self._settled.set()
        await self._run()

    async def release(self, *, finish: bool = False) -> None:
        """Stop owning. With `finish` what is pending is applied first, else it is left to the next owner."""
        if finish and self._flusher is not None and not self._released:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.redis.timeout):
                    await self.drained()
        self._released = True
        self._settled.set()
        # First: while it claims the partition again it holds what takers wait for, as long as Redis or Kafka keeps it waiting.
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        async with self._changed:
            self._changed.notify_all()
        self._metrics.gone()

    async def drained(self) -> None:
        """Wait until everything taken so far is applied, whatever comes meanwhile."""
        async with self._changed:
            taken = self._expected
            await self._changed.wait_for(lambda: not self._pending or self.next_offset >= taken or self._released)

    async def doubt(self, why: str, *, sent_back: bool = False) -> None:
        """Have the partition claimed and looked at again before anything more is taken.

        `sent_back`: the broker had nothing at the offset that was asked for and sent the reader to an earlier one.
        """
        async with self._changed:
            self._doubt = self._doubt or why
            self._sent_back = self._sent_back or sent_back
            self._changed.notify_all()

    async def register(self) -> None:
        """Have the partition on the list of those that are read: that list is no part of a flush and can be lost alone."""
        if self._claimed is not None:
            await self._claimed.store.register()

    async def check(self) -> None:
        """Have the partition claimed again if something of its tables is gone that nobody here has deleted. Redis errors pass through."""
        if self._claimed is None:
            return
        store, since = self._claimed.store, kept_since(self._settings, self._now)
        self._checks += 1
        if lost := await store.lost_panes(since):
            await self.doubt(f"{len(lost)} panes of its tables are gone from Redis")
        elif keys := await store.lost_keys(since, turn=self._checks):
            await self.doubt(f"keys of its tables are not as it left them in Redis: {in_words(keys)}")

    async def _load(self, state: LogState) -> None:
        reached = (self._claimed.generation, self.next_offset) if self._claimed is not None else None
        self._claimed = await claim(
            self.topic,
            self._settings,
            self.tables,
            state,
            self._now,
            reached=reached,
            sent_back=self._sent_back,
            role=self._role,
        )
        for finding in self._claimed.findings:
            self._metrics.broke(finding.kind, finding.records)
        self.next_offset = self._expected = self._claimed.flusher.meta.next_offset
        self._doubt, self._sent_back = None, False
        self._pending.clear()

    async def _load_again(self) -> None:
        await self._load(await self._kafka.state())

    # Taking batches.

    async def take(self, records: Records, since: int) -> None:
        """Accept a fetched batch, whose fetch went on from the offset `since`; waits while too much is pending.

        Records applied or pending already are left out. If the fetch went on from beyond what is expected, batches went missing, in a
        rebalance or because Redis fell back, and the partition is read again.
        """
        if not records:
            return
        offsets = records.column(OFFSET)
        if await self._broken_before(int(offsets[0]), since):
            return
        async with self._changed:
            # Looked at under the lock: a partition that is being loaded again expects other records than before.
            expected = self._expected
            if self._released or self._flusher is None or self._doubt or offsets[-1] < expected:
                return
            if since <= expected:
                self._pending.append(records.at_or_after(expected), asyncio.get_running_loop().time())
                self._expected = int(offsets[-1]) + 1
                self._metrics.pending(len(self._pending), self._pending.nbytes)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: not self._waiting_for(_PENDING_FLUSHES) or self._released)
                return
        await self._seek_back(expected)

    async def _broken_before(self, first: int, since: int) -> bool:
        """Whether the log does not simply go on at `since`, where a fetch brought `first`. The partition is then looked at again."""
        if first < since:
            await self.doubt(f"the broker has nothing at offset {since} and sent the reader back to {first}", sent_back=True)
            return True
        # A gap: transactions and compaction leave one, and so does retention that went past.
        while first > since and self.topic is not Topic.CAMPAIGNS and not self._released:
            try:
                gone = (await self._kafka.state()).earliest > max(since, self._expected)
            except (OSError, TimeoutError, KafkaFailure) as error:
                log.warning("%s: cannot ask where the log begins (%s)", self._name, error)
                await asyncio.sleep(_FIRST_RETRY)
                continue
            if gone:
                await self.doubt(f"the log lost what lay between offsets {since} and {first}")
            return gone
        return False

    async def _seek_back(self, offset: int) -> None:
        """Read the partition again from `offset`: tries until it is done or the partition is gone. Raises nothing into the agent."""
        delay = _FIRST_RETRY
        while not self._released:
            try:
                await self._kafka.seek_back(offset)
                return
            except Exception as error:
                log.warning("%s: could not go back to offset %d (%r); next try in %.1f s", self._name, offset, error, delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LAST_RETRY)

    # Flushing.

    async def _run(self) -> None:
        while not self._released:
            try:
                await self._turn()
            except Exception:
                # An owner that ended would leave its partition to nobody.
                log.exception("%s: failed beside a flush; going on", self._name)
                await asyncio.sleep(_LAST_RETRY)

    async def _turn(self) -> None:
        """Wait for records and flush them, or for long enough to say that there are none."""
        streams = self._settings.streams
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(streams.idle_timeout / 4, _NOTE_IDLE)):
                    await self._changed.wait_for(lambda: self._pending or self._doubt or self._seek_due or self._released)
            if self._pending:
                with contextlib.suppress(TimeoutError):
                    # Those that came during the last flush have waited already.
                    async with asyncio.timeout_at(self._pending.since + streams.flush_interval):
                        await self._changed.wait_for(lambda: self._waiting_for(1) or self._released)
        if self._seek_due and not self._released:
            self._seek_due = False
            await self._seek_back(self._expected)
        if self._doubt and not self._released:
            await self._recover(self._doubt, self._metrics.doubted, pause=0)
        elif self._pending and not self._released:
            await self._flush_pending()
        elif not self._released:
            await self._note_idle()

    def _waiting_for(self, flushes: int) -> bool:
        """Whether enough waits for so many flushes."""
        streams = self._settings.streams
        return len(self._pending) >= flushes * streams.flush_events or self._pending.nbytes >= flushes * streams.flush_bytes

    async def _flush_pending(self) -> None:
        batch = self._pending.first(self._flush_events, self._settings.streams.flush_bytes)
        try:
            with self._metrics.timed(len(batch)):
                await self._flush(batch)
        except Fenced as error:
            await self._recover_fenced(error)
            return
        except asyncio.CancelledError:
            raise
        except (RedisError, OSError, TimeoutError) as error:
            await self._recover(f"Redis could not be read: {error}", self._metrics.retried)
            return
        except Exception as error:
            log.exception("%s: a flush of %d records failed", self._name, len(batch))
            await self._recover("a flush failed", self._metrics.failed, pause=self._close_in_on(batch, error))
            return
        self._flush_events = min(2 * self._flush_events, self._settings.streams.flush_events)
        async with self._changed:
            self._pending.drop(len(batch))
            self._metrics.pending(len(self._pending), self._pending.nbytes)
            self._changed.notify_all()

    def _close_in_on(self, batch: Records, error: Exception) -> float | None:
        """Find the record that the program fails on by halving the batch; alone, it goes to quarantine, so that nothing stops for it.

        Returns the seconds to wait before the next try. What fails without the record too, or on very many, is no record's fault: the
        partition then waits for a program that can read it, and the failures are counted.
        """
        if len(batch) > 1:
            self._flush_events = len(batch) // 2
            return _FIRST_RETRY
        if batch[0].offset in self._unprocessable or self._given_up >= _MOST_GIVEN_UP:
            return None
        if self._suspect != batch[0].offset:
            # Once may be by chance; what is wrong with the record is wrong again.
            self._suspect = batch[0].offset
            return _FIRST_RETRY
        self._given_up += 1
        detail = f"Campaignwatch itself failed on this record ({type(error).__name__}); the worker's log has the traceback: report it"
        self._unprocessable[batch[0].offset] = Refusal(Reason.UNPROCESSABLE, detail)
        return _FIRST_RETRY

    async def _flush(self, batch: Records) -> None:
        flusher = self._flusher
        assert flusher is not None
        await self._until_done("ask who was erased", lambda: self._heed_erasures(flusher))
        before = flusher.meta
        flusher.meta.committed = max(before.committed, self._kafka.committed())
        flush = await flusher.flush(batch, self._now, self._unprocessable, self._until_read)
        refused = [(batch[i], refusal) for i, refusal in flush.refusals]
        if refused:
            await self._until_done("write to the quarantine topic", lambda: self._kafka.quarantine(refused))
        await self._until_done("apply a flush", lambda: self._store.apply(before.applied_offset, flush.meta, flush.commands))
        self.next_offset = flush.meta.applied_offset + 1
        self.progress_at = self._clock()
        self._metrics.visible(batch.column(TIMESTAMP), self.progress_at)
        self._unprocessable.clear()
        await aside(flusher.tables.forget, self._share.cells())
        await self._forget_ids(flusher)
        self._metrics.flushed(before, flush, flusher)

    async def _forget_ids(self, flusher: PartitionFlusher) -> None:
        """Keep to the limit on ids. It is said aloud, since a repeat of what was forgotten will be counted."""
        limit = self._share.ids()
        if not (gone := flusher.seen.forget(limit)):
            return
        kept = flusher.seen.known_for(flusher.meta.record_time) / 1000
        detail = (
            f"more than {limit} ids within the dedupe horizon: {gone} of the oldest were forgotten, and repeats are found for "
            f"{kept:.0f} s only; raise streams.dedupe_ids, add workers, or shorten streams.dedupe_horizon"
        )
        finding = Finding(Break.IDS_FORGOTTEN, gone, detail)
        log.warning("%s: %s", self._name, detail)
        self._metrics.broke(finding.kind, gone)
        await self._until_done("note forgotten ids", lambda: note(self._store, [finding], self._now))

    async def _note_idle(self) -> None:
        """Say in Redis that the partition was read to its end, so that its watermark does not hold the others."""
        flusher = self._flusher
        if flusher is None or not self._kafka.at_end(self._expected):
            return
        self.progress_at = self._clock()
        noted: Flush = Flush(flusher.meta)
        noted.meta.caught_up_at = self._now
        # A clock that was set back since the last flush would hold everybody's watermark until it is where it was.
        noted.meta.applied_at = min(noted.meta.applied_at, self._now)
        try:
            await self._heed_erasures(flusher)
            await self._store.apply(flusher.meta.applied_offset, noted.meta, ())
        except Unheeded:
            pass  # In the moment between the look and the note: nothing was made of it, and the next note looks again.
        except Fenced as error:
            await self._recover_fenced(error)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("%s: cannot reach Redis: %s", self._name, error)

    async def _heed_erasures(self, flusher: PartitionFlusher) -> None:
        """Learn of users that were erased since the last look, so that what comes of them from the log is left out."""
        erased = await self._store.newly_erased(self._settings.privacy.user_key.get_secret_value())
        if erased is not None:
            flusher.erased = erased

    async def _recover_fenced(self, error: Fenced) -> None:
        # Who fences to erase does not take the partition: there is no other owner to make way for. One that has it all the same, because
        # this one is a zombie, fences this one in turn.
        await self._recover(f"fenced: {error}", self._metrics.fenced, pause=_WHILE_ERASING if isinstance(error, FencedToErase) else None)

    async def _recover(self, why: str, count: Callable[[], None], *, pause: float | None = None) -> None:
        """Start again from what Redis holds. A zombie learns from Kafka meanwhile that it is none of its business any more."""
        count()
        pause = self._settings.kafka.session_timeout / 2 if pause is None else pause
        log.warning("%s: %s; claiming the partition again in %.1f s if it is still ours", self._name, why, pause)
        await asyncio.sleep(pause)
        if self._released:
            return
        async with self._changed:
            await self._until_done("claim the partition again", self._load_again)
            self._changed.notify_all()
        await self._seek_back(self.next_offset)

    async def _until_read(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Repeat a read in the middle of a flush: what was done for thousands of panes must not be lost for an answer that was late.

        Should Redis come back with something else, the flush will be fenced.
        """
        await self._until_done("read from Redis", attempt, whatever=False)

    async def _until_done(self, what: str, attempt: Callable[[], Awaitable[None]], *, whatever: bool = True) -> None:
        """Repeat what needs Redis or Kafka until it succeeds: nothing may be lost because one of them is away.

        Unless `whatever` fails is to be repeated, what the program itself fails on is raised.
        """
        delay = _FIRST_RETRY
        while not self._released:
            try:
                await attempt()
                self.hindered = None
                return
            except Fenced:
                self.hindered = None
                raise
            except Exception as error:
                # Whatever a client raises while its connections break: no record is to blame for it.
                if not isinstance(error, RedisError | OSError | TimeoutError | KafkaFailure | CannotClaim | Superseded):
                    if not whatever:
                        raise
                    log.exception("%s: could not %s for a reason of the program's own", self._name, what)
                self._metrics.retried()
                self.hindered = f"could not {what}: {type(error).__name__}: {error}"
                log.warning("%s: could not %s (%s: %s); next try in %.1f s", self._name, what, type(error).__name__, error, delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LAST_RETRY)
        raise asyncio.CancelledError


def share_beside(owners: Mapping[Place, PartitionOwner], own: Place, limits: Streams) -> Share:
    """What the owner at `own` may keep beside the others, as of each call: what they leave of the limits, but at least an equal share."""

    def left(total: int, held: Callable[[PartitionOwner], int]) -> int:
        others = [held(owner) for place, owner in owners.items() if place != own]
        return max(total // (len(others) + 1), total - sum(others))

    return Share(
        cells=lambda: left(limits.open_cells, lambda owner: owner.cells), ids=lambda: left(limits.dedupe_ids, lambda owner: owner.ids)
    )


class KafkaFailure(Exception):
    """Kafka could not be written to; trying again may help."""
