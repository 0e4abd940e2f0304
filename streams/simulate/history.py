"""Playing simulated time to Kafka: the past as fast as it goes, then the present second by second, without a seam.

There is one clock position that only moves forward. While it lies behind the real time, it moves in big steps; once it has caught up it
follows. Rates, funnel and delays are those of `Traffic` throughout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from streams.simulate.traffic import TICK, Record, Traffic

#: Simulated time that is played in one step while catching up: some 20,000 events at 300/s.
STEP_MS = 60_000
#: Real time between two steps when live, seconds.
LIVE_STEP = 0.1


class Sender(Protocol):
    """Takes records to Kafka; `producer.EventProducer` is one."""

    async def send(self, records: list[Record], now: int) -> None:
        """Send and return when delivered."""
        ...


class Playback:
    """Plays `traffic` from `start` (epoch ms) on. `now` is the real time, epoch ms."""

    def __init__(self, traffic: Traffic, sender: Sender, start: int, now: Callable[[], int]) -> None:
        self._traffic = traffic
        self._sender = sender
        self._now = now
        #: Everything due before this moment (epoch ms) has been sent.
        self.position = start
        #: Where `follow` ends, epoch ms; without end while None.
        self.end: int | None = None

    async def step(self) -> int:
        """Send what is due, at most `STEP_MS` of simulated time; how many records that was."""
        until = min(self.position + STEP_MS, self._now(), self._now() if self.end is None else self.end) // TICK * TICK
        if until <= self.position:
            return 0
        # Generating a minute takes a few tenths of a second; the event loop has a screen to draw meanwhile.
        records = await asyncio.to_thread(self._traffic.records_until, until)
        if records:
            await self._sender.send(records, self._now())
        self.position = until
        return len(records)

    async def catch_up(self, progress: Callable[[int], Awaitable[None] | None] | None = None) -> int:
        """Play until the present is reached, to a second; how many records that took. `progress` is called with them after each step."""
        total = 0
        while self._now() - self.position >= 1_000:
            total += await self.step()
            if progress is not None:
                waiting = progress(total)
                if waiting is not None:
                    await waiting
        return total

    async def follow(self) -> None:
        """Play the present until `end`, which may be set or moved while it plays."""
        while self.end is None or self.position < self.end:
            await self.step()
            await asyncio.sleep(LIVE_STEP)
