"""Delivery of the outbox to every sink: at least once, in order per incident, each sink at its own pace.

Each sink has a cursor in Redis and a lease: one replica at a time delivers to it, another takes over when that one dies. A sink that
is down holds up nobody else. A change is delivered, or given up with a log line and a metric when the sink refuses it; only then the
cursor moves on. In a long backlog changes that notify go ahead of others; the cursor waits for the oldest that is not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from alerts.incidents.change import ChangeKind
from alerts.notify.backlog import Backlog
from alerts.notify.kafka import KafkaSink
from alerts.notify.metrics import DeliveryMetrics
from alerts.notify.outbox import Entry, Lease, Outbox, OutboxFellBack
from alerts.notify.sink import Rejected, Retry, Sink, SinkFactory
from alerts.notify.slack import SlackBot, slack_sinks
from streams.config import Settings

_log = logging.getLogger(__name__)

#: Seconds between two looks at an outbox without news.
_IDLE = 0.25
#: Seconds between two looks at the outbox while an attempt has to wait, so that metrics and folding stay up to date.
_LOOK = 1.0
#: Seconds between two attempts to take over a sink that another replica delivers to.
_KNOCK = 1.0
#: Entries read ahead, at most.
_PAGE = 5_000
#: First and longest pause between attempts, seconds, before jitter.
_BACKOFF_FIRST, _BACKOFF_LONGEST = 0.5, 30.0
#: Seconds after which a change is given up that is refused for a reason somebody could have put right, such as an expired token.
_PATIENCE = 15 * 60.0
#: Failures of a kind nobody foresaw after which one change is given up, so that it cannot hold up the others for ever.
_UNFORESEEN = 8
#: Seconds between two trims of the outbox, and between two log lines about the same trouble.
_TIDY_EVERY, _SAY_EVERY = 60.0, 60.0
#: Seconds that a delivery under way may still take when the lease is lost or the process is asked to stop.
_GRACE = 2.0


async def deliver_forever(
    settings: Settings,
    redis: Redis,
    *,
    registry: CollectorRegistry,
    clock: Callable[[], datetime],
    stop: asyncio.Event,
    sinks: Mapping[str, SinkFactory] | None = None,
) -> None:
    """Deliver the outbox to every configured sink until `stop` is set. To be run by every replica.

    `clock` gives the present time (aware); `sinks`, name -> factory, replaces those of the settings. Redis or a sink being away is
    waited out; nothing is raised but cancellation.
    """
    factories = configured_sinks(settings, redis) if sinks is None else sinks
    metrics = DeliveryMetrics(registry)
    outbox = Outbox(redis, settings.redis.namespace)
    async with asyncio.TaskGroup() as group:
        for name, factory in factories.items():
            lease = Lease(redis, settings.redis.namespace, name, settings.alerts.lease)
            courier = Courier(name, factory, tuple(factories), outbox, lease, settings, metrics, clock, stop)
            group.create_task(courier.run(), name=f"deliver to {name}")


def configured_sinks(settings: Settings, redis: Redis) -> dict[str, SinkFactory]:
    """The sinks that the settings ask for: Kafka always, Slack where it is configured."""
    sinks: dict[str, SinkFactory] = {KafkaSink.name: lambda: KafkaSink(settings)}
    slack = slack_sinks(settings, redis)
    if slack is not None:
        sinks[SlackBot.name] = slack
    return sinks


class Courier:
    """Takes the changes of the outbox to one sink, while this replica holds the sink's lease."""

    def __init__(
        self,
        name: str,
        factory: SinkFactory,
        all_sinks: tuple[str, ...],
        outbox: Outbox,
        lease: Lease,
        settings: Settings,
        metrics: DeliveryMetrics,
        clock: Callable[[], datetime],
        stop: asyncio.Event,
    ) -> None:
        self._name = name
        self._factory = factory
        self._all_sinks = all_sinks
        self._outbox = outbox
        self._lease = lease
        self._fold_above = settings.alerts.fold_above
        self._limit = settings.alerts.outbox_length
        self._metrics = metrics
        self._clock = clock
        self._stop = stop
        self._failures = 0
        self._not_before = float("-inf")
        self._unforeseen: tuple[str, int] = ("", 0)
        self._said: dict[str, float] = {}
        self._tidied_at = float("-inf")
        self._metrics.delivers.labels(name).set(0)
        self._metrics.delivered.labels(name)
        self._metrics.folded.labels(name)
        self._metrics.fell_back.labels(name)
        self._metrics.delay.labels(name)

    async def run(self) -> None:
        """Take turns at the sink until asked to stop."""
        while not self._stop.is_set():
            try:
                if await self._lease.acquire():
                    await self._turn()
                else:
                    await self._pause(_KNOCK)
            except (RedisError, OSError) as error:
                await self._trouble("Redis", error)
            except Exception:
                _log.exception("%s: delivery failed unexpectedly; trying again", self._name)
                await self._pause(self._backoff())

    async def _turn(self) -> None:
        """Deliver until the lease is lost or the process is asked to stop."""
        _log.info("%s: this replica delivers", self._name)
        self._metrics.delivers.labels(self._name).set(1)
        sink = self._factory()
        keeping = asyncio.create_task(self._lease.keep())
        delivering = asyncio.create_task(self._deliver_all(sink, keeping))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({delivering, keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done() and not delivering.done():
                _log.warning("%s: the lease was lost; another replica may deliver now", self._name)
            # Whoever hangs up on a call under way does not know whether it did what it asks for.
            await asyncio.wait({delivering}, timeout=_GRACE)
        finally:
            for task in (delivering, keeping, stopping):
                task.cancel()
            results = await asyncio.gather(delivering, keeping, stopping, return_exceptions=True)
            self._metrics.delivers.labels(self._name).set(0)
            for gauge in (self._metrics.queue, self._metrics.age, self._metrics.overflow):
                with contextlib.suppress(KeyError):
                    gauge.remove(self._name)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_GRACE):
                    await sink.close()
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await self._lease.release()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _deliver_all(self, sink: Sink, keeping: asyncio.Task[None]) -> None:
        """Deliver one change after the other while `keeping` keeps the lease."""
        backlog: Backlog | None = None
        while not (self._stop.is_set() or keeping.done()):
            try:
                if backlog is None:
                    start = await self._outbox.cursor(self._name)
                    # Written down at once: a sink that is new, and down, must not begin later and later.
                    if not await self._lease.advance(start, was_read=False):
                        return
                    backlog = Backlog(self._fold_above if sink.folds else None, start)
                if len(backlog) < _PAGE:
                    was_read = backlog.read_to != backlog.start
                    entries = await self._outbox.read(backlog.read_to, _PAGE - len(backlog), was_read=was_read)
                    self._metrics.folded.labels(self._name).inc(backlog.extend(entries))
                self._observe(backlog)
                await self._tidy()
                entry = backlog.head
                wait = self._not_before - asyncio.get_running_loop().time()
                if entry is None or wait > 0:
                    await self._pause(_IDLE if entry is None else min(wait, _LOOK))
                elif await self._is_done_with(sink, entry):
                    cursor = backlog.cursor_after(entry)
                    # It stays where it is while an older change waits.
                    if cursor != backlog.start and not await self._lease.advance(cursor):
                        return
                    backlog.done(entry)
                    self._failures = 0
            except OutboxFellBack:
                _log.warning(
                    "%s: Redis fell back: the outbox lost what was read of it; reading on from the cursor that it kept", self._name
                )
                self._metrics.fell_back.labels(self._name).inc()
                backlog = None
                self._failures, self._not_before = 0, float("-inf")
            except (RedisError, OSError) as error:
                await self._trouble("Redis", error)

    async def _is_done_with(self, sink: Sink, entry: Entry) -> bool:
        """Try to deliver one entry. True when it was delivered or given up; False when it is to be tried again."""
        change = entry.change
        if change is None:
            _log.error("%s: entry %s of the outbox cannot be read (%s); it is skipped", self._name, entry.id, entry.problem)
            self._metrics.failed.labels(self._name, "unreadable").inc()
            return True
        what = f"{change.change.value} of incident {change.incident_id} (change {change.seq})"
        try:
            await sink.deliver(change)
        except Retry as retry:
            self._say(retry.reason, logging.WARNING, f"{what}: {retry.detail}; trying again until it works")
            self._again(retry.reason, retry.after)
            return False
        except Rejected as rejected:
            if rejected.fixable and self._age(entry) < _PATIENCE:
                self._say(
                    rejected.reason,
                    logging.ERROR,
                    f"{what}: {rejected.detail}. Trying again until the change is {_PATIENCE / 60:.0f} minutes old",
                )
                self._again(rejected.reason, None)
                return False
            _log.error("%s: %s is given up: %s", self._name, what, rejected.detail)
            self._metrics.failed.labels(self._name, rejected.reason).inc()
            return True
        except (RedisError, OSError):
            raise
        except Exception:
            last, times = self._unforeseen
            self._unforeseen = (entry.id, times + 1 if last == entry.id else 1)
            if self._unforeseen[1] >= _UNFORESEEN:
                _log.exception("%s: %s is given up after %d unexpected failures", self._name, what, _UNFORESEEN)
                self._metrics.failed.labels(self._name, "unexpected").inc()
                return True
            _log.exception("%s: %s failed unexpectedly; trying again", self._name, what)
            self._again("unexpected", None)
            return False
        self._metrics.delivered.labels(self._name).inc()
        self._metrics.latency.labels(self._name).observe(self._age(entry))
        if change.change in (ChangeKind.OPENED, ChangeKind.REOPENED):
            self._metrics.delay.labels(self._name).observe(max(0.0, (self._clock() - change.window.to).total_seconds()))
        return True

    def _again(self, reason: str, after: float | None) -> None:
        self._metrics.retried.labels(self._name, reason).inc()
        # What the receiver asks for is the least; the jitter keeps installations from coming back all at once.
        pause = self._backoff() if after is None else after + random.uniform(0.0, 0.25)  # nosec B311 # jitter, no secret
        self._not_before = asyncio.get_running_loop().time() + pause

    def _backoff(self) -> float:
        longest = min(_BACKOFF_LONGEST, _BACKOFF_FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return longest * random.uniform(0.5, 1.0)  # nosec B311 # jitter, no secret

    async def _trouble(self, whom: str, error: BaseException) -> None:
        self._say(whom, logging.WARNING, f"{whom} cannot be reached ({type(error).__name__}: {error}); trying again until it works")
        await self._pause(min(5.0, self._backoff()))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), timeout=seconds)

    async def _tidy(self) -> None:
        """Once a minute: trim what every sink of every replica has, and say so when this sink is about to miss something."""
        now = asyncio.get_running_loop().time()
        if now - self._tidied_at < _TIDY_EVERY:
            return
        self._tidied_at = now
        await self._outbox.trim(self._all_sinks)
        overflows = await self._outbox.overflows(await self._outbox.cursor(self._name), self._limit)
        self._metrics.overflow.labels(self._name).set(overflows)
        if overflows:
            self._say("overflow", logging.ERROR, "the outbox is full and drops its oldest changes undelivered; see why this sink is behind")

    def _observe(self, backlog: Backlog) -> None:
        self._metrics.queue.labels(self._name).set(len(backlog))
        self._metrics.age.labels(self._name).set(self._age(backlog.oldest) if backlog.oldest else 0.0)

    def _age(self, entry: Entry) -> float:
        return max(0.0, self._clock().timestamp() - entry.written_at)

    def _say(self, trouble: str, level: int, text: str) -> None:
        """Log `text`, once a minute for each kind of trouble."""
        now = asyncio.get_running_loop().time()
        if now - self._said.get(trouble, float("-inf")) >= _SAY_EVERY:
            self._said[trouble] = now
            _log.log(level, "%s: %s", self._name, text)
