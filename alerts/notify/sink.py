"""What a place that changes are delivered to must do, and how it says that it could not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from alerts.incidents.change import Change


class Retry(Exception):
    """Not now: the same change is to be tried again. `after` is what the receiver asked to wait, in seconds, if it did."""

    def __init__(self, reason: str, detail: str, after: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.after = after


class Rejected(Exception):
    """The receiver will not take it. `reason` is a short code, `detail` says what happened and what to do.

    `fixable`: the fault lies in the configuration rather than in this change, so somebody may put it right meanwhile.
    """

    def __init__(self, reason: str, detail: str, *, fixable: bool) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.fixable = fixable


class Sink(Protocol):
    """A receiver of changes. One replica at a time uses it, one change at a time, in the order of the outbox."""

    name: str
    """Names the cursor and the metrics; must not change from one release to the next."""
    folds: bool
    """Whether superseded updates may be left out, and others wait for what notifies, when many changes wait.

    Such a sink must know what it was told: changes that went ahead come again after a restart. False for a record of all changes.
    """

    async def deliver(self, change: Change) -> None:
        """Deliver one change, which may have been delivered before. Raises Retry, Rejected, or redis errors (tried again)."""

    async def close(self) -> None:
        """Give back connections. The sink is not used afterwards."""


#: Makes a sink at the start of a replica's turn: another replica may have delivered since the turn before.
SinkFactory = Callable[[], Sink]
