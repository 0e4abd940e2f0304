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
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numba
from llvmlite import ir
from numba.core.caching import InTreeCacheLocator
from numba.extending import intrinsic
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Over = TypeVar("Over", bound=Sized)
#: Numbers from which on a loop takes so long that it lets others have the interpreter meanwhile.
MANY = 1_000
#: Entries by which a loop over a table that no cache holds is ahead of itself when it has the next of them fetched.
AHEAD = 16


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


def _prefetch(_: Any, array: Any, index: Any) -> Any:
    def instruction(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of, number = signature.args[0], ir.IntType(32)
        held = context.make_array(of)(context, builder, arguments[0])
        place = builder.gep(held.data, [arguments[1]])
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        shape = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        # To be written to, into every cache, data.
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [place.type], shape), [place, number(1), number(3), number(1)])
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.intp), instruction


#: In compiled code, for arrays of one dimension whose items lie side by side: have the processor fetch the item of that index, which will
#: be written to, and go on meanwhile. For loops over tables that no cache holds, some entries before each is needed; else every look-up
#: waits for memory by itself. An index beyond the array does no harm.
prefetch = cast("Callable[[NDArray[Any], int], None]", intrinsic(_prefetch))


class Built(InTreeCacheLocator):
    """Takes what was compiled when an image was built, though nothing can be written there: NUMBA_CACHE_LOCATOR_CLASSES names it."""

    def ensure_cache_path(self) -> None:
        """Raises OSError where nothing was compiled."""
        path = str(self._cache_path)
        if not os.path.isdir(path):
            raise OSError(f"nothing was compiled in {path}")
