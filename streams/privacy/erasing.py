"""Taking users out of every reach log in Redis while workers go on.

    list them as erased -> fence every owner (each reads the list when it claims again) -> find the logs that hold them -> cut them out

The last step is a script per log that fences the owner again, so that none keeps in memory what is no longer stored.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from redis.asyncio import Redis

from streams.config import Settings
from streams.ingest.users import user_hasher
from streams.kpis.sketches import SPARSE_LIMIT
from streams.privacy.erased import remember_erased

_SCRIPT = resources.files(__package__).joinpath("erase.lua").read_text()
_FENCE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'writer', ARGV[1]) end return 0"
#: Logs fetched at once.
_LOGS = 50
_LOW_32 = np.uint64(0xFFFF_FFFF)


@dataclass(slots=True)
class Removed:
    """What an erasure found."""

    #: Reach logs looked at.
    logs: int = 0
    #: Topic -> entries (a user in a row of a cube and pane), taken out or, in a dry run, found.
    entries: Counter[str] = field(default_factory=Counter)
    #: Logs that held them.
    changed: int = 0


async def erase(
    redis: Redis,
    settings: Settings,
    users: Sequence[str],
    now: int,
    *,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Removed:
    """Erase users as of `now`, epoch ms. Safe to repeat; Redis errors pass through. `progress`: logs looked at."""
    client: Any = redis
    namespace, key = settings.redis.namespace, settings.privacy.user_key.get_secret_value()
    users = sorted(set(users))
    wanted = user_hasher(key)(users)
    if not dry_run:
        await remember_erased(redis, namespace, key, users, now, settings.privacy.erased_keep_days * 86_400_000)
        fence = client.register_script(_FENCE)
        for pattern in _patterns(namespace, "meta"):
            async for meta in client.scan_iter(match=pattern, count=1_000):
                await fence(keys=[meta], args=[secrets.token_hex(8)])
    removed = Removed()
    found: list[tuple[bytes, list[bytes], int]] = []
    waiting: list[bytes] = []

    async def look() -> None:
        for name, log in zip(waiting, await client.mget(waiting) if waiting else [], strict=True):
            removed.logs += 1
            hashes = (np.frombuffer(log or b"", np.uint64) & _LOW_32).astype(np.uint32)
            held = hashes[np.isin(hashes, wanted)]
            if len(held):
                found.append((name, [h.tobytes() for h in np.unique(held)], len(held)))
        waiting.clear()
        if progress is not None:
            progress(removed.logs)

    for pattern in _patterns(namespace, "reach:*"):
        async for name in client.scan_iter(match=pattern, count=1_000):
            waiting.append(name)
            if len(waiting) == _LOGS:
                await look()
    await look()

    script = client.register_script(_SCRIPT)
    seen: set[bytes] = set()
    for name, hashes, count in found:
        if name in seen:  # SCAN may return a key twice
            continue
        seen.add(name)
        tag = name[: name.index(b"}:") + 2]
        if not dry_run:
            count = int(await script(keys=[name, tag + b"meta"], args=[secrets.token_hex(8), SPARSE_LIMIT, *hashes]))
        if count:
            removed.changed += 1
            removed.entries[tag.decode().partition("{")[2].rpartition("}")[0].rpartition(":")[0]] += count
    return removed


def _patterns(namespace: str, name: str) -> tuple[str, str]:
    """Keys of this name in every partition: of the tables, and of other generations of them."""
    return f"{namespace}:{{*}}:{name}", f"{namespace}~*:{{*}}:{name}"
