"""Whoever connects to the pages and sends nothing, or very slowly, or very often, does not keep others from them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry

from streams.api.connections import CONNECTIONS
from streams.api.server import serve
from streams.config import Http
from streams.metrics.http import HttpMetrics
from tests.integration.workers import until

LIMIT, IDLE = 5, 1.0


@dataclass
class Small:
    """Pages that take few connections and wait for nobody."""

    registry: CollectorRegistry
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    async def answers(self) -> bool:
        async with ClientSession() as client, client.get(f"http://127.0.0.1:{self.port}/") as answer:
            return await answer.text() == "well"


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="well")

    registry = CollectorRegistry()
    app = web.Application()
    app[CONNECTIONS] = (Http(max_connections=LIMIT, idle_timeout=IDLE), HttpMetrics(registry))
    app.router.add_get("/", page)
    server = await serve(app, "127.0.0.1", 0)
    yield Small(registry, server.port)
    await server.stop()


async def closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection, and has said nothing."""
    try:
        return await asyncio.wait_for(reader.read(), 20 * IDLE) == b""
    except ConnectionResetError:
        return True


async def test_silent_and_slow_connections_are_closed_in_time(small: Small) -> None:
    began = time.monotonic()
    (silent, _), (slow, writer) = await small.connect(), await small.connect()

    async def trickle() -> None:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        while not writer.is_closing() and not slow.at_eof():
            writer.write(b"X-A: b\r\n")
            await asyncio.sleep(IDLE / 20)

    trickling = asyncio.create_task(trickle())
    assert await closed(silent)
    assert await closed(slow)
    assert time.monotonic() - began >= IDLE
    trickling.cancel()
    await until(lambda: small.value("campaignwatch_http_connections"), lambda value: value == 0)
    assert await small.answers()


async def test_a_connection_that_was_used_and_lies_idle_is_closed(small: Small) -> None:
    reader, writer = await small.connect()
    for _ in range(3):  # as long as requests come it stays open
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"well")).startswith(b"HTTP/1.1 200")
    assert await closed(reader)


async def test_more_connections_than_the_limit_are_closed_at_once_and_counted(small: Small) -> None:
    kept = [await small.connect() for _ in range(LIMIT)]
    await until(lambda: small.value("campaignwatch_http_connections"), lambda value: value == LIMIT)
    for _ in range(3):
        reader, _ = await small.connect()
        assert await closed(reader)
    assert small.value("campaignwatch_http_refused_total", reason="connections") == 3
    assert small.value("campaignwatch_http_connections") == LIMIT
    kept[0][1].close()
    await until(lambda: small.value("campaignwatch_http_connections"), lambda value: value is not None and value < LIMIT)
    assert await small.answers()
