"""Work on tables beside the event loop: an event can land in very many panes, and the loop, pages and a signal to stop must not wait."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: The loop goes on meanwhile, and so does one more flush. More would take turns with the loop at the interpreter's lock, and every word to
#: Redis or Kafka would wait for all of them.
_TABLES = ThreadPoolExecutor(2, "tables")


async def aside(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the function in a thread for tables. What it raises is raised here."""
    return await asyncio.get_running_loop().run_in_executor(_TABLES, functools.partial(function, *args, **kwargs))
