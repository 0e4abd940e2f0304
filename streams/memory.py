"""How Python, and the C library under it, deal with a process' memory: records and arrays that come and go by the batch."""

from __future__ import annotations

import ctypes
import gc

#: Objects more than were freed before the collector looks. A fetched record is an object, and none is part of a circle; at Python's own 700
#: the collector walked over all of them again and again, for a fifth of a worker's time.
_COLLECT_AFTER = 200_000
#: M_ARENA_MAX of glibc's mallopt(3).
_HEAPS = -8


def collect_seldom() -> None:
    """For processes that hold many records or names of rows at a time."""
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def share_one_heap() -> bool:
    """Have what one thread freed be there for all, so that a process that runs for months stays as large as what it holds.

    By itself glibc's malloc makes heaps for up to eight threads a core, and each stays as large as its threads ever had need of at once: a
    worker grew by 3 % in an hour, ever more slowly and without an end in sight. To be called early: threads that run by then, as those of
    a library for linear algebra do, keep the heaps that they have. Returns whether it took effect: other C libraries have no such heaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_HEAPS, 1) == 1
