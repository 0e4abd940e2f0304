"""The lease of a sink: whoever keeps it lets go when told to, at whatever moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alerts.notify.outbox import Lease


class SlowRedis:
    """Answers a script when it is told to."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[int] | None = None

    async def eval(self, *_: Any) -> int:
        self.answer = asyncio.get_running_loop().create_future()
        return await self.answer


@pytest.mark.parametrize("turns", range(6))
async def test_keeping_it_ends_also_in_the_moment_in_which_redis_answers(turns: int) -> None:
    redis: Any = SlowRedis()
    lease = Lease(redis, "cw", "slack", 0.03)
    keeping = asyncio.create_task(lease.keep())
    async with asyncio.timeout(10):
        while redis.answer is None or redis.answer.done():
            await asyncio.sleep(0)
        redis.answer.set_result(1)
        # So many turns of the loop lie between the answer and whoever waits for it.
        for _ in range(turns):
            await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait({keeping})
    assert keeping.cancelled()
