"""Answers about KPIs that may be some seconds old: computed before they are asked for again, so that they are there at once.

A dashboard asks the same few questions every some seconds and says how old an answer may be (`max_age`). While it does, each of them is
asked anew in the background before its answer is too old. Who says nothing gets the tables as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
#: Seconds for which a question is asked anew after somebody last asked it.
_WANTED_FOR = 60.0
#: Share of the age that an answer may have after which it is asked for anew.
_RENEWED_AFTER = 0.6
#: Seconds between two looks for what is to be asked anew.
_EVERY = 0.1
#: Share of the time that may go into asking anew; what does not fit is asked when it is wanted.
_SHARE = 0.25


@dataclass(slots=True)
class _Kept:
    """One question: its answer, since when that holds, how old it may be, and when it was last wanted; times of the loop, s."""

    answer: bytes
    at: float
    max_age: float
    wanted_at: float


class KeptAnswers(Generic[Question]):
    """The answers to the questions that were asked last, at most `limit`."""

    def __init__(self, ask: Callable[[Question], Awaitable[bytes]], limit: int, *, clock: Callable[[], float] | None = None) -> None:
        self._ask = ask
        self._limit = limit
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        #: Since when each question is being asked, and by what.
        self._asked: dict[Question, tuple[float, asyncio.Task[_Kept]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, question: Question, max_age: float) -> tuple[bytes, float]:
        """The answer, at most `max_age` seconds old, and its age. What asking raises passes through."""
        now = self._clock()
        kept = self._kept.get(question)
        if kept is None or now - kept.at > max_age:
            kept = await self._anew(question, max_age)
        if max_age and self._limit:
            kept.max_age, kept.wanted_at = max_age, now
            self._kept[question] = kept
            self._kept.move_to_end(question)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return kept.answer, max(0.0, self._clock() - kept.at)

    async def _anew(self, question: Question, max_age: float) -> _Kept:
        """Ask, once for all who want to know meanwhile and take an answer as old as that."""
        since, task = self._asked.get(question, (-math.inf, None))
        if task is None or self._clock() - since > max_age:
            task = asyncio.create_task(self._answered(question))
            self._asked[question] = self._clock(), task
            task.add_done_callback(lambda done: self._over(question, done))
        # Who hangs up takes the answer from nobody else.
        return await asyncio.shield(task)

    def _over(self, question: Question, done: asyncio.Task[_Kept]) -> None:
        # A younger question may have taken its place.
        if question in self._asked and self._asked[question][1] is done:
            del self._asked[question]
        if not done.cancelled():
            # Seen here, in case that everybody who wanted to know has gone.
            done.exception()

    async def _answered(self, question: Question) -> _Kept:
        # It is as old as the question: what comes while it is answered may not be in it.
        at = self._clock()
        return _Kept(await self._ask(question), at, 0.0, at)

    async def run(self) -> None:
        """Ask anew what is still wanted, again and again until cancelled."""
        while True:
            began = self._clock()
            await self.renew()
            took = self._clock() - began
            await asyncio.sleep(max(_EVERY, took / _SHARE - took))

    async def renew(self) -> None:
        """Ask anew what is still wanted and will soon be too old; forget what nobody wants any more."""
        for question, kept in list(self._kept.items()):
            now = self._clock()
            if self._kept.get(question) is not kept:
                continue  # asked for by somebody meanwhile, or gone
            if now - kept.wanted_at > _WANTED_FOR:
                del self._kept[question]
            elif now - kept.at >= _RENEWED_AFTER * kept.max_age:
                with contextlib.suppress(Exception):
                    # Who asks next is told what is wrong.
                    anew = await self._anew(question, kept.max_age)
                    kept.answer, kept.at = anew.answer, anew.at
