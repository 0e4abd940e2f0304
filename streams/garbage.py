"""How often Python looks for objects that refer to each other in a circle and are of no use any more."""

from __future__ import annotations

import gc

#: Objects more than were freed before the collector looks. A fetched record is an object, and none is part of a circle; at Python's own 700
#: the collector walked over all of them again and again, for a fifth of a worker's time.
_COLLECT_AFTER = 200_000


def collect_seldom() -> None:
    """For processes that hold many records or names of rows at a time."""
    gc.set_threshold(_COLLECT_AFTER, 10, 10)
