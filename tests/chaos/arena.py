"""What faults are done to, and what a plan says of one."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from tests.chaos.fleet import Fleet
from tests.chaos.servers import Servers

SESSION_TIMEOUT = 6.0


@dataclass(slots=True)
class Arena:
    """What faults are done to."""

    servers: Servers
    fleet: Fleet
    #: With nothing in between.
    redis: Redis
    alerts_lease: str
    #: Topics that may get more partitions.
    growing_topics: Sequence[str] = ()
    #: What was killed, and how often.
    kills: Counter[str] = field(default_factory=Counter)
    #: What came of things that may end in several ways, and how often.
    outcomes: Counter[str] = field(default_factory=Counter)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def alone(self, target: str) -> AbstractAsyncContextManager[Any]:
        """Whoever hurts `target` waits for the one before."""
        return self._locks[target]


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of a plan."""

    kind: str
    #: Seconds from the round's beginning.
    at: float
    #: Seconds until it is undone.
    lasts: float
    #: In [0, 1): which of several it hits, or how hard.
    pick: float

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:.1f} s for {self.lasts:.1f} s ({self.pick:.3f})"
