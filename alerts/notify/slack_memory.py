"""What is remembered of each incident's Slack message, so that a change is not told twice and the message can be updated."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from alerts.incidents.change import Change, Severity
from streams.tables.keys import alerts_key

#: Longer than any incident should stay open; every change starts it anew. A later change gets a message of its own.
_TTL_SECONDS = 35 * 86_400


@dataclass(frozen=True, slots=True)
class Told:
    """What Slack has been told of one incident. Empty text stands for nothing."""

    seq: int = 0
    """The newest change that the message shows."""
    severity: str = ""
    """The severity that the message shows."""
    channel: str = ""
    """Id of the channel that holds the message."""
    ts: str = ""
    """Slack's id of the message; empty for webhooks, which do not tell."""
    note: str = ""
    """A state that later versions of the message must still show."""
    reply: str = ""
    """A thread reply that is due and was not posted yet: of `seq`, or of a change before it."""
    broadcast: str = ""
    """Set when that reply is to be shown in the channel too."""

    at: str = ""
    """When that change was made, in ISO form."""

    def covers(self, change: Change) -> bool:
        """Whether the message shows `change` or a later one.

        After Redis fell back, an incident goes on from an older change: with a seq that was told before, but made later.
        """
        return self._reaches(change.seq, change.at)

    def goes_beyond(self, stored: Told) -> bool:
        """Whether this, which Redis could not be told in time, is to replace what is `stored` there by now, perhaps by another replica.

        It is if it shows a later change, or if of the same change in the same message no reply is due any more.
        """
        if not stored._reaches(self.seq, datetime.fromisoformat(self.at) if self.at else None):
            return True
        return (stored.seq, stored.ts) == (self.seq, self.ts) and not self.reply

    @property
    def severity_before(self) -> Severity | None:
        """The severity shown so far, if any."""
        return Severity(self.severity) if self.severity in set(Severity) else None

    def _reaches(self, seq: int, at: datetime | None) -> bool:
        if self.seq < seq:
            return False
        return not self.at or at is None or at <= datetime.fromisoformat(self.at)


class SlackMemory:
    """Told per incident, in Redis. What Redis could not be told yet is kept here, so that no retry posts a second time.

    One for all turns of a replica: Redis may be away for longer than a turn lasts without it.
    """

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace
        self._unsaved: dict[str, Told] = {}

    async def recall(self, incident_id: str) -> Told:
        """What is remembered; an empty Told for an unknown incident. Raises redis errors."""
        stored = await self._stored(incident_id)
        unsaved = self._unsaved.get(incident_id)
        if unsaved is None:
            return stored
        if not unsaved.goes_beyond(stored):
            del self._unsaved[incident_id]
            return stored
        await self.remember(incident_id, unsaved)
        return unsaved

    async def remember(self, incident_id: str, told: Told) -> None:
        """Store `told`. On a redis error, which is raised, it is kept in memory until it is stored."""
        self._unsaved[incident_id] = told
        key = self._key(incident_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=cast("Any", asdict(told)))
            pipe.expire(key, _TTL_SECONDS)
            await pipe.execute()
        del self._unsaved[incident_id]

    async def flush(self) -> None:
        """Store what could not be stored before, as far as Redis lets it."""
        with contextlib.suppress(RedisError, OSError):
            for incident_id in list(self._unsaved):
                await self.recall(incident_id)

    async def _stored(self, incident_id: str) -> Told:
        raw = await cast("Any", self._redis).hgetall(self._key(incident_id))
        fields = {_text(key): _text(value) for key, value in raw.items()}
        known = {name: fields[name] for name in Told.__dataclass_fields__ if name in fields}
        seq = known.pop("seq", "0")
        return Told(seq=int(seq) if seq.isdigit() else 0, **known)

    def _key(self, incident_id: str) -> str:
        return alerts_key(self._namespace, f"slack:{incident_id}")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
