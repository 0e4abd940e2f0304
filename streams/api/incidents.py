"""Incidents as every process shows them: read from where the alerts process keeps the newest change of each."""

from __future__ import annotations

import json
from typing import Any, Protocol

from redis.asyncio import Redis

from streams.config import Settings
from streams.tables.keys import alerts_key


class Incidents(Protocol):
    """Whoever knows the incidents."""

    async def __call__(self, state: str | None) -> list[dict[str, Any]]:
        """Newest change of every incident, the one that opened last first; `state` is open, resolved or None for all."""
        ...


class StoredIncidents:
    """Reads the incidents from Redis. Raises redis errors when it is away."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        #: Hash incident_id -> JSON of the incident's newest change.
        self._key = alerts_key(settings.redis.namespace, "incidents")

    async def __call__(self, state: str | None) -> list[dict[str, Any]]:
        """Newest change of every incident, the one that opened last first; `state` is open, resolved or None for all."""
        stored: list[str | bytes] = await self._redis.hvals(self._key)
        found = [json.loads(text) for text in stored]
        if state is not None:
            found = [incident for incident in found if (incident["change"] == "resolved") == (state == "resolved")]
        found.sort(key=lambda incident: (incident.get("opened_at") or incident["at"], incident["incident_id"]), reverse=True)
        return found
