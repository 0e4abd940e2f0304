"""Loops over bytes and numbers that run as machine code: plain functions on numpy arrays, compiled by numba.

Those over whole batches release the interpreter's lock while they run, so that fetching and the pages go on beside them. What was compiled
is kept beside the source, or, where that cannot be written, in the user's cache directory (NUMBA_CACHE_DIR names another); without any,
each process compiles anew, which takes some ten seconds. `streams.ingest.warm_up` compiles everything beforehand.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sized
from types import FunctionType
from typing import Concatenate, ParamSpec, TypeVar, cast

import numba
from numba.core.caching import InTreeCacheLocator

P = ParamSpec("P")
R = TypeVar("R")
Over = TypeVar("Over", bound=Sized)
#: Numbers from which on a loop takes so long that it lets others have the interpreter meanwhile.
MANY = 1_000


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code, made when it is first called. Integers wrap around and indexes are not checked in it."""
    return _made(function, releases=True)


def compiled_for_any(function: Callable[Concatenate[Over, P], R]) -> Callable[Concatenate[Over, P], R]:
    """The same for a loop over the first argument, which may be short: then it keeps the lock.

    A thread that releases it may get it back after 5 ms only, which costs a loop over a few numbers more than it gains.
    """
    # By a name of its own, since what was compiled is kept by name.
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{function.__qualname__}_for_few"
    few, many = _made(copy, releases=False), _made(function, releases=True)

    @functools.wraps(function)
    def either(over: Over, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return many(over, *args, **kwargs) if len(over) >= MANY else few(over, *args, **kwargs)

    return either


def _made(function: Callable[P, R], *, releases: bool) -> Callable[P, R]:
    try:
        made = numba.njit(cache=True, nogil=releases, error_model="numpy")(function)
    except RuntimeError:  # nowhere to keep it
        made = numba.njit(nogil=releases, error_model="numpy")(function)
    return cast("Callable[P, R]", made)


class Built(InTreeCacheLocator):
    """Takes what was compiled when an image was built, though nothing can be written there: NUMBA_CACHE_LOCATOR_CLASSES names it."""

    def ensure_cache_path(self) -> None:
        """Raises OSError where nothing was compiled."""
        path = str(self._cache_path)
        if not os.path.isdir(path):
            raise OSError(f"nothing was compiled in {path}")
