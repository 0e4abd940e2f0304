"""What the pages say when something is wrong: always JSON, always a sentence, never a traceback."""

from __future__ import annotations

import json

import pytest
from aiohttp import ClientSession, web

from streams.api.health import Health
from streams.api.server import CannotServe, serve
from streams.config import Redis as RedisSection
from streams.config import Settings
from tests.integration.api.served import Pages, start
from tests.integration.conftest import client_of


async def test_an_unknown_page_and_a_wrong_method_are_answered_in_json(pages: Pages) -> None:
    status, content = await pages.get("/api/kpi")
    assert (status, content["error"]) == (404, "there is no page /api/kpi")
    assert "/api/kpis/series" in content["hint"]
    async with pages.client.post(pages.server.url + "/api/kpis") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert "POST is not possible" in (await answer.json())["error"]


@pytest.mark.parametrize(
    "raw",
    ["where=campaign_id:%ff%fe", "where=campaign_id:%00", "where=campaign_id:%ed%a0%80", "%ff=1", "cube=%ed%a0%80", "where=%ff"],
)
async def test_bytes_that_are_no_text_do_no_harm(pages: Pages, raw: str) -> None:
    async with pages.client.get(f"{pages.server.url}/api/kpis?cube=campaign&window=5m&{raw}") as answer:
        content = await answer.json()
        assert (answer.status, content.get("rows")) == (200, []) or (answer.status == 400 and content["error"])


async def test_redis_away_is_said_in_a_sentence() -> None:
    settings = Settings(redis=RedisSection(url="redis://:secret@127.0.0.1:1/0", timeout=0.5))
    async with client_of(settings.redis.url) as redis, ClientSession() as client:
        server = await start(settings, redis, lambda: Health(True, False))
        pages = Pages(server, settings, client)
        for path in ("/api/kpis?cube=total&window=5m", "/api/ledger", "/api/campaigns", "/api/incidents"):
            status, content = await pages.get(path)
            assert status == 503
            assert "Redis" in content["error"]
            assert "secret" not in json.dumps(content, default=str)
        assert (await pages.get("/healthz"))[0] == 200
        await server.stop()


async def test_a_defect_is_a_500_in_json_without_its_insides(settings: Settings) -> None:
    def broken() -> Health:
        raise ZeroDivisionError("insides")

    async with client_of(settings.redis.url) as redis, ClientSession() as client:
        server = await start(settings, redis, broken)
        status, content = await Pages(server, settings, client).get("/healthz")
        assert status == 500
        assert "insides" not in content["error"]
        await server.stop()


async def test_without_incidents_their_page_is_not_there(settings: Settings) -> None:
    async with client_of(settings.redis.url) as redis, ClientSession() as client:
        server = await start(settings, redis, lambda: Health(True, True), incidents=False)
        assert (await Pages(server, settings, client).get("/api/incidents"))[0] == 404
        await server.stop()


async def test_a_port_that_is_taken_is_said_in_a_sentence(pages: Pages) -> None:
    with pytest.raises(CannotServe, match="another process listens there"):
        await serve(web.Application(), "127.0.0.1", pages.server.port)
