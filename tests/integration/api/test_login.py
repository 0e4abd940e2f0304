"""The pages behind a login, over real HTTP: who gets what, what the rest are told, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, encode_basic_auth, web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from streams.api.access import Access, OpenToAll
from streams.api.gate import ACCESS, gate
from streams.api.health import Health
from streams.api.pages import WITHOUT_LOGIN
from streams.api.server import Server, serve
from streams.config import Http, Settings
from streams.metrics.http import HttpMetrics
from tests.integration.api.served import start
from tests.integration.conftest import client_of
from tests.integration.workers import until

TOKEN, PASSWORD = "secret-token", "secret-password"
LOGIN = {"Authorization": f"Bearer {TOKEN}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": encode_basic_auth(user, password)}


@dataclass
class Closed:
    """Pages that ask for a login."""

    server: Server
    client: ClientSession
    registry: CollectorRegistry

    async def ask(self, path: str, **options: Any) -> ClientResponse:
        async with self.client.get(self.server.url + path, **options) as answer:
            await answer.read()
            return answer

    def refused(self, reason: str) -> float | None:
        return self.registry.get_sample_value("campaignwatch_http_refused_total", {"reason": reason})


@pytest.fixture
async def closed(settings: Settings) -> AsyncIterator[Closed]:
    http = Http(token=SecretStr(TOKEN), password=SecretStr(PASSWORD), username="ann")
    registry = CollectorRegistry()
    async with client_of(settings.redis.url) as redis, ClientSession() as client:
        server = await start(settings.model_copy(update={"http": http}), redis, lambda: Health(True, True, {"lag": 7}), registry)
        yield Closed(server, client, registry)
        await server.stop()


async def test_every_page_but_the_probes_asks_for_the_login(closed: Closed) -> None:
    paths = (await (await closed.ask("/openapi.json", headers=LOGIN)).json())["paths"]
    assert paths.keys() >= WITHOUT_LOGIN
    for path in [*paths.keys() - WITHOUT_LOGIN, "/nowhere", "/api/kpis/", "//healthz"]:
        answer = await closed.ask(path)
        assert answer.status == 401, path
        content = await answer.json()
        assert content["error"] == "this page needs a login"
        assert "Authorization: Bearer TOKEN" in content["hint"]
        assert TOKEN not in str(content)
        assert PASSWORD not in str(content)
        assert [value.split()[0] for value in answer.headers.getall("WWW-Authenticate")] == ["Basic", "Bearer"]
    assert closed.refused("no_login") == len(paths) - len(WITHOUT_LOGIN) + 3


async def test_token_and_password_open_them(closed: Closed) -> None:
    assert (await closed.ask("/api/campaigns", headers=LOGIN)).status == 200
    assert (await closed.ask("/metrics", headers=basic("ann", PASSWORD))).status == 200
    for wrong in ({"Authorization": "Bearer wrong"}, basic("ann", TOKEN), basic("bob", PASSWORD)):
        answer = await closed.ask("/api/campaigns", headers=wrong)
        assert (answer.status, (await answer.json())["error"]) == (401, "the login is wrong")
    assert (closed.refused("wrong_login"), closed.refused("no_login")) == (3, 0)


async def test_probes_need_no_login_and_tell_strangers_the_verdict_alone(closed: Closed) -> None:
    for path in sorted(WITHOUT_LOGIN):
        for login, details in (({}, {}), ({"Authorization": "Bearer wrong"}, {}), (LOGIN, {"lag": 7})):
            answer = await closed.ask(path, headers=login)
            assert answer.status == 200
            assert await answer.json() == {"status": "ok", "alive": True, "ready": True, "details": details}


async def test_every_answer_carries_the_headers_of_data_that_never_runs(closed: Closed) -> None:
    for path, login in (("/metrics", LOGIN), ("/api/campaigns", LOGIN), ("/nowhere", LOGIN), ("/", {}), ("/healthz", {})):
        headers = (await closed.ask(path, headers=login)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "Campaignwatch"


async def test_the_document_says_which_login_is_asked_for(closed: Closed) -> None:
    document = await (await closed.ask("/openapi.json", headers=LOGIN)).json()
    assert document["security"] == [{"token": []}, {"password": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "401" in document["paths"]["/api/kpis"]["get"]["responses"]


async def test_pages_without_a_login_are_not_served_to_the_network(settings: Settings) -> None:
    async with client_of(settings.redis.url) as redis:
        server = await start(settings, redis, lambda: Health(True, True))
        await server.stop()
        app = web.Application()
        app[ACCESS] = Access(settings.http)
        with pytest.raises(OpenToAll, match=r"open to everybody who reaches 0\.0\.0\.0"):
            await serve(app, "0.0.0.0", 0)


async def test_more_requests_than_may_be_answered_at_a_time_are_refused_and_probes_are_not() -> None:
    registry = CollectorRegistry()
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text="done")

    async def quick(_: web.Request) -> web.Response:
        return web.Response(text="well")

    app = web.Application(middlewares=[gate(Access(Http()), 2, HttpMetrics(registry))])
    app.router.add_get("/slow", slow)
    app.router.add_get("/healthz", quick)
    server = await serve(app, "127.0.0.1", 0)

    async def ask(path: str) -> int:
        async with client.get(server.url + path) as answer:
            return answer.status

    async with ClientSession() as client:
        waiting = [asyncio.create_task(ask("/slow")) for _ in range(2)]
        await until(lambda: registry.get_sample_value("campaignwatch_http_requests_in_progress"), lambda value: value == 2)
        async with client.get(server.url + "/slow") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "http.max_requests" in (await answer.json())["hint"]
        assert await ask("/healthz") == 200
        release.set()
        assert await asyncio.gather(*waiting) == [200, 200]
        assert await ask("/slow") == 200
    await server.stop()
    assert registry.get_sample_value("campaignwatch_http_refused_total", {"reason": "busy"}) == 1
    assert registry.get_sample_value("campaignwatch_http_requests_in_progress") == 0
