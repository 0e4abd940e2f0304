"""What the benchmark measures from outside and what the worker says of itself are the same, on servers as small as the tests' own."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from bench.clicks import Load
from bench.latency import QUANTILES, Bench
from bench.product import Role
from streams.config import Settings
from tests.integration.conftest import CLUSTER

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CLUSTER, reason="the benchmarks measure one Redis")]


async def test_the_benchmark_and_the_worker_agree_on_how_soon_events_are_visible(ready: Settings) -> None:
    # For a worker on a busy machine, too: what is compared is two views of the same moments, however late these are.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool, Role("streams", ready) as worker:
        bench = Bench(ready, worker, pool, Load(campaigns=10))
        first, second = [await asyncio.to_thread(bench.point, rate, 4.0) for rate in (100.0, 1_000.0)]
    assert (first.latencies.count, second.latencies.count) == (400, 4_000)
    for point in (first, second):
        assert point.product.count == point.latencies.count
        assert 0 < point.latencies.p50 <= point.latencies.p99 <= point.latencies.highest
        for quantile in QUANTILES:
            assert point.agrees(quantile), (quantile, point.latencies, point.product_says(quantile))


async def test_the_highest_rate_is_what_is_applied_while_more_is_offered_than_that(ready: Settings) -> None:
    worker = Role("streams", ready)
    try:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            bench = Bench(ready, worker, pool, Load(campaigns=10))
            backlogged = await asyncio.to_thread(bench.maximum, 60_000)
            sustained = await asyncio.to_thread(bench.sustained, 200_000.0, 3.0)
            assert backlogged > 1_000
            assert 1_000 < sustained < 200_000
            after = await asyncio.to_thread(bench.point, 200.0, 2.0)
    finally:
        worker.close()
    assert after.latencies.count == after.product.count == 400
