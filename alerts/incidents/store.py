"""Incidents in Redis: loaded by a new leader, written together with the outbox in one script that only the leader may run."""

from __future__ import annotations

import logging
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


class IncidentStore:
    """The incidents of one installation. Raises redis errors when Redis is away.

    Key `incidents`: hash incident_id -> JSON of the newest change. Key `state`: hash incident_id -> what the life needs beside.
    Key `outbox`: stream of changes. All share one hash tag, so the script works on Redis Cluster.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        namespace = settings.redis.namespace
        self._redis = redis
        self._limit = settings.alerts.outbox_length
        self._keep = timedelta(days=settings.alerts.keep_resolved_days)
        self._keys = [alerts_key(namespace, name) for name in ("lease", "incidents", "state", "outbox")]
        self._commit = redis.register_script(_COMMIT)

    async def load(self) -> list[Incident]:
        """Every incident that is kept. An entry that cannot be read is logged and left alone."""
        found = await self._redis.hgetall(self._keys[2])
        incidents = []
        for name, text in found.items():
            try:
                incidents.append(Incident.model_validate_json(text))
            except ValidationError as error:
                logger.warning("the stored state of incident %s cannot be read and is left alone: %s", name, error)
        return incidents

    async def commit(self, token: str, step: Step, forget: Iterable[str] = ()) -> None:
        """Write a step in one piece. LeaseLost when `token` does not hold the lease; then nothing is written."""
        arguments: list[str | int] = [token, self._limit, len(step.changes)]
        for change in step.changes:
            arguments += [change.incident_id, change.seq, change.to_json()]
        for incident in step.incidents.values():
            arguments += [incident.newest.incident_id, incident.model_dump_json()]
        arguments += ["-", *forget]
        if not await self._commit(keys=self._keys, args=arguments):
            raise LeaseLost

    async def outbox_length(self) -> int:
        """Changes in the outbox, delivered or not."""
        return int(await self._redis.xlen(self._keys[3]))

    def too_old(self, incidents: Sequence[Incident], at: datetime) -> list[Incident]:
        """Resolved incidents whose time to be kept is over."""
        return [i for i in incidents if i.newest.resolved_at is not None and not i.is_open and at - i.newest.resolved_at > self._keep]
