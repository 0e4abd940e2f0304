"""How soon a worker answers its pages while it takes in events, and whether asking holds it up.

    python -m bench.pages             # about four minutes
    python -m bench.pages --quick     # half a minute, to see that it works

Clicks of 10,000 campaigns come at half of the rate that one worker takes at most. A client asks for pages of `/api/kpis` as the dashboards
do (50 rows, sorted, cubes and windows in turn, at most 5 s old), ten a second, as one that has been open for a while; and every two
seconds for the same of the tables as they are, and for `/metrics`. The same load without a client says what asking costs: produced ->
visible with it and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from typing import Any
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.clicks import Load
from bench.figures import Latencies
from bench.latency import Bench, Point
from bench.product import Role
from bench.results import save
from bench.servers import servers, settings_for
from streams.topics import create_topics

#: ms at the 99th percentile.
GOALS = {"/metrics": 50.0, "/api/kpis": 20.0}
#: Times the p99 of produced -> visible that it may have with a client.
GOAL_STALL = 1.25
_SHARE = 0.5
_ASK_EVERY, _SCRAPE_EVERY = 0.1, 2.0
#: What the dashboards ask for, and the name of what does not say how old it may be.
_MAX_AGE, _FRESH = "5s", "/api/kpis, as the tables are"
_QUERIES = (
    "cube=campaign&window=5m&sort=-spend&limit=50",
    "cube=campaign&window=1h&sort=-clicks&limit=50",
    "cube=channel&window=1h&sort=-spend&limit=50",
    "cube=campaign&window=5m&sort=-clicks&limit=50&offset=50",
    "cube=platform&window=5m&sort=-spend&limit=50",
)


class Client:
    """Asks a worker's pages from a thread of its own until it is stopped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        #: Seconds that each answer took, by page and by query.
        self.took: dict[str, list[float]] = {name: [] for name in (*GOALS, _FRESH, *_QUERIES)}

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        for query in _QUERIES:
            self._get(f"/api/kpis?{query}&max_age={_MAX_AGE}")
        scrape_at = 0.0
        fresh = cycle(_QUERIES)
        for query in cycle(_QUERIES):
            began = time.perf_counter()
            taken = self._get(f"/api/kpis?{query}&max_age={_MAX_AGE}")
            self.took["/api/kpis"].append(taken)
            self.took[query].append(taken)
            if began >= scrape_at:
                self.took[_FRESH].append(self._get(f"/api/kpis?{next(fresh)}"))
                self.took["/metrics"].append(self._get("/metrics"))
                scrape_at = began + _SCRAPE_EVERY
            if self._stop.wait(max(0.0, began + _ASK_EVERY - time.perf_counter())):
                return

    def _get(self, path: str) -> float:
        began = time.perf_counter()
        with urlopen(f"{self._url}{path}", timeout=30.0) as answer:  # nosec B310 # the worker's own page
            answer.read()
        return time.perf_counter() - began


def measure(*, seconds: float = 60.0, backlog: int = 800_000, campaigns: int = 10_000) -> dict[str, Any]:
    """Everything, with servers of its own; the content of the section `pages`."""
    processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with processes as pool, servers() as (kafka, redis):
        settings = settings_for(kafka, redis, "pages")
        asyncio.run(create_topics(settings))
        worker = Role("streams", settings)
        try:
            bench = Bench(settings, worker, pool, Load(campaigns, 200_000))
            rate = _SHARE * bench.maximum(backlog)
            worker.start()
            alone = bench.point(rate, seconds, _SHARE)
            with Client(worker.url) as client:
                asked = bench.point(rate, seconds, _SHARE)
        finally:
            worker.close()
    pages = {name: Latencies.of(np.array(taken)).content() for name, taken in client.took.items() if taken}
    return {
        "campaigns": campaigns,
        "events_per_second": round(rate),
        "pages": pages,
        "visible_ms": {"without_client": alone.latencies.content(), "with_client": asked.latencies.content()},
        "stall": round(_p99(asked) / _p99(alone), 2),
        "goals": {**GOALS, "stall": GOAL_STALL},
        "reached": all(pages[name]["p99"] < goal for name, goal in GOALS.items()) and _p99(asked) < GOAL_STALL * _p99(alone),
    }


def _p99(point: Point) -> float:
    return point.latencies.p99


def table(found: dict[str, Any]) -> Table:
    """What was found, for people."""
    visible = found["visible_ms"]
    shown = Table(
        title=f"pages of a worker that takes {found['events_per_second']:,} events/s of {found['campaigns']:,} campaigns, ms",
        caption=(
            f"produced -> visible, p99: {visible['with_client']['p99']:,.0f} ms with a client, {visible['without_client']['p99']:,.0f} "
            f"without; goals {'reached' if found['reached'] else 'NOT REACHED'}"
        ),
    )
    for heading in ("page", "asked", "p50", "p99", "max", "goal"):
        shown.add_column(heading, justify="left" if heading == "page" else "right")
    for name, took in found["pages"].items():
        goal = f"< {GOALS[name]:.0f}" if name in GOALS else ""
        shown.add_row(name, str(took["count"]), *(f"{took[each]:,.1f}" for each in ("p50", "p99", "highest")), goal)
    return shown


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure, print, and return the content of the section `pages`."""
    found = measure(seconds=8.0, backlog=150_000) if quick else measure()
    Console(width=140).print(table(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a trial of half a minute; nothing is saved")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick)
    if not arguments.quick:
        save("pages", found)


if __name__ == "__main__":
    main()
