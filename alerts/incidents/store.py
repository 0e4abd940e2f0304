"""Incidents in Redis: loaded by a new leader, written together with the outbox in one script that only the leader may run.

Each commit has a name, and says which one it follows. A Redis that came back older (its file restored, a replica that was behind, emptied)
holds another name than the leader believes in, so nothing is written on top of what is lost: the leader loads and judges again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from importlib import resources

from pydantic import ValidationError
from redis.asyncio import Redis

from alerts.incidents.incident import Incident
from alerts.incidents.life import Step
from streams.config import Settings
from streams.tables.keys import alerts_key

logger = logging.getLogger(__name__)

_COMMIT = resources.files("alerts.incidents").joinpath("commit.lua").read_text(encoding="utf-8")


class LeaseLost(Exception):
    """Another replica leads now; nothing was written."""


class FellBack(Exception):
    """Redis does not hold what was loaded or written last; nothing was written. Load again."""


class IncidentStore:
    """The incidents of one installation, as one replica sees them through all of its terms. Raises redis errors when Redis is away.

    Key `incidents`: hash incident_id -> JSON of the newest change. Key `state`: hash incident_id -> what the life needs beside.
    Key `outbox`: stream of changes. Key `commits`: name of the newest commit. All share one hash tag, so the script works on Redis Cluster.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        namespace = settings.redis.namespace
        self._redis = redis
        self._limit = settings.alerts.outbox_length
        self._keep = timedelta(days=settings.alerts.keep_resolved_days)
        self._keys = [alerts_key(namespace, name) for name in ("lease", "incidents", "state", "outbox", "commits")]
        self._commit = redis.register_script(_COMMIT)
        #: Name of the commit that this replica goes by: its number, and a mark that no other has.
        self._newest = ""
        #: Whether the newest `load` found less than this replica had seen before.
        self.fell_back = False

    async def load(self) -> list[Incident]:
        """Every incident that is kept. An entry that cannot be read is logged and left alone."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._keys[2])
            pipe.get(self._keys[4])
            found, newest = await pipe.execute()
        name = _text(newest)
        # With more commits than before it is another leader that went on.
        self.fell_back = name != self._newest and _number(name) <= _number(self._newest)
        self._newest = name
        incidents = []
        for name, text in found.items():
            try:
                incidents.append(Incident.model_validate_json(text))
            except ValidationError as error:
                logger.warning("the stored state of incident %s cannot be read and is left alone: %s", name, error)
        return incidents

    async def is_current(self) -> bool:
        """Whether Redis still holds what was loaded or written last."""
        return _text(await self._redis.get(self._keys[4])) == self._newest

    async def commit(self, token: str, step: Step, forget: Iterable[str] = ()) -> None:
        """Write a step in one piece, on top of what was loaded or written last.

        LeaseLost when `token` does not hold the lease, FellBack when Redis holds something else by now; then nothing is written.
        """
        name = f"{_number(self._newest) + 1}:{uuid.uuid4().hex[:12]}"
        arguments: list[str | int] = [token, self._newest, name, self._limit, len(step.changes)]
        for change in step.changes:
            arguments += [change.incident_id, change.seq, change.to_json()]
        for incident in step.incidents.values():
            arguments += [incident.newest.incident_id, incident.model_dump_json()]
        arguments += ["-", *forget]
        answer = int(await self._commit(keys=self._keys, args=arguments))
        if answer == 0:
            raise LeaseLost
        if answer < 0:
            raise FellBack
        self._newest = name

    async def outbox_length(self) -> int:
        """Changes in the outbox, delivered or not."""
        return int(await self._redis.xlen(self._keys[3]))

    def too_old(self, incidents: Sequence[Incident], at: datetime) -> list[Incident]:
        """Resolved incidents whose time to be kept is over."""
        return [i for i in incidents if i.newest.resolved_at is not None and not i.is_open and at - i.newest.resolved_at > self._keep]


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _number(name: str) -> int:
    """The number of a commit by its name; 0 for none."""
    number = name.partition(":")[0]
    return int(number) if number.isdecimal() else 0
