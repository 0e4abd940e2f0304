"""What is produced while faults happen: hostile events on every topic, the same for the same seed but for the times in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.config import EVENT_TOPICS, Settings, Topic
from tests.hostile_log import BROKEN, hostile_record

#: Small enough that sums over hours of traffic stay within what is exact (9e12).
AMOUNTS: tuple[float | str, ...] = (0, 1, 0.25, "12.3456785", 0.1234565, "99999.999999", 100000)
#: Long reports are rare: each fills thousands of panes, which takes a worker longer than all else in a round.
LENGTHS = (20.0, 20.0, 20.0, 1.0, 0.1)
_REGISTRY, _RESENT = 0.04, 0.05
#: Records that may be sent again: the newest, and some from long ago.
_REMEMBERED = 3_000
_PAUSE = 0.05

Made = tuple[Topic, bytes | None, bytes | None]


class Maker:
    """Makes records, without end."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"traffic {seed}")
        self._number = 0
        self._newest: deque[Made] = deque(maxlen=_REMEMBERED)
        self._old: list[Made] = []

    def records(self, count: int, now: int) -> Iterator[Made]:
        """The next `count` records; `now` in epoch ms."""
        for _ in range(count):
            yield self._next(now)

    def _next(self, now: int) -> Made:
        chance = self._chance
        if self._newest and chance.random() < _RESENT:
            # The very same bytes again: at once, a while later, or from the beginning.
            return chance.choice((self._newest[-1], chance.choice(self._newest), chance.choice(self._old)))
        self._number += 1
        made: Made
        if chance.random() < _REGISTRY:
            made = (Topic.CAMPAIGNS, *self._campaign())
        else:
            topic = chance.choices(EVENT_TOPICS, (4, 3, 6, 1))[0]
            made = (topic, *hostile_record(chance, topic, chance.randrange(4), self._number, now, AMOUNTS, LENGTHS))
        self._newest.append(made)
        if len(self._old) < _REMEMBERED or chance.random() < 0.05:
            self._old.append(made)
        return made

    def _campaign(self) -> tuple[bytes | None, bytes | None]:
        chance = self._chance
        campaign = f"c-{chance.randrange(24)}"
        what = chance.random()
        if what < 0.05:
            return campaign.encode(), chance.choice(BROKEN)
        if what < 0.10:
            return campaign.encode(), None
        content: dict[str, Any] = {
            "campaign_id": campaign,
            "name": f"Campaign {campaign}, {self._number}",
            "owner": chance.choice(("ann", "bob")),
            # Spent at once, or never: the alerts that judge budgets open and resolve all the time.
            "budget": {"daily": chance.choice((1, 10, 1_000_000_000))},
            "time_zone": chance.choice(("UTC", "Asia/Tokyo")),
        }
        return (b"another" if what < 0.13 else campaign.encode()), json.dumps(content).encode()


class Traffic:
    """Sends what a maker makes, `rate` records a second, whatever happens to the broker. What arrived is read from the log."""

    def __init__(self, settings: Settings, bootstrap_servers: str, maker: Maker, rate: int) -> None:
        self._settings = settings
        self._servers = bootstrap_servers
        self._maker = maker
        self._rate = rate
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def start(self) -> None:
        """Begin to send."""
        self._stop.clear()
        self._task = asyncio.create_task(self._run(), name="traffic")

    async def stop(self) -> None:
        """Send no more; returns when what was sent has arrived, or was given up."""
        self._stop.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def _run(self) -> None:
        while not self._stop.is_set():
            producer = AIOKafkaProducer(
                bootstrap_servers=self._servers,
                client_id="chaos-traffic",
                acks="all",
                request_timeout_ms=5_000,
                max_batch_size=64 * 1024,
                # Added partitions get events before the workers know of them.
                metadata_max_age_ms=2_000,
            )
            try:
                await producer.start()
                await self._send(producer)
            except (KafkaError, OSError):
                await asyncio.sleep(_PAUSE)
            finally:
                with contextlib.suppress(KafkaError, OSError, TimeoutError):
                    async with asyncio.timeout(20):
                        await producer.stop()

    async def _send(self, producer: AIOKafkaProducer) -> None:
        due = time.monotonic()
        waiting: set[asyncio.Future[Any]] = set()
        while not self._stop.is_set():
            due += _PAUSE
            count = max(1, int(self._rate * _PAUSE))
            for topic, key, value in self._maker.records(count, time.time_ns() // 1_000_000):
                sent = await producer.send(self._settings.topic(topic), value, key=key)
                waiting.add(sent)
                sent.add_done_callback(_forget(waiting))
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # After a broker was away, go on from now instead of catching up with everything at once.
            due = max(due, time.monotonic() - 1.0)
        if waiting:
            await asyncio.wait(waiting, timeout=30)


def _forget(waiting: set[asyncio.Future[Any]]) -> Any:
    def done(sent: asyncio.Future[Any]) -> None:
        waiting.discard(sent)
        if not sent.cancelled():
            sent.exception()  # a failed one may have arrived or not: only the log knows

    return done
