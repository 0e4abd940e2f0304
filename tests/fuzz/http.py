"""The HTTP pages, really served over known tables in a real Redis: whatever is asked, the answer is no 5xx, and JSON where a page gives it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from urllib.parse import quote

from redis.asyncio import Redis

from streams.api.health import Health
from streams.api.pages import pages
from streams.api.server import Server
from streams.config import Redis as RedisSection
from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.tables.keys import alerts_key
from tests.fuzz.defects import Defect
from tests.fuzz.payloads import mangled
from tests.fuzz.targets import Target
from tests.integration.api.served import CAMPAIGNS, NOON, facts, incident, start
from tests.integration.filling import Filled, fill
from tests.unit.hostile_events import TEXTS, TIMES, Sent

_ANSWER_S = 20.0
#: What may be asked, by parameter; anything else comes from `_ODD`.
_PLAIN = {
    "cube": ["total", "account", "campaign", "channel", "platform", "region", "campaign_channel", "campaign_creative", "channel_segment", "experiment_variant"],
    "from": [str(NOON - 60_000), str(NOON - 3_600_000), "2026-11-23T11:00:00Z", "2026-11-22T12:00:00+00:00", "2025-12-01T00:00:00Z", "0", "1"],
    "to": [str(NOON), "2026-11-23T12:00:00Z", "2026-11-23T12:15:00Z", "9999-12-31T23:59:59.999Z", "253402300799999"],
    "window": ["10s", "5m", "1h", "26h", "35d", "400d", "999999999d", "7s"],
    "sort": ["-spend", "clicks", "campaign_id", "-channel", "ctr", "reach", "dwell_p50", "conversions_purchase", "-conversions_", "engagements_zzz"],
    "limit": ["1", "100", "1000", "1001", "0"],
    "offset": ["0", "1", "1000000000", "999999999999999"],
    "where": ["campaign_id:c-1", "channel:search", "owner:ann", "labels.team:north", "labels.:", "labels:", "region:", "campaign_id:", "name:[red] Summer", "pacing:even"],
    "columns": ["clicks", "clicks,spend,ctr", "reach,arpu", "load_p75,dwell_p90", ",".join(["clicks"] * 3_000)],
    "max_age": ["1s", "5s", "1m", "61s", "2d"],
    "measure": ["clicks", "spend", "ctr", "roas", "reach", "net_revenue", "conversions_lead", "engagements_" + "x" * 64],
    "step": ["10s", "60s", "1m", "15m", "1d", "7s"],
    "state": ["open", "resolved", "all"],
}  # fmt: skip
_ODD = [*TEXTS, *TIMES, "-1", "+1", "1e3", "9" * 5_000, "\ud800", ":", "::", "-", "--spend", ",", "clicks,,spend", "__class__", "campaign_id", "1" + "0" * 14, "NaN", "inf", "²", "0x10", "5 m"]  # fmt: skip
_HOSTILE_LINES = [b"GET / HTTP/1.0", b"GET  / HTTP/1.1", b"POST /api/kpis HTTP/1.1", b"HEAD /api/kpis?cube=total&window=5m HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://x/api/ledger HTTP/1.1",
                  b"GET //api/kpis HTTP/1.1", b"GET /api/../api/kpis?cube=total&window=5m HTTP/1.1", b"GET /%2e%2e/%00 HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /api/kpis?%ff=%fe HTTP/1.1", b"BREW / HTTP/1.1"]  # fmt: skip


class HttpTarget(Target):
    """Request lines for every page. A payload's value is the request line without its end."""

    name = "http"
    batch = 10

    def __init__(self) -> None:
        settings = Settings()
        self._pages = [page for page in pages(settings) if page.parameters] * 3 + [page for page in pages(settings) if not page.parameters]
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._server: Server | None = None

    def __enter__(self) -> HttpTarget:
        redis_server = self._stack.enter_context(EmbeddedRedis())
        self._loop.run_until_complete(self._start(redis_server.url))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hang_up()
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()

    async def _start(self, redis_url: str) -> None:
        settings = Settings(redis=RedisSection(url=redis_url, namespace="fuzz", timeout=_ANSWER_S))
        redis = await self._stack.enter_async_context(Redis.from_url(redis_url))
        for (topic, partition), found in facts().items():
            await fill(redis, settings, Filled(topic, partition, found, record_time=NOON))
        await fill(redis, settings, Filled(Topic.CAMPAIGNS, 0, record_time=NOON, campaigns=CAMPAIGNS))
        stored = json.dumps(incident("i-1", "updated", 30))
        await redis.hset(alerts_key(settings.redis.namespace, "incidents"), mapping={"i-1": stored})
        self._server = await start(settings, redis, lambda: Health(True, True, {"lag": 0}))
        self._stack.push_async_callback(self._server.stop)

    def make(self, chance: random.Random) -> Sent:
        """A question: parameters left out, doubled, strange; sometimes a strange line."""
        if chance.random() < 0.05:
            return Sent(mangled(chance, chance.choice(_HOSTILE_LINES)))
        page = chance.choice(self._pages)
        query: list[str] = []
        for parameter in page.parameters:
            if chance.random() < (0.95 if parameter.required else 0.3):
                query += [f"{parameter.name}={self._value(chance, parameter.name)}" for _ in range(3 if chance.random() < 0.02 else 1)]
        if page.path.startswith("/api/kpis") and not any(each.startswith(("window", "from", "to")) for each in query):
            query += ["window=5m"] if chance.random() < 0.7 else [f"from={NOON - 600_000}", f"to={NOON}"]
        if chance.random() < 0.05:
            query.append(f"{quote(chance.choice(_ODD), errors='surrogatepass')}={self._value(chance, 'where')}")
        if chance.random() < 0.01:
            query += ["where=channel:search"] * chance.choice((100, 2_000))
        chance.shuffle(query)
        line = f"GET {page.path}?{'&'.join(query)} HTTP/1.1".encode()
        return Sent(mangled(chance, line) if chance.random() < 0.1 else line)

    @staticmethod
    def _value(chance: random.Random, name: str) -> str:
        value = chance.choice(_PLAIN[name]) if chance.random() < 0.7 else chance.choice(_ODD)
        if name == "where" and chance.random() < 0.3:
            value = f"{value.partition(':')[0]}:{chance.choice(_ODD)}"
        return quote(value, safe=chance.choice(("", ":,/+")), errors="surrogatepass")

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """By the pages; the outcome is the status."""
        return [str(self._loop.run_until_complete(asyncio.wait_for(self._ask(sent.value or b""), _ANSWER_S))) for sent in payloads]

    async def _ask(self, line: bytes) -> int:
        assert self._server is not None
        # One line is one request.
        line = line.replace(b"\r", b"").replace(b"\n", b"") or b"GET"
        fresh = self._streams is None
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._server.port, limit=2**26)
        reader, writer = self._streams
        writer.write(line + b"\r\nHost: fuzz\r\n\r\n")
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._hang_up()
            if not fresh:
                return await self._ask(line)
            raise Defect("no answer: the connection was closed") from error
        status = int(head[0].split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in head[1:])}
        method = line.split(b" ", 1)[0]
        body = b"" if method == b"HEAD" else await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection", "") == "close" or status == 400 or method == b"HEAD" or b"HTTP/1.1" not in line:
            self._hang_up()
        if status >= 500:
            raise Defect(f"status {status}: {body[:300].decode('utf-8', 'replace')}")
        if headers.get("content-type", "").startswith("application/json") and body:
            content = json.loads(body)
            if status >= 400 and not content.get("error"):
                raise Defect(f"answer {status} without an error: {content}")
        return status

    def _hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
