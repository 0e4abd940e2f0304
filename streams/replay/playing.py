"""Sending the sequence of a replay: from some point on, as fast as it goes or at a multiple of the speed of life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

from streams.config import Settings, Topic
from streams.producing import Sender
from streams.replay.expanding import AT, KEY, TOPIC, VALUE

DAY_MS = 86_400_000
#: Longest sleep of a paced replay, so that its progress shows and an interruption is noticed.
_LONGEST_SLEEP = 0.5
#: Events due within this many seconds are sent together.
_GRAIN = 0.05


def shift_to_now(newest: int, now_ms: int) -> int:
    """Milliseconds, a whole number of days, that bring `newest` as near to `now_ms` as possible without being later."""
    return (now_ms - newest) // DAY_MS * DAY_MS


async def play(
    pieces: Iterable[pl.DataFrame],
    sender: Sender,
    settings: Settings,
    *,
    skip: int,
    speed: float | None,
    on_sent: Callable[[int], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send all events but the first `skip`; `on_sent(n)` is called when the broker has acknowledged n more.

    With `speed`, an event is sent when as much time has passed since the first one as lies between their times, divided by `speed`;
    the pieces must be in time order.
    """
    pace = _Pace(speed, clock) if speed is not None else None
    for piece in pieces:
        if skip >= piece.height:
            skip -= piece.height
            continue
        piece, skip = piece[skip:], 0
        if pace is None:
            await _send(piece, sender, settings)
            on_sent(piece.height)
            continue
        times = piece[AT].to_numpy()
        done = 0
        while done < len(times):
            due = int(np.searchsorted(times, pace.due(int(times[done])), side="right"))
            if due > done:
                await _send(piece[done:due], sender, settings)
                on_sent(due - done)
                done = due
            if done < len(times):
                await asyncio.sleep(min(max(pace.wait(int(times[done])), _GRAIN), _LONGEST_SLEEP))


class _Pace:
    """The moving present of a paced replay."""

    def __init__(self, speed: float, clock: Callable[[], float]) -> None:
        self._speed = speed
        self._clock = clock
        self._start: tuple[float, int] | None = None

    def due(self, next_ms: int) -> int:
        """The present, epoch ms of the events; the first event asked about is the present when it is asked."""
        if self._start is None:
            self._start = (self._clock(), next_ms)
        began, first = self._start
        return first + int((self._clock() - began) * 1_000 * self._speed)

    def wait(self, at: int) -> float:
        """Seconds until an event at `at` is due."""
        return (at - self.due(at)) / 1_000 / self._speed


async def _send(piece: pl.DataFrame, sender: Sender, settings: Settings) -> None:
    for (topic,), part in piece.group_by(TOPIC, maintain_order=True):
        keys = [key.encode() for key in part[KEY].to_list()]
        values = [value.encode() for value in part[VALUE].to_list()]
        await sender.send(settings.topic(Topic(topic)), zip(keys, values, strict=True))
