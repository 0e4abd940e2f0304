"""An event loop in a thread of its own: what computes for long there does not keep the loop beside it from answering at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Beside:
    """Runs coroutines on its loop. What they share (a client of Redis, a reader of the tables) is to be used there only."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # It must not keep a process that ends.
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What it comes to. Who is cancelled here is cancelled there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def stop(self, last: Coroutine[Any, Any, object]) -> None:
        """Cancel what runs, do a last thing and end the loop."""
        await self.run(_cancel_others())
        await self.run(last)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
